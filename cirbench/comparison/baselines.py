"""The unimodal baselines, and what they say about a run: its gain over them, and its number where both fail."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from cirbench.errors import CirbenchError
from cirbench.methods.interface import unimodal_baselines
from cirbench.metrics import Measurement
from cirbench.metrics.statistics.recalled import intervals_of, pairs_of
from cirbench.metrics.table import NO_CUTOFF, parse_label
from cirbench.runs.folder import load_run
from cirbench.runs.record import NOT_STATED, RESULT
from cirbench.runs.schema import MetricValue
from cirbench.support.console import typed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from cirbench.metrics.statistics import Pair
    from cirbench.runs.folder import Run


@dataclasses.dataclass(frozen=True)
class Unimodal:
    """The two unimodal baselines of one protocol on one backbone, seen through one number.

    A query has a hit in the top k where its value is above 0: for Recall@k, where the target is among the first k; for
    mAP@k, where any ground truth is.

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
    def k(self) -> int:
        """The cut-off within which a hit counts."""
        return parse_label(self.label).k

    @property
    def image_hits(self) -> int:
        """How many queries have a hit in the top k by the reference image alone."""
        return int(np.count_nonzero(self._values(self.image) > 0))

    @property
    def text_hits(self) -> int:
        """How many queries have a hit in the top k by the caption alone."""
        return int(np.count_nonzero(self._values(self.text) > 0))

    @cached_property
    def composition_Q(self) -> NDArray[np.bool_]:
        """The composition subset: the queries without a hit in the top k by either side, so that both are needed."""
        return composition_subset(self._values(self.image), self._values(self.text))

    @property
    def composition(self) -> int:
        """The size of the composition subset."""
        return int(np.count_nonzero(self.composition_Q))

    def _values(self, run: Run) -> NDArray[np.float64]:
        return run.values[self.label]


def hit_cutoff(k: int) -> int:
    """Return the cut-off within which a hit counts beside a number that is taken at ``k``; 10 where it has none."""
    return 10 if k == NO_CUTOFF else k


def composition_subset(image_Q: NDArray[np.float64], text_Q: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which queries have no hit in the top k by either side, from one number of each: above 0 is a hit."""
    subset_Q: NDArray[np.bool_] = (image_Q == 0) & (text_Q == 0)
    return subset_Q


def unimodal_of(run: Run, candidates: Iterable[Run], label: str) -> Unimodal | None:
    """Find the unimodal baselines of a run among others: same protocol, same backbone, same queries."""
    found: dict[str, Run] = {}
    names = unimodal_baselines()
    for other in candidates:
        if other.result.method.name in names and label in other.values and same_ground(run, other):
            found.setdefault(other.result.method.name, other)
    image, text = (found.get(name) for name in names)
    return None if image is None or text is None else Unimodal(image, text, label)


def baselines_beside(run: Run) -> list[Run]:
    """Load the unimodal baselines that lie beside a run's folder; what is damaged is left out."""
    loaded = []
    for name in unimodal_baselines():
        for path in sorted(run.folder.resolve().parent.glob(f"{name}-*/{RESULT}")):
            try:
                loaded.append(load_run(path.parent))
            except CirbenchError:
                continue  # another run's trouble
    return loaded


def command_for_baselines(run: Run) -> str:
    """Return the command that makes the unimodal baselines beside a run; one of an unknown backbone names none."""
    protocol, backbone = run.result.protocol.name.partition("@")[0], run.result.backbone.name
    return (
        f"cirbench run --method {','.join(unimodal_baselines())} --dataset {typed(protocol.partition('/')[0])} "
        f"--protocol {typed(protocol)} --backbone {'BACKBONE' if backbone == NOT_STATED else typed(backbone)} "
        f"--output {typed(run.folder.parent.parent)}"
    )


def same_ground(run: Run, other: Run) -> bool:
    """Whether two runs share protocol, backbone and queries."""
    mine, theirs = run.result, other.result
    return (
        mine.protocol.digest == theirs.protocol.digest
        and mine.backbone.digest == theirs.backbone.digest
        and run.query_ids == other.query_ids
    )


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What the unimodal baselines on a run's backbone say about it.

    Attributes:
        gain: The run compared with the better of them; ``None`` for the baselines themselves.
        composition: The number on the composition subset; ``None`` for the baselines, and where the subset is empty.
    """

    gain: Pair | None
    composition: MetricValue | None


def diagnose(runs: Sequence[Run], unimodal: Unimodal) -> list[Diagnosis]:
    """Compare runs with the unimodal baselines on their backbone.

    On the composition subset the number is a plain mean over queries, also where the protocol averages slices. The
    p-values of gains are not corrected for being several: their intervals are what is shown.
    """
    return [
        Diagnosis(None, None)
        if _is_one_of(unimodal, run)
        else Diagnosis(_gain(run, unimodal), _on_composition_subset(run, unimodal))
        for run in runs
    ]


def _is_one_of(unimodal: Unimodal, run: Run) -> bool:
    return run.result.digest in (unimodal.image.result.digest, unimodal.text.result.digest)


def _gain(run: Run, unimodal: Unimodal) -> Pair:
    better = unimodal.better
    methods = [run.measured(unimodal.label), better.measured(unimodal.label)]
    return pairs_of(methods, better.clusters, seed=better.result.seed)[0]


def _on_composition_subset(run: Run, unimodal: Unimodal) -> MetricValue | None:
    if unimodal.composition == 0:
        return None
    label, subset_Q = unimodal.label, unimodal.composition_Q
    values_Q = np.where(subset_Q, run.values[label], np.nan)
    by_seed = tuple(float(np.nanmean(each.values[label][subset_Q])) for each in run.replicates)
    measurement = Measurement(label, values_Q, float(np.nanmean(values_Q)), by_seed=by_seed)
    return MetricValue.of(measurement, *intervals_of([measurement], run.clusters))
