"""A comparison is of pairs, also where the number is a mean over slices."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
import pytest

from cirbench.results.comparison import against, rows
from cirbench.results.folder import Run
from cirbench.results.schema import (
    BackboneRecord,
    Counts,
    Environment,
    MethodRecord,
    MetricValue,
    ProtocolRecord,
    Result,
)
from cirbench.results.table import Report


def run_of(method: str, values: dict[str, list[float]], headline: float | None = None) -> Run:
    """A run whose numbers follow from per-query values; the first label is the headline."""
    arrays = {label: np.array(row, dtype=np.float64) for label, row in values.items()}
    numbers = {label: 100 * float(np.nanmean(row)) for label, row in arrays.items()}
    if headline is not None:
        numbers[next(iter(numbers))] = headline
    result = Result(
        digest=method,
        method=MethodRecord(
            name=method,
            title=method,
            parameters={},
            code="",
            supervision="training-free",
            uses_shared_concept="no",
            uses_llm="no",
            uses_triplets="no",
        ),
        protocol=ProtocolRecord(name="toy@1", digest="0" * 64, fields={}, licence="MIT"),
        backbone=BackboneRecord(
            name="", architecture="", activation="gelu", weights="", preprocessing="", precision="fp32", digest=""
        ),
        counts=Counts(queries=4, queries_expected=4, gallery=9, gallery_expected=9, tied_relevant=0, truncated_texts=0),
        metrics=[
            MetricValue(label=label, value=value, low=0, high=100, n=int(np.count_nonzero(~np.isnan(arrays[label]))))
            for label, value in numbers.items()
        ],
        seed=0,
        seconds={},
        peak_memory_mb=0,
        environment=Environment(cirbench="", python="", platform="", device="cpu", packages={}),
        created="",
    )
    return Run(Path(method), result, arrays, tuple("abcd"))


def test_the_gain_is_over_the_better_of_the_two_unimodal_baselines() -> None:
    image = run_of("image-only", {"mAP@5": [0.1, 0.1, 0.1, 0.1]})
    text = run_of("text-only", {"mAP@5": [0.4, 0.0, 0.4, 0.0]})
    both = run_of("image-text", {"mAP@5": [0.5, 0.5, 0.5, 0.5]})
    of_image, of_text, of_both = rows([image, text, both])
    assert of_image.gain is None and of_text.gain is None
    assert of_both.gain is not None and of_both.over_plain is None
    assert of_both.gain.name == "text-only"
    assert of_both.gain.difference == pytest.approx(30)


def test_a_method_without_baselines_beside_it_has_no_gain() -> None:
    (row,) = rows([run_of("pli", {"mAP@5": [0.5, 0.5, 0.5, 0.5]})])
    assert row.gain is None and row.over_plain is None


def test_a_difference_is_paired_so_a_constant_lead_has_no_uncertainty() -> None:
    one = run_of("pli", {"mAP@5": [0.9, 0.2, 0.6, 0.4]})
    other = run_of("image-text", {"mAP@5": [0.8, 0.1, 0.5, 0.3]})
    found = against(one, other)
    assert (found.difference, found.low, found.high) == pytest.approx((10, 10, 10), abs=1e-6)


def test_a_mean_over_slices_is_compared_as_such() -> None:
    """Three queries of one slice must not outweigh the one of the other."""
    nan = float("nan")
    values = {
        "Recall@10[mean over category]": [1.0, 1.0, 1.0, 0.0],
        "Recall@10[category=dress]": [1.0, 1.0, 1.0, nan],
        "Recall@10[category=shirt]": [nan, nan, nan, 0.0],
    }
    zero = {label: [0.0 if value == value else value for value in row] for label, row in values.items()}
    found = against(run_of("pli", values, headline=50.0), run_of("image-text", zero, headline=0.0))
    assert found.difference == pytest.approx(50)
    assert found.low == pytest.approx(50) and found.high == pytest.approx(50)


def test_what_no_ranking_can_exceed_stands_below_the_methods_where_it_is_less_than_everything() -> None:
    run = run_of("pli", {"Hit_rate@10": [0.5, 0.5, 0.5, 0.5]})
    assert "at most" not in repr(Report((run,), ("pli",)))
    limited = msgspec.structs.replace(run.result.metrics[0], at_most=76.5)
    run = dataclasses.replace(run, result=msgspec.structs.replace(run.result, metrics=[limited]))
    (line,) = [line for line in repr(Report((run,), ("pli",))).splitlines() if "at most" in line]
    assert "76.50" in line
