"""Runs of random features, as a method would leave them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from cirbench.methods.evaluate import Evaluation
from cirbench.ranking import rank
from cirbench.ranking.task import ranking_task
from cirbench.runs.folder import Run, save_run
from cirbench.runs.schema import BackboneRecord, Counts, Environment, MethodRecord, ProtocolRecord, Result

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from cirbench.protocol import EvaluationProtocol


def unit(rows: int, dim: int, seed: int) -> NDArray[np.float32]:
    rows_ND = np.random.default_rng(seed).standard_normal((rows, dim), dtype=np.float32)
    rows_ND /= np.linalg.norm(rows_ND, axis=1, keepdims=True)
    return rows_ND


def run_on(
    protocol: EvaluationProtocol,
    folder: Path,
    features: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
    *,
    expected: int | None = None,
) -> Run:
    """Rank features, random ones if none are given, by a protocol without labels, and keep the run."""
    assert protocol.gallery is not None
    gallery = len(protocol.gallery)
    queries_QD, gallery_ND = features or (unit(len(protocol.queries), 8, 0), unit(gallery, 8, 1))
    started = time.perf_counter()
    ranking = rank(queries_QD, gallery_ND, ranking_task(protocol))
    evaluation = Evaluation(ranking, (), {"ranking": time.perf_counter() - started})
    result = Result(
        digest="0123456789abcdef",
        method=MethodRecord(
            name="random",
            title="Random features",
            parameters={"seed": 0},
            code="",
            supervision="training-free",
            uses_shared_concept="no",
            uses_llm="no",
            uses_triplets="no",
        ),
        protocol=ProtocolRecord(
            name=protocol.name, digest=protocol.digest, fields=dict(protocol.fields), licence=protocol.licence
        ),
        backbone=BackboneRecord(
            name="none", architecture="", activation="gelu", weights="", preprocessing="", precision="fp32", digest="b"
        ),
        counts=Counts(
            queries=len(protocol.queries),
            queries_expected=expected or len(protocol.queries),
            gallery=gallery,
            gallery_expected=gallery,
            tied_relevant=0,
            truncated_texts=0,
        ),
        metrics=[],
        seed=0,
        seconds=dict(evaluation.seconds),
        peak_memory_mb=0,
        environment=Environment(cirbench="1", python="", platform="", device="cpu", packages={}),
        created="2026-01-02T03:04:05+00:00",
    )
    return save_run(folder, result, evaluation, protocol, "")
