"""Whatever a file holds, it is read or refused by name; nothing else ever happens."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from cirbench.errors import InvalidPredictions, MissingData, UnknownName
from cirbench.runs.predictions.features import open_rows, read_ids
from cirbench.runs.predictions.lists import read_rankings
from cirbench.runs.predictions.rules import check
from tests.runs.predictions.protocols import small_protocol

WHOLE = (
    b'{"0": [101, 102, 103, 104, 105], "1": ["101", 102, 103, 104, 105], "2": [101, 102, 103, 104, 105]}',
    b'{"query_id": "0", "ranking": [101, 102, 103, 104, 105]}\n{"query_id": 1, "ranking": [101, 102]}\n',
    b"0 Q0 101 1 0.5 me\n0 Q0 102 2 0.25 me\n1 Q0 103 1 1e3 me\n",
    b"0\n1\n2\n",
    b'["0", 1, 2]',
)


@st.composite
def damaged(draw: st.DrawFn, whole: tuple[bytes, ...]) -> bytes:
    """One of ``whole`` with a few bytes replaced, cut out or put in."""
    content = draw(st.sampled_from(whole))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content)))
        stop = draw(st.integers(start, min(len(content), start + 4)))
        content = content[:start] + draw(st.binary(max_size=4)) + content[stop:]
    return content


@pytest.mark.slow
@settings(max_examples=300)
@given(st.binary(max_size=60) | damaged(WHOLE), st.sampled_from(["", ".json", ".jsonl", ".trec"]))
def test_damaged_text_is_read_or_refused(content: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file{suffix}"
        path.write_bytes(content)
        with contextlib.suppress(InvalidPredictions):
            check(read_rankings(path), small_protocol())
        with contextlib.suppress(InvalidPredictions):
            assert len(read_ids(path)) > 0


def saved(array: np.typing.NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.slow
@settings(max_examples=300)
@given(damaged((saved(np.ones((3, 4), np.float32)), saved(np.ones((1, 1), np.float32)))))
def test_damaged_arrays_are_read_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        path.write_bytes(content)
        with contextlib.suppress(InvalidPredictions, MissingData):
            assert len(open_rows(path).rows_ND.shape) == 2


def several_arrays(suffix: str) -> bytes:
    """A file with features of both sides and their ids."""
    arrays: dict[str, Any] = {
        "queries": np.ones((3, 4), np.float32),
        "gallery": np.ones((5, 4), np.float16),
        "gallery_ids": np.arange(5),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"f{suffix}"
        if suffix == ".npz":
            np.savez(path, **arrays)
        elif suffix == ".safetensors":
            save_file(arrays, path)
        else:
            torch.save({name: torch.tensor(array) for name, array in arrays.items()}, path)
        return path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pt"])
@settings(max_examples=100)
@given(data=st.data())
def test_damaged_files_of_several_arrays_are_read_or_refused(suffix: str, data: st.DataObject) -> None:
    content = data.draw(damaged((several_arrays(suffix),)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"f{suffix}"
        path.write_bytes(content)
        for name in ("", ":gallery"):
            with contextlib.suppress(InvalidPredictions, MissingData, UnknownName):
                stored = open_rows(f"{path}{name}")
                assert len(np.asarray(stored.rows_ND[:]).shape) == 2
                assert stored.ids is None or len(stored.ids) == stored.rows_ND.shape[0]


@pytest.mark.slow
@settings(max_examples=300)
@given(
    damaged((b"query,item,rank\n0,101,1\n0,102,2\n1,103,1\n", b'qid\tdocno\tscore\n0\t"101"\t0.5\n1\t102\t1e3\n')),
    st.sampled_from(["", ".csv", ".tsv", ".txt"]),
)
def test_damaged_tables_are_read_or_refused(content: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file{suffix}"
        path.write_bytes(content)
        with contextlib.suppress(InvalidPredictions):
            check(read_rankings(path), small_protocol())
        with contextlib.suppress(InvalidPredictions):
            assert len(read_ids(path)) > 0
