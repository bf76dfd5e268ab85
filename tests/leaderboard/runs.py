"""Runs of random features on labelled protocols, kept as `cirbench run` keeps them."""

from __future__ import annotations

import dataclasses
import hashlib
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from cirbench.benchmarks.catalogue import load_protocol
from cirbench.methods.evaluate import Evaluation
from cirbench.metrics.intervals import intervals
from cirbench.metrics.measure import measure
from cirbench.ranking import rank
from cirbench.ranking.task import ranking_task
from cirbench.runs.config import RunConfig, to_toml
from cirbench.runs.folder import Run, save_run
from cirbench.runs.schema import BackboneRecord, Counts, Environment, MethodRecord, MetricValue, ProtocolRecord, Result
from cirbench.support.files import digest

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from cirbench.protocol import EvaluationProtocol

TINY = "scenes/tiny"


@cache
def tiny() -> EvaluationProtocol:
    """The smallest protocol that ships."""
    return load_protocol(TINY)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def backbone(name: str = "scenes-vit", weights: str = "w") -> BackboneRecord:
    parts = {
        "architecture": "toy",
        "activation": "gelu",
        "weights": sha(weights),
        "preprocessing": "clip(8)",
        "precision": "fp32",
    }
    return BackboneRecord(name=name, **parts, digest=digest(parts))


def method(name: str = "random", **changes: object) -> MethodRecord:
    record = MethodRecord(
        name=name,
        title="Random features",
        parameters={"scale": 1.0, "prompt": "{}"},
        code=sha("code"),
        supervision="training-free",
        uses_shared_concept="no",
        uses_llm="no",
        uses_triplets="no",
    )
    return record if not changes else _replaced(record, changes)


def _replaced(record: MethodRecord, changes: dict[str, object]) -> MethodRecord:
    import msgspec

    return msgspec.structs.replace(record, **changes)


def unit(rows: int, seed: int) -> NDArray[np.float32]:
    rows_ND = np.random.default_rng(seed).standard_normal((rows, 8), dtype=np.float32)
    rows_ND /= np.linalg.norm(rows_ND, axis=1, keepdims=True)
    return rows_ND


def evaluated(protocol: EvaluationProtocol, seed: int = 0, skill: float = 0.0) -> Evaluation:
    """Rank random features; with more skill, queries look more like their targets."""
    assert protocol.gallery is not None
    gallery_ND = unit(len(protocol.gallery), 1)
    queries_QD = unit(len(protocol.queries), 2 + seed)
    if skill and protocol.labels is not None:
        targets = [protocol.gallery.positions[row[0]] for row in protocol.labels.relevant]
        queries_QD = queries_QD + np.float32(skill) * gallery_ND[targets]
        queries_QD /= np.linalg.norm(queries_QD, axis=1, keepdims=True)
    ranking = rank(queries_QD, gallery_ND, ranking_task(protocol))
    return Evaluation(ranking, measure(ranking, protocol) if protocol.labels is not None else (), {})


def run_of(
    folder: Path,
    protocol: EvaluationProtocol | None = None,
    *,
    seed: int = 0,
    skill: float = 0.0,
    limit: int | None = None,
    dataset: str = "scenes",
    method: MethodRecord = method(),  # noqa: B008
    backbone: BackboneRecord = backbone(),  # noqa: B008
) -> Run:
    """Evaluate random features and keep the run in ``folder``."""
    whole = protocol or tiny()
    assert whole.gallery is not None
    asked = whole if limit is None else whole.first(limit)
    evaluation = evaluated(asked, seed, skill)
    found = intervals(evaluation.measurements, asked.clusters)
    config = RunConfig(method=(method.name,), dataset=dataset, protocol=whole.id, limit=limit, seed=seed)
    result = Result(
        digest=digest([whole.digest, method.name, seed, skill, limit, backbone.digest]),
        method=method,
        protocol=ProtocolRecord(name=whole.name, digest=whole.digest, fields=dict(whole.fields), licence=whole.licence),
        backbone=backbone,
        counts=Counts(
            queries=len(asked.queries),
            queries_expected=len(whole.queries),
            gallery=len(whole.gallery),
            gallery_expected=len(whole.gallery),
            tied_relevant=0,
            truncated_texts=0,
        ),
        metrics=[
            MetricValue(
                label=each.label,
                value=100 * each.value,
                low=100 * interval.low,
                high=100 * interval.high,
                n=each.count,
            )
            for each, interval in zip(evaluation.measurements, found, strict=True)
        ],
        seed=seed,
        seconds={},
        peak_memory_mb=0,
        environment=Environment(
            cirbench="1", python="3", platform="Linux", device="cpu", packages={}, command="/home/me/cirbench run"
        ),
        created="2026-01-02T03:04:05+00:00",
    )
    return save_run(folder, result, evaluation, asked, to_toml(config))


def without_labels(protocol: EvaluationProtocol) -> EvaluationProtocol:
    return dataclasses.replace(protocol, labels=None)
