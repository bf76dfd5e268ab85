"""A training that goes wrong is stopped at the step where it does, and no healthy one is."""

from __future__ import annotations

import math
import re
import resource
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from cirbench.backbones import load_backbone
from cirbench.errors import CirbenchError, UsageError
from cirbench.training.checkpoint import CARD, read_card
from cirbench.training.contrastive import Contrastive
from cirbench.training.interface import TrainingParameters
from cirbench.training.log import METRICS
from cirbench.training.state import STATE, bound, diverges, is_good
from cirbench.training.train import Request, train
from tests.tiny_clip import some_pairs, tiny_backbone

if TYPE_CHECKING:
    from pathlib import Path


@given(st.lists(st.floats(0.1, 8.0), min_size=1, max_size=200), st.data())
def test_losses_within_ten_times_those_of_the_beginning_never_look_like_divergence(
    losses: list[float], data: st.DataObject
) -> None:
    first = losses[:20]
    rest = [min(loss, 10 * max(first)) for loss in losses[20:]]
    spikes = data.draw(st.sets(st.integers(0, max(0, len(rest) - 1)), max_size=9))
    rest = [1e9 if place in spikes else loss for place, loss in enumerate(rest)]
    assert not any(diverges([*first, *rest[:count]]) for count in range(len(rest) + 1))


def test_losses_that_shrink_to_nothing_and_return_below_one_are_healthy() -> None:
    assert not diverges([1e-6] * 20 + [0.9] * 40)


def test_half_of_the_last_twenty_far_above_the_first_twenty_is_divergence() -> None:
    start = [2.0] * 20 + [1.0] * 20
    assert bound(start) == 20
    grown = [30.0 * 1.5**step for step in range(12)]
    assert [diverges(start + grown[:count]) for count in (9, 10, 11)] == [False, False, True]
    assert is_good(start)
    assert not is_good([*start, 30.0])


class Exploding(Contrastive):
    """A loss that from the thirtieth step on grows by a third each step, with weights that stay finite."""

    calls = 0

    def loss(self, batch: Any) -> torch.Tensor:
        Exploding.calls += 1
        return super().loss(batch) * (1 + (4 / 3) ** (Exploding.calls - 30))


@pytest.mark.slow
def test_a_diverging_training_stops_names_the_step_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    parameters = TrainingParameters(steps=200, batch_size=16, lr=1e-5)
    request = Request("exploding", Exploding, parameters, tiny_backbone(), some_pairs())
    with pytest.raises(CirbenchError, match=r"The training stopped at step \d+: it diverges: half of") as caught:
        train(request, folder=tmp_path, save_seconds=0)
    assert re.search(r"its last 20 losses are above \d+\.\d+, 10 times the largest of the first 20", str(caught.value))
    assert "The last good state is kept" in caught.value.message
    stopped = int(re.findall(r"step (\d+)", caught.value.message)[0])
    assert 40 < stopped < 60
    losses = load_file(tmp_path / STATE)["losses"]
    assert float(losses[-1]) <= bound(losses.tolist())
    assert len(losses) < stopped
    assert not (tmp_path / CARD).exists()


def test_a_full_disk_during_a_checkpoint_is_one_message_and_leaves_the_state_before(tmp_path: Path) -> None:
    parameters = TrainingParameters(steps=6, batch_size=16)
    request = Request("clip", Filling, parameters, tiny_backbone(), some_pairs())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(CirbenchError, match=r"safetensors could not be written: File too large") as caught:
            train(request, folder=tmp_path, save_seconds=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "Traceback" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {METRICS, STATE}
    assert 1 <= len(load_file(tmp_path / STATE)["losses"]) < 6
    Filling.room = True
    train(request, folder=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [CARD, METRICS, "weights.safetensors"]


class Filling(Contrastive):
    """In the fourth step of the first training, the disk refuses files of more than 100 kB, as a full one would."""

    room = False
    calls = 0

    def loss(self, batch: Any) -> torch.Tensor:
        Filling.calls += 1
        if Filling.calls == 4 and not Filling.room:
            _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, most))
        return super().loss(batch)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="This machine has no device cuda that torch can use") as caught:
        load_backbone("scenes-vit", device="cuda")
    assert caught.value.hint == "Use --device auto or cpu."


def test_a_loss_that_is_infinite_stops_at_its_step(tmp_path: Path) -> None:
    class Infinite(Contrastive):
        def loss(self, batch: Any) -> torch.Tensor:
            return super().loss(batch) + math.inf

    request = Request("infinite", Infinite, TrainingParameters(steps=2, batch_size=16), tiny_backbone(), some_pairs())
    with pytest.raises(CirbenchError, match="stopped at step 1: its loss became inf"):
        train(request, folder=tmp_path)


class Crowded(Contrastive):
    """A loss on a device that has room for four samples in fp32, for eight with activations recomputed."""

    def loss(self, batch: Any) -> torch.Tensor:
        """Fill the memory."""
        again = self.backbone.model.get_submodule("visual.transformer").grad_checkpointing
        room = 8 if again else 4
        if len(batch.captions) > room:
            torch.empty(1 << 50)  # more than any machine has: a real error of an allocator
        return super().loss(batch)


class CrowdedGpu(Contrastive):
    """A loss that no GPU has room for."""

    def loss(self, batch: Any) -> torch.Tensor:
        """Fill the memory."""
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def crowded(objective: type[Contrastive], **changes: Any) -> Request:
    parameters = TrainingParameters(**{"steps": 3, "batch_size": 8} | changes)
    return Request("crowded", objective, parameters, tiny_backbone(), some_pairs())


def test_a_step_that_does_not_fit_says_what_was_tried_and_what_makes_it_fit(tmp_path: Path) -> None:
    with pytest.raises(CirbenchError) as caught:
        train(crowded(Crowded), folder=tmp_path / "first")
    assert re.fullmatch(
        r"The training stopped at step 1: it does not fit into the memory of cpu with 8 of 8 samples at once, in fp32, "
        r"with activations kept \(.*can't allocate memory.*\)\.",
        caught.value.message,
    )
    hint = caught.value.hint or ""
    ways = [dict([way.split("=")]) for way in re.findall(r"--set (\S+=[^\s;.]+)", hint)]
    assert ways == [
        {"activation_checkpointing": "true"},
        {"precision": "bf16"},
        {"grad_accum_steps": "2"},
        {"batch_size": "4"},
    ]
    for changes in ({"activation_checkpointing": True}, {"grad_accum_steps": 2}, {"batch_size": 4}):
        assert read_card(train(crowded(Crowded, **changes), folder=tmp_path / str(changes))).steps == 3


def test_what_was_tried_already_is_not_proposed_again(tmp_path: Path) -> None:
    tried = {"batch_size": 3, "grad_accum_steps": 3, "precision": "bf16", "activation_checkpointing": True}
    with pytest.raises(
        CirbenchError, match=r"with 1 of 3 samples at once, in bf16, with activations recomputed"
    ) as caught:
        train(crowded(CrowdedGpu, **tried), folder=tmp_path)
    assert "Tried to allocate 20.00 GiB" in caught.value.message
    assert caught.value.hint == "Use a smaller model, or a device with more memory."
