"""scenes: a rendered benchmark for composed image retrieval with complete ground truth.

A scene is a few things on a ground, seen from somewhere, in some style. A query is a reference scene and a relative
caption; relevant is every gallery scene that keeps the shared concept and satisfies the caption, decided by a
predicate on every scene, so that no false negatives exist. docs/scenes.md has the details.
"""

from __future__ import annotations

from cirbench.benchmarks.scenes.benchmark import (
    BENCHMARK,
    scenes_protocol,
    training_pairs,
    training_sentences,
    training_triplets,
)

__all__ = ["BENCHMARK", "scenes_protocol", "training_pairs", "training_sentences", "training_triplets"]
