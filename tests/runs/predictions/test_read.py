"""Ranked lists are read from three formats, and a broken file is refused with its place named."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from cirbench.errors import InvalidPredictions, MissingData, UsageError
from cirbench.runs.predictions.lists import MAX_BYTES, read_rankings

if TYPE_CHECKING:
    from pathlib import Path

    from cirbench.runs.predictions.lists import Column

JSON = '{"0": [11, 12], "1": ["12", 13]}'
JSONL = '{"query_id": 0, "ranking": [11, "12"]}\n{"query_id": "1", "ranking": [12, 13], "scores": [2, 1]}\n'
TREC = "0 Q0 11 1 0.9 me\n0 Q0 12 2 0.8 me\n1 Q0 12 1 7 me\n1 Q0 13 2 -1e3 me\n"
LISTS = {"0": ("11", "12"), "1": ("12", "13")}


def save(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", JSON),
        ("a.txt", JSON),
        ("a", json.dumps(json.loads(JSON), indent=4)),
        ("a.json", "\ufeff" + JSON),
    ],
)
def test_an_object_of_lists_is_read(tmp_path: Path, name: str, content: str) -> None:
    assert read_rankings(save(tmp_path, name, content)).rankings == LISTS


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", JSONL),
        ("a.ndjson", JSONL),
        ("a.json", JSONL),
        ("a", "\n" + JSONL),
        ("a.jsonl", JSONL.replace("\n", "\r\n\r\n")),
        ("a.trec", TREC),
        ("a.run", TREC),
        ("a.txt", TREC),
        ("a", TREC.replace("\n", "\r\n").replace(" ", "\t")),
    ],
)
def test_a_format_is_told_by_suffix_or_content(tmp_path: Path, name: str, content: str) -> None:
    assert read_rankings(save(tmp_path, name, content)).rankings == LISTS


def test_a_trec_run_is_ordered_by_score_then_rank_then_place(tmp_path: Path) -> None:
    content = "q Q0 c 3 0.5 t\nq Q0 b 2 0.5 t\nq Q0 a 1 0.75 t\nq Q0 e 3 0.5 t\nq Q0 d 4 -0.5 t\n"
    assert read_rankings(save(tmp_path, "a.run", content)).rankings == {"q": ("a", "b", "c", "e", "d")}


DISTANCES = "0 Q0 7 1 5 me\n0 Q0 8 2 4 me\n1 Q0 12 2 0.5 me\n1 Q0 11 1 0.25 me\n1 Q0 13 3 0.75 me\n"


def test_a_trec_run_whose_ranks_contradict_its_scores_is_refused_with_both_readings(tmp_path: Path) -> None:
    with pytest.raises(InvalidPredictions) as raised:
        read_rankings(save(tmp_path, "a.run", DISTANCES))
    assert "in 1 of 2 queries the ranks contradict the scores. In query '1'," in raised.value.message
    assert "by rank the list begins with '11' (rank 1, score 0.25)" in raised.value.message
    assert "by score with '13' (rank 3, score 0.75)" in raised.value.message
    assert "--trust ranks" in str(raised.value.hint)


@pytest.mark.parametrize(("trust", "order"), [("ranks", ("11", "12", "13")), ("scores", ("13", "12", "11"))])
def test_what_is_trusted_orders_a_trec_run(tmp_path: Path, trust: Column, order: tuple[str, ...]) -> None:
    assert read_rankings(save(tmp_path, "a.run", DISTANCES), trust=trust).rankings["1"] == order


@pytest.mark.parametrize("ranks", [(0, 0, 0), (1, 1, 2), (5, 6, 9)])
def test_ranks_that_do_not_contradict_the_scores_are_no_fault(tmp_path: Path, ranks: tuple[int, ...]) -> None:
    rows = [f"q Q0 {item} {rank} {score} t" for item, rank, score in zip("abc", ranks, (0.5, 0.75, 0.25), strict=True)]
    if ranks == (5, 6, 9):
        rows[0] = rows[0].replace("0.5", "0.75")
    read_rankings(save(tmp_path, "a.run", "\n".join(rows)))


def test_trust_is_refused_where_there_is_nothing_to_choose(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a\.json is not one"):
        read_rankings(save(tmp_path, "a.json", JSON), trust="ranks")


def test_lines_end_at_line_feeds_only(tmp_path: Path) -> None:
    lists = read_rankings(save(tmp_path, "a.jsonl", '{"query_id": "a\u2028b", "ranking": ["c\x85d"]}\n'))
    assert lists.rankings == {"a\u2028b": ("c\x85d",)}


def test_group_rankings_are_read_from_json_lines(tmp_path: Path) -> None:
    lists = read_rankings(save(tmp_path, "a.jsonl", '{"query_id": 5, "ranking": [1], "group_ranking": [3, "4"]}'))
    assert lists.group_rankings == {"5": ("3", "4")}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "", "is empty"),
        ("a.trec", " \n\n", "is empty"),
        ("a.json", b'{"0": ["\xff"]}', "line 1: it is not UTF-8: byte 0xff"),
        ("a.json", "hello", "is not JSON: Expecting value at line 1, column 1"),
        ("a.json", JSON[:-3], "is not JSON: .* line 1, column 30. The file seems to be cut off"),
        ("a.json", '{"0": [11, "12', "is not JSON: Unterminated string"),
        ("a.json", "[[11, 12], [12, 13]]", "must hold one JSON object from query id to a list of ids, not a list"),
        ("a.json", "null", "must hold one JSON object .*, not null"),
        ("a.json", '"0"', "must hold one JSON object .*, not a text"),
        ("a.json", '{"0": [1], "1": [2], "0": [3]}', "the key '0' occurs twice"),
        ("a.json", '{"0": [1.5]}', r"query '0' has the wrong form: Expected `int \| str`, got `float` - at `\$\[0\]`"),
        ("a.json", '{"0": [1, 2.0]}', r"query '0' .* got `float` - at `\$\[1\]`"),
        ("a.json", '{"0": [1], "7": [[2]]}', "query '7' .* got `array`"),
        ("a.json", '{"0": [null]}', "query '0' .* got `null`"),
        ("a.json", '{"0": [true]}', "query '0' .* got `bool`"),
        ("a.json", '{"0": [1], "1": {"1": 2}}', "query '1' .* Expected `array`, got `object`"),
        ("a.json", '{"0": {"1": 2}, "1": [1]}', "query '1' .* Expected `object`, got `array`"),
        ("a.json", '{"0": {"1": "high"}}', "query '0' .* Expected `float`, got `str`"),
        ("a.json", '{"0": 11}', "query '0' .* Expected `array`, got `int`"),
        ("a.json", '{"0": [NaN]}', "NaN is not a valid id"),
        ("a.json", '{"0": [' + "9" * 5000 + "]}", "is not JSON of ids: .*digits"),
        ("a.json", '{"0": ' + "[" * 100_000, "is not JSON"),
        ("a.jsonl", '{"query_id": 0, "ranking": [1]}\n{"query_id": 1, "ranking": [1', "line 2 is not JSON: .*cut off"),
        (
            "a.jsonl",
            '{"query_id": 0, "ranking": [1]}\n{"query_id": "0", "ranking": [2]}',
            "line 2: query '0' occurs twice",
        ),
        ("a.jsonl", '{"query_id": 0, "ranking": [1], "ranking": [2]}', "line 1: the key 'ranking' occurs twice"),
        ("a.jsonl", '{"query_id": 0}', "line 1 has the wrong form: Object missing required field `ranking`"),
        ("a.jsonl", '{"ranking": [1]}', "line 1 has the wrong form: Object missing required field `query_id`"),
        ("a.jsonl", '{"query_id": 0, "ranking": "1"}', r"line 1 .* Expected `array`, got `str` - at `\$\.ranking`"),
        ("a.jsonl", '{"query_id": null, "ranking": [1]}', r"line 1 .* got `null` - at `\$\.query_id`"),
        ("a.jsonl", "[0, [1]]", "line 1 has the wrong form: Expected `object`, got `array`"),
        ("a.trec", "0 Q0 11 1 0.9", "line 1 holds 5 fields, and a TREC run has six"),
        ("a", "hello", "line 1 holds 1 fields, and a TREC run has six"),
        ("a.trec", "0 Q0 11 first 0.9 me", "line 1: query '0': rank 'first' must be a whole number"),
        ("a.trec", "0 Q0 11 1 high me", "score 'high' a number"),
        ("a.trec", "0 Q0 11 1 0.9 me\n0 Q0 12 2 nan me", "line 2: query '0': the score nan is not finite"),
        ("a.trec", "0 Q0 11 1 -inf me", "line 1: query '0': the score -inf is not finite"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = save(tmp_path, name, content)
    with pytest.raises(InvalidPredictions, match=message) as caught:
        read_rankings(path)
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_a_file_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(InvalidPredictions, match=r"is too large: 536,870,913 bytes, and 536,870,912 are allowed"):
        read_rankings(path)


def test_an_absent_file_and_a_folder_are_missing_data(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"a\.json does not exist"):
        read_rankings(tmp_path / "a.json")
    with pytest.raises(MissingData, match="cannot be read: Is a directory"):
        read_rankings(tmp_path)
