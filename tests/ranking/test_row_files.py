"""A gallery in a file ranks as one in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from cirbench.ranking import UnitRows, rank, unit_rows
from tests.ranking.cases import FileRows, random_case
from tests.ranking.test_rank import equal

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_a_gallery_in_a_file_ranks_as_one_in_memory(tmp_path: Path, kind: type[np.floating], pooled: bool) -> None:
    case = random_case(np.random.default_rng(0), 30, 2500, 16, "fine", pooled)
    rows_ND, names = case.gallery_ND.astype(kind), [f"item {number}" for number in range(2500)]
    rows_ND.tofile(tmp_path / "rows")
    streamed = UnitRows(FileRows(tmp_path / "rows", (2500, 16), kind), names)
    assert equal(
        rank(case.queries_QD, streamed, case.task), rank(case.queries_QD, unit_rows(rows_ND, names), case.task)
    )
