"""Results of earlier schema versions, brought up to date one version at a time.

A migration takes the plain content of a ``result.json`` and returns that of the next version. It invents nothing: what
an earlier version did not record becomes what the new one says where it is unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cirbench.versioned import Migration


def _selection_and_training(result: dict[str, Any]) -> dict[str, Any]:
    """1 to 2: a method records what its checkpoint was selected on, and by which parameters it was trained."""
    method = {**result["method"], "selected_on": None, "training": None}
    return {**result, "schema_version": 2, "method": method}


MIGRATIONS: Mapping[int, Migration] = {1: _selection_and_training}
"""By version, the way to the next one."""
