"""A second opinion on relevance: facts evaluated on a table of single objects, without the code under test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cirbench.benchmarks.scenes.world import Beside, Count, Fact, Kind, Setting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cirbench.benchmarks.scenes.world import Scene

Mask = "NDArray[np.bool_]"


class Table:
    """Every object of every scene in one row, read from the scenes' canonical descriptions."""

    def __init__(self, scenes: Sequence[Scene]) -> None:
        rows = []
        for number, scene in enumerate(scenes):
            for shape, colour, size, texture, places in scene.description[0]:
                rows += [(number, shape, colour, size, texture, x, y) for x, y, *_ in places]
        columns = list(zip(*rows, strict=True))
        self.size = len(scenes)
        self.scene = np.array(columns[0])
        self.words = {
            name: np.array(columns[place]) for place, name in enumerate(("shape", "colour", "size", "texture"), start=1)
        }
        self.column, self.row = np.array(columns[5]), np.array(columns[6])
        self.setting = {
            name: np.array([scene.description[place] for scene in scenes])
            for place, name in enumerate(("ground", "viewpoint", "style"), start=1)
        }

    def objects(self, kind: Kind) -> NDArray[np.bool_]:
        chosen = np.ones(len(self.scene), dtype=bool)
        for name, words in self.words.items():
            wanted = getattr(kind, name)
            if wanted is not None:
                chosen &= words == wanted
        return chosen

    def extremes(self, kind: Kind, across: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        chosen = self.objects(kind)
        lines = (self.column if across else self.row)[chosen]
        low, high = np.full(self.size, 99), np.full(self.size, -99)
        np.minimum.at(low, self.scene[chosen], lines)
        np.maximum.at(high, self.scene[chosen], lines)
        return low, high

    def holds(self, fact: Fact) -> NDArray[np.bool_]:
        if isinstance(fact, Count):
            counts = np.bincount(self.scene[self.objects(fact.kind)], minlength=self.size)
            return (counts >= fact.least) & (counts <= fact.most)
        if isinstance(fact, Setting):
            same: NDArray[np.bool_] = self.setting[fact.part] == fact.value
            return ~same if fact.negated else same
        assert isinstance(fact, Beside)
        across = fact.side in ("left", "right")
        low, high = self.extremes(fact.kind, across)
        other_low, other_high = self.extremes(fact.other, across)
        both = (high >= 0) & (other_high >= 0)
        before = (high < other_low) if fact.side in ("left", "above") else (low > other_high)
        return both & before
