"""Parts of the queries that no protocol has: where a unimodal run has a hit already, and what CIRCUS says of them.

A query that image-only or text-only retrieval answers does not need composition, and a number over all queries does not
tell a method that composes from one that copies. ``unimodal@10`` labels each query ``unimodal hit`` where a unimodal
run has a ground truth among its first 10, and ``no unimodal hit`` where none has; it is one kind of label among those
that queries carry, so that any number can be had by it. ``circus`` and ``circus-validated`` are the published labels of
eleven retrievers and of people (`cirbench.benchmarks.circus`).
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cirbench.benchmarks import load_protocol
from cirbench.benchmarks.annotation_files import data_root
from cirbench.benchmarks.circus import FILES, circus_labels
from cirbench.comparison.baselines import baselines_beside, command_for_baselines, hit_cutoff
from cirbench.errors import CheckFailed, MissingData, UnknownName, UsageError, quoted
from cirbench.methods.interface import unimodal_baselines
from cirbench.metrics.functions import Ranks
from cirbench.metrics.measure import soft_labels
from cirbench.metrics.table import NO_CUTOFF, parse_label
from cirbench.runs.scored import config_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from cirbench.runs.additional import Slices
    from cirbench.runs.folder import Run

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


def _ground(run: Run) -> tuple[str, tuple[str, ...]]:
    """What runs must share for one query to be the same query in both."""
    return run.result.protocol.digest, run.query_ids


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
