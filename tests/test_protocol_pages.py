"""The pages of the documentation that show each benchmark with its protocols."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from cirbench.benchmarks.interface import BENCHMARKS

SITE = Path(__file__).parents[1] / "docs" / "site"


@pytest.fixture(scope="module")
def made() -> Any:
    spec = importlib.util.spec_from_file_location("documentation_protocols", SITE / "protocols.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for the names of their types
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(made: Any) -> dict[str, str]:
    found: dict[str, str] = made.protocol_pages("https://code.example")
    return found


@pytest.mark.parametrize("name", BENCHMARKS.shipped())
def test_every_protocol_of_a_benchmark_has_its_facts_and_a_figure_that_can_be_read_aloud(
    pages: dict[str, str], name: str
) -> None:
    page = pages[f"benchmarks/{name}.md"]
    parts = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    assert list(parts) == [entry.id for entry in BENCHMARKS.find(name).protocols]
    for part in parts.values():
        assert re.search(r"\*\*Queries\*\*: \S.*\*\*Candidates\*\*: \S.*\*\*Measures\*\*: \S", part, re.DOTALL)
        (drawn,) = re.findall(r"<svg.*?</svg>", part)
        assert ElementTree.fromstring(drawn).get("aria-label")


def test_a_figure_shows_what_becomes_of_the_reference_and_whether_several_are_right(pages: dict[str, str]) -> None:
    def label(id: str) -> str:
        part = pages[f"benchmarks/{id.partition('/')[0]}.md"].partition(f"## {id}\n")[2]
        (first, *_) = re.findall('aria-label="([^"]*)"', part)
        return str(first)

    assert label("cirr/val").endswith("one is right; the reference image is removed.")
    assert label("circo/val").endswith("several are right; the reference image is one of them.")
    assert label("circo/test").endswith("several are right; the reference image is one of them.")
    assert label("mmeb/cirr").endswith("one is right.")  # where the table does not know
    assert label("genecis/focus-object").endswith("one is right; the reference image is none of them.")


def test_a_cell_that_repeats_the_one_above_has_its_words(made: Any) -> None:
    table = (
        "\n| `a/b` | 3 | 5 | kept | mAP@5 |\n| `a/c-d`, `-e` | the same | 6 | as above; told | Recall@1 |\n\nno row\n"
    )
    facts = made.table_of(table)
    assert facts["a/c-d"] == facts["a/c-e"] == made.Facts("3", "6", "kept; told", "Recall@1")
