"""Lists that break a rule of the protocol are refused, with the query and the rule."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cirbench.errors import InvalidPredictions
from cirbench.metrics.functions import UNRANKED
from cirbench.runs.predictions.lists import RankedLists
from cirbench.runs.predictions.rules import check
from cirbench.runs.predictions.score import list_ranks
from tests.runs.predictions.protocols import small_protocol, with_groups

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cirbench.protocol import EvaluationProtocol

GOOD = {
    "0": ("101", "103", "102", "104", "105"),
    "1": ("108", "107", "106", "105", "104"),
    "2": ("102", "104", "103", "100", "101", "105", "106"),
}
GROUPS = {"0": ("102", "101", "103"), "1": ("103", "104"), "2": ("105", "103", "104")}


def lists(
    changed: Mapping[str, Sequence[str] | None] | None = None,
    *,
    groups: Mapping[str, tuple[str, ...]] | None = None,
) -> RankedLists:
    """Good lists with some changed; ``None`` drops one."""
    merged = {**GOOD, **(changed or {})}
    rankings = {query: tuple(ranking) for query, ranking in merged.items() if ranking is not None}
    return RankedLists("file.json", rankings, groups or {})


def refusal(given: RankedLists, protocol: EvaluationProtocol) -> str:
    with pytest.raises(InvalidPredictions) as caught:
        check(given, protocol)
    assert caught.value.message.startswith("file.json: ")
    assert caught.value.hint
    return str(caught.value)


def test_good_lists_pass_and_give_the_ranks_of_ground_truths() -> None:
    check(lists(), small_protocol())
    ranks = list_ranks(lists(), small_protocol())
    assert [row.tolist() for row in ranks.relevant_ranks] == [[1, 3], [UNRANKED, UNRANKED], [3, 2]]
    assert ranks.group_ranks_Q is None


def test_group_rankings_give_the_rank_of_the_target_in_its_group() -> None:
    protocol, given = with_groups(small_protocol()), lists(groups=GROUPS)
    check(given, protocol)
    groups = list_ranks(given, protocol).group_ranks_Q
    assert groups is not None
    assert groups.tolist() == [2, UNRANKED, 2]
    assert groups.dtype == np.int64


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"1": None}, "1 query ids are missing: '1'.\nsmall/val@1 has 3 of them; an id looks like '0'"),
        ({"3": ["101"], "x": []}, "2 unknown query ids ('3', 'x'): not in small/val@1"),
        ({"1": None, "01": GOOD["1"]}, "1 unknown query ids ('01')"),
        ({"1": ["101", "102", "101", "103", "104"]}, "query '1': the id '101' occurs twice in its list"),
        (
            {"1": ["101", "102", "103", "104", "999"]},
            "query '1': 1 ids are not in the gallery ('999'); an id looks like",
        ),
        (
            {"0": ["0101", "102.jpg", "", "104", "105"]},
            "query '0': 3 ids are not in the gallery ('0101', '102.jpg', '')",
        ),
        ({"2": ["101", "102", "103", "104"]}, "query '2': its list holds 4 ids, and the deepest measure needs 5"),
        ({"2": []}, "query '2': its list holds 0 ids, and the deepest measure needs 5"),
        ({"1": [], "2": []}, "1 other queries break a rule as well"),
    ],
)
def test_a_broken_rule_is_named(changed: dict[str, Sequence[str] | None], message: str) -> None:
    assert message in refusal(lists(changed), small_protocol())


def test_a_small_gallery_bounds_what_is_asked_for() -> None:
    protocol = small_protocol(queries=1, images=4, depth=50)
    check(lists({"0": ["103", "102", "101", "100"], "1": None, "2": None}), protocol)
    short = lists({"0": ["103", "102", "101"], "1": None, "2": None})
    assert "its list holds 3 ids, and the deepest measure needs 4" in refusal(short, protocol)
    check(short, dataclasses.replace(protocol, exclude_reference=True))


def test_the_reference_is_refused_where_the_protocol_excludes_it() -> None:
    message = refusal(lists(), dataclasses.replace(small_protocol(), exclude_reference=True))
    assert "query '2': its list holds its own reference image '102', which this protocol excludes" in message


def test_ids_outside_a_querys_pool_are_refused() -> None:
    pools = (("101", "102", "103", "104", "105"), ("104", "105", "106", "107", "108"))
    pooled = dataclasses.replace(small_protocol(), pools=pools, pool_of_query=(0, 1, 0))
    assert "query '2': 2 ids are not in the gallery ('100', '106')" in refusal(lists(), pooled)
    check(lists({"2": pools[0]}), pooled)


@pytest.mark.parametrize("odd", ["000000000101", "101.jpg", "-5", "1e2", "", " 101", "１０１"])
def test_without_a_gallery_ids_are_checked_for_their_form(odd: str) -> None:
    protocol = dataclasses.replace(small_protocol(), gallery=None)
    check(lists({"0": ["7", "8", "9", "0", "99999"]}), protocol)
    message = refusal(lists({"1": [odd, "1", "2", "3", "4"]}), protocol)
    assert f"query '1': {odd!r} cannot be a gallery id; an id looks like '101'" in message


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({**GROUPS, "1": ("103", "103")}, "query '1': the id '103' occurs twice in its group ranking"),
        ({**GROUPS, "1": ("103", "108")}, "query '1': its group ranking holds ids that are not in the group: '108'"),
        ({**GROUPS, "1": ("101", "103")}, "query '1': its group ranking holds ids that are not in the group: '101'"),
        ({**GROUPS, "1": ("103",)}, "query '1': its group ranking holds 1 ids, and 2 are needed"),
        ({"0": GROUPS["0"]}, "2 group ranking of query ids are missing: '1', '2'"),
    ],
)
def test_a_broken_group_ranking_is_named(groups: dict[str, tuple[str, ...]], message: str) -> None:
    assert message in refusal(lists(groups=groups), with_groups(small_protocol()))


def test_group_rankings_are_refused_where_there_are_no_groups() -> None:
    assert "small/val@1 has no groups" in refusal(lists(groups=GROUPS), small_protocol())
