"""cirbench: the harness and leaderboard for composed image retrieval.

    import cirbench

    report = cirbench.evaluate("image-text", dataset="scenes", split="tiny")

Nothing heavy is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cirbench.backbones import load_backbone
    from cirbench.benchmarks.catalogue import load_protocol
    from cirbench.comparison.report import evaluate_methods as evaluate
    from cirbench.runs.folder import load_run

__version__ = "0.1.0"
__all__ = ["evaluate", "load_backbone", "load_protocol", "load_run"]

_HOMES = {
    "evaluate": "cirbench.comparison.report:evaluate_methods",
    "load_backbone": "cirbench.backbones:load_backbone",
    "load_protocol": "cirbench.benchmarks.catalogue:load_protocol",
    "load_run": "cirbench.runs.folder:load_run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cirbench' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
