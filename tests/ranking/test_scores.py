"""The score of a pair is its exact dot product, rounded once."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cirbench.ranking.scores import dot_error, exact_score, score_pairs
from cirbench.support.arrays import Ragged
from tests.ranking.cases import exact_scores, nearest_float32

if TYPE_CHECKING:
    from numpy.typing import NDArray

numbers = st.floats(-4, 4, width=32) | st.sampled_from([1.0, -1.0, 2.0**-24, 3 * 2.0**-25, 2.0**-30, -(2.0**-48)])
pairs_of_rows = st.integers(1, 6).flatmap(
    lambda dimension: st.tuples(
        hnp.arrays(np.float32, dimension, elements=numbers), hnp.arrays(np.float32, dimension, elements=numbers)
    )
)


@pytest.mark.slow
@given(pairs_of_rows)
@settings(max_examples=400)
def test_a_score_is_the_nearest_float32_to_the_exact_dot_product(rows: tuple[NDArray[np.float32], ...]) -> None:
    query_D, item_D = rows
    expected = nearest_float32(exact_scores(query_D, item_D[None])[0])
    assert exact_score(query_D, item_D) == expected
    assert score_pairs(query_D[None], np.zeros(1, np.int64), item_D[None], np.zeros(1, np.int64))[0] == expected


@pytest.mark.parametrize("last", [2.0**-48, -(2.0**-48), 0.0])
@pytest.mark.parametrize("odd", [0.0, 2.0**-23])
@pytest.mark.parametrize("scale", [1.0, 2.0**-80])
def test_a_sum_beside_a_rounding_boundary_is_rounded_by_its_last_bit(last: float, odd: float, scale: float) -> None:
    """1 + 2^-24 lies half way between two float32 numbers; a term of 2^-96 more or less decides, or evenness does."""
    query_D = np.array([1, 1, 2.0**-24, last], np.float32)
    item_D = np.array([1, odd, 1, 2.0**-48], np.float32) * np.float32(scale)  # whose squares may be 0 in float32
    exact = Fraction(1) + Fraction(odd) + Fraction(2) ** -24 + Fraction(last) * Fraction(2) ** -48
    expected = nearest_float32(exact * Fraction(scale))
    assert exact_score(query_D, item_D) == expected
    assert score_pairs(query_D[None], np.zeros(1, np.int64), item_D[None], np.zeros(1, np.int64))[0] == expected


def test_a_score_does_not_depend_on_what_is_scored_with_it() -> None:
    generator = np.random.default_rng(0)
    queries_QD = generator.standard_normal((30, 100)).astype(np.float32)
    gallery_ND = generator.standard_normal((200, 100)).astype(np.float32)
    places = Ragged.of([generator.integers(0, 200, count).tolist() for count in range(30)], np.int64)
    together = places.like(score_pairs(queries_QD, places.row_of_value, gallery_ND, places.values))
    for row in range(30):
        for place, score in zip(places[row], together[row], strict=True):
            alone = score_pairs(queries_QD, np.array([row]), gallery_ND, np.array([place]))
            assert alone[0] == score


@given(pairs_of_rows)
def test_the_error_bound_holds_for_a_float32_sum_in_order(rows: tuple[NDArray[np.float32], ...]) -> None:
    query_D, item_D = rows
    total = np.float32(0)
    for product in query_D * item_D:
        total += product
    lengths = np.linalg.norm(query_D.astype(np.float64)) * np.linalg.norm(item_D.astype(np.float64))
    bound = dot_error(len(query_D), np.float32) * float(lengths) + 1e-37
    assert abs(Fraction(float(total)) - exact_scores(query_D, item_D[None])[0]) <= bound
