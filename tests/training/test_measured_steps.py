"""What measures the steps of trainings takes them as trainings do."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import pytest
import torch

from cirbench.backbones import text
from tests import training_steps
from tests.tiny_clip import tiny_backbone
from tests.training_steps import SETTINGS, Steps, matrix_operations, matrix_peak, measure, speed, steps_of

if TYPE_CHECKING:
    from cirbench.backbones.interface import Backbone


@pytest.mark.parametrize("method", sorted(SETTINGS))
def test_both_ways_take_steps_that_learn(method: str) -> None:
    steps = steps_of(method, tiny_backbone(), 8, lr=1e-3)
    first = steps.ours()
    assert math.isfinite(first)
    later = [steps.ours() for _ in range(20)]
    assert min(later) < first
    assert math.isfinite(steps.plain())
    assert text.GRAIN == 8


def test_the_ways_differ_only_in_what_they_spare() -> None:
    """Without a mask and in fp32, ours gives the loss of the plain one."""
    steps = steps_of("pli", tiny_backbone(), 8, mask_ratio=0.0, lr=0.0)
    assert steps.ours() == pytest.approx(steps.plain(), rel=1e-5)


def test_masked_and_trimmed_steps_are_fewer_operations_and_bf16_is_as_many() -> None:
    plain = matrix_operations(steps_of("pli", tiny_backbone(), 8).plain)
    ours = matrix_operations(steps_of("pli", tiny_backbone(), 8).ours)
    half = matrix_operations(steps_of("pli", tiny_backbone(), 8, precision="bf16").ours)
    assert ours == half
    assert 1.2 < plain / ours < 2


def test_operations_of_a_product_are_counted_and_timed() -> None:
    weights = torch.randn(16, 32, requires_grad=True)
    inputs = torch.randn(8, 16)
    assert matrix_operations(lambda: torch.autograd.grad((inputs @ weights).sum(), weights)) == 2 * 2 * 8 * 16 * 32
    cpu = torch.device("cpu")
    assert measure(lambda: inputs @ weights, cpu, 3).seconds > 0
    assert matrix_peak(cpu, side=64, rounds=3) > 1e6


def test_a_speed_is_told_in_one_line() -> None:
    found = speed("pli", tiny_backbone(), 16, peak=1e12, rounds=2)
    assert found.rate == pytest.approx(16 / found.ours.seconds)
    assert found.times == pytest.approx(found.plain.seconds / found.ours.seconds)
    assert found.share == pytest.approx(found.operations / found.ours.seconds / 1e12)
    whole = matrix_operations(steps_of("pli", tiny_backbone(), 16).ours)
    assert found.operations == pytest.approx(whole, rel=0.01)  # but for the products between the rows of a batch
    assert re.fullmatch(
        r"pli, batch 16, bf16: \d+/s, 0\.0 GiB, \d+% of a peak of 1 TFLOP/s; "
        r"\d+\.\dx the plain loop \(bf16, batch 16, 0\.0 GiB\)",
        str(found),
    )


def test_what_does_not_fit_is_computed_again_or_measured_in_smaller_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def crowded(method: str, backbone: Backbone, batch_size: int, **changes: Any) -> Any:
        tried.append((batch_size, changes))
        steps = steps_of(method, backbone, batch_size, **changes)
        full = batch_size > 8 and not changes.get("activation_checkpointing")
        return Steps(_too_large, _too_large) if full else steps

    monkeypatch.setattr(training_steps, "steps_of", crowded)
    found = speed("pic2word", tiny_backbone(), 32, peak=1e12, rounds=1)
    assert found.how == ", activations computed again"
    assert found.plain_batch_size == 8
    assert [size for size, changes in tried if "activation_checkpointing" not in changes] == [8, 32, 32, 16, 8]


def _too_large() -> float:
    raise torch.OutOfMemoryError
