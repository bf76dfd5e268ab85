"""Features are ranked if they fit the protocol, and refused with the file named if they do not."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cirbench.errors import InvalidPredictions, MissingData
from cirbench.runs.predictions.features import Features, open_rows, read_ids
from cirbench.runs.predictions.lists import RankedLists
from cirbench.runs.predictions.score import rank_features
from tests.runs.predictions.protocols import custom_protocol, score_features, score_lists, small_protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

PROTOCOL = small_protocol()
QUERIES = ("0", "1", "2")
GALLERY = tuple(str(100 + number) for number in range(9))


def random_rows(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)


def save(folder: Path, name: str, rows: NDArray[Any], ids: Sequence[str]) -> Features:
    np.save(folder / f"{name}.npy", rows)
    (folder / f"{name}.txt").write_text("\n".join(ids) + "\n")
    return Features(folder / f"{name}.npy", folder / f"{name}.txt")


def save_both(folder: Path) -> tuple[Features, Features]:
    return save(folder, "queries", random_rows(3), QUERIES), save(folder, "gallery", random_rows(9, 1), GALLERY)


def test_rows_may_stand_in_any_order(tmp_path: Path) -> None:
    queries, gallery = save_both(tmp_path)
    _, straight = rank_features(queries, gallery, PROTOCOL)
    order = [2, 0, 1]
    shuffled = save(tmp_path, "q2", random_rows(3)[order], [QUERIES[place] for place in order])
    backwards = save(tmp_path, "g2", random_rows(9, 1)[::-1], GALLERY[::-1])
    protocol, ranking = rank_features(shuffled, backwards, PROTOCOL)
    assert np.array_equal(ranking.top_QK, straight.top_QK)
    assert protocol.digest == PROTOCOL.digest


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
def test_floating_types_are_accepted(tmp_path: Path, dtype: str) -> None:
    rows = np.eye(9, dtype=dtype)
    queries = save(tmp_path, "queries", rows[1:4], QUERIES)
    score = score_features(queries, save(tmp_path, "gallery", np.asfortranarray(rows), GALLERY), PROTOCOL)
    assert {measured.label: measured.value for measured in score.measurements}["Recall@1"] == 1.0


def test_a_gallery_that_is_not_at_hand_is_taken_from_the_ids(tmp_path: Path) -> None:
    queries, gallery = save_both(tmp_path)
    protocol, ranking = rank_features(queries, gallery, dataclasses.replace(PROTOCOL, gallery=None))
    assert protocol.gallery is not None
    assert protocol.gallery.ids == GALLERY
    assert np.array_equal(ranking.top_QK, rank_features(queries, gallery, PROTOCOL)[1].top_QK)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (GALLERY[:4], r"1 ground truths of small/val@1 are not in the gallery: '104'"),
        (GALLERY[1:], r"1 references of small/val@1 are not in the gallery: '100'"),
        (tuple(f"{name:0>12}" for name in GALLERY), "'000000000100' cannot be a gallery id of small/val@1; .* '100'"),
    ],
)
def test_such_a_gallery_must_hold_every_image_that_matters(tmp_path: Path, ids: Sequence[str], message: str) -> None:
    queries, gallery = save_both(tmp_path)[0], save(tmp_path, "gallery", random_rows(len(ids)), ids)
    with pytest.raises(InvalidPredictions, match=message) as caught:
        rank_features(queries, gallery, dataclasses.replace(PROTOCOL, gallery=None))
    assert gallery.ids_source in caught.value.message


def with_value(value: float, place: tuple[int, int] | int) -> NDArray[np.float32]:
    rows = random_rows(9, 1)
    rows[place] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (with_value(np.nan, (3, 1)), "gallery item 103 hold NaN or infinite values"),
        (with_value(-np.inf, (4, 0)), "gallery item 104 hold NaN or infinite values"),
        (with_value(0, 5), "gallery item 105 hold only zeros"),
        (random_rows(8), "holds 8 rows, and .*gallery.txt 9 ids"),
        (random_rows(9)[:, :3], r"queries.npy has 4 columns and .*gallery.npy 3"),
        (random_rows(9)[:, 0], r"gallery.npy has the shape \(9,\), not \(rows, columns\)"),
        (random_rows(9)[:, :, None], r"has the shape \(9, 4, 1\)"),
        (random_rows(0), r"has the shape \(0, 4\)"),
        (random_rows(9).astype(np.int64), "holds int64, not float16, float32 or float64"),
        (random_rows(9).astype(np.complex64), "holds complex64, not"),
        (random_rows(9) > 0, "holds bool, not"),
        (random_rows(9).astype(np.str_), "holds <U32, not"),
    ],
)
def test_rows_that_cannot_be_ranked_are_refused(tmp_path: Path, rows: NDArray[Any], message: str) -> None:
    queries, gallery = save_both(tmp_path)[0], save(tmp_path, "gallery", rows, GALLERY)
    with pytest.raises(InvalidPredictions, match=message) as caught:
        rank_features(queries, gallery, PROTOCOL)
    assert gallery.rows_source in caught.value.message


def test_numbers_too_large_for_float32_are_refused(tmp_path: Path) -> None:
    rows = random_rows(9).astype(np.float64)
    rows[2, 2] = 1e300
    queries, gallery = save_both(tmp_path)[0], save(tmp_path, "gallery", rows, GALLERY)
    with pytest.raises(InvalidPredictions, match="gallery item 102 hold NaN or infinite values"):
        rank_features(queries, gallery, PROTOCOL)


def pickled(path: Path) -> None:
    np.save(path, np.array([["a", None]], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(b""), "not a whole .npy file"),
        (lambda path: path.write_bytes(b"0.1 0.2\n0.3 0.4\n"), "not a whole .npy file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "not a whole .npy file"),
        (lambda path: path.write_bytes(path.read_bytes()[:40]), "not a whole .npy file"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"descr", b"de\0cr")), "not a whole .npy file"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"(3, 4)", b"(3, 4 ")), "not a whole .npy file"),
        (pickled, "not a whole .npy file of numbers: .*[Oo]bject"),
    ],
)
def test_a_broken_array_file_is_refused(tmp_path: Path, spoil: Callable[[Path], object], message: str) -> None:
    path = tmp_path / "queries.npy"
    np.save(path, random_rows(3))
    spoil(path)
    with pytest.raises(InvalidPredictions, match=message) as caught:
        open_rows(path)
    assert str(path) in caught.value.message


def test_absent_files_are_missing_data(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"queries\.npy cannot be read: No such file"):
        open_rows(tmp_path / "queries.npy")
    with pytest.raises(MissingData, match=r"queries\.txt does not exist"):
        read_ids(tmp_path / "queries.txt")


@pytest.mark.parametrize(
    "content",
    [
        "0\n1\n2",
        "0\r\n1\r\n2\r\n",
        " 0 \n1\n2\n\n",
        '[0, "1", 2]',
        '{"0": "./dev/a.png", "1": "./dev/b.png", "2": "./dev/c.png"}',
        '[{"pairid": 0, "id": 7}, {"pairid": 1}, {"pairid": 2}]',
        '[{"id": 0, "gt_img_ids": [5]}, {"id": 1}, {"id": 2}]',
        '{"info": {}, "images": [{"id": 0, "file_name": "0.jpg"}, {"id": 1}, {"id": 2}]}',
    ],
)
def test_ids_come_in_the_forms_that_benchmarks_have(tmp_path: Path, content: str) -> None:
    path = tmp_path / "ids"
    path.write_text(content)
    assert read_ids(path) == QUERIES


def test_ids_come_as_lines_of_json(tmp_path: Path) -> None:
    path = tmp_path / "queries.jsonl"
    path.write_text('{"query_id": "0", "text": "x"}\n\n"1"\n2\n')
    assert read_ids(path) == QUERIES


@pytest.mark.parametrize("ids", [["0", "1", "2"], [b"0", b"1", b"2"], [0, 1, 2]])
def test_ids_come_as_an_array_of_numpy(tmp_path: Path, ids: list[object]) -> None:
    np.save(tmp_path / "ids.npy", np.array(ids))
    assert read_ids(tmp_path / "ids.npy") == QUERIES


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.array(["a", None], dtype=object), "is not a whole .npy file of ids: Object arrays cannot be loaded"),
        (np.array([1.5, 2.0]), r"holds float64 of shape \(2,\), not a row of ids"),
        (np.array([["a"], ["b"]]), r"holds <U1 of shape \(2, 1\), not a row of ids"),
        (np.array([b"\xff"]), "holds bytes that are not UTF-8"),
    ],
)
def test_an_array_of_something_else_is_not_a_list_of_ids(tmp_path: Path, ids: NDArray[Any], message: str) -> None:
    np.save(tmp_path / "ids.npy", ids)
    with pytest.raises(InvalidPredictions, match=message) as raised:
        read_ids(tmp_path / "ids.npy")
    assert "dtype=str" in str(raised.value.hint)


@pytest.mark.parametrize(("ours", "theirs"), [("caf\xe9", "cafe\u0301"), ("cafe\u0301", "caf\xe9")])
def test_ids_match_the_protocols_in_any_unicode_form(tmp_path: Path, ours: str, theirs: str) -> None:
    protocol = custom_protocol([f"{ours}{number}" for number in range(9)], [ours, "1", "2"])
    gallery = [f"{theirs}{number}" for number in range(9)]
    rows = np.eye(9, dtype=np.float32)
    files = save(tmp_path, "queries", rows[1:4], [theirs, "1", "2"]), save(tmp_path, "gallery", rows, gallery)
    _, ranking = rank_features(*files, protocol)
    assert ranking.top_QK[:, 0].tolist() == [1, 2, 3]
    rankings = {
        name: tuple(gallery[place:] + gallery[:place]) for place, name in enumerate((theirs, "1", "2"), start=1)
    }
    assert score_lists(RankedLists("a", rankings), protocol).measurements[1].value == 1.0


def test_a_message_quotes_no_more_than_a_line_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "ids").write_text(json.dumps([{"objects": ["x" * 300] * 300}]))
    with pytest.raises(InvalidPredictions, match="has no query_id, pairid or id") as raised:
        read_ids(tmp_path / "ids")
    assert len(raised.value.message) < 400


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("0\n\n2", "the id at place 2 is empty"),
        ("0\n1\n0", "the id '0' is at places 1 and 3"),
        ('["0", 0]', "the id '0' is at places 1 and 2"),
        ("[0, 1.5]", "1.5 is not a valid id"),
        ("[0, null]", "None is not a valid id"),
        ("[0, [1]]", r"\[1\] is not a valid id"),
        ("[0, 1", "is not JSON"),
        ("[]", "holds no ids"),
    ],
)
def test_a_broken_id_list_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "ids"
    path.write_text(content)
    with pytest.raises(InvalidPredictions, match=message) as caught:
        read_ids(path)
    assert str(path) in caught.value.message


@pytest.mark.parametrize(
    ("side", "ids", "message"),
    [
        ("queries", ("0", "1"), "1 query ids are missing: '2'"),
        ("queries", ("0", "1", "2", "3"), "1 unknown query ids"),
        ("gallery", GALLERY[:8], "1 gallery ids are missing: '108'"),
        ("gallery", (*GALLERY, "7"), "1 unknown gallery ids"),
    ],
)
def test_ids_must_be_the_protocols(tmp_path: Path, side: str, ids: Sequence[str], message: str) -> None:
    queries, gallery = save_both(tmp_path)
    changed = tmp_path / "changed.txt"
    changed.write_text(json.dumps(list(ids)))
    if side == "queries":
        queries = Features(queries.rows_source, changed)
    else:
        gallery = Features(gallery.rows_source, changed)
    with pytest.raises(InvalidPredictions, match=message):
        rank_features(queries, gallery, PROTOCOL)
