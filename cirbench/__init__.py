"""cirbench: the harness and leaderboard for composed image retrieval.

    import cirbench

    report = cirbench.evaluate("image-text", "scenes", split="tiny")

Nothing is imported before it is used; ``docs/api.md`` shows every name.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cirbench.backbones import load_backbone
    from cirbench.backbones.interface import Backbone
    from cirbench.benchmarks import load_protocol
    from cirbench.comparison.api import (
        Comparison,
        compare,
        evaluate,
        list_backbones,
        list_benchmarks,
        list_metrics,
        score,
    )
    from cirbench.comparison.report import Report
    from cirbench.errors import CirbenchError
    from cirbench.methods.interface import (
        ComposedQuery,
        Method,
        MethodSpec,
        Parameters,
        Picture,
        Reranker,
        Scorer,
        list_methods,
    )
    from cirbench.protocol import EvaluationProtocol as Protocol
    from cirbench.protocol import Gallery, Item, Labels, Query
    from cirbench.runs.folder import Run, load_run
    from cirbench.runs.predictions.score import Score
    from cirbench.runs.training import train

__version__ = "0.2.0"

__all__ = [
    "Backbone",
    "CirbenchError",
    "Comparison",
    "ComposedQuery",
    "Gallery",
    "Item",
    "Labels",
    "Method",
    "MethodSpec",
    "Parameters",
    "Picture",
    "Protocol",
    "Query",
    "Report",
    "Reranker",
    "Run",
    "Score",
    "Scorer",
    "compare",
    "evaluate",
    "list_backbones",
    "list_benchmarks",
    "list_methods",
    "list_metrics",
    "load_backbone",
    "load_protocol",
    "load_run",
    "score",
    "train",
]

_HOMES = {
    "backbones": ("load_backbone",),
    "backbones.interface": ("Backbone",),
    "benchmarks": ("load_protocol",),
    "comparison.api": (
        "Comparison",
        "compare",
        "evaluate",
        "list_backbones",
        "list_benchmarks",
        "list_metrics",
        "score",
    ),
    "comparison.report": ("Report",),
    "errors": ("CirbenchError",),
    "methods.interface": (
        "ComposedQuery",
        "Method",
        "MethodSpec",
        "Parameters",
        "Picture",
        "Reranker",
        "Scorer",
        "list_methods",
    ),
    "protocol": ("Gallery", "Item", "Labels", "Protocol=EvaluationProtocol", "Query"),
    "runs.folder": ("Run", "load_run"),
    "runs.predictions.score": ("Score",),
    "runs.training": ("train",),
}
_FOUND = {name.partition("=")[0]: (home, name.rpartition("=")[2]) for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _FOUND:
        raise AttributeError(f"module 'cirbench' has no attribute {name!r}")
    home, attribute = _FOUND[name]
    return getattr(importlib.import_module(f"cirbench.{home}"), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
