"""The check finds what breaks the rules of the interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cirbench.benchmarks.scenes import scenes_protocol
from cirbench.methods.conformance import check_method, check_spec
from cirbench.methods.interface import METHODS, MethodSpec, Parameters, find_method, list_methods
from cirbench.methods.loading import checked

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
