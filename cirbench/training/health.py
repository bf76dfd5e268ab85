"""When a training has gone wrong: rules that no healthy run can break."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

WINDOW = 20
"""Losses at the beginning that say what is usual, and at the end that are judged."""
FACTOR = 10.0
"""How many times the usual is far too much."""
FLOOR = 1.0
"""A loss below is never called too large, however small those before it were."""


def bound(losses: Sequence[float]) -> float:
    """The loss above which a step has gone astray; infinite while too few losses are known."""
    if len(losses) < 2 * WINDOW:
        return math.inf
    return max(FLOOR, FACTOR * max(losses[:WINDOW]))


def diverges(losses: Sequence[float]) -> bool:
    """Whether half of the last 20 losses are ten times as large as the largest of the first 20, and above 1.

    The first losses are those of weights that have learnt nothing yet, and there are twenty of them. So neither a hard
    batch nor a spike that passes can look like this.
    """
    return statistics.median(losses[-WINDOW:]) > bound(losses) if losses else False


def is_good(losses: Sequence[float]) -> bool:
    """Whether the last step may be continued from."""
    return not losses or losses[-1] <= bound(losses)
