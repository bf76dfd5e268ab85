"""Features come in the files that people have, are ranked to the same result from each, and never held twice."""

from __future__ import annotations

import dataclasses
import json
import pickle
import struct
import subprocess
import sys
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from cirbench.errors import InvalidPredictions, MissingData, UnknownName
from cirbench.metrics.table import Measure
from cirbench.runs.predictions import score
from cirbench.runs.predictions.features import Features, open_rows, read_ids
from cirbench.runs.predictions.score import answer_of_features, rank_features
from tests.runs.predictions.protocols import small_protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from cirbench.protocol import EvaluationProtocol

PROTOCOL = small_protocol()
QUERIES = ["0", "1", "2"]
GALLERY = [str(100 + number) for number in range(9)]


def rows_of(count: int, seed: int = 0, width: int = 4) -> NDArray[np.float32]:
    """Rows that bfloat16 and float16 hold exactly, of length about one."""
    return (np.random.default_rng(seed).integers(-8, 9, size=(count, width)) / 16 + 1 / 32).astype(np.float32)


def side(rows: Any, ids: Any) -> Features:
    return Features(rows, ids, "rows", "ids")


def expected() -> NDArray[np.int64]:
    _, ranking = rank_features(side(rows_of(3), QUERIES), side(rows_of(9, 1), GALLERY), PROTOCOL)
    return ranking.top_QK


def as_npz(path: Path) -> str:
    np.savez(path / "f.npz", queries=rows_of(3), query_ids=QUERIES, gallery=rows_of(9, 1), gallery_ids=GALLERY)
    return "f.npz"


def as_safetensors(path: Path) -> str:
    ids = {"query_ids": np.arange(3), "gallery_ids": np.arange(100, 109)}
    save_file({"queries": rows_of(3), "gallery": rows_of(9, 1).astype(np.float16), **ids}, path / "f.safetensors")
    return "f.safetensors"


def as_bfloat16(path: Path) -> str:
    from safetensors.torch import save_file as save_torch

    tensors = {"queries": torch.tensor(rows_of(3)), "gallery": torch.tensor(rows_of(9, 1))}
    halved = {name: tensor.bfloat16() for name, tensor in tensors.items()}
    save_torch({**halved, "query_ids": torch.arange(3), "gallery_ids": torch.arange(100, 109)}, path / "f.safetensors")
    return "f.safetensors"


def as_torch(path: Path) -> str:
    tensors = {"queries": torch.tensor(rows_of(3)), "gallery": torch.tensor(rows_of(9, 1)).bfloat16()}
    torch.save({**tensors, "query_ids": QUERIES, "gallery_ids": torch.arange(100, 109)}, path / "f.pt")
    return "f.pt"


@pytest.mark.parametrize("write", [as_npz, as_safetensors, as_bfloat16, as_torch])
def test_one_file_may_hold_both_sides_and_their_ids(tmp_path: Path, write: Callable[[Path], str]) -> None:
    name = write(tmp_path)
    sides = [Features(f"{tmp_path / name}:{kind}") for kind in ("queries", "gallery")]
    notes: list[str] = []
    _, ranking = rank_features(sides[0], sides[1], PROTOCOL, notes)
    assert np.array_equal(ranking.top_QK, expected())
    assert f"the ids of {tmp_path / name}:queries are those of its array query_ids" in notes


def separately(tmp_path: Path, write: Callable[[Path, NDArray[np.float32]], Path]) -> NDArray[np.int64]:
    files = []
    for name, rows, ids in (("q", rows_of(3), QUERIES), ("g", rows_of(9, 1), GALLERY)):
        (tmp_path / f"{name}.json").write_text(json.dumps(ids))
        files.append(Features(write(tmp_path / name, rows), tmp_path / f"{name}.json"))
    return rank_features(files[0], files[1], PROTOCOL)[1].top_QK


def write_pt(path: Path, rows: NDArray[np.float32]) -> Path:
    torch.save(torch.nn.Parameter(torch.tensor(rows)), path.with_suffix(".pt"))
    return path.with_suffix(".pt")


def write_old_pt(path: Path, rows: NDArray[np.float32]) -> Path:
    torch.save(torch.tensor(rows), path.with_suffix(".pth"), _use_new_zipfile_serialization=False)
    return path.with_suffix(".pth")


def write_lone_npz(path: Path, rows: NDArray[np.float32]) -> Path:
    np.savez_compressed(path.with_suffix(".npz"), rows.astype(np.float64))
    return path.with_suffix(".npz")


def write_middle_axis(path: Path, rows: NDArray[np.float32]) -> Path:
    np.save(path.with_suffix(".npy"), rows[:, None])
    return path.with_suffix(".npy")


@pytest.mark.parametrize("write", [write_pt, write_old_pt, write_lone_npz, write_middle_axis])
def test_a_single_array_needs_no_name(tmp_path: Path, write: Callable[[Path, NDArray[np.float32]], Path]) -> None:
    assert np.array_equal(separately(tmp_path, write), expected())


def test_shards_are_put_together_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for at, part in enumerate(np.array_split(rows_of(9, 1), 3)):
        np.save(tmp_path / f"g-{[2, 10, 33][at]}.npy", part)
    gallery = Features(f"{tmp_path}/g-*.npy", GALLERY, ids_name="ids")
    notes: list[str] = []
    _, ranking = rank_features(side(rows_of(3), QUERIES), gallery, PROTOCOL, notes)
    assert np.array_equal(ranking.top_QK, expected())
    assert f"{tmp_path}/g-*.npy is 3 files, from g-2.npy to g-33.npy, one after the other" in notes
    with pytest.raises(MissingData, match=r"No file is called like .*h-\*\.npy"):
        open_rows(f"{tmp_path}/h-*.npy")


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('ran')",)


def test_what_would_run_code_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f.pkl").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(InvalidPredictions, match=r"f\.pkl is a pickle, which can run any code when it is read"):
        open_rows(tmp_path / "f.pkl")
    (tmp_path / "f.pt").write_bytes(pickle.dumps(Bomb()))
    torch.save({"features": torch.ones(3, 4), "bomb": Bomb()}, tmp_path / "g.pt")
    for name in ("f.pt", "g.pt"):
        with pytest.raises(InvalidPredictions, match=r"holds other objects than tensors|not a whole torch file"):
            open_rows(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": torch.ones(3, 4), "b": torch.ones(9, 4)}, r"2 arrays that may be features: a \(3, 4\), b \(9, 4\)"),
        ({"a": torch.ones(3, dtype=torch.int64)}, "no rows of floating-point numbers"),
        ([1, 2], "holds a list, not a tensor or a dict of tensors"),
        (torch.ones(3, 4, dtype=torch.int32), "holds torch.int32, not float16, bfloat16, float32 or float64"),
        (torch.ones(3, 4).to_sparse(), "is a sparse or quantized tensor"),
    ],
)
def test_a_torch_file_of_something_else_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "f.pt")
    with pytest.raises(InvalidPredictions, match=message) as raised:
        open_rows(tmp_path / "f.pt")
    assert str(tmp_path / "f.pt") in raised.value.message


def test_an_unknown_array_is_answered_by_the_nearest(tmp_path: Path) -> None:
    as_npz(tmp_path)
    with pytest.raises(UnknownName, match=r"no array in .*f\.npz called 'galery'\.\nNearest: gallery"):
        open_rows(f"{tmp_path}/f.npz:galery")


@pytest.mark.parametrize("name", ["f.npz", "f.pt", "f.safetensors"])
def test_files_that_are_cut_off_are_refused(tmp_path: Path, name: str) -> None:
    write = {"f.npz": as_npz, "f.pt": as_torch, "f.safetensors": as_safetensors}[name]
    write(tmp_path)
    whole = (tmp_path / name).read_bytes()
    for length in (9, len(whole) // 2, len(whole) - 1):
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(InvalidPredictions, match=r"is not a whole \.?\w+ file of numbers"):
            list(open_rows(f"{tmp_path / name}:gallery").rows_ND[:])


def test_a_safetensors_header_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 44]}}).encode()
    (tmp_path / "f.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(48))
    with pytest.raises(InvalidPredictions, match="its header contradicts itself"):
        open_rows(tmp_path / "f.safetensors")


def test_whole_numbers_that_are_not_called_ids_are_not_taken_for_ids(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", queries=rows_of(3), labels=np.arange(3), position=np.array([2, 0, 1]))
    assert open_rows(tmp_path / "f.npz").ids is None
    np.savez(tmp_path / "f.npz", queries=rows_of(3), labels=np.arange(3), names=np.array([2, 0, 1]))
    assert open_rows(tmp_path / "f.npz").ids == ("2", "0", "1")


def test_rows_without_ids_say_what_to_give() -> None:
    with pytest.raises(InvalidPredictions, match="rows does not say what its rows are") as raised:
        rank_features(side(rows_of(3), QUERIES), Features(rows_of(9, 1), None, "rows"), PROTOCOL)
    assert "--gallery-ids FILE" in str(raised.value.hint)


def test_ids_are_checked_before_torch_is_imported(tmp_path: Path) -> None:
    for name, rows, ids in (("q", rows_of(3), ["0", "1", "x"]), ("g", rows_of(9, 1), GALLERY)):
        write_pt(tmp_path / name, rows)
        (tmp_path / f"{name}.json").write_text(json.dumps(ids))
    program = f"""
import sys
sys.modules["torch"] = None
from pathlib import Path
from cirbench.errors import CirbenchError
from cirbench.runs.predictions.features import Features
from cirbench.runs.predictions.score import rank_features
from tests.runs.predictions.protocols import small_protocol
folder = Path({str(tmp_path)!r})
sides = [Features(folder / f"{{name}}.pt", folder / f"{{name}}.json") for name in "qg"]
for ids in (["0", "1", "x"], ["0", "1", "2"]):
    (folder / "q.json").write_text(str(ids).replace("'", '"'))
    try:
        rank_features(*sides, small_protocol())
    except CirbenchError as error:
        print(error.message)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert "1 unknown query ids ('x')" in first
    assert "q.pt is a file of torch, and torch cannot be imported" in second


# What is said of the rows.


def said(queries: NDArray[Any], gallery: NDArray[Any]) -> str:
    notes: list[str] = []
    rank_features(side(queries, QUERIES), side(gallery, GALLERY), PROTOCOL, notes)
    return "\n".join(notes)


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    units: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return units


def test_rows_of_unit_length_are_not_worth_a_word() -> None:
    assert said(unit(rows_of(3)), unit(rows_of(9, 1))) == ""


def test_rows_of_other_lengths_are_normalised_and_that_is_said() -> None:
    note = said(unit(rows_of(3)), 12.5 * unit(rows_of(9, 1)))
    assert note == (
        "rows: rows have lengths from 12.5 to 12.5; each is divided by its own, so that the dot product is the cosine"
    )


def test_a_row_of_another_order_of_magnitude_is_named() -> None:
    gallery = unit(rows_of(9, 1))
    gallery[4] *= 1e-5
    assert "warning: rows: the row of gallery item '104' has the length 1e-05, and the median is 1" in said(
        unit(rows_of(3)), gallery
    )


def test_halves_below_their_precision_are_named() -> None:
    note = said(unit(rows_of(3)), (1e-5 * unit(rows_of(9, 1))).astype(np.float16))
    assert "warning: rows holds float16 values of about" in note
    assert "save float32, or normalise before saving" in note


def test_halves_that_overflowed_are_refused_with_the_reason() -> None:
    with np.errstate(over="ignore"):
        gallery = (1e6 * rows_of(9, 1)).astype(np.float16)
    with pytest.raises(InvalidPredictions, match="NaN or infinite values") as raised:
        said(rows_of(3), gallery)
    assert "float16 overflows above 65504" in str(raised.value.hint)


def test_transposed_rows_are_recognised() -> None:
    with pytest.raises(InvalidPredictions, match="holds 4 rows, and ids 9 ids") as raised:
        said(rows_of(3), rows_of(9, 1).T)
    assert "one column for each id: save it transposed" in str(raised.value.hint)


def test_swapped_sides_are_recognised() -> None:
    with pytest.raises(InvalidPredictions, match="the ids of the queries are ids of the gallery") as raised:
        rank_features(side(rows_of(9, 1), GALLERY), side(rows_of(3), QUERIES), PROTOCOL)
    assert "--features QUERIES GALLERY" in str(raised.value.hint)


def test_names_of_files_are_ids_of_the_gallery() -> None:
    notes: list[str] = []
    names = [f"img/{name}.jpg" for name in GALLERY]
    _, ranking = rank_features(side(rows_of(3), QUERIES), side(rows_of(9, 1), names), PROTOCOL, notes)
    assert np.array_equal(ranking.top_QK, expected())
    assert "'img/100.jpg' as '100'" in "\n".join(notes)
    with pytest.raises(InvalidPredictions, match="the gallery id '100' is there twice"):
        rank_features(side(rows_of(3), QUERIES), side(rows_of(9, 1), [*GALLERY[:8], "100.jpg"]), PROTOCOL)


# Several pairs.


def pooled() -> EvaluationProtocol:
    """Queries 0 and 2 rank the first five images, query 1 the last seven; three images are in both."""
    pools = (tuple(GALLERY[:5]), tuple(GALLERY[2:]))
    measures = (Measure("Recall", 1), Measure("Recall", 3))
    return dataclasses.replace(PROTOCOL, pools=pools, pool_of_query=(0, 1, 0), measures=measures)


def parts(second: slice = slice(2, 9)) -> list[tuple[Features, Features]]:
    queries, gallery = rows_of(3), rows_of(9, 1)
    first = side(queries[[2, 0]], ["2", "0"]), side(gallery[4::-1], GALLERY[4::-1])
    return [first, (side(queries[1:2], ["1"]), side(gallery[second], GALLERY[second]))]


def test_pairs_of_features_are_ranked_each_by_itself() -> None:
    whole = answer_of_features([(side(rows_of(3), QUERIES), side(rows_of(9, 1), GALLERY))], pooled())
    found = answer_of_features(parts(), pooled())
    assert whole.ranking is not None
    assert found.ranking is not None
    for field in ("top_QK", "scores_QK"):
        assert np.array_equal(getattr(found.ranking, field), getattr(whole.ranking, field), equal_nan=True)
    assert found.ranking.relevant_ranks.values.tolist() == whole.ranking.relevant_ranks.values.tolist()
    assert [m.value for m in found.measured().measurements] == [m.value for m in whole.measured().measurements]


def test_pairs_may_be_of_models_of_different_width() -> None:
    first, (queries, _) = parts()
    wide = side(rows_of(1, 5, 6), ["1"]), side(rows_of(7, 6, 6), GALLERY[2:])
    assert answer_of_features([first, wide], pooled()).ranking is not None
    with pytest.raises(InvalidPredictions, match="rows has 4 columns and rows 6"):
        answer_of_features([first, (queries, wide[1])], pooled())


def test_a_pair_must_hold_every_candidate_of_its_queries() -> None:
    with pytest.raises(InvalidPredictions, match="ids: 1 candidates of its queries are missing: '108'"):
        answer_of_features(parts(slice(2, 8)), pooled())
    with pytest.raises(InvalidPredictions, match="the query id '2' is there twice"):
        answer_of_features([parts()[0], parts()[0]], pooled())


def test_captions_tell_the_queries_of_annotations_without_ids(tmp_path: Path) -> None:
    captions = [("is red", "has dots"), ("is blue", "is long"), ("is red", "has dots")]
    queries = [
        dataclasses.replace(query, captions=words) for query, words in zip(PROTOCOL.queries, captions, strict=True)
    ]
    path = tmp_path / "cap.dress.val.json"
    path.write_text(json.dumps([{"candidate": "a", "target": "b", "captions": list(words)} for words in captions[:2]]))
    assert read_ids(path, queries) == ("0", "1")
    path.write_text(json.dumps([{"candidate": "a", "captions": list(captions[0])}]))
    with pytest.raises(InvalidPredictions, match="may be of the queries from 0, 2 on"):
        read_ids(path, queries)
    path.write_text(json.dumps([{"candidate": "a", "captions": ["is green"]}]))
    with pytest.raises(
        InvalidPredictions, match="the captions of its 1 entries are not those of queries in their order"
    ):
        read_ids(path, queries)


def test_ids_come_in_a_column_of_a_table(tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text("split,image_id\nval,a\nval,b\n")
    assert read_ids(tmp_path / "ids.csv") == ("a", "b")
    (tmp_path / "ids.csv").write_text("split,where\nval,a\n")
    with pytest.raises(InvalidPredictions, match="has no column of ids: split, where"):
        read_ids(tmp_path / "ids.csv")


# Memory.


@pytest.mark.slow
def test_a_large_gallery_is_never_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score, "_COPIED", 1 << 20)
    count, width = 60_000, 512
    rows = np.random.default_rng(0).standard_normal((count, width)).astype(np.float16)
    np.save(tmp_path / "g.npy", rows)
    protocol = small_protocol(images=count)
    assert protocol.gallery is not None
    ids = list(protocol.gallery.ids)
    queries = side(rows[:3].astype(np.float32), QUERIES)
    _, straight = rank_features(queries, side(rows, ids), protocol)
    for order in (slice(None), slice(None, None, -1)):
        np.save(tmp_path / "g.npy", rows[order])
        gallery = Features(tmp_path / "g.npy", ids[order], ids_name="ids")
        tracemalloc.start()
        _, ranking = rank_features(queries, gallery, protocol)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert np.array_equal(ranking.top_QK, straight.top_QK)
        assert peak < rows.nbytes, f"{peak:,} bytes beside {rows.nbytes:,} of features"
