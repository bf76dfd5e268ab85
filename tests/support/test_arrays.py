from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.lib import format as npy

from cirbench.errors import CorruptFile, MissingData
from cirbench.support.arrays import read_archive, to_archive

if TYPE_CHECKING:
    from pathlib import Path


def stored(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def header(shape: tuple[int, ...], descr: str) -> bytes:
    buffer = io.BytesIO()
    npy.write_array_header_1_0(buffer, {"shape": shape, "fortran_order": False, "descr": descr})
    return buffer.getvalue()


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    arrays = {"ranks": np.arange(5), "names": np.array(["a", "é"]), "one": np.array("x"), "none": np.zeros((0, 3))}
    (tmp_path / "a.npz").write_bytes(to_archive(arrays))
    found = read_archive(tmp_path / "a.npz")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


def test_equal_arrays_make_equal_bytes() -> None:
    assert to_archive({"a": np.arange(9)}) == to_archive({"a": np.arange(9)})


def test_an_archive_that_unpacks_to_more_than_the_limit_is_not_unpacked(tmp_path: Path) -> None:
    bomb = stored(tmp_path / "bomb.npz", {"a.npy": header((10_000_000,), "|u1") + bytes(10_000_000)})
    assert bomb.stat().st_size < 20_000
    with pytest.raises(CorruptFile, match="unpacks to more than 1,000,000 bytes"):
        read_archive(bomb, limit=1_000_000)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (header((1 << 50,), "<f8") + bytes(64), "not as large as its header says"),
        (header((4,), "<f8") + bytes(64), "not as large as its header says"),
        (header((-1,), "<f8"), "not a plain array"),
        (header((1,), "|O") + b"cos\nsystem\n", "not a plain array"),
        (b"not an array", "damaged"),
        (b"", "damaged"),
    ],
)
def test_a_member_that_is_not_what_it_claims_is_refused(content: bytes, told: str, tmp_path: Path) -> None:
    with pytest.raises(CorruptFile, match=told):
        read_archive(stored(tmp_path / "a.npz", {"a.npy": content}))


def test_a_broken_archive_is_refused(tmp_path: Path) -> None:
    whole = to_archive({"a": np.arange(1000)})
    for content in (whole[:-30], whole[:100] + b"XXXX" + whole[104:], b"PK"):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(CorruptFile, match="damaged"):
            read_archive(tmp_path / "a.npz")


def test_an_archive_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="No such file"):
        read_archive(tmp_path / "none.npz")
