"""Sort keys order candidates as the rule says: score descending, then tie order ascending."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cirbench.ranking.ranking import NO_CANDIDATE, key_scores, key_ties, padded, sort_keys

finite = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(st.lists(finite, min_size=1, max_size=20))
def test_keys_ascend_as_the_rule_says_and_give_back_what_they_hold(values: list[float]) -> None:
    scores = np.array(values, np.float32)
    tie_order = np.random.default_rng(len(values)).permutation(len(values))
    keys = sort_keys(scores, tie_order)
    by_rule = sorted(range(len(values)), key=lambda at: (-scores[at], tie_order[at]))
    assert np.argsort(keys).tolist() == by_rule
    assert (key_scores(keys) == scores).all()
    assert (key_ties(keys) == tie_order).all()
    assert (keys < NO_CANDIDATE).all()


def test_rows_with_few_keys_are_filled_up() -> None:
    keys = np.array([5, 3, 9], np.uint64)
    table = padded(keys, np.array([0, 0, 2]), 3, NO_CANDIDATE)
    assert np.sort(table).tolist() == [[3, 5], [NO_CANDIDATE, NO_CANDIDATE], [9, NO_CANDIDATE]]
