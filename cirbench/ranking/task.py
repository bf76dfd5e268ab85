"""What a ranking needs to know, in positions instead of ids, and what it gives back."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from cirbench.errors import MissingData
from cirbench.metrics.functions import UNRANKED
from cirbench.support.arrays import Ragged

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from cirbench.protocol import EvaluationProtocol


@dataclasses.dataclass(frozen=True)
class RankingTask:
    """Candidates, exclusions and the items whose exact rank is asked for.

    Attributes:
        gallery_size: N.
        tie_order_N: A permutation of 0..N-1; among equal scores the smaller value comes first.
        depth: How many items per query to keep.
        relevant: Per query, the gallery positions whose exact rank is wanted; the target first.
        excluded_Q: Per query one gallery position that is not a candidate, or -1.
        groups: Per query, the gallery positions of its group without the reference; the target (the first relevant
            item) is ranked inside it by the same scores.
        pools: Candidate sets as gallery positions; ``None`` for the whole gallery.
        pool_of_query_Q: The pool each query ranks; ``None`` exactly where ``pools`` is.
    """

    gallery_size: int
    tie_order_N: NDArray[np.int64]
    depth: int
    relevant: Ragged[np.int64]
    excluded_Q: NDArray[np.int64]
    groups: Ragged[np.int64] | None = None
    pools: tuple[NDArray[np.int64], ...] | None = None
    pool_of_query_Q: NDArray[np.int64] | None = None


@dataclasses.dataclass(frozen=True)
class Ranking:
    """The answer: the first items of each query and the exact rank of each relevant item.

    Attributes:
        top_QK: Gallery positions, best first; -1 where a query has fewer candidates than K.
        scores_QK: float32 scores of ``top_QK``; NaN where it is -1.
        relevant_ranks: Per query, the 1-based rank of each relevant item among all candidates, in the order of
            `RankingTask.relevant`; `UNRANKED` for one that is not a candidate.
        relevant_ties: Per query, how many other candidates have exactly the score of the relevant item.
        group_ranks_Q: The 1-based rank of the target inside its group, or ``None`` without groups.
        group_top_QK: The gallery positions of the group's members (without the reference), best first; -1 pads.
    """

    top_QK: NDArray[np.int64]
    scores_QK: NDArray[np.float32]
    relevant_ranks: Ragged[np.int64]
    relevant_ties: Ragged[np.int64]
    group_ranks_Q: NDArray[np.int64] | None = None
    group_top_QK: NDArray[np.int64] | None = None

    @property
    def tied_relevant(self) -> int:
        """How many relevant items share their exact score with another candidate."""
        return int(np.count_nonzero(self.relevant_ties.values))


def scatter_to_full(ranking: Ranking, whole: RankingTask, queries: Sequence[int], items: Sequence[int]) -> Ranking:
    """Return the ranking of some queries over a part of the gallery as a ranking of the whole.

    Nothing is ranked for the other queries, and their relevant items are `UNRANKED`.

    Args:
        ranking: Whose queries have all their relevant items in the part.
        whole: What was to be ranked.
        queries: The position of each of the ranking's queries in the whole.
        items: The position of each of the ranking's gallery items in the whole.
    """
    rows, columns = np.asarray(queries, dtype=np.int64), np.asarray(items, dtype=np.int64)
    count = len(whole.relevant)

    def placed(part: NDArray[Any], empty: float) -> NDArray[Any]:
        spread = np.full((count, *part.shape[1:]), empty, dtype=part.dtype)
        spread[rows] = part
        return spread

    def named(part_QK: NDArray[np.int64]) -> NDArray[np.int64]:
        return placed(np.where(part_QK < 0, -1, columns[part_QK]), -1)

    def per_relevant(part: Ragged[np.int64], empty: int) -> Ragged[np.int64]:
        values = np.full(len(whole.relevant.values), empty, dtype=np.int64)
        values[whole.relevant.places(rows)] = part.values
        return whole.relevant.like(values)

    return Ranking(
        top_QK=named(ranking.top_QK),
        scores_QK=placed(ranking.scores_QK, np.nan),
        relevant_ranks=per_relevant(ranking.relevant_ranks, UNRANKED),
        relevant_ties=per_relevant(ranking.relevant_ties, 0),
        group_ranks_Q=None if ranking.group_ranks_Q is None else placed(ranking.group_ranks_Q, UNRANKED),
        group_top_QK=None if ranking.group_top_QK is None else named(ranking.group_top_QK),
    )


def tie_order(ids: Sequence[str]) -> NDArray[np.int64]:
    """Give each item its place among equal scores: ascending sha256 of its id.

    The order depends neither on labels nor on the order of the gallery, so a constant scorer gains nothing from
    where the target happens to be.
    """
    digests = b"".join(hashlib.sha256(name.encode()).digest() for name in ids)
    words_N4 = np.frombuffer(digests, dtype=">u8").reshape(-1, 4).astype(np.uint64)
    order = np.empty(len(ids), dtype=np.int64)
    order[np.lexsort(words_N4.T[::-1])] = np.arange(len(ids))
    return order


def ranking_task(protocol: EvaluationProtocol) -> RankingTask:
    """Translate a protocol's ids into positions: what the ranking needs to know, and nothing else.

    Raises:
        MissingData: The list of gallery images is not available.
    """
    gallery = protocol.gallery
    if gallery is None:
        raise MissingData(f"The gallery of {protocol.name} is not available, so nothing can be ranked against it.")
    at = gallery.positions
    unlabelled: tuple[tuple[str, ...], ...] = ((),) * len(protocol.queries)
    references = [at.get(query.reference.id, -1) for query in protocol.queries]
    groups = None
    if protocol.groups is not None:
        members = zip(protocol.groups, protocol.queries, strict=True)
        groups = [[name for name in group if name != query.reference.id] for group, query in members]
    return RankingTask(
        gallery_size=len(gallery),
        tie_order_N=tie_order(gallery.ids),
        depth=protocol.depth,
        relevant=_positions(protocol.labels.relevant if protocol.labels is not None else unlabelled, at),
        excluded_Q=np.array(references if protocol.exclude_reference else [-1] * len(references), dtype=np.int64),
        groups=None if groups is None else _positions(groups, at),
        pools=None
        if protocol.pools is None
        else tuple(np.array([at[name] for name in pool], dtype=np.int64) for pool in protocol.pools),
        pool_of_query_Q=None if protocol.pool_of_query is None else np.array(protocol.pool_of_query, dtype=np.int64),
    )


def _positions(ids: Sequence[Sequence[str]], at: Mapping[str, int]) -> Ragged[np.int64]:
    return Ragged.of([[at[name] for name in row] for row in ids], np.int64)
