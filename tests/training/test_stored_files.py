"""What a training stores says when it was damaged, and nothing half written outlives a training that finishes."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cirbench.errors import CirbenchError, CorruptFile
from cirbench.training.checkpoint import CARD, WEIGHTS, read_card
from cirbench.training.interface import TrainingParameters
from cirbench.training.log import METRICS
from cirbench.training.loop import optimizer_for
from cirbench.training.state import STATE, TrainState
from cirbench.training.train import train
from tests.tiny_clip import tiny_backbone
from tests.training.quick import quick_request

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(quick_request("clip", steps="2"), folder=tmp_path_factory.mktemp("checkpoint") / "clip")


def flipped(content: bytes, bit: int) -> bytes:
    """The content with one bit changed."""
    place = bit // 8
    return content[:place] + bytes([content[place] ^ 1 << bit % 8]) + content[place + 1 :]


@pytest.mark.slow
def test_each_flipped_bit_of_a_card_is_noticed_and_the_card_is_named(checkpoint: Path, tmp_path: Path) -> None:
    content = (checkpoint / CARD).read_bytes()
    draw = random.Random(0)
    for bit in draw.sample(range(8 * len(content)), 2000):
        (tmp_path / CARD).write_bytes(flipped(content, bit))
        with pytest.raises(CorruptFile, match=r"card\.json"):
            read_card(tmp_path)


@pytest.mark.slow
@given(bit=st.integers(min_value=0))
@settings(max_examples=200)
def test_each_flipped_bit_of_a_state_is_noticed_and_the_state_is_named(
    tmp_path_factory: pytest.TempPathFactory, bit: int
) -> None:
    folder = tmp_path_factory.mktemp("state")
    state = new_state()
    state.losses = [2.0, 1.5]
    state.save(folder)
    content = (folder / STATE).read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    for size in (header, len(content)):  # the header is small, so it gets its own share of the flips
        (folder / STATE).write_bytes(flipped(content, bit % (8 * size)))
        with pytest.raises(CorruptFile, match=r"state\.safetensors is damaged: .*\nStart over with --restart\."):
            new_state().load(folder)


def new_state() -> TrainState:
    module = tiny_backbone().model.get_submodule("visual")
    return TrainState(module, optimizer_for(module, TrainingParameters()), "r" * 64)


def test_a_state_of_another_schema_says_who_wrote_it(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"losses": torch.zeros(2)}, tmp_path / STATE, {"schema": "1", "request": "r" * 64})
    with pytest.raises(CorruptFile, match="was written by an earlier version of cirbench"):
        new_state().load(tmp_path)


def test_a_card_of_the_first_schema_is_read_with_the_present_names(checkpoint: Path, tmp_path: Path) -> None:
    values = json.loads((checkpoint / CARD).read_bytes())
    del values["digest"]
    training = values["training"]
    training["accumulate"] = training.pop("grad_accum_steps") + 2
    training["checkpointing"] = not training.pop("activation_checkpointing")
    (tmp_path / CARD).write_text(json.dumps({**values, "schema": 1, "code": "0" * 64}))
    card, present = read_card(tmp_path), read_card(checkpoint)
    assert (card.training["grad_accum_steps"], card.training["activation_checkpointing"]) == (3, True)
    assert set(card.training) == set(present.training)
    assert msgspec.structs.replace(present, training=card.training, digest="", code=None) == card


def test_a_card_without_a_schema_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    values = json.loads((checkpoint / CARD).read_bytes())
    del values["schema"]
    (tmp_path / CARD).write_text(json.dumps(values))
    with pytest.raises(CorruptFile, match=r"card\.json is not a valid checkpoint card"):
        read_card(tmp_path)


def test_a_training_that_finishes_removes_what_killed_ones_left_half_written(tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    folder.mkdir()
    for name in (STATE, CARD, WEIGHTS):
        (folder / f".{name}.abc123.part").write_bytes(b"half")
    (folder / ".notes.part").write_text("of somebody else")
    train(quick_request("clip", steps="1"), folder=folder)
    assert sorted(path.name for path in folder.iterdir()) == [".notes.part", CARD, METRICS, WEIGHTS]


def test_a_damaged_card_keeps_a_checkpoint_from_being_reused(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / CARD).write_bytes(flipped((checkpoint / CARD).read_bytes(), 4000))
    (tmp_path / WEIGHTS).write_bytes((checkpoint / WEIGHTS).read_bytes())
    with pytest.raises(CirbenchError, match=r"card\.json"):
        train(quick_request("clip", steps="2"), folder=tmp_path)
