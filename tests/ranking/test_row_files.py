"""A gallery in files ranks as one in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import save_file

from cirbench.errors import CorruptFile
from cirbench.ranking import RowFiles, UnitRows, rank, unit_rows
from tests.ranking.cases import random_case

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def written(folder: Path, rows_ND: NDArray[np.floating], sizes: list[int]) -> list[Path]:
    paths = []
    for number, part in enumerate(np.split(rows_ND, np.cumsum(sizes)[:-1])):
        paths.append(folder / f"{number}.safetensors")
        save_file({"content": np.zeros((len(part), 3), np.uint8), "features": np.ascontiguousarray(part)}, paths[-1])
    return paths


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_a_gallery_in_files_ranks_as_one_in_memory(tmp_path: Path, kind: type[np.floating]) -> None:
    case = random_case(np.random.default_rng(0), 30, 2500, 16, "fine", pooled=True)
    rows_ND, names = case.gallery_ND.astype(kind), [f"item {number}" for number in range(2500)]
    files = RowFiles(written(tmp_path, rows_ND, [1, 1023, 0, 1476]))
    assert files.shape == (2500, 16)
    streamed = rank(case.queries_QD, UnitRows(files, names), case.task)
    in_memory = rank(case.queries_QD, unit_rows(rows_ND, names), case.task)
    assert streamed.top_QK.tobytes() == in_memory.top_QK.tobytes()
    assert streamed.scores_QK.tobytes() == in_memory.scores_QK.tobytes()
    assert streamed.relevant_ranks.values.tobytes() == in_memory.relevant_ranks.values.tobytes()


def test_rows_are_found_across_files(tmp_path: Path) -> None:
    rows_ND = np.arange(40, dtype=np.float32).reshape(20, 2)
    files = RowFiles(written(tmp_path, rows_ND, [4, 7, 9]))
    for start, stop in ((0, 20), (3, 5), (2, 12), (11, 11), (18, 30)):
        assert files[start:stop].tolist() == rows_ND[start:stop].tolist()
    wanted = np.array([19, 0, 4, 3, 3, 12])
    assert files[wanted].tolist() == rows_ND[wanted].tolist()
    assert files[wanted[:0]].shape == (0, 2)


def test_a_file_that_is_cut_short_is_refused_by_name(tmp_path: Path) -> None:
    [path] = written(tmp_path, np.ones((100, 4), np.float32), [100])
    path.write_bytes(path.read_bytes()[:-400])  # 300 bytes of content and a hundred of features
    with pytest.raises(CorruptFile, match=r"0\.safetensors ends before its rows 50 to 100"):
        RowFiles([path])[50:100]


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"\x02\0\0\0\0\0\0\0{}", b"\x02\0\0\0\0\0\0\0[]"])
def test_a_file_of_another_kind_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(content)
    with pytest.raises(CorruptFile, match=r"other\.safetensors is not a safetensors file with rows of features"):
        RowFiles([path])


def test_files_with_rows_of_different_lengths_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    paths = written(tmp_path, np.ones((2, 4)), [2]) + written(tmp_path / "a", np.ones((2, 5), np.float32), [2])
    paths[0].unlink()
    save_file({"features": np.ones((2, 4), np.float32)}, paths[0])
    with pytest.raises(CorruptFile, match="do not have rows of one length"):
        RowFiles(paths)
