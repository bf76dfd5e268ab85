"""What runs found, query by query."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from cirbench.archives import read_archive
from cirbench.comparison.baselines import baselines_beside
from cirbench.comparison.names import run_names
from cirbench.errors import CheckFailed
from cirbench.leaderboard.evidence import SHOWN_QUERIES, spread
from cirbench.results.folder import PER_QUERY, Run, load_run
from cirbench.retrieval.task import UNRANKED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cirbench.arrays import Ragged
    from cirbench.leaderboard.entry import Entry
    from cirbench.leaderboard.evidence import Evidence
    from cirbench.results.schema import Result


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """What one run found.

    Attributes:
        name: How it is called beside others.
        result: Its result, or the entry that was made of it.
        query_ids: The queries, in order.
        top_QK: Gallery positions, best first; -1 where a query has fewer candidates than K.
        ranks: Per query, the exact rank of each ground truth, in the protocol's order.
        values_Q: The headline number of each query as a fraction; NaN where there is none.
    """

    name: str
    result: Result | Entry
    query_ids: tuple[str, ...]
    top_QK: NDArray[np.int64]
    ranks: Ragged[np.int64]
    values_Q: NDArray[np.float64]

    @property
    def first_Q(self) -> NDArray[np.int64]:
        """The rank of the best-ranked ground truth of each query; `UNRANKED` where none is ranked."""
        best_Q = np.full(len(self.ranks), UNRANKED, dtype=np.int64)
        np.minimum.at(best_Q, self.ranks.row_of_value, self.ranks.values)
        return best_Q


def read_outcomes(folders: Sequence[Path]) -> tuple[list[Outcomes], list[Outcomes]]:
    """Read runs that are to be shown side by side, and the unimodal baselines that lie beside the first.

    Raises:
        MissingData: There is no finished run in a folder.
        CorruptFile: A file of a run is damaged, changed or missing.
        CheckFailed: Their protocols or their queries differ; the message says how.
    """
    runs = [load_run(folder) for folder in folders]
    for other in runs[1:]:
        if (why := _apart(runs[0], other)) is not None:
            raise CheckFailed(f"These runs cannot be shown side by side: {why}.", hint="See `cirbench list runs`.")
    known = {run.result.digest for run in runs}
    backbone = runs[0].result.backbone.digest
    beside = {
        run.result.method.name: run
        for run in reversed(baselines_beside(runs[0]))
        if run.result.digest not in known and run.result.backbone.digest == backbone and _apart(runs[0], run) is None
    }
    asked = [outcomes_of(run, name) for run, name in zip(runs, run_names(runs), strict=True)]
    return asked, [outcomes_of(beside[name], name) for name in sorted(beside)]


def outcomes_of(run: Run, name: str) -> Outcomes:
    """Read what a run found.

    Raises:
        CorruptFile: Its rankings are damaged.
    """
    arrays = read_archive(run.folder / PER_QUERY)
    headline = run.result.metrics[0].label if run.result.metrics else None
    values_Q = np.full(len(run.query_ids), np.nan) if headline is None else run.values[headline]
    return Outcomes(name, run.result, run.query_ids, arrays["top_QK"].astype(np.int64), run.ranks, values_Q)


def outcomes_of_entry(entry: Entry, evidence: Evidence) -> Outcomes:
    """Take what an entry kept: everything but the first items, of which it has those of a few queries."""
    total = len(evidence.query_ids)
    top_QK = np.full((total, evidence.shown_SK.shape[1]), -1, dtype=np.int64)
    top_QK[spread(total, SHOWN_QUERIES)] = evidence.shown_SK
    (measured,) = evidence.measured([entry.metrics[0].label])[:1]
    return Outcomes(entry.method.name, entry, evidence.query_ids, top_QK, evidence.relevant_ranks, measured.values_Q)


def _apart(first: Run, other: Run) -> str | None:
    """Say why two runs cannot be shown side by side, or ``None`` where they can."""
    names = [run.result.method.name for run in (first, other)]
    if first.result.protocol.digest != other.result.protocol.digest:
        protocols = [run.result.protocol.name for run in (first, other)]
        if protocols[0] == protocols[1]:
            return f"they were made on different versions of {protocols[0]}"
        return f"{names[0]} was run on {protocols[0]}, and {names[1]} on {protocols[1]}"
    if first.query_ids != other.query_ids:
        return f"{names[0]} covers {len(first.query_ids)} queries, and {names[1]} {len(other.query_ids)} or others"
    return None
