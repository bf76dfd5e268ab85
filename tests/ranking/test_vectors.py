"""Late interaction is ranked by exact scores, whatever the tile and the block, in memory that does not grow."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cirbench.errors import MethodFailed
from cirbench.ranking import vectors
from cirbench.ranking.vectors import max_sim, rank_vectors
from tests.ranking.cases import exact_scores, nearest_float32, plain_order, random_case
from tests.ranking.test_rank import equal

if TYPE_CHECKING:
    from pathlib import Path

    from cirbench.ranking import Ranking, RankingTask

SIZES = st.tuples(*[st.integers(1, 4)] * 3)


def drawn(seed: int, sizes: tuple[int, int, int], kind: str, *, pooled: bool) -> tuple[Any, Any, RankingTask]:
    """A small problem with several vectors for each query and item, coarse ones of which tie often."""
    words, per_item, dimension = sizes
    generator = np.random.default_rng(seed)
    task = random_case(generator, 6, 20, 1, kind, pooled).task

    def some(count: int, each: int) -> Any:
        return random_case(generator, 1, count * each, dimension, kind).gallery_ND.reshape(count, each, dimension)

    return some(6, words), some(20, per_item), task


def plain_max_sim(query_WD: Any, item_VD: Any) -> float:
    """The definition, in fractions."""
    best = (max(exact_scores(word_D, item_VD)) for word_D in query_WD)
    return float(nearest_float32(sum(best, Fraction(0))))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), SIZES, st.sampled_from(["coarse", "fine", "near"]), st.booleans(), st.booleans())
def test_the_ranking_is_that_of_exact_max_sims(
    seed: int, sizes: tuple[int, int, int], kind: str, pooled: bool, half: bool
) -> None:
    queries_QWD, gallery_NVD, task = drawn(seed, sizes, kind, pooled=pooled)
    gallery_NVD = gallery_NVD.astype(np.float16) if half else gallery_NVD
    found = rank_vectors(queries_QWD, gallery_NVD, task, max_sim)
    assert found.group_ranks_Q is not None and found.group_top_QK is not None
    for row in range(6):
        scores = [plain_max_sim(queries_QWD[row], item_VD.astype(np.float32)) for item_VD in gallery_NVD]
        answer = plain_order(task, row, scores)
        top = [item for item in found.top_QK[row].tolist() if item >= 0]
        assert top == answer.order[: task.depth]
        assert found.scores_QK[row, : len(top)].tolist() == answer.scores[: task.depth]
        assert found.relevant_ranks[row].tolist() == answer.ranks
        assert found.relevant_ties[row].tolist() == answer.ties
        assert found.group_top_QK[row].tolist() == answer.group
        assert found.group_ranks_Q[row] == answer.group_rank


@pytest.mark.parametrize("pooled", [False, True])
def test_tiles_blocks_and_the_temporary_file_change_nothing(pooled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = drawn(3, (4, 4, 4), "near", pooled=pooled)
    whole = rank_vectors(*problem, max_sim)
    monkeypatch.setattr(vectors, "BLOCK_BYTES", 3 * 4 * 4 * 4)
    monkeypatch.setattr(vectors, "PRODUCTS", 100)
    assert equal(whole, rank_vectors(*problem, max_sim))
    monkeypatch.setattr(vectors, "IN_MEMORY", 0)
    assert equal(whole, rank_vectors(*problem, max_sim))


def test_each_item_is_read_once_and_each_pair_scored_once(monkeypatch: pytest.MonkeyPatch) -> None:
    queries_QWD, gallery_NVD, task = drawn(4, (2, 3, 4), "fine", pooled=False)
    monkeypatch.setattr(vectors, "BLOCK_BYTES", 7 * 3 * 4 * 4)
    monkeypatch.setattr(vectors, "PRODUCTS", 2 * 3 * 7 * 2)
    read, pairs = np.zeros(20, int), [0]

    class Source:
        shape = gallery_NVD.shape

        def __getitem__(self, rows: Any) -> Any:
            read[rows] += 1
            return gallery_NVD[rows]

    def score(queries_TWD: Any, items_BVD: Any) -> Any:
        pairs[0] += len(queries_TWD) * len(items_BVD)
        return max_sim(queries_TWD, items_BVD)

    assert equal(
        rank_vectors(queries_QWD, Source(), task, score), rank_vectors(queries_QWD, gallery_NVD, task, max_sim)
    )
    assert (read == 1).all() and pairs == [6 * 20]


def test_queries_with_fewer_vectors_are_filled_up_with_zeros() -> None:
    queries_QWD, gallery_NVD, _ = drawn(5, (2, 3, 4), "fine", pooled=False)
    filled = np.concatenate([queries_QWD, np.zeros_like(queries_QWD)], axis=1)
    assert (max_sim(filled, gallery_NVD) == max_sim(queries_QWD, gallery_NVD)).all()


def wrong(which: str) -> Ranking:
    queries_QWD, gallery_NVD, task = drawn(6, (2, 3, 4), "fine", pooled=False)
    if which == "shape":
        return rank_vectors(queries_QWD[:, 0], gallery_NVD, task, max_sim)
    if which == "columns":
        return rank_vectors(queries_QWD, gallery_NVD, task, lambda queries, items: max_sim(queries, items)[:, 1:])
    gallery_NVD[7, 1, 2] = np.nan
    return rank_vectors(queries_QWD, gallery_NVD, task, max_sim)


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("shape", r"Vectors of 6 queries and 20 gallery items .*; the shapes are \(6, 4\) and \(20, 3, 4\)"),
        ("columns", r"was given 6 queries and 20 gallery items, and returned the shape \(6, 19\)"),
        ("nan", r"The score of query \d and gallery item 7 \(counted from 0\) is nan"),
    ],
)
def test_what_cannot_be_ranked_is_refused(which: str, message: str) -> None:
    with pytest.raises(MethodFailed, match=message):
        wrong(which)


PEAK = """
import resource, sys
from pathlib import Path
import numpy as np
from cirbench.ranking import RankingTask
from cirbench.ranking.vectors import VectorRows, max_sim, rank_vectors
from cirbench.support.arrays import Ragged
from tests.ranking.cases import FileRows

items, queries = int(sys.argv[2]), 8
task = RankingTask(items, np.arange(items), 50, Ragged.of([[0]] * queries, np.int64), np.full(queries, -1))
gallery = VectorRows(FileRows(Path(sys.argv[1]), (items, 64 * 96), np.float16), 64)
queries_QWD = np.random.default_rng(0).standard_normal((queries, 4, 96)).astype(np.float32)
rank_vectors(queries_QWD, gallery, task, max_sim)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_gallery(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).standard_normal((16_000, 64 * 96)).astype(np.float16)  # 197 MB, 787 as float64

    def peak(items: int) -> int:
        file = tmp_path / str(items)
        rows[:items].tofile(file)
        done = subprocess.run([sys.executable, "-c", PEAK, str(file), str(items)], capture_output=True, check=True)
        return int(done.stdout) // 1024

    few, all_of_them = peak(2000), peak(16_000)  # MiB; both are several blocks
    assert all_of_them - few < 40
