"""On its way a training is evaluated, keeps its epochs, and hands over the weights that were the best."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from cirbench.benchmarks.catalogue import load_protocol
from cirbench.errors import UnknownName, UsageError
from cirbench.methods import evaluate
from cirbench.methods.interface import find_method
from cirbench.ranking import scores
from cirbench.runs.training import validation_config
from cirbench.training.checkpoint import CARD, WEIGHTS, CheckpointScore, read_card
from cirbench.training.contrastive import Contrastive
from cirbench.training.interface import TrainingParameters
from cirbench.training.log import METRICS
from cirbench.training.state import STATE, ValidationConfig
from cirbench.training.train import Request, train
from tests.tiny_clip import some_pairs, tiny_backbone
from tests.training.quick import quick_request

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.slow

PARAMETERS = TrainingParameters(steps=9, batch_size=16, lr=1e-3)  # three steps an epoch
VALUES = {3: 10.0, 6: 30.0, 9: 20.0}
SEEN: list[tuple[str, bool]] = []


def judge(folder: Path) -> Sequence[CheckpointScore]:
    """Scores of a made-up benchmark; remembers where it looked, and whether denormals were numbers there."""
    denormal = bool((torch.full((8,), 1e-39) * 1 != 0).all())
    SEEN.append((folder.name, denormal))
    step = read_card(folder).steps
    return [
        CheckpointScore(step=step, protocol="even@1", digest="e" * 64, metric="mAP@5", value=VALUES[step]),
        CheckpointScore(step=step, protocol="odd@1", digest="o" * 64, metric="R@1", value=-VALUES[step]),
    ]


def watched(**more: Any) -> Request:
    SEEN.clear()
    validation = ValidationConfig(protocols=("even@1", "odd@1"), evaluate=judge, **more)
    return Request("clip", Contrastive, PARAMETERS, tiny_backbone(), some_pairs(), validation=validation)


def plain() -> Request:
    return dataclasses.replace(watched(), validation=ValidationConfig())


def test_a_training_is_evaluated_at_the_end_of_each_epoch_and_the_card_tells(tmp_path: Path) -> None:
    card = read_card(train(watched(), folder=tmp_path))
    assert [(seen.step, seen.protocol, seen.metric, seen.value) for seen in card.evaluations[::2]] == [
        (step, "even@1", "mAP@5", value) for step, value in VALUES.items()
    ]
    assert card.selected_on is None
    assert card.steps == 9
    assert SEEN == [("step-3", True), ("step-6", True), ("step-9", True)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [CARD, METRICS, WEIGHTS]


def test_looking_at_a_training_does_not_change_it(tmp_path: Path) -> None:
    looked, alone = train(watched(), folder=tmp_path / "a"), train(plain(), folder=tmp_path / "b")
    assert (looked / WEIGHTS).read_bytes() == (alone / WEIGHTS).read_bytes()


def test_the_checkpoint_that_is_best_on_the_chosen_protocol_is_kept_and_the_card_says_so(tmp_path: Path) -> None:
    card = read_card(train(watched(monitor="even@1", keep_epochs=True), folder=tmp_path))
    assert (card.steps, card.selected_on, len(card.losses), len(card.evaluations)) == (6, "even@1", 9, 6)
    assert (tmp_path / WEIGHTS).read_bytes() == (tmp_path / "epoch-2" / WEIGHTS).read_bytes()
    first = read_card(train(watched(monitor="odd@1"), folder=tmp_path / "odd"))
    assert (first.steps, first.selected_on) == (3, "odd@1")
    assert sorted(path.name for path in (tmp_path / "odd").iterdir()) == [CARD, METRICS, WEIGHTS]


def test_each_epoch_is_kept_as_a_checkpoint_of_its_own(tmp_path: Path) -> None:
    request = dataclasses.replace(plain(), validation=ValidationConfig(keep_epochs=True))
    folder = train(request, folder=tmp_path)
    assert [read_card(folder / f"epoch-{epoch}").steps for epoch in (1, 2, 3)] == [3, 6, 9]
    assert (folder / "epoch-3" / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()
    weights = [load_file(folder / f"epoch-{epoch}" / WEIGHTS)["visual.proj"] for epoch in (1, 2, 3)]
    assert not torch.equal(weights[0], weights[1])
    assert SEEN == []
    train(plain(), folder=folder, restart=True)
    assert sorted(path.name for path in folder.iterdir()) == [CARD, METRICS, WEIGHTS]


@pytest.mark.parametrize("moment", [4, 6, 7])
def test_a_training_that_is_stopped_on_its_way_selects_what_it_would_have_selected(tmp_path: Path, moment: int) -> None:
    class Stopping(Contrastive):
        calls = 0

        def loss(self, batch: Any) -> torch.Tensor:
            Stopping.calls += 1
            if Stopping.calls == moment:
                raise RuntimeError("the power failed")
            return super().loss(batch)

    request = dataclasses.replace(watched(monitor="even@1"), objective=Stopping)
    with pytest.raises(RuntimeError, match="the power failed"):
        train(request, folder=tmp_path)
    assert (tmp_path / STATE).is_file()
    stopped = read_card(train(request, folder=tmp_path))
    assert (stopped.steps, stopped.selected_on) == (6, "even@1")
    assert [seen.step for seen in stopped.evaluations] == [3, 3, 6, 6, 9, 9]
    assert sorted(path.name for path in tmp_path.iterdir()) == [CARD, METRICS, WEIGHTS]


def test_a_training_with_another_selection_is_another_training() -> None:
    digests = {request.digest for request in (plain(), watched(), watched(eval_every=2), watched(monitor="even@1"))}
    assert len(digests) == 4


def test_a_method_is_evaluated_on_real_protocols_as_a_run_would(tmp_path: Path) -> None:
    from cirbench.backbones.encoder import Encoder
    from cirbench.methods.evaluate import evaluate
    from cirbench.methods.loading import build, parse_parameters

    spec, backbone, protocol = find_method("pli"), tiny_backbone(), load_protocol("scenes/tiny")
    validation = validation_config(spec, backbone, ["scenes/tiny"], eval_every=20)
    folder = train(dataclasses.replace(quick_request("pli"), validation=validation), folder=tmp_path)
    (seen,) = read_card(folder).evaluations
    assert (seen.step, seen.protocol, seen.digest, seen.metric) == (20, protocol.name, protocol.digest, "mAP@5")
    method = build(spec, Encoder(backbone, None), parse_parameters(spec, {}), folder)
    assert seen.value == pytest.approx(100 * evaluate(method, protocol).measurements[0].value, abs=1e-9)


def test_what_cannot_be_evaluated_on_is_said_before_the_training() -> None:
    with pytest.raises(UnknownName, match="There is no protocol called 'scenes/tine'"):
        validation_config(None, tiny_backbone(), ["scenes/tine"])
    with pytest.raises(UsageError, match="--eval-every says when to evaluate, and --evaluate is missing"):
        validation_config(None, tiny_backbone(), [], eval_every=3)


def test_an_evaluation_on_the_way_ranks_on_the_device_as_a_run_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(folder: Path) -> list[CheckpointScore]:
        request = quick_request("pli", steps="2")
        validation = validation_config(find_method("pli"), request.backbone, ["scenes/tiny"])
        return read_card(train(dataclasses.replace(request, validation=validation), folder=folder)).evaluations

    expected = asked(tmp_path / "here")
    devices: list[torch.device] = []

    def noted(device: torch.device) -> scores.Product:
        devices.append(device)
        return scores.product_on(device)

    monkeypatch.setattr(evaluate, "on_gpu", lambda device: True)  # the products go the way that they go on a GPU
    monkeypatch.setattr(evaluate, "product_on", noted)
    assert asked(tmp_path / "there") == expected
    assert devices == [torch.device("cpu")]
