"""Ranked lists are read from three formats, and a broken file is refused with its place named."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from cirbench.errors import InvalidPredictions, MissingData
from cirbench.runs.predictions.read import MAX_BYTES, SERVER_LENGTH, read_rankings

if TYPE_CHECKING:
    from pathlib import Path

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
def test_the_servers_json_fixes_the_length_of_lists(tmp_path: Path, name: str, content: str) -> None:
    lists = read_rankings(save(tmp_path, name, content))
    assert (lists.rankings, lists.exact_length) == (LISTS, SERVER_LENGTH)


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
    lists = read_rankings(save(tmp_path, name, content))
    assert (lists.rankings, lists.exact_length) == (LISTS, None)


def test_a_trec_run_is_ordered_by_score_then_rank_then_place(tmp_path: Path) -> None:
    content = "q Q0 c 3 0.5 t\nq Q0 b 2 0.5 t\nq Q0 a 9 0.75 t\nq Q0 e 3 0.5 t\nq Q0 d 1 -0.5 t\n"
    assert read_rankings(save(tmp_path, "a.run", content)).rankings == {"q": ("a", "b", "c", "e", "d")}


def test_group_rankings_are_read_from_json_lines(tmp_path: Path) -> None:
    lists = read_rankings(save(tmp_path, "a.jsonl", '{"query_id": 5, "ranking": [1], "group_ranking": [3, "4"]}'))
    assert lists.group_rankings == {"5": ("3", "4")}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "", "is empty"),
        ("a.trec", " \n\n", "is empty"),
        ("a.json", b'{"0": ["\xff"]}', "is not UTF-8 text: byte 8 is invalid"),
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
        ("a.json", '{"0": {"1": 2}}', "query '0' .* Expected `array`, got `object`"),
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
    with pytest.raises(MissingData, match=r"a\.json cannot be read: No such file"):
        read_rankings(tmp_path / "a.json")
    with pytest.raises(MissingData, match="cannot be read: Is a directory"):
        read_rankings(tmp_path)
