"""Runs whose numbers follow from given per-query values, in memory and on disk."""

from __future__ import annotations

import dataclasses
import string
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from cirbench.runs.folder import Run
from cirbench.runs.schema import BackboneRecord, Counts, Environment, MethodRecord, MetricValue, ProtocolRecord, Result
from cirbench.support.arrays import Ragged

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

Values = dict[str, list[float]]


def run_of(
    method: str,
    values: Mapping[str, Sequence[float] | NDArray[np.float64]],
    headline: float | None = None,
    *,
    parameters: Mapping[str, Any] | None = None,
    fields: Mapping[str, str] | None = None,
    digest: str = "0" * 64,
    backbone: str = "tiny",
    folder: str | None = None,
    queries: Sequence[str] | None = None,
    expected: int | None = None,
    clusters: Sequence[str] | None = None,
    trained_on: str | None = None,
    training: Mapping[str, Any] | None = None,
    code: str = "",
    protocol: str = "toy@1",
    seed: int = 0,
) -> Run:
    """A run whose numbers follow from per-query values; the first label is the headline."""
    arrays = {label: np.array(row, dtype=np.float64) for label, row in values.items()}
    numbers = {label: 100 * float(np.nanmean(row)) for label, row in arrays.items()}
    if headline is not None:
        numbers[next(iter(numbers))] = headline
    count = len(next(iter(arrays.values())))
    ids = tuple(queries or (list(string.ascii_lowercase) * (count // 26 + 1))[:count])
    if queries is None and count > 26:
        ids = tuple(str(number) for number in range(count))
    result = Result(
        digest=folder or method,
        method=MethodRecord(
            name=method,
            title=method,
            parameters=dict(parameters or {}),
            code=code,
            supervision="training-free",
            uses_shared_concept="no",
            uses_llm="no",
            uses_triplets="no",
            trained_on=trained_on,
            training=None if training is None else dict(training),
            checkpoint=None if training is None else str(training),
        ),
        protocol=ProtocolRecord(name=protocol, digest=digest, fields=dict(fields or {}), licence="MIT"),
        backbone=BackboneRecord(
            name=backbone,
            architecture="",
            activation="gelu",
            weights="",
            preprocessing="",
            precision="fp32",
            digest=backbone,
        ),
        counts=Counts(
            queries=count,
            queries_expected=expected or count,
            gallery=9,
            gallery_expected=9,
            tied_relevant=0,
            truncated_texts=0,
        ),
        metrics=[
            MetricValue(label=label, value=value, low=0, high=100, n=int(np.count_nonzero(~np.isnan(arrays[label]))))
            for label, value in numbers.items()
        ],
        seed=seed,
        seconds={},
        peak_memory_mb=0,
        environment=Environment(cirbench="", python="", platform="", device="cpu", packages={}),
        created="",
    )
    ranks = Ragged.of([[1]] * count, np.int64)
    return Run(Path(folder or method), result, arrays, tuple(clusters or ids), ids, ranks)


def with_metric(run: Run, **changes: Any) -> Run:
    """The run with another headline."""
    headline = msgspec.structs.replace(run.result.metrics[0], **changes)
    metrics = [headline, *run.result.metrics[1:]]
    return dataclasses.replace(run, result=msgspec.structs.replace(run.result, metrics=metrics))
