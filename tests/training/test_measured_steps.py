"""What measures the steps of trainings takes them as trainings do."""

from __future__ import annotations

import math

import pytest
import torch

from cirbench.backbones import text
from tests.tiny_clip import tiny_backbone
from tests.training_steps import SETTINGS, matrix_operations, matrix_peak, measure, steps_of


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
