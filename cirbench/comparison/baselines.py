"""The untrained baselines, and what they say about a benchmark: which queries one side alone already answers."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from cirbench.comparison.values import kept
from cirbench.errors import CirbenchError
from cirbench.results.folder import RESULT, load_run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from cirbench.results.folder import Run

UNIMODAL = ("image-only", "text-only")
PLAIN = "image-text"


@dataclasses.dataclass(frozen=True)
class Unimodal:
    """The two unimodal baselines of one protocol on one backbone, seen through one number.

    A query counts as solved where its value is above 0: for a recall, where the target is within the cut-off; for
    mAP@K, where any ground truth is.

    Attributes:
        image: Retrieval by the reference image alone: what a method gets that copies the reference.
        text: Retrieval by the relative caption alone.
        label: The number.
    """

    image: Run
    text: Run
    label: str

    @cached_property
    def better(self) -> Run:
        """The one with the higher number."""
        return max((self.image, self.text), key=lambda run: run.result[self.label].value)

    @property
    def answered(self) -> int:
        """How many queries take part."""
        return int(np.count_nonzero(~np.isnan(self._values(self.image))))

    @property
    def by_image(self) -> int:
        """How many queries the reference image alone solves."""
        return int(np.count_nonzero(self._values(self.image) > 0))

    @property
    def by_text(self) -> int:
        """How many queries the caption alone solves."""
        return int(np.count_nonzero(self._values(self.text) > 0))

    @cached_property
    def hard_Q(self) -> NDArray[np.bool_]:
        """The queries that neither solves: those that need both sides."""
        hard_Q: NDArray[np.bool_] = (self._values(self.image) == 0) & (self._values(self.text) == 0)
        return hard_Q

    @property
    def hard(self) -> int:
        """How many those are."""
        return int(np.count_nonzero(self.hard_Q))

    def _values(self, run: Run) -> NDArray[np.float64]:
        return kept(run, self.label)[0].values_Q


def unimodal_of(run: Run, candidates: Iterable[Run], label: str) -> Unimodal | None:
    """Find the unimodal baselines of a run among others: same protocol, same backbone, same queries."""
    found: dict[str, Run] = {}
    for other in candidates:
        if other.result.method.name in UNIMODAL and label in other.values and _same_ground(run, other):
            found.setdefault(other.result.method.name, other)
    image, text = (found.get(name) for name in UNIMODAL)
    return None if image is None or text is None else Unimodal(image, text, label)


def baselines_beside(run: Run) -> list[Run]:
    """Load the unimodal baselines that lie beside a run's folder; what is damaged is left out."""
    loaded = []
    for name in UNIMODAL:
        for path in sorted(run.folder.resolve().parent.glob(f"{name}-*/{RESULT}")):
            try:
                loaded.append(load_run(path.parent))
            except CirbenchError:
                continue  # another run's trouble
    return loaded


def _same_ground(run: Run, other: Run) -> bool:
    mine, theirs = run.result, other.result
    return (
        mine.protocol.digest == theirs.protocol.digest
        and mine.backbone.digest == theirs.backbone.digest
        and run.query_ids == other.query_ids
    )
