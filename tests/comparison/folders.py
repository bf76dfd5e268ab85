"""Finished runs on disk, ranked from random features as a method would leave them."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from cirbench.methods.evaluate import Evaluation
from cirbench.metrics.intervals import intervals
from cirbench.metrics.measure import measure
from cirbench.ranking import rank
from cirbench.ranking.task import ranking_task
from cirbench.runs.folder import Run, save_run
from cirbench.runs.schema import BackboneRecord, Counts, Environment, MethodRecord, MetricValue, ProtocolRecord, Result

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cirbench.protocol import EvaluationProtocol

DIM = 16


def keep_run(
    protocol: EvaluationProtocol,
    root: Path,
    method: str,
    *,
    skill: float = 0.0,
    seed: int = 0,
    parameters: Mapping[str, Any] | None = None,
    backbone: str = "tiny",
    limit: int | None = None,
    config: str = "",
) -> Run:
    """Rank by random features, of which ``skill`` says how near a query lies to its first ground truth; keep it."""
    whole, protocol = protocol, protocol if limit is None else protocol.first(limit)
    assert protocol.gallery is not None and protocol.labels is not None
    gallery_ND = np.random.default_rng(0).standard_normal((len(protocol.gallery), DIM), dtype=np.float32)
    noise_QD = np.random.default_rng(seed + 1).standard_normal((len(protocol.queries), DIM), dtype=np.float32)
    truths = [protocol.gallery.positions[relevant[0]] for relevant in protocol.labels.relevant]
    queries_QD = skill * gallery_ND[truths] + noise_QD
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (queries_QD, gallery_ND)]
    ranking = rank(unit[0], unit[1], ranking_task(protocol))
    measurements = measure(ranking, protocol)
    found = intervals(measurements, protocol.clusters)
    counts = (len(protocol.queries), len(protocol.gallery))
    settings = dict(parameters or {})
    digest = f"{method}-{backbone}-{len(protocol.queries)}-{sorted(settings.items())}"
    result = Result(
        digest=digest,
        method=MethodRecord(
            name=method,
            title=method,
            parameters=settings,
            code="",
            supervision="training-free",
            uses_shared_concept="no",
            uses_llm="no",
            uses_triplets="no",
        ),
        protocol=ProtocolRecord(name=whole.name, digest=whole.digest, fields=dict(whole.fields), licence=whole.licence),
        backbone=BackboneRecord(
            name=backbone,
            architecture="",
            activation="gelu",
            weights=backbone,
            preprocessing="clip",
            precision="fp32",
            digest=backbone,
        ),
        counts=Counts(
            queries=counts[0],
            queries_expected=len(whole.queries),
            gallery=counts[1],
            gallery_expected=counts[1],
            tied_relevant=0,
            truncated_texts=0,
        ),
        metrics=[
            MetricValue(label=one.label, value=100 * one.value, low=100 * bound.low, high=100 * bound.high, n=one.count)
            for one, bound in zip(measurements, found, strict=True)
        ],
        seed=0,
        seconds={},
        peak_memory_mb=0,
        environment=Environment(cirbench="1", python="", platform="", device="cpu", packages={}),
        created="2026-01-02T03:04:05+00:00",
    )
    name = f"{method}-{zlib.crc32(digest.encode()):08x}" if settings or backbone != "tiny" else f"{method}-00000000"
    return save_run(root / name, result, Evaluation(ranking, measurements, {}), protocol, config)
