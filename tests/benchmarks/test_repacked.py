"""CIR tasks as M-BEIR and MMEB re-pack them are evaluated as these do, under names of their own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cirbench.benchmarks import fashioniq, load_protocol
from cirbench.benchmarks.images import image_files
from cirbench.benchmarks.repacked import MBEIR_EXPECTED, QUERIES, load_mbeir, load_mmeb
from cirbench.cli import execute
from cirbench.errors import CorruptFile, MissingData, UnknownName
from cirbench.metrics.measure import ceilings, measure
from cirbench.ranking import rank, ranking_task
from tests.annotation_files import read, write_mbeir, write_mmeb

if TYPE_CHECKING:
    from pathlib import Path

QUERY_FILE = "mbeir/query/test/mbeir_cirr_task7_test.jsonl"
POOL_FILE = "mbeir/cand_pool/local/mbeir_cirr_task7_cand_pool.jsonl"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_any_right_image_of_the_pool_counts_as_found_by_mbeir(tmp_path: Path) -> None:
    protocol = load_mbeir("cirr", tmp_path, write_mbeir(tmp_path))
    rows, pool = lines(tmp_path / QUERY_FILE), lines(tmp_path / POOL_FILE)
    assert protocol.gallery is not None and protocol.labels is not None
    draw = np.random.default_rng(0)
    queries, gallery = (draw.standard_normal((count, 8)).astype(np.float32) for count in (len(rows), len(pool)))
    found = {each.label: each.value for each in measure(rank(queries, gallery, ranking_task(protocol)), protocol)}
    for label, value in found.items():
        k = int(label.partition("@")[2])
        tops = [{pool[place]["did"] for place in np.argsort(-(gallery @ row))[:k]} for row in queries]
        hits = [bool(top & {*row["pos_cand_list"]}) for top, row in zip(tops, rows, strict=True)]
        assert value == pytest.approx(np.mean(hits))
    assert list(found) == ["Hit_rate@5", "Hit_rate@1", "Hit_rate@10", "Hit_rate@50"]
    assert {each.value for each in ceilings(protocol)} == {1.0}
    assert [query.captions for query in protocol.queries] == [(row["query_txt"],) for row in rows]


def test_the_reference_is_in_the_pool_of_mbeir_and_may_be_right(tmp_path: Path) -> None:
    protocol = load_mbeir("cirr", tmp_path, write_mbeir(tmp_path))
    assert protocol.gallery is not None and protocol.labels is not None and not protocol.exclude_reference
    own = [query.reference.id for query in protocol.queries]
    assert {*own} <= {*protocol.gallery.ids}
    assert [image in row for image, row in zip(own, protocol.labels.relevant, strict=True)] == [False] * 4 + [True]


def test_a_query_of_mmeb_ranks_its_own_candidates_the_first_of_which_is_right(tmp_path: Path) -> None:
    protocol = load_mmeb("cirr", tmp_path, write_mmeb(tmp_path))
    assert protocol.pools is not None and protocol.pool_of_query == (0, 1, 2) and protocol.labels is not None
    assert [len(pool) for pool in protocol.pools] == [4, 4, 4]  # a candidate that is listed twice is one
    assert protocol.labels.relevant == tuple(pool[:1] for pool in protocol.pools)
    assert protocol.queries[1].captions == ("Show 1 of them.",)
    assert [measured.label for measured in ceilings(protocol)] == ["Recall@1", "Recall@5", "Recall@10"]
    assert protocol.gallery is not None and {*protocol.gallery.ids} == {
        each for pool in protocol.pools for each in pool
    }
    constant = np.zeros((len(protocol.gallery), 4), np.float32)
    ranking = rank(np.zeros((3, 4), np.float32), constant, ranking_task(protocol))
    assert sorted({*ranking.relevant_ranks.values}) != [1]  # being first in a list is no advantage


def test_images_are_found_where_the_archives_have_them(tmp_path: Path) -> None:
    for protocol, path in (
        (load_mbeir("cirr", tmp_path, write_mbeir(tmp_path)), "mbeir/mbeir_images/cirr_images/dev/dev-3.jpg"),
        (load_mmeb("cirr", tmp_path, write_mmeb(tmp_path)), "mmeb/images/CIRR/Test/dev-3.jpg"),
    ):
        (files,) = image_files(protocol)
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).touch()
        assert [*files.found.values()] == [tmp_path / path]


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        (QUERY_FILE, {"qid": "7:1"}, r"it holds 6 queries, not 5; it holds queries more than once: 7:1"),
        (QUERY_FILE, {"qid": "7:9", "pos_cand_list": ["7:99"]}, r"a ground truth is not in the pool for query 7:9"),
        (QUERY_FILE, {"pos_cand_list": []}, r"Expected `array` of length >= 1.* in line 6"),
        (QUERY_FILE, {"query_txt": None}, r"Expected `str`, got `null`.* in line 6"),
        (POOL_FILE, {"did": "7:0"}, r"10 images, not 9; it holds ids more than once: 7:0; it holds images more than"),
        (POOL_FILE, {"img_path": ""}, r"Expected `str` of length >= 1.* in line 10"),
    ],
)
def test_changed_files_of_mbeir_are_refused(tmp_path: Path, file: str, line: dict[str, Any], message: str) -> None:
    expected = write_mbeir(tmp_path)
    path = tmp_path / file
    path.write_text(f"{path.read_text()}{json.dumps(lines(path)[0] | line)}\n")
    with pytest.raises(CorruptFile, match=message):
        load_mbeir("cirr", tmp_path, expected)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"tgt_img_path": [[], [], []]}, r"Expected `array` of length >= 1"),
        ({"qry_text": [None, "", ""]}, r"Expected `str`, got `null`"),
        ({"qry_img_path": ["", "a.jpg", "b.jpg"]}, r"Expected `str` of length >= 1"),
    ],
)
def test_changed_tables_of_mmeb_are_refused(tmp_path: Path, columns: dict[str, list[Any]], message: str) -> None:
    expected = write_mmeb(tmp_path, columns=columns)
    with pytest.raises(CorruptFile, match=message):
        load_mmeb("cirr", tmp_path, expected)


def test_a_table_whose_texts_hold_the_instruction_is_refused(tmp_path: Path) -> None:
    from pyarrow import parquet

    expected = write_mmeb(tmp_path)
    path = tmp_path / "mmeb/CIRR/test-00000-of-00001.parquet"
    parquet.write_table(parquet.read_table(path).drop_columns(["qry_inst"]), path)
    with pytest.raises(CorruptFile, match="it has no column qry_inst; MMEB_Test_Instruct has them"):
        load_mmeb("cirr", tmp_path, expected)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CorruptFile, match=r"test-00000-of-00001\.parquet is not the file that was published"):
        load_mmeb("cirr", tmp_path, expected)


def test_other_counts_than_the_published_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"mbeir_fashioniq_task7_test\.jsonl"):
        load_protocol("mbeir/fashioniq", tmp_path)
    with pytest.raises(MissingData, match=r"FashionIQ/test-00000-of-00001\.parquet"):
        load_protocol("mmeb/fashioniq", tmp_path)
    write_mbeir(tmp_path, "fashioniq")
    write_mmeb(tmp_path, "FashionIQ")
    with pytest.raises(CorruptFile, match="it holds 9 images, not 74381"):
        load_protocol("mbeir/fashioniq", tmp_path)
    with pytest.raises(CorruptFile, match="it holds 3 queries, not 1000"):
        load_protocol("mmeb/fashioniq", tmp_path)
    with pytest.raises(UnknownName, match="mbeir/circo"):
        load_protocol("mbeir/circo", tmp_path)


def test_a_plan_says_what_is_fetched_and_what_is_got_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["data", "plan", "mbeir/cirr"]) == 0
    told = capsys.readouterr().out
    assert "mbeir_cirr_task7_test.jsonl" in told and "mbeir_fashioniq_task7" not in told
    assert execute(["data", "plan", "mmeb"]) == 0
    assert "hf download ziyjiang/MMEB_Test_Instruct" in capsys.readouterr().out


def as_a_sentence(text: str) -> str:
    text = text.replace("\r", "").strip().strip('"')
    return (text[:1].upper() + text[1:] + ("" if text[-1:] in (".", "?", "!") else ".")) if text else ""


def test_the_numbers_of_queries_follow_from_the_annotations(annotation_root: Path) -> None:
    if not (annotation_root / "cirr").is_dir() or not (annotation_root / "fashioniq").is_dir():
        pytest.skip(f"{annotation_root} lacks cirr or fashioniq")
    cirr: dict[tuple[str, str], set[str]] = {}
    for row in read(annotation_root / "cirr/captions/cap.rc2.val.json"):
        right = {name for name, label in row["target_soft"].items() if label == 1}
        if right:
            cirr.setdefault((row["reference"], as_a_sentence(row["caption"])), set()).update(right)
    asked = set()
    for category in fashioniq.CATEGORIES:
        for row in read(annotation_root / f"fashioniq/captions/cap.{category}.val.json"):
            captions = [text.strip() for text in row["captions"] if text.strip()]
            text = " and ".join(text[0].lower() + text[1:].removesuffix(".") for text in captions)
            asked.add((row["candidate"], as_a_sentence(text)))
    assert {"cirr": len(cirr), "fashioniq": len(asked)} == {
        task: expected[QUERIES] for task, expected in MBEIR_EXPECTED.items()
    }
    assert sum(reference in right for (reference, _), right in cirr.items()) == 37
