"""Two runs: what was set otherwise, and which queries it flipped."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from cirbench.comparison.differences import Flip, differences, differences_table, flips, flips_table
from cirbench.metrics.functions import UNRANKED
from cirbench.support.arrays import Ragged
from tests.comparison.runs import run_of

if TYPE_CHECKING:
    from cirbench.runs.folder import Run


def ranked(name: str, label: str, values: list[float], ranks: list[list[int]]) -> Run:
    return dataclasses.replace(run_of(name, {label: values}), ranks=Ragged.of(ranks, np.int64))


def test_two_equal_runs_differ_in_nothing() -> None:
    one = run_of("pli", {"R@1": [1, 0]})
    assert differences(one, one) == []
    assert differences_table([], ("a", "b")).title == "No setting differs"


@pytest.mark.parametrize(
    ("part", "field", "value", "named"),
    [
        ("backbone", "weights", "b" * 64, "backbone weights"),
        ("backbone", "preprocessing", "squash", "backbone preprocessing"),
        ("backbone", "precision", "bf16", "backbone precision"),
        ("backbone", "activation", "quick_gelu", "backbone activation"),
        ("method", "parameters", {"prompt": "a photo of {}"}, "parameter prompt"),
        ("method", "checkpoint", "c" * 64, "checkpoint"),
        ("method", "training", {"mask_ratio": 0.5}, "training mask_ratio"),
        ("method", "code", "d" * 64, "code of the method"),
        ("counts", "gallery", 8, "gallery ranked"),
        ("environment", "packages", {"torch": "2.9"}, "package torch"),
    ],
)
def test_each_setting_is_named_when_it_differs(part: str, field: str, value: object, named: str) -> None:
    one = run_of("pli", {"R@1": [1, 0]}, parameters={"prompt": "{}"} if field == "parameters" else {})
    changed = msgspec.structs.replace(getattr(one.result, part), **{field: value})
    other = dataclasses.replace(one, result=msgspec.structs.replace(one.result, **{part: changed}))
    (found,) = differences(one, other)
    assert found.field == named
    ((shown, *_),) = differences_table([found], ("a", "b")).rows
    assert shown == named


def test_what_takes_effect_first_is_the_first_suspect() -> None:
    one = run_of("a", {"R@1": [1, 0]}, digest="1" * 64, fields={"gallery": "1" * 64, "captions": "first"})
    other = run_of(
        "b",
        {"R@1": [1, 0]},
        digest="2" * 64,
        fields={"gallery": "2" * 64, "captions": "both"},
        backbone="x",
        parameters={"weight": 0.5},
    )
    other = dataclasses.replace(other, result=msgspec.structs.replace(other.result, seed=1))
    fields = [found.field for found in differences(one, other)]
    assert fields == ["protocol gallery", "protocol captions", "method", "parameter weight", "seed"]


def test_long_digests_are_shortened_and_absent_settings_said() -> None:
    one = run_of("a", {"R@1": [1]})
    other = dataclasses.replace(
        one,
        result=msgspec.structs.replace(
            one.result, method=msgspec.structs.replace(one.result.method, checkpoint="e" * 64)
        ),
    )
    (row,) = differences_table(differences(one, other), ("a", "b")).rows
    assert row == ("checkpoint", "none", "e" * 12)


def test_flipped_queries_come_with_both_ranks_and_the_largest_move_first() -> None:
    one = ranked("a", "Recall@5", [1, 0, 1, 0], [[2], [6], [5], [900]])
    other = ranked("b", "Recall@5", [0, 1, 1, 1], [[7], [5], [1], [1]])
    assert flips(one, other, "Recall@5") == [
        Flip("d", 900, 1, gained=True),
        Flip("a", 2, 7, gained=False),
        Flip("b", 6, 5, gained=True),
    ]


def test_a_number_on_all_ground_truths_takes_the_best_of_them_and_recall_the_target() -> None:
    ranks = [[9, 3], [1, 4]]
    values: tuple[list[float], list[float]] = ([0.2, 0.5], [0.0, 0.5])
    for label, rank in (("mAP@5", 3), ("Recall@5", 9)):
        one, other = ranked("a", label, values[0], ranks), ranked("b", label, values[1], [[20, 30], [1, 4]])
        (flip,) = flips(one, other, label)
        assert flip == Flip("a", rank, 20, gained=False)


def test_a_ground_truth_that_was_not_ranked_has_no_rank() -> None:
    one = ranked("a", "Recall@5", [0], [[UNRANKED]])
    (flip,) = flips(one, ranked("b", "Recall@5", [1], [[3]]), "Recall@5")
    assert flip.one is None
    (row,) = flips_table([flip], ("a", "b"), "Recall@5").rows
    assert row[1] == "not ranked"


def test_a_long_list_is_cut_and_says_where_the_rest_is() -> None:
    found = [Flip(str(at), 1, 9, gained=False) for at in range(30)]
    table = flips_table(found, ("a", "b"), "Recall@5", most=20)
    assert len(table.rows) == 20 and table.notes == ("10 more: --format csv --table queries lists them all.",)
    assert table.title == "30 queries flipped at Recall@5: 0 gained, 30 lost"
