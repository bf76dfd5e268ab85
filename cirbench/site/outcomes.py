"""What runs found, query by query, read back from their folders."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from cirbench.arrays import Ragged
from cirbench.comparison.baselines import UNIMODAL
from cirbench.errors import CheckFailed, CirbenchError
from cirbench.results.folder import PER_QUERY, RESULT, load_run
from cirbench.retrieval.task import UNRANKED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cirbench.results.schema import Result


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """What one run found.

    Attributes:
        name: How it is called beside others.
        result: Its result.
        query_ids: The queries, in order.
        top_QK: Gallery positions, best first; -1 where a query has fewer candidates than K.
        ranks: Per query, the exact rank of each ground truth, in the protocol's order.
        values_Q: The headline number of each query as a fraction; NaN where there is none.
    """

    name: str
    result: Result
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


def load_outcomes(folder: Path) -> Outcomes:
    """Read what a run found.

    Raises:
        MissingData: There is no finished run in ``folder``.
        CorruptFile: A file of it is damaged, changed or missing.
    """
    run = load_run(folder)
    with np.load(folder / PER_QUERY, allow_pickle=False) as arrays:
        query_ids = tuple(arrays["query_ids"].tolist())
        top_QK = arrays["top_QK"].astype(np.int64)
        ranks = Ragged(arrays["relevant_ranks"], arrays["relevant_offsets"])
    headline = run.result.metrics[0].label if run.result.metrics else None
    values_Q = np.full(len(query_ids), np.nan) if headline is None else run.values[headline]
    return Outcomes(run.result.method.name, run.result, query_ids, top_QK, ranks, values_Q)


def unimodal_beside(folder: Path, asked: Sequence[Outcomes]) -> list[Outcomes]:
    """Read the runs with one side of the query only that lie beside ``folder``, on the same queries and backbone."""
    first = asked[0]
    found: dict[str, Outcomes] = {}
    for path in sorted(folder.resolve().parent.glob(f"*/{RESULT}")):
        if not path.parent.name.startswith(UNIMODAL):
            continue
        try:
            other = load_outcomes(path.parent)
        except CirbenchError:
            continue  # a damaged neighbour is no reason not to show what was asked for
        same = comparable(first, other) is None and first.result.backbone.digest == other.result.backbone.digest
        if same and other.name in UNIMODAL and all(other.result.digest != run.result.digest for run in asked):
            found.setdefault(other.name, other)
    return [found[name] for name in UNIMODAL if name in found]


def comparable(first: Outcomes, other: Outcomes) -> str | None:
    """Say why two runs cannot be shown side by side, or ``None`` where they can."""
    if first.result.protocol.digest != other.result.protocol.digest:
        return f"{first.name} was run on {first.result.protocol.name}, and {other.name} on {other.result.protocol.name}"
    if first.query_ids != other.query_ids:
        return f"{first.name} covers {len(first.query_ids)} queries, and {other.name} {len(other.query_ids)} or others"
    return None


def require_comparable(outcomes: Sequence[Outcomes]) -> None:
    """Refuse runs that cannot be shown side by side.

    Raises:
        CheckFailed: Their protocols or their queries differ; the message says how.
    """
    for other in outcomes[1:]:
        if (why := comparable(outcomes[0], other)) is not None:
            raise CheckFailed(f"These runs cannot be shown side by side: {why}.", hint="See `cirbench list runs`.")
