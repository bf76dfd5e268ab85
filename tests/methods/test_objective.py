"""The check of an objective finds what keeps a training from learning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from cirbench.cli import execute
from cirbench.methods.conformance import check_loss
from cirbench.training.contrastive import Contrastive
from cirbench.training.interface import TrainingParameters
from cirbench.training.train import Request
from tests.tiny_clip import some_pairs, tiny_backbone

if TYPE_CHECKING:
    from pathlib import Path


class PerSample(Contrastive):
    def loss(self, batch: Any) -> torch.Tensor:
        return super().loss(batch) * torch.ones(len(batch.captions))


class Infinite(Contrastive):
    def loss(self, batch: Any) -> torch.Tensor:
        return super().loss(batch) / 0


class Detached(Contrastive):
    def loss(self, batch: Any) -> torch.Tensor:
        return super().loss(batch).detach()


class Multiplied(Contrastive):
    def loss(self, batch: Any) -> torch.Tensor:
        return 0 * super().loss(batch)


class Ascending(Contrastive):
    def loss(self, batch: Any) -> torch.Tensor:
        loss = super().loss(batch)
        return 2 * loss.detach() - loss  # its value is that of the loss, and its gradients are the opposite ones


class TextsAlone(Contrastive):
    def loss(self, batch: Any) -> torch.Tensor:
        tokens = self.backbone.tokenize(batch.captions)
        rows: torch.Tensor = self.backbone.encode_tokens(tokens)
        return rows.square().mean()


def findings(objective: Any) -> dict[str, tuple[str | None, str | None]]:
    parameters = TrainingParameters(batch_size=8, lr=1e-3)
    request = Request("clip", objective, parameters, tiny_backbone(), some_pairs())
    return {finding.rule: (finding.problem, finding.note) for finding in check_loss(request)}


@pytest.mark.parametrize(
    ("objective", "rule", "said"),
    [
        (PerSample, "the loss of a batch is one finite number", "it is a tensor of shape (8,): take the mean"),
        (Infinite, "the loss of a batch is one finite number", "it is inf"),
        (Detached, "gradients reach the weights", "does not require grad"),
        (Multiplied, "gradients reach the weights", "no weight gets any: is the loss computed under no_grad"),
        (Ascending, "the loss falls on one batch that is repeated", "is the learning rate 0.001 right, and the sign?"),
    ],
)
def test_what_keeps_a_training_from_learning_is_named(objective: Any, rule: str, said: str) -> None:
    problem, _ = findings(objective)[rule]
    assert problem is not None
    assert said in problem


def test_a_sound_objective_passes_and_weights_without_a_gradient_are_named() -> None:
    assert all(problem is None for problem, _ in findings(Contrastive).values())
    found = findings(TextsAlone)
    assert all(problem is None for problem, _ in found.values())
    note = found["gradients reach the weights"][1]
    assert note is not None
    assert "get none: " in note
    assert "visual." in note


METHOD = """
from cirbench.methods.interface import MethodSpec
from cirbench.training.interface import TrainingParameters

SPEC = MethodSpec(
    name="apart",
    title="Apart",
    implementation="cirbench_methods.pli.method:PLI",
    supervision="image-text pairs",
    trainer="FILE:Apart",
    training=TrainingParameters,
)


class Apart:
    def __init__(self, backbone, parameters):
        self.backbone, self.module = backbone, backbone.model

    def loss(self, batch):
        images_BD = self.backbone.encode_images(batch.pixels_B3SS)
        return (images_BD @ images_BD.T).square().mean()  # each process compares its own rows only
"""


@pytest.mark.slow
def test_a_loss_that_compares_within_a_process_only_differs_on_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "apart.py"
    file.write_text(METHOD.replace("FILE", str(file)))
    assert execute(["check", "method", f"{file}:SPEC"]) == 4
    printed = capsys.readouterr().out
    assert "ok      the loss falls on one batch that is repeated" in printed
    assert "BROKEN  two processes have the loss of one" in printed
    assert "compare with the rows of all processes with gather_rows" in printed
