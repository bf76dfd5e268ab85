"""The unimodal baselines, and what they say: a run's gain over them, and which queries do not need composition.

A query that image-only or text-only retrieval answers does not need composition, and a number over all queries does not
tell a method that composes from one that copies. A diagnosis compares a run with the better baseline, and takes its
number where both fail. Labels of queries say the same for any number: ``unimodal@10`` labels each query ``unimodal
hit`` where a unimodal run has a ground truth among its first 10, and ``no unimodal hit`` where none has; ``circus`` and
``circus-validated`` are the published labels of eleven retrievers and of people (`cirbench.benchmarks.circus`).
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cirbench.benchmarks import load_protocol
from cirbench.benchmarks.annotation_files import data_root
from cirbench.benchmarks.circus import FILES, circus_labels
from cirbench.errors import CheckFailed, CirbenchError, MissingData, UnknownName, UsageError, quoted
from cirbench.methods.interface import unimodal_baselines
from cirbench.metrics import Measurement
from cirbench.metrics.functions import Ranks
from cirbench.metrics.intervals import intervals_of
from cirbench.metrics.measure import soft_labels
from cirbench.metrics.paired import pairs_of
from cirbench.metrics.table import NO_CUTOFF, parse_label
from cirbench.runs.folder import load_run
from cirbench.runs.record import NOT_STATED, RESULT
from cirbench.runs.schema import MetricValue
from cirbench.runs.scored import config_of
from cirbench.support.console import typed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from cirbench.metrics.paired import Pair
    from cirbench.runs.folder import Run, Slices


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
    return _ground(run) == _ground(other) and run.result.backbone.digest == other.result.backbone.digest


def _ground(run: Run) -> tuple[str, tuple[str, ...]]:
    """What runs must share for one query to be the same query in both."""
    return run.result.protocol.digest, run.query_ids


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
    own = (unimodal.image.result.digest, unimodal.text.result.digest)
    others = [run for run in runs if run.result.digest not in own]
    found = iter(zip(_gains(others, unimodal), _on_composition_subset(others, unimodal), strict=True))
    return [Diagnosis(None, None) if run.result.digest in own else Diagnosis(*next(found)) for run in runs]


def _gains(runs: Sequence[Run], unimodal: Unimodal) -> list[Pair]:
    """Compare each run with the better baseline, as if it were the only one; in one go, to draw resamples once."""
    better = unimodal.better
    methods = [run.measured(unimodal.label) for run in (*runs, better)]
    pairs = pairs_of(methods, better.clusters, seed=better.result.seed, one=len(runs))
    return [dataclasses.replace(pair, first=0, second=1, corrected=pair.p_value) for pair in pairs]


def _on_composition_subset(runs: Sequence[Run], unimodal: Unimodal) -> list[MetricValue | None]:
    label, subset_Q = unimodal.label, unimodal.composition_Q
    if not runs or unimodal.composition == 0:
        return [None] * len(runs)
    measured = []
    for run in runs:
        values_Q = np.where(subset_Q, run.values[label], np.nan)
        by_seed = tuple(float(np.nanmean(each.values[label][subset_Q])) for each in run.replicates)
        measured.append(Measurement(label, values_Q, float(np.nanmean(values_Q)), by_seed=by_seed))
    return [
        MetricValue.of(each, interval)
        for each, interval in zip(measured, intervals_of(measured, runs[0].clusters), strict=True)
    ]


UNIMODAL = "unimodal"
HIT, NO_HIT = "unimodal hit", "no unimodal hit"


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Runs whose queries carry the labels of a kind.

    Attributes:
        runs: The runs, in the order in which they were given.
        kind: The kind, with its cut-off where it has one.
        meaning: What its labels say and how many queries carry each, a line for each set of queries; empty for labels
            that the benchmark has.
    """

    runs: list[Run]
    kind: str
    meaning: tuple[str, ...] = ()


def with_labels(runs: Sequence[Run], by: str) -> Labelled:
    """Give the queries of runs the labels of a kind that is not the benchmark's own.

    Args:
        runs: Runs of one or several protocols.
        by: ``"unimodal@10"``; ``"unimodal"`` for the cut-off of the first run's headline; ``"circus"`` or
            ``"circus-validated"``; or a kind that the queries of the first run carry, which is left as it is.

    Raises:
        UnknownName: There are no such labels.
        UsageError: The cut-off is not one, or lies behind the end of given lists; or CIRCUS has no labels for a run.
        MissingData: No unimodal runs of a protocol, on a backbone of the runs, are among them or beside them; or
            CIRCUS' file is not in the data root.
        CorruptFile: CIRCUS' file is not what was published.
    """
    if by in runs[0].slices:
        return Labelled([*runs], by)
    if by in FILES:
        found = [_with(run, by, _circus(run, by)) for run in runs]
        said = {_ground(run): _counted(run, by, f"{by} of {run.result.protocol.name}") for run in found}
        return Labelled(found, by, tuple(said.values()))
    if by.partition("@")[0] != UNIMODAL:
        known = [*runs[0].slices, UNIMODAL, *FILES]
        raise UnknownName(f"label of the queries of {runs[0].folder}", by, known)
    k = _cutoff(by, runs[0])
    kind = f"{UNIMODAL}@{k}"
    beside = {run.result.digest: run for each in runs for run in (*baselines_beside(each), each)}
    labels: dict[tuple[str, tuple[str, ...]], Slices] = {}
    meaning, found = [], []
    for run in runs:
        ground = _ground(run)
        if ground not in labels:
            backbones = {each.result.backbone.digest for each in runs if _ground(each) == ground}
            unimodal = _unimodal(beside.values(), run, backbones)
            labels[ground] = tuple((HIT if hit else NO_HIT,) for hit in hits(unimodal, k))
            names = ", ".join(f"{each.result.method.name} on {each.result.backbone.name}" for each in unimodal)
            what = f"{kind} of {run.result.protocol.name}, any ground truth in the top {k} of {names}"
            meaning.append(_counted(_with(run, kind, labels[ground]), kind, what))
        found.append(_with(run, kind, labels[ground]))
    return Labelled(found, kind, tuple(meaning))


def _counted(run: Run, kind: str, what: str) -> str:
    counts = Counter(label for labels in run.slices[kind] for label in labels)
    shown = ", ".join(f"{label} {count:,}" for label, count in sorted(counts.items()))
    return f"{what}: {shown} of {len(run.query_ids):,} queries."


def _with(run: Run, kind: str, labels: Slices) -> Run:
    return dataclasses.replace(run, slices={**run.slices, kind: labels})


def _circus(run: Run, kind: str) -> Slices:
    named = config_of(run).data_root
    root = data_root(None if named is None else Path(named))
    id = run.result.protocol.name.partition("@")[0]
    protocol = load_protocol(id, root).first(len(run.query_ids))
    if tuple(query.id for query in protocol.queries) != run.query_ids:
        raise CheckFailed(f"{run.folder} covers other queries than the first ones of {id}.")
    return circus_labels(protocol, kind, root)


def hits(runs: Sequence[Run], k: int) -> NDArray[np.bool_]:
    """Say for each query whether any of these runs has a ground truth among its first ``k``.

    Raises:
        UsageError: The lists that a run was scored from end before ``k``.
    """
    for run in runs:
        if run.depth is not None and run.depth < k:
            raise UsageError(
                f"{run.folder} was scored from lists of {run.depth} ids, so its hits in the top {k} are not known.",
                hint=f"Ask for --by {UNIMODAL}@{run.depth}.",
            )
    ranks = [Ranks(run.ranks, gains=soft_labels(run)).positives for run in runs]
    found: NDArray[np.bool_] = np.any([each.best_Q <= k for each in ranks], axis=0)
    return found


def _cutoff(by: str, run: Run) -> int:
    _, at, text = by.partition("@")
    if not at:
        return hit_cutoff(parse_label(run.result.metrics[0].label).k if run.result.metrics else NO_CUTOFF)
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise UsageError(f"{quoted(text)} is not a cut-off.", hint=f"For instance: --by {UNIMODAL}@10")
    return int(text)


def _unimodal(candidates: Iterable[Run], run: Run, backbones: set[str]) -> list[Run]:
    """The image-only and text-only runs on the ground of a run and on these backbones; both kinds, or an error."""
    names = unimodal_baselines()
    found = [
        each
        for each in candidates
        if each.result.method.name in names
        and _ground(each) == _ground(run)
        and each.result.backbone.digest in backbones
    ]
    if {each.result.method.name for each in found} == set(names):
        return found
    raise MissingData(
        f"Both unimodal baselines are needed, and no {' or '.join(sorted(set(names) - _names(found)))} of the same "
        f"protocol, backbone and queries lies beside {run.folder}.",
        hint=f"Make them: {command_for_baselines(run)}",
    )


def _names(runs: Sequence[Run]) -> set[str]:
    return {run.result.method.name for run in runs}
