"""How fast and in how much memory a ranking is found, next to a bare matrix product and to public code.

CPU seconds on one thread, medians of interleaved rounds; run with ``make bench``. What is compared with is written down
in `tests.performance.public_pattern`.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from cirbench.metrics import Measure, measure
from cirbench.ranking import rank
from tests.performance import public_pattern, ranking_ratios
from tests.performance.ranking_cases import SIZES, Sized, sized

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from cirbench.metrics import Measurement

    Seconds = Callable[[Mapping[str, Callable[[], object]], int], dict[str, float]]

pytestmark = [
    pytest.mark.performance,
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.benchmark(timer=time.process_time),
]

MEASURES = {
    "fashioniq": (Measure("Recall", 10), Measure("Recall", 50)),
    "cirr": (*(Measure("Recall", k) for k in (1, 5, 10, 50)), *(Measure("Recall_subset", k) for k in (1, 2, 3))),
    "circo": (*(Measure("mAP", k) for k in (5, 10, 25, 50)), *(Measure("Recall", k) for k in (5, 10, 25, 50))),
}
CIRCO_SHARE = 4
"""The public code takes CIRCO's queries one by one, so a quarter of them takes a quarter of the time."""


@dataclasses.dataclass(frozen=True)
class Asked:
    measures: tuple[Measure, ...]
    slices: Mapping[str, tuple[tuple[str, ...], ...]] = dataclasses.field(default_factory=dict)
    labels: None = None


def ours(problem: Sized, kind: str) -> tuple[Measurement, ...]:
    return measure(rank(problem.queries_QD, problem.gallery_ND, problem.task), Asked(MEASURES[kind]))


def public(problem: Sized, kind: str) -> dict[str, float]:
    queries_QD, gallery_ND = torch.from_numpy(problem.queries_QD), torch.from_numpy(problem.gallery_ND)
    truths = problem.truths
    if kind == "circo":
        part = slice(len(truths) // CIRCO_SHARE)
        return public_pattern.mean_average_precisions(queries_QD[part], gallery_ND, problem.names, truths[part])
    targets = [row[0] for row in truths]
    if kind == "cirr":
        return public_pattern.recalls_with_groups(
            queries_QD, gallery_ND, problem.names, problem.references, targets, problem.groups
        )
    return public_pattern.single_target_recalls(queries_QD, gallery_ND, problem.names, targets, (10, 50))


def bare_product(problem: Sized) -> None:
    """Multiply block by block, and keep nothing."""
    for start in range(0, len(problem.gallery_ND), 4096):
        problem.queries_QD @ problem.gallery_ND[start : start + 4096].T


@pytest.mark.parametrize(
    ("name", "times_public", "times_product"),
    [("fashioniq-dress", 4, None), ("fashioniq-shirt", 4, None), ("cirr", 7, None), ("circo", 13, 1.6)],
)
def test_a_benchmark_is_scored_many_times_faster_than_by_public_code(
    name: str, times_public: float, times_product: float | None, median_cpu_seconds: Seconds, benchmark: Any
) -> None:
    problem, kind = sized(name), name.split("-")[0]
    seconds = median_cpu_seconds(
        {
            "public": lambda: public(problem, kind),
            "product": lambda: bare_product(problem),
            "ours": lambda: ours(problem, kind),
        },
        3,
    )
    whole = seconds["public"] * (CIRCO_SHARE if kind == "circo" else 1)
    of_public, of_product = whole / seconds["ours"], seconds["ours"] / seconds["product"]
    benchmark.extra_info.update(seconds, public=whole, of_public=of_public, of_product=of_product)
    benchmark.pedantic(ours, (problem, kind), rounds=2)
    assert of_public >= times_public
    assert times_product is None or of_product <= times_product


@pytest.mark.parametrize(("name", "times_product", "rounds"), [("100k", 1.65, 5), ("1m", 1.35, 3)])
def test_a_large_gallery_is_ranked_in_little_more_than_its_matrix_product(
    name: str, times_product: float, rounds: int, median_cpu_seconds: Seconds, benchmark: Any
) -> None:
    problem = sized(name)
    task = (problem.queries_QD, problem.gallery_ND, problem.task)
    seconds = median_cpu_seconds({"product": lambda: bare_product(problem), "ours": lambda: rank(*task)}, rounds)
    benchmark.extra_info.update(seconds, of_product=seconds["ours"] / seconds["product"])
    benchmark.pedantic(rank, task, rounds=1)
    assert seconds["ours"] / seconds["product"] <= times_product


def test_the_float32_filter_pays_on_the_largest_benchmark(median_cpu_seconds: Seconds) -> None:
    """It has to be worth its lines: a loop over float64 products finds the same in a tenth of them."""
    problem = sized("circo")
    found: dict[str, Any] = {}
    seconds = median_cpu_seconds(
        {
            "without": lambda: found.update(without=ranking_ratios.float64_loop(problem)),
            "ours": lambda: found.update(ours=rank(problem.queries_QD, problem.gallery_ND, problem.task)),
        },
        2,
    )
    top_QK, ranks = found["without"]
    assert (found["ours"].top_QK == top_QK).all()
    assert (found["ours"].relevant_ranks.values == ranks).all()
    assert seconds["without"] / seconds["ours"] >= 1.5


@pytest.mark.parametrize("name", ["fashioniq-dress", "cirr", "circo"])
def test_the_public_pattern_finds_the_same_numbers(name: str) -> None:
    """What is compared with does the same work: the figures agree to rounding."""
    problem, kind = sized(name), name.split("-")[0]
    expected = public(problem, kind)
    part = len(problem.queries_QD) // (CIRCO_SHARE if kind == "circo" else 1)
    found = {one.label: float(np.mean(one.values_Q[:part])) for one in ours(problem, kind)}
    assert found == pytest.approx(expected, abs=1.5 / part)


@pytest.mark.parametrize(("name", "over_features"), [("cirr", 32), ("fashioniq-dress", 32), ("circo", 110), ("1m", 64)])
def test_memory_over_the_features_is_bounded(name: str, over_features: float, record_property: Any) -> None:
    assert name in SIZES
    over, _ = peak_memory(name)
    record_property("MB over features", over)
    assert over <= over_features


def test_a_gallery_in_files_is_ranked_in_little_memory(tmp_path: Path, record_property: Any) -> None:
    _, whole = peak_memory("stream", str(tmp_path))
    record_property("MB of the whole process", whole)
    assert whole <= 256


def peak_memory(*arguments: str) -> tuple[float, float]:
    command = [sys.executable, "-m", "tests.performance.ranking_memory", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    over, whole = map(float, done.stdout.split())
    return over, whole
