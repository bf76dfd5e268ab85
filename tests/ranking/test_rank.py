"""The ranking is the one by exact scores, whatever computes it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cirbench.errors import MethodFailed
from cirbench.ranking import Ranking, RankingTask, rank, ranking, scores
from cirbench.support.arrays import Ragged
from tests.ranking.cases import Case, cases, plain_answer, random_case

if TYPE_CHECKING:
    from numpy.typing import NDArray


def equal(one: Ranking, other: Ranking) -> bool:
    """Equal to the last bit."""
    return all(
        left.tobytes() == right.tobytes()
        for left, right in (
            (one.top_QK, other.top_QK),
            (one.scores_QK, other.scores_QK),
            (one.relevant_ranks.values, other.relevant_ranks.values),
            (one.relevant_ties.values, other.relevant_ties.values),
            (np.asarray(one.group_ranks_Q), np.asarray(other.group_ranks_Q)),
            (np.asarray(one.group_top_QK), np.asarray(other.group_top_QK)),
        )
    )


def large_case(queries: int = 40, items: int = 3000, dimension: int = 48, seed: int = 0) -> Case:
    """Unit features with many near ties: items are copies of a few, off by the last bits."""
    generator = np.random.default_rng(seed)
    case = random_case(generator, queries, items, dimension, "fine")
    originals = case.gallery_ND[:300] / np.linalg.norm(case.gallery_ND[:300], axis=1, keepdims=True)
    gallery_ND = originals[generator.integers(0, 300, items)]
    nudged = generator.random(items) < 0.5
    gallery_ND[nudged] *= (1 + generator.integers(-1, 2, (nudged.sum(), dimension)) * 2.0**-24).astype(np.float32)
    queries_QD = case.queries_QD / np.linalg.norm(case.queries_QD, axis=1, keepdims=True)
    return dataclasses.replace(case, queries_QD=queries_QD, gallery_ND=gallery_ND)


def decide_by_products(patched: pytest.MonkeyPatch, pairs: int) -> None:
    """Let a float64 product decide where more than one pair in so many is open: 1 for never, a billion for always."""
    patched.setattr(ranking, "OPEN", pairs)
    patched.setattr(scores, "OPEN", pairs)


def solved(case: Case) -> Ranking:
    return rank(case.queries_QD, case.gallery_ND, case.task)


@pytest.mark.slow
@given(
    cases(),
    st.sampled_from([1, 16, 10**9]),
    st.sampled_from([1, 5, 512]),
    st.sampled_from([1, 3, 16, 1024]),
    st.sampled_from([0, 60, 10**6]),
    st.sampled_from([0, 8]),
)
@settings(max_examples=150)
def test_ranking_agrees_with_sorting_everything_by_exact_fractions(
    case: Case, open_pairs: int, tile: int, block: int, listed: int, waiting: int
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ranking, "LISTED", listed)
        patched.setattr(ranking, "_WAITING", waiting)
        decide_by_products(patched, open_pairs)
        patched.setattr(ranking, "TILE", tile)
        patched.setattr(ranking, "BLOCK", block)
        found = solved(case)
    assert found.group_top_QK is not None and found.group_ranks_Q is not None
    for row in range(len(case.queries_QD)):
        answer = plain_answer(case, row)
        depth = min(case.task.depth, len(answer.order))
        assert found.top_QK[row].tolist() == answer.order[:depth] + [-1] * (case.task.depth - depth)
        assert found.scores_QK[row, :depth].tolist() == answer.scores[:depth]
        assert np.isnan(found.scores_QK[row, depth:]).all()
        assert found.relevant_ranks[row].tolist() == answer.ranks
        assert found.relevant_ties[row].tolist() == answer.ties
        assert found.group_top_QK[row].tolist() == answer.group
        assert found.group_ranks_Q[row] == answer.group_rank


@given(cases())
@settings(max_examples=60)
def test_a_score_function_that_is_the_dot_product_of_coarse_features_ranks_as_the_dot_product(case: Case) -> None:
    def dot(queries_QD: NDArray[np.float32], gallery_ND: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(queries_QD @ gallery_ND.T, dtype=np.float32)

    rounded = dataclasses.replace(case, queries_QD=np.rint(case.queries_QD), gallery_ND=np.rint(case.gallery_ND))
    assert equal(rank(rounded.queries_QD, rounded.gallery_ND, case.task, score=dot), solved(rounded))


def test_block_sizes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    case = large_case()
    expected = solved(case)
    for tile, block, pairs in ((1, 1024, 512), (7, 100, 3), (40, 33, 1), (512, 4096, 64)):
        for open_pairs in (1, 16, 10**9):
            monkeypatch.setattr(ranking, "TILE", tile)
            monkeypatch.setattr(ranking, "BLOCK", block)
            monkeypatch.setattr(scores, "PAIRS", pairs)
            decide_by_products(monkeypatch, open_pairs)
            assert equal(solved(case), expected), (tile, block, pairs, open_pairs)


def test_batches_of_queries_change_nothing() -> None:
    case = large_case()
    expected = solved(case)
    for rows in ([17], list(range(5, 25)), list(range(39, -1, -1))):
        part = solved(Case(case.queries_QD[rows], case.gallery_ND, queries_of(case.task, rows)))
        assert part.top_QK.tobytes() == expected.top_QK[rows].tobytes()
        assert part.scores_QK.tobytes() == expected.scores_QK[rows].tobytes()
        assert part.relevant_ranks.values.tobytes() == expected.relevant_ranks.take(np.array(rows)).values.tobytes()


@pytest.mark.parametrize("open_pairs", [16, 10**9])
def test_the_linear_algebra_library_changes_nothing(monkeypatch: pytest.MonkeyPatch, open_pairs: int) -> None:
    def product(one_TD: NDArray[Any], other_DB: NDArray[Any], out: NDArray[Any]) -> NDArray[Any]:
        torch.mm(torch.from_numpy(one_TD), torch.from_numpy(other_DB), out=torch.from_numpy(out))
        return out

    case = large_case(dimension=257)
    expected = solved(case)
    decide_by_products(monkeypatch, open_pairs)
    monkeypatch.setattr(np, "matmul", product)
    assert equal(solved(case), expected)


@pytest.mark.parametrize("share", [-1.0, -0.3, 0.5, 1.0])
@pytest.mark.parametrize("open_pairs", [16, 10**9])
def test_any_product_within_the_error_bound_gives_the_same_ranking(
    monkeypatch: pytest.MonkeyPatch, open_pairs: int, share: float
) -> None:
    """The worst that a matrix product may do, alternating in sign from item to item, is not seen in the result."""
    case = large_case()
    expected = solved(case)

    def product(one_TD: NDArray[Any], other_DB: NDArray[Any], out: NDArray[Any]) -> NDArray[Any]:
        error = scores.dot_error(one_TD.shape[1], out.dtype.type) / 1.001
        true_TB = one_TD.astype(np.float64) @ other_DB.astype(np.float64)
        out[:] = true_TB + 0.99 * error * share * np.where(np.arange(out.shape[1]) % 2, 1, -1)
        return out

    decide_by_products(monkeypatch, open_pairs)
    monkeypatch.setattr(np, "matmul", product)
    assert equal(solved(case), expected)


@pytest.mark.parametrize("open_pairs", [1, 16, 10**9])
def test_where_nearly_everything_ties_the_tie_rule_decides(monkeypatch: pytest.MonkeyPatch, open_pairs: int) -> None:
    generator = np.random.default_rng(5)
    case = random_case(generator, 9, 2000, 3, "coarse")
    case = dataclasses.replace(
        case, queries_QD=np.ones_like(case.queries_QD), gallery_ND=np.ones((2000, 3), np.float32)
    )
    decide_by_products(monkeypatch, open_pairs)
    monkeypatch.setattr(ranking, "BLOCK", 300)
    found = solved(case)
    for row in range(9):
        answer = plain_answer(case, row)
        assert found.top_QK[row].tolist() == answer.order[:7]
        assert found.relevant_ranks[row].tolist() == answer.ranks
        assert found.relevant_ties[row].tolist() == answer.ties


@pytest.mark.parametrize("open_pairs", [16, 10**9])
def test_scores_beside_rounding_boundaries_are_ranked_by_their_exact_values(
    monkeypatch: pytest.MonkeyPatch, open_pairs: int
) -> None:
    """Sums half way between two float32 numbers and 2^-80 beside it, which float64 cannot tell apart."""
    half, tiny = np.float32(2.0**-24), np.float32(2.0**-40)
    rows = [
        [1, odd, half, sign * tiny] for odd in (0.0, 2.0**-23, 2.0**-22) for sign in (-1.0, 0.0, 1.0) for _ in range(4)
    ]
    gallery_ND = np.array(rows, np.float32)[np.random.default_rng(2).permutation(len(rows))]
    queries_QD = np.array([[1, 1, 1, tiny]] * 3, np.float32)
    items = len(gallery_ND)
    task = RankingTask(
        gallery_size=items,
        tie_order_N=np.random.default_rng(3).permutation(items),
        depth=7,
        relevant=Ragged.of([list(range(items)), [5, 30], []], np.int64),
        excluded_Q=np.array([-1, 7, 35]),
        groups=Ragged.of([[0, 9, 20]] * 3, np.int64),
    )
    case = Case(queries_QD, gallery_ND, task)
    decide_by_products(monkeypatch, open_pairs)
    found = solved(case)
    for row in range(3):
        answer = plain_answer(case, row)
        assert found.top_QK[row].tolist() == answer.order[:7]
        assert found.scores_QK[row].tolist() == answer.scores[:7]
        assert found.relevant_ranks[row].tolist() == answer.ranks
        assert found.relevant_ties[row].tolist() == answer.ties


@pytest.mark.parametrize("listed", [0, 10**6])
def test_an_item_that_is_wanted_twice_has_its_rank_twice(monkeypatch: pytest.MonkeyPatch, listed: int) -> None:
    monkeypatch.setattr(ranking, "LISTED", listed)
    case = random_case(np.random.default_rng(4), 6, 30, 2, "coarse")
    wanted = Ragged.of([[4, 9, 4, 21, 9]] * 6, np.int64)
    twice = dataclasses.replace(case, task=dataclasses.replace(case.task, relevant=wanted))
    found = solved(twice)
    for row in range(6):
        answer = plain_answer(twice, row)
        assert found.relevant_ranks[row].tolist() == answer.ranks
        assert found.relevant_ties[row].tolist() == answer.ties


@pytest.mark.parametrize("listed", [0, 3, 10**6])
def test_small_pools_are_ranked_alike_one_by_one_and_together(monkeypatch: pytest.MonkeyPatch, listed: int) -> None:
    case = random_case(np.random.default_rng(6), 50, 40, 3, "near", pooled=True)
    expected = solved(case)
    monkeypatch.setattr(ranking, "LISTED", listed)
    monkeypatch.setattr(ranking, "TILE", 7)
    assert equal(solved(case), expected)


def test_the_order_of_the_gallery_changes_nothing() -> None:
    case = large_case()
    shuffled = np.random.default_rng(1).permutation(len(case.gallery_ND))  # place in the new gallery -> old place
    new_place = np.argsort(shuffled)
    task = case.task
    assert task.groups is not None
    moved = dataclasses.replace(
        task,
        tie_order_N=task.tie_order_N[shuffled],
        relevant=task.relevant.like(new_place[task.relevant.values]),
        excluded_Q=np.where(task.excluded_Q >= 0, new_place[task.excluded_Q], -1),
        groups=task.groups.like(new_place[task.groups.values]),
    )
    one, other = solved(case), solved(Case(case.queries_QD, case.gallery_ND[shuffled], moved))
    assert (one.top_QK == shuffled[other.top_QK]).all()
    assert one.scores_QK.tobytes() == other.scores_QK.tobytes()
    assert one.relevant_ranks.values.tobytes() == other.relevant_ranks.values.tobytes()


def test_features_of_any_length_rank_as_well_as_unit_ones() -> None:
    case = large_case()
    longer = solved(Case(case.queries_QD * np.float32(2**20), case.gallery_ND * np.float32(2**-30), case.task))
    expected = solved(case)
    assert (longer.top_QK == expected.top_QK).all()
    assert (longer.relevant_ranks.values == expected.relevant_ranks.values).all()


@pytest.mark.parametrize("items", [3, 3000])
@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused_by_number(items: int, broken: float) -> None:
    generator = np.random.default_rng(0)
    queries_QD = generator.standard_normal((9, 4)).astype(np.float32)
    gallery_ND = generator.standard_normal((items, 4)).astype(np.float32)
    task = plain_task(9, items)
    gallery_ND[2, 1] = broken
    with pytest.raises(MethodFailed, match="gallery item 2"):
        rank(queries_QD, gallery_ND, task)
    queries_QD[5, 0] = broken
    with pytest.raises(MethodFailed, match="query 5"):
        rank(queries_QD, gallery_ND, task)


def test_scores_that_are_not_finite_are_refused_by_number() -> None:
    def score(queries_QD: NDArray[np.float32], gallery_ND: NDArray[np.float32]) -> NDArray[np.float32]:
        table = np.zeros((len(queries_QD), len(gallery_ND)), np.float32)
        table[3, 1] = np.nan
        return table

    features = np.ones((5, 2), np.float32)
    with pytest.raises(MethodFailed, match=r"The score of query 3 and gallery item 1 .* is nan"):
        rank(features, features, plain_task(5, 5), score=score)


def test_a_score_function_of_the_wrong_shape_is_refused() -> None:
    features = np.ones((5, 2), np.float32)
    with pytest.raises(MethodFailed, match=r"5 queries and 5 gallery items, and returned the shape \(5,\)"):
        rank(features, features, plain_task(5, 5), score=lambda queries_QD, gallery_ND: queries_QD[:, 0])


def test_the_wrong_number_of_rows_is_refused() -> None:
    features = np.ones((5, 2), np.float32)
    with pytest.raises(MethodFailed, match="Features of 4 queries and 5 gallery items were expected"):
        rank(features, features, plain_task(4, 5))


def plain_task(queries: int, items: int) -> RankingTask:
    return RankingTask(
        gallery_size=items,
        tie_order_N=np.arange(items),
        depth=2,
        relevant=Ragged.of([[0]] * queries, np.int64),
        excluded_Q=np.full(queries, -1),
    )


def queries_of(task: RankingTask, rows: list[int]) -> RankingTask:
    assert task.groups is not None
    chosen = np.array(rows)
    return dataclasses.replace(
        task,
        relevant=task.relevant.take(chosen),
        excluded_Q=task.excluded_Q[chosen],
        groups=task.groups.take(chosen),
    )


@pytest.mark.parametrize("seed", range(3))
def test_products_on_a_device_of_torch_give_the_ranking_to_the_last_bit(seed: int) -> None:
    case = large_case(queries=600, items=9000, seed=seed)
    case.gallery_ND.flags.writeable = False
    expected = rank(case.queries_QD, case.gallery_ND, case.task)
    devices = [torch.device("cpu"), *([torch.device("cuda")] if torch.cuda.is_available() else [])]
    for device in devices:
        found = rank(case.queries_QD, case.gallery_ND, case.task, product=scores.product_on(device))
        assert equal(found, expected)
