"""Rankings come as tables and as scores by id; what is said with certainty is read, and the rest is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cirbench.errors import InvalidPredictions, UsageError
from cirbench.ranking import tie_order
from cirbench.runs.predictions.lists import RankedLists, lists_of, merge, read_rankings
from cirbench.runs.predictions.score import answer_of_lists
from tests.runs.predictions.protocols import small_protocol, with_groups

if TYPE_CHECKING:
    from pathlib import Path

    from cirbench.runs.predictions.lists import Column

pyarrow = pytest.importorskip("pyarrow")

LISTS = {"0": ("12", "11"), "1": ("13",)}


def save(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "query,item,rank\n0,11,2\n0,12,1\n1,13,1\n", "separated by commas"),
        (
            "a.csv",
            "query_id,item_id,score\n0,11,0.5\n0,12,0.75\n1,13,1e-3\n",
            "query_id as query, item_id as item, score",
        ),
        ("a.csv", "pairid;image;distance\n0;11;0.5\n0;12;0.25\n1;13;9\n", "separated by semicolons"),
        ("a.tsv", "query-id\tcorpus-id\tscore\n0\t11\t1\n0\t12\t2\n1\t13\t1\n", "corpus_id as item"),
        ("a.txt", "QID\tDocNo\tRank\n0\t11\t2\n0\t12\t1\n1\t13\t1\n", "separated by tabs"),
        ("a", '"Query","Item","Rank"\n"0","11","2.0"\n"0","12","1.0"\n"1","13","1.0"\n', "query, item, rank"),
        ("a.csv", ",query,item,rank,model\n0,0,11,2,me\n1,0,12,1,me\n2,1,13,1,me\n", "not used: (no name), model"),
        ("a.csv", "query,item,rank,score\n0,11,1,0.5\n0,12,0,0.75\n1,13,0,1\n", "item, rank, score"),
    ],
)
def test_tables_are_read_by_the_names_of_their_columns(tmp_path: Path, name: str, content: str, said: str) -> None:
    lists = read_rankings(save(tmp_path, name, content))
    assert lists.rankings == LISTS
    assert said in lists.notes[0]


def test_parquet_files_are_read_with_ids_of_any_type(tmp_path: Path) -> None:
    import pyarrow.parquet as parquet

    table = pyarrow.table(
        {"query_id": [0, 0, 1], "image_id": ["11", "12", "13"], "score": [0.5, 0.75, 1.0], "x": [1, 2, 3]}
    )
    parquet.write_table(table, tmp_path / "a.parquet")
    lists = read_rankings(tmp_path / "a.parquet")
    assert lists.rankings == LISTS
    assert "not used: x" in lists.notes[0]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"query": [0.0, 1.0], "item": ["a", "b"], "rank": [1, 1]}, "row 1: the query is 0.0, a fractional number"),
        ({"query": [0, None], "item": ["a", "b"], "rank": [1, 1]}, "row 2: the query is missing"),
        ({"query": [0, 1], "item": ["a", "b"], "rank": [1, None]}, "row 2: the rank None is not a number"),
        (
            {"query": [0, 1], "text": ["a", "b"], "rank": [1, 1]},
            "has no column for the item: its columns are query, text",
        ),
    ],
)
def test_a_broken_parquet_file_is_refused_with_its_row(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    import pyarrow.parquet as parquet

    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    with pytest.raises(InvalidPredictions, match=message):
        read_rankings(tmp_path / "a.parquet")
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-9])
    with pytest.raises(InvalidPredictions, match="not a whole Parquet file"):
        read_rankings(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("query,item\n0,11\n", "has no column for the rank, a score or a distance: its columns are query, item"),
        ("query,rank\n0,1\n", "has no column for the item"),
        ("0,11,1\n0,12,2\n", "has no column for the query and the item"),
        ("query,item,doc,rank\n0,11,11,1\n", "item and doc may both be the item of a row"),
        ("query,item,score,distance\n0,11,1,2\n", "has scores and distances, which may order rows differently"),
        ("query,item,rank,Rank\n0,11,1,2\n", "two columns have one name"),
        ("query,item,rank\n0,11\n", "line 2: it has 2 cells, and the header has 3"),
        ("query,item,rank\n0,,1\n", "line 2: the item is missing"),
        ("query,item,rank\n0,11,first\n", "line 2: the rank 'first' is not a number"),
        ("query,item,rank\n0,11,1.5\n", "line 2: the rank '1.5' is not a whole number"),
        ("query,item,score\n0,11,nan\n", "line 2: the score 'nan' is not finite"),
        ("query,item,rank\n0,11,1\n0,12,1\n", "query '0' has two items at rank 1, and no scores that order them"),
        ("query,item,score\n0,11,1\n0,11,2\n", "query '0' has two scores for '11'"),
        ("query,item,rank,score\n0,11,1,1\n0,12,2,2\n", "the ranks contradict the scores"),
        ("query,item,rank\n", "holds no rows"),
    ],
)
def test_a_broken_table_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = save(tmp_path, "a.csv", content)
    with pytest.raises(InvalidPredictions, match=message) as raised:
        read_rankings(path)
    assert str(path) in raised.value.message


@pytest.mark.parametrize(("trust", "order"), [("ranks", ("11", "12")), ("scores", ("12", "11"))])
def test_what_is_trusted_orders_a_table(tmp_path: Path, trust: Column, order: tuple[str, ...]) -> None:
    path = save(tmp_path, "a.csv", "query,item,rank,score\n0,11,1,1\n0,12,2,2\n")
    assert read_rankings(path, trust=trust).rankings["0"] == order
    with pytest.raises(UsageError, match="does not have both"):
        read_rankings(save(tmp_path, "b.csv", "query,item,rank\n0,11,1\n"), trust=trust)


def test_scores_by_id_are_read_as_beir_and_ranx_write_them(tmp_path: Path) -> None:
    lists = read_rankings(save(tmp_path, "a.json", json.dumps({"0": {"11": 0.5, "12": 2}, "1": {"13": -1.0}})))
    assert lists.rankings == LISTS
    assert lists.scores == {"0": (2.0, 0.5), "1": (-1.0,)}
    assert lists_of("mine", {0: {"11": 0.5, "12": 2}, 1: {"13": -1}}).rankings == LISTS


@given(st.lists(st.integers(0, 3), min_size=9, max_size=9), st.randoms(use_true_random=False))
def test_equal_scores_are_ordered_by_the_rule_of_every_ranking(scores: list[int], random: Any) -> None:
    protocol = small_protocol(queries=1)
    assert protocol.gallery is not None
    ids = list(protocol.gallery.ids)
    expected = [ids[at] for at in sorted(range(9), key=lambda at: (-scores[at], tie_order(ids)[at]))]
    pairs = [*zip(ids, scores, strict=True)]
    random.shuffle(pairs)
    answer = answer_of_lists(lists_of("mine", {"0": dict(pairs)}), protocol)
    assert answer.ranking is not None
    assert [ids[at] for at in answer.ranking.top_QK[0] if at >= 0] == expected
    ties = sum(scores.count(score) > 1 for score in scores[1:3])
    assert (answer.tied_relevant, answer.ranking.tied_relevant) == (ties, ties)


def test_the_two_files_of_cirrs_server_are_read_together(tmp_path: Path) -> None:
    protocol = with_groups(small_protocol())
    rankings = {query.id: [str(104 + n) for n in range(5)] for query in protocol.queries}
    groups = {"0": ["102", "101"], "1": ["103", "104"], "2": ["105", "103"]}
    paths = []
    for metric, content in (("recall", rankings), ("recall_subset", groups)):
        head = {"version": "rc2", "metric": metric}
        paths.append(save(tmp_path, f"{metric}.json", json.dumps({**head, **content})))
    answer = answer_of_lists(merge([read_rankings(path) for path in paths]), protocol)
    assert answer.ranks.group_ranks_Q is not None
    assert answer.ranks.group_ranks_Q.tolist() == [2, np.iinfo(np.int64).max, 2]
    with pytest.raises(InvalidPredictions, match=r"recall_subset\.json ranks the groups alone"):
        answer_of_lists(read_rankings(paths[1]), protocol)


def test_files_of_different_queries_are_put_together_and_of_the_same_refused(tmp_path: Path) -> None:
    first = save(tmp_path, "dress.run", "0 Q0 12 1 2 me\n0 Q0 11 2 1 me\n")
    second = save(tmp_path, "shirt.csv", "query,item,rank\n1,13,1\n")
    assert merge([read_rankings(first), read_rankings(second)]).rankings == LISTS
    with pytest.raises(InvalidPredictions, match=r"dress\.run and .*dress\.run both rank the gallery for query '0'"):
        merge([read_rankings(first), read_rankings(first)])


def test_the_members_of_a_group_are_ranked_as_the_lists_rank_them() -> None:
    protocol = with_groups(small_protocol())
    lists = RankedLists("mine", {query.id: tuple(str(108 - n) for n in range(9)) for query in protocol.queries})
    answer = answer_of_lists(lists, protocol)
    assert answer.ranks.group_ranks_Q is not None
    assert answer.ranks.group_ranks_Q.tolist() == [3, 3, 3]
    assert any("groups are ranked in the order in which the lists hold their members" in note for note in answer.notes)


@pytest.mark.parametrize(
    ("name", "found"),
    [("101.jpg", True), ("./dev/101.PNG", True), ("000000000101.jpg", True), ("0101", True), ("101.txt", False)],
)
def test_names_of_files_are_read_as_ids_where_the_gallery_has_exactly_that_id(name: str, found: bool) -> None:
    protocol = small_protocol(queries=1)
    lists = RankedLists("mine", {"0": (name, "102", "103", "104", "105")})
    if not found:
        with pytest.raises(InvalidPredictions, match="1 ids are not in the gallery"):
            answer_of_lists(lists, protocol)
        return
    answer = answer_of_lists(lists, protocol)
    assert answer.ranks.relevant_ranks.values.tolist() == [1, 2]
    assert f"names of files are read as the ids that they hold, {name!r} as '101'" in answer.notes[0]


def test_two_names_of_one_id_are_a_repeated_id() -> None:
    lists = RankedLists("mine", {"0": ("101.jpg", "101", "103", "104", "105")})
    with pytest.raises(InvalidPredictions, match="the id '101' occurs twice in its list"):
        answer_of_lists(lists, small_protocol(queries=1))


def test_fractions_of_pandas_are_refused_with_the_reason() -> None:
    lists = RankedLists("mine", {"0": ("101.0", "102", "103", "104", "105")})
    with pytest.raises(InvalidPredictions, match="pandas writes whole numbers with a fraction where some are missing"):
        answer_of_lists(lists, small_protocol(queries=1))


def test_lists_without_scores_get_scores_that_keep_their_order() -> None:
    protocol = small_protocol(queries=1)
    answer = answer_of_lists(RankedLists("mine", {"0": ("105", "101", "103", "104", "102", "108")}), protocol)
    assert answer.ranking is not None
    assert answer.ranking.scores_QK[0, :6].tolist() == [-1, -2, -3, -4, -5, -6]
    assert np.isnan(answer.ranking.scores_QK[0, 6:]).all()
    assert answer.tied_relevant is None
