"""``cirbench check`` passes what comes along, and finds what is wrong with what does not keep the rules."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cirbench.benchmarks.conformance import check_benchmark
from cirbench.benchmarks.interface import BENCHMARKS, DatasetFiles, RemoteFile
from cirbench.benchmarks.scenes import scenes_protocol
from cirbench.metrics import METRICS, Ranks
from cirbench.metrics.conformance import check_metric
from cirbench.submissions.check import check_server
from cirbench.submissions.form import SERVERS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cirbench.support.plugins import Finding

RECALL = METRICS.find("Recall")


def problems(findings: list[Finding]) -> list[str]:
    return [finding.problem for finding in findings if finding.problem is not None]


@pytest.mark.parametrize("name", METRICS.shipped())
def test_every_metric_that_comes_along_keeps_the_rules(name: str) -> None:
    assert problems(check_metric(METRICS.find(name))) == []


def _by_place(ranks: Ranks, k: int) -> Any:
    return (ranks.best_Q <= k) * (np.arange(len(ranks.relevant)) % 2)


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda ranks, k: 2.0 * (ranks.best_Q <= k), r"at 1 from 0 to 2, and fractions are from 0 to 1"),
        (lambda ranks, k: np.zeros(3), r"\(3,\) instead of \(200,\)"),
        (lambda ranks, k: 1 - (ranks.best_Q <= k), r"gets worse for query \d+ when its ground truths rise"),
        (_by_place, r"among others and 0 alone"),
        (lambda ranks, k: 1 / 0, "ZeroDivisionError: division by zero"),
        (
            lambda ranks, k: ranks.where_labelled(ranks.relevant.values[ranks.relevant.offsets[1:] - 1] <= k),
            "values change with the order in which further ground truths are listed",
        ),
        (lambda ranks, k: np.ones(len(ranks.relevant)), r"\[1\.\], not NaN or 0"),
    ],
)
def test_a_metric_that_breaks_a_rule_is_caught(function: Callable[[Ranks, int], Any], why: str) -> None:
    found = problems(check_metric(dataclasses.replace(RECALL, function=function)))
    assert any(re.search(why, each) for each in found), found


@pytest.mark.parametrize("name", BENCHMARKS.shipped())
def test_every_benchmark_that_comes_along_declares_what_it_is(name: str) -> None:
    declared = check_benchmark(BENCHMARKS.find(name), None)
    assert problems([each for each in declared if "scenes/val" not in each.rule]) == []


@pytest.mark.parametrize("name", [name for name in BENCHMARKS.shipped() if name != "scenes"])
def test_every_protocol_of_the_real_files_is_what_its_benchmark_declares(annotation_root: Path, name: str) -> None:
    assert problems(check_benchmark(BENCHMARKS.find(name), annotation_root)) == []


def test_a_benchmark_that_declares_something_else_than_it_loads_is_caught() -> None:
    scenes = BENCHMARKS.find("scenes")
    tiny = next(entry for entry in scenes.protocols if entry.id == "scenes/tiny")
    wrong = dataclasses.replace(tiny, queries=61, title="Other", labelled=False)
    changed = dataclasses.replace(scenes, protocols=(wrong,), default_split="tiny", licence="GPL", citation="")
    found = "; ".join(problems(check_benchmark(changed, None)))
    assert "no citation" in found
    for part in (
        "title: declared 'Other', loaded 'Scenes, a small part",
        "labels are public: declared False, loaded True",
        "licence: declared 'GPL', loaded 'MIT'",
        "queries: declared 61, loaded 60",
    ):
        assert part in found
    files = DatasetFiles((RemoteFile("http://example.org/x", "../x", None, None),))
    odd = dataclasses.replace(scenes, files=files, needs="x", columns=("mAQ@5",))
    found = "; ".join(problems(check_benchmark(odd, None)))
    assert "http://example.org/x is not https" in found
    assert "../x leads out of the data root" in found
    assert "'mAQ@5' is not a label of a number" in found


def test_a_server_form_is_held_to_its_own_rules() -> None:
    protocol = scenes_protocol("tiny")
    form = dataclasses.replace(
        SERVERS.find("circo"),
        protocols=("scenes/tiny",),
        files=lambda lists: {
            "json": {query: [int(name) for name in ids[:50]] for query, ids in lists.rankings.items()}
        },
    )
    assert problems(check_server(form, None)) == []
    longer = dataclasses.replace(form, files=lambda lists: {"json": {query: [1] for query in lists.rankings}})
    assert any("lists" in each or "id" in each for each in problems(check_server(longer, protocol)))
