"""Rows get unit length, and a row without direction is refused by name."""

from __future__ import annotations

import numpy as np
import pytest

from cirbench.errors import MethodFailed
from cirbench.ranking import UnitRows, unit_rows


def test_rows_get_unit_length_whatever_their_size() -> None:
    rows = np.array([[3, 4], [1e-30, 0], [3e38, 3e38], [1e-44, 1e-44]], np.float32)
    units = unit_rows(rows, list("abcd"))
    half = np.sqrt(0.5)
    expected = np.array([[0.6, 0.8], [1, 0], [half, half], [half, half]])
    assert np.abs(units - expected).max() < 1e-7
    assert units.dtype == np.float32


def test_a_row_depends_on_nothing_but_itself() -> None:
    rows = np.random.default_rng(0).standard_normal((9000, 37)).astype(np.float32)
    names = [str(number) for number in range(9000)]
    units = unit_rows(rows, names)
    assert unit_rows(rows[8123:8124], names[:1]).tobytes() == units[8123].tobytes()
    assert unit_rows(rows[::3], names[:3000]).tobytes() == units[::3].tobytes()


@pytest.mark.parametrize(
    ("broken", "what"), [(np.nan, "NaN or infinite values"), (np.inf, "NaN or infinite values"), (0, "only zeros")]
)
def test_a_row_without_direction_is_refused_by_name(broken: float, what: str) -> None:
    rows = np.ones((4, 3), np.float32)
    rows[2] = broken
    with pytest.raises(MethodFailed, match=f"The features of gallery item c hold {what}"):
        unit_rows(rows, [f"gallery item {name}" for name in "abcd"])
    rows[3] = broken
    with pytest.raises(MethodFailed, match=r"of c \(and of 1 more\)"):
        unit_rows(rows, list("abcd"))


def test_one_row_a_name_is_expected() -> None:
    with pytest.raises(MethodFailed, match=r"3 rows of features were expected, and the shape is \(2, 5\)"):
        unit_rows(np.ones((2, 5), np.float32), list("abc"))


def test_rows_are_normalised_as_they_are_given_out() -> None:
    rows = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float16)
    names = [str(number) for number in range(50)]
    units, source = unit_rows(rows, names), UnitRows(rows, names)
    assert source.shape == (50, 8)
    assert source[10:20].tobytes() == units[10:20].tobytes()
    assert source[np.array([7, 3, 7])].tobytes() == units[[7, 3, 7]].tobytes()
