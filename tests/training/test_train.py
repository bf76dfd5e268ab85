"""A training is recognised when it is done, continued when it was interrupted, and stopped when it goes wrong."""

from __future__ import annotations

import dataclasses
import json
import threading
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from cirbench.errors import CirbenchError, CorruptFile, MissingData, UsageError
from cirbench.training.checkpoint import CARD, WEIGHTS, CheckpointScore, open_checkpoint, read_card
from cirbench.training.contrastive import Contrastive
from cirbench.training.interface import TrainingParameters
from cirbench.training.log import METRICS
from cirbench.training.state import STATE, ValidationConfig
from cirbench.training.train import Request, train
from tests.tiny_clip import some_pairs, tiny_backbone

if TYPE_CHECKING:
    from pathlib import Path


PARAMETERS = TrainingParameters(steps=8, batch_size=16, lr=1e-3, schedule="cosine", warmup=2, weight_decay=0.01)


class Noisy(Contrastive):
    """Randomness in a step, so that a training that draws other numbers is found out, and an accident when told to."""

    accident: tuple[int, BaseException | float] | None = None
    calls = 0

    def loss(self, batch: Any) -> torch.Tensor:
        step, Noisy.calls = Noisy.calls, Noisy.calls + 1
        if Noisy.accident is not None and step == Noisy.accident[0]:
            if isinstance(Noisy.accident[1], BaseException):
                raise Noisy.accident[1]
            return super().loss(batch) * float(Noisy.accident[1])
        noise = 0.1 * torch.randn_like(batch.pixels_B3SS)
        return super().loss(dataclasses.replace(batch, pixels_B3SS=batch.pixels_B3SS + noise))


@pytest.fixture(autouse=True)
def calm() -> None:
    Noisy.accident, Noisy.calls = None, 0


@pytest.fixture(params=[0, 1])
def ahead(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many steps are begun before a loss is read: none, as on a CPU, or one, as on a GPU."""
    monkeypatch.setattr("cirbench.training.train.steps_ahead", lambda device: request.param)


def request_for(parameters: TrainingParameters = PARAMETERS) -> Request:
    return Request("noisy", Noisy, parameters, tiny_backbone(), some_pairs())


def test_a_training_lowers_its_loss_and_writes_weights_and_a_card(tmp_path: Path) -> None:
    request = request_for()
    seen: list[int] = []

    class Display:
        def __enter__(self) -> Any:
            return lambda more, note="": seen.append(more)

        def __exit__(self, *_: object) -> None: ...

    folder = train(request, folder=tmp_path / "here", display=lambda description, total, unit="": Display())
    card = read_card(folder)
    assert sum(seen) == 8 * 16
    assert sorted(path.name for path in folder.iterdir()) == [CARD, METRICS, WEIGHTS]
    assert len(card.losses) == card.steps == 8
    assert card.losses[-1] < card.losses[0]
    assert (card.method, card.data, card.data_pairs, card.device) == ("noisy", "scenes:48", 48, "cpu")
    assert card.training["schedule"] == "cosine"
    assert card.backbone == request.backbone.identity
    assert card.seconds > 0
    assert set(load_file(folder / WEIGHTS)) == set(request.backbone.model.state_dict())


def test_the_backbone_that_was_given_is_not_changed(tmp_path: Path) -> None:
    request = request_for()
    before = {name: tensor.clone() for name, tensor in request.backbone.model.state_dict().items()}
    train(request, folder=tmp_path)
    assert all(torch.equal(before[name], tensor) for name, tensor in request.backbone.model.state_dict().items())
    assert not request.backbone.model.training


def test_a_training_leaves_random_numbers_and_denormals_of_the_process_alone(tmp_path: Path) -> None:
    state = torch.get_rng_state()
    train(request_for(), folder=tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert bool((torch.full((8,), 1e-39) * 1 != 0).all())


def test_denormals_are_flushed_where_the_training_computes(tmp_path: Path) -> None:
    left = []

    class Looking(Contrastive):
        def loss(self, batch: Any) -> torch.Tensor:
            left.append(int((torch.full((1 << 20,), 1e-39) * 1).count_nonzero()))
            return super().loss(batch)

    train(dataclasses.replace(request_for(), objective=Looking), folder=tmp_path)
    assert left == [0] * 8


def test_a_finished_training_is_reused_and_lies_in_a_folder_of_its_own() -> None:
    folder = train(request_for())
    assert folder == request_for().folder
    assert request_for().is_done
    assert Noisy.calls == 8
    assert train(request_for()) == folder
    assert Noisy.calls == 8
    other = request_for(TrainingParameters(steps=9, batch_size=16))
    assert other.folder != folder
    assert not other.is_done


@pytest.mark.usefixtures("ahead")
def test_an_interrupted_training_continues_bit_for_bit(tmp_path: Path) -> None:
    whole = train(request_for(), folder=tmp_path / "whole")
    Noisy.accident, Noisy.calls = (5, RuntimeError("the power failed")), 0
    with pytest.raises(RuntimeError, match="the power failed"):
        train(request_for(), folder=tmp_path / "parts", save_seconds=0)
    with pytest.raises(MissingData, match="holds an unfinished training"):
        read_card(tmp_path / "parts")
    Noisy.accident, Noisy.calls = None, 0
    parts = train(request_for(), folder=tmp_path / "parts")
    assert Noisy.calls < 8
    assert (parts / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    assert read_card(parts).losses == read_card(whole).losses
    assert not (parts / STATE).exists()


@pytest.mark.usefixtures("ahead")
def test_a_stop_keeps_the_state_of_the_last_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(request_for(), folder=tmp_path / "whole")
    Noisy.calls = 0

    def pressed(self: threading.Event) -> bool:  # as if Ctrl-C came during the third step
        return Noisy.calls == 3

    with monkeypatch.context() as patched:
        patched.setattr(threading.Event, "is_set", pressed)
        with pytest.raises(CirbenchError, match=r"was stopped; its state is kept\.\nRun the same command again"):
            train(request_for(), folder=tmp_path / "parts")
    assert {path.name for path in (tmp_path / "parts").iterdir()} == {METRICS, STATE}
    parts = train(request_for(), folder=tmp_path / "parts")
    assert Noisy.calls == 8
    assert (parts / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()


@pytest.mark.usefixtures("ahead")
def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    Noisy.accident = (5, float("nan"))
    with pytest.raises(
        CirbenchError, match=r"stopped at step 6: its loss became nan\. The last good state is kept"
    ) as e:
        train(request_for(), folder=tmp_path, save_seconds=0)
    assert e.value.hint is not None
    assert "--set lr=" in e.value.hint
    assert {path.name for path in tmp_path.iterdir()} == {METRICS, STATE}
    assert all(bool(tensor.isfinite().all()) for tensor in load_file(tmp_path / STATE).values())


@pytest.mark.usefixtures("ahead")
def test_a_diverging_training_never_becomes_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CirbenchError, match=r"The training stopped at step \d+: its loss became"):
        train(request_for(TrainingParameters(steps=8, batch_size=16, lr=1e30)), folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [METRICS]


def test_losses_that_are_read_a_step_late_are_of_the_same_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epochs of three steps are evaluated on their last weights, and every step is in the log once, in order."""
    seen: list[tuple[int, bytes]] = []

    def evaluate(folder: Path) -> list[CheckpointScore]:
        seen.append((read_card(folder).steps, (folder / WEIGHTS).read_bytes()))
        return []

    request = request_for(msgspec.structs.replace(PARAMETERS, grad_clip=1.0))
    watched = dataclasses.replace(request, validation=ValidationConfig(("made-up@1",), evaluate))
    found = []
    for ahead in (0, 1):
        monkeypatch.setattr("cirbench.training.train.steps_ahead", lambda device, ahead=ahead: ahead)
        Noisy.calls = 0
        folder = train(watched, folder=tmp_path / str(ahead), save_seconds=1e9)
        lines = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
        steps = [(each["step"], each["loss"], each["lr"], each["grad_norm"]) for each in lines if "loss" in each]
        assert [number for number, *_ in steps] == [*range(1, 9)]
        found.append((steps, (folder / WEIGHTS).read_bytes(), [*seen]))
        assert [number for number, _ in seen] == [3, 6, 8]
        seen.clear()
    assert found[0] == found[1]


def test_a_folder_with_another_training_is_refused_unless_it_shall_be_replaced(tmp_path: Path) -> None:
    train(request_for(), folder=tmp_path)
    other = request_for(TrainingParameters(steps=2, batch_size=16))
    with pytest.raises(UsageError, match=r"holds another training: steps changed; lr changed.*\.\nChoose"):
        train(other, folder=tmp_path)
    train(other, folder=tmp_path, restart=True)
    assert read_card(tmp_path).steps == 2


def test_the_state_of_another_training_is_refused(tmp_path: Path) -> None:
    Noisy.accident = (5, RuntimeError("the power failed"))
    with pytest.raises(RuntimeError):
        train(request_for(), folder=tmp_path, save_seconds=0)
    Noisy.accident = None
    with pytest.raises(UsageError, match="holds another training"):
        train(request_for(TrainingParameters(steps=9, batch_size=16)), folder=tmp_path)


@pytest.mark.parametrize("damage", [lambda content: content[:-100], lambda content: b"x" + content[1:]])
def test_a_damaged_checkpoint_is_never_used(tmp_path: Path, damage: Any) -> None:
    request = request_for()
    folder = train(request, folder=tmp_path)
    (folder / WEIGHTS).write_bytes(damage((folder / WEIGHTS).read_bytes()))
    for use in (
        lambda: train(request_for(), folder=folder),
        lambda: open_checkpoint(folder, method="noisy", backbone=request.backbone.identity),
    ):
        with pytest.raises(CorruptFile, match=r"weights.safetensors is damaged: it is not the file that card.json"):
            use()


def test_a_checkpoint_without_its_weights_is_damaged(tmp_path: Path) -> None:
    folder = train(request_for(), folder=tmp_path)
    (folder / WEIGHTS).unlink()
    with pytest.raises(CorruptFile, match=r"has lost its weights.safetensors"):
        train(request_for(), folder=folder)


def test_a_damaged_card_is_never_used(tmp_path: Path) -> None:
    folder = train(request_for(), folder=tmp_path)
    (folder / CARD).write_text((folder / CARD).read_text()[:100])
    with pytest.raises(CorruptFile, match=r"card.json is not a valid checkpoint card: "):
        train(request_for(), folder=folder)


def test_a_truncated_state_is_an_error_that_says_how_to_start_over(tmp_path: Path) -> None:
    Noisy.accident = (5, RuntimeError("the power failed"))
    with pytest.raises(RuntimeError):
        train(request_for(), folder=tmp_path, save_seconds=0)
    Noisy.accident = None
    (tmp_path / STATE).write_bytes((tmp_path / STATE).read_bytes()[:-10])
    with pytest.raises(CorruptFile, match=r"state.safetensors is damaged") as caught:
        train(request_for(), folder=tmp_path)
    assert caught.value.hint == "Start over with --restart."
    train(request_for(), folder=tmp_path, restart=True)


def test_a_checkpoint_belongs_to_its_method_and_its_backbone(tmp_path: Path) -> None:
    folder = train(request_for(), folder=tmp_path)
    with pytest.raises(UsageError, match="is of the method noisy, not of pli"):
        open_checkpoint(folder, method="pli", backbone=tiny_backbone().identity)
    with pytest.raises(UsageError, match=r"was trained on .*/tiny, and the backbone here is .*: weights"):
        open_checkpoint(folder, method="noisy", backbone=tiny_backbone(seed=1).identity)
    with pytest.raises(MissingData, match=r"absent holds no checkpoint"):
        open_checkpoint(tmp_path / "absent", method="noisy", backbone=tiny_backbone().identity)


def test_a_full_disk_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CirbenchError, match=r"could not be written"):
        train(request_for(), folder=tmp_path / "file" / "below")
