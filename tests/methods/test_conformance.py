"""The check finds what breaks the rules of the interface, and what keeps a training from learning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from cirbench.benchmarks.scenes import scenes_protocol
from cirbench.cli import execute
from cirbench.methods.conformance import check_loss, check_method, check_spec
from cirbench.methods.interface import METHODS, MethodSpec, Parameters, find_method, list_methods
from cirbench.methods.loading import checked
from cirbench.training.contrastive import Contrastive
from cirbench.training.interface import TrainingParameters
from cirbench.training.train import Request
from tests.tiny_clip import some_pairs, tiny_backbone

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from cirbench.methods.interface import Method
    from cirbench.protocol import Item, Query


SPEC_FILE = """
{extra}
from cirbench.methods.interface import MethodSpec

SPEC = MethodSpec(name="mine", title="Mine", implementation="nowhere:Mine")
"""


class Proper:
    """A method whose rows are drawn from the content of the image or text."""

    def rows(self, texts: Sequence[str]) -> Any:
        seeds = [int.from_bytes(text.encode()[-7:], "little") for text in texts]
        return np.stack([np.random.default_rng(seed).normal(size=6) for seed in seeds]).astype(np.float32)

    def encode_gallery(self, items: Sequence[Item]) -> Any:
        return self.rows([item.image.content for item in items])

    def encode_queries(self, queries: Sequence[Query]) -> Any:
        return self.rows([query.captions[0] for query in queries])


class Unseeded(Proper):
    def rows(self, texts: Sequence[str]) -> Any:
        return np.random.default_rng().normal(size=(len(texts), 6)).astype(np.float32)


class Centred(Proper):
    def rows(self, texts: Sequence[str]) -> Any:
        rows = super().rows(texts)
        return rows - 0.5 * rows.mean(axis=0)


class Positional(Proper):
    def rows(self, texts: Sequence[str]) -> Any:
        rows = super().rows(texts)
        rows[:, 0] += np.arange(len(rows))
        return rows


class Narrow(Proper):
    def encode_queries(self, queries: Sequence[Query]) -> Any:
        return super().encode_queries(queries)[:, :3]


class Zero(Proper):
    def rows(self, texts: Sequence[str]) -> Any:
        rows = super().rows(texts)
        rows[-1] = 0
        return rows


class Chunky(Proper):
    def score(self, queries_QD: Any, gallery_ND: Any) -> Any:
        return (queries_QD @ gallery_ND.T / len(gallery_ND)).astype(np.float32)


class Broken(Proper):
    def encode_queries(self, queries: Sequence[Query]) -> Any:
        return super().encode_queries(queries)[1:]


def broken_rules(factory: Callable[[], Method]) -> dict[str, str]:
    protocol = scenes_protocol("tiny")
    assert protocol.gallery is not None
    findings = check_method(lambda: checked(factory(), "mine"), protocol.gallery.items[:6], protocol.queries[:5])
    return {finding.rule: finding.problem for finding in findings if finding.problem is not None}


def test_a_proper_method_breaks_no_rule() -> None:
    assert broken_rules(Proper) == {}


@pytest.mark.parametrize(
    ("factory", "rule", "problem"),
    [
        (Unseeded, "the same gallery items give the same bytes twice", "two runs differ: is a seed missing?"),
        (Centred, "queries do not depend on their batch", "a unit row moves by"),
        (Positional, "queries do not depend on their order", "a unit row moves by"),
        (Narrow, "queries can be scored against the gallery", "queries have 3 dimensions and gallery items 6"),
        (Zero, "gallery items become finite float32 rows that have a direction", "hold only zeros"),
        (Chunky, "scores do not depend on the chunk", "another chunk of the gallery, other scores"),
        (Broken, "queries become finite float32 rows that have a direction", "returned 4 rows instead of 5"),
    ],
)
def test_each_kind_of_breach_is_found(factory: Callable[[], Method], rule: str, problem: str) -> None:
    assert problem in broken_rules(factory)[rule]


@pytest.mark.slow
@pytest.mark.parametrize("name", list_methods())
def test_the_specs_that_come_along_are_complete_and_light(name: str) -> None:
    findings = check_spec(find_method(name), METHODS.reference(name))
    assert [finding.problem for finding in findings] == [None, None]


def test_a_spec_with_gaps_is_found_out(tmp_path: Path) -> None:
    class Silent(Parameters, frozen=True):
        """Nothing about the fields."""

        weight: float = 1.0

    gaps: Any = MethodSpec(
        name="My Method",
        title=" ",
        implementation="x:Y",
        parameters=Silent,
        supervision="image-text pairs",
        uses_llm="perhaps",  # type: ignore[arg-type]
        transductive="now and then",  # type: ignore[arg-type]
    )
    file = tmp_path / "mine.py"
    file.write_text(SPEC_FILE.format(extra=""))
    complete, light = check_spec(gaps, f"{file}:SPEC")
    assert light.problem is None
    assert complete.problem is not None
    assert complete.problem.split("; ") == [
        "the name 'My Method' is not made of a-z, 0-9 and hyphens",
        "the title is empty",
        "uses_llm is 'perhaps' instead of yes, no or unknown",
        "transductive is 'now and then' instead of yes, no, unknown or a function of the parameters",
        "a method without trainer cannot be image-text pairs",
        "the docstring of Silent does not describe weight",
    ]


@pytest.mark.slow
def test_a_spec_that_imports_torch_is_found_out(tmp_path: Path) -> None:
    file = tmp_path / "heavy.py"
    file.write_text(SPEC_FILE.format(extra="import torch"))
    problem = check_spec(find_method("image-only"), f"{file}:SPEC")[1].problem
    assert problem == "torch is imported: move what needs it into the implementation"


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
