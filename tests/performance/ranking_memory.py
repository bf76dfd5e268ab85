"""Print the peak memory of one ranking: over the features in MB, and of the whole process.

``python -m tests.performance.ranking_memory NAME`` ranks features in memory, ``... stream FOLDER`` writes 300,000 rows
of 768 float16 numbers to FOLDER and ranks them from there. The kernel's high-water mark is reset just before the
ranking, so the size of the features themselves and of start-up is known and taken off.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import click
import numpy as np

from cirbench.ranking import RankingTask, UnitRows, rank
from cirbench.support.arrays import Ragged
from tests.performance.ranking_cases import sized
from tests.ranking.cases import FileRows


def megabytes(field: str) -> float:
    """Read a field of the process's memory status."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field)]
    return int(line.split()[1]) / 1024


def written(folder: Path, parts: int = 30, rows: int = 10_000, dimension: int = 768) -> FileRows:
    """Write a gallery of random features, a part at a time."""
    generator = np.random.default_rng(0)
    with (folder / "rows").open("wb") as file:
        for _ in range(parts):
            generator.standard_normal((rows, dimension), dtype=np.float32).astype(np.float16).tofile(file)
    return FileRows(folder / "rows", (parts * rows, dimension), np.float16)


def main(name: str, folder: str = "") -> None:
    """Rank once and print both figures."""
    if name == "stream":
        rows = written(Path(folder))
        generator = np.random.default_rng(1)
        queries_QD = generator.standard_normal((1000, rows.shape[1]), dtype=np.float32)
        items = rows.shape[0]
        relevant = Ragged.of([[at] for at in generator.integers(0, items, 1000)], np.int64)
        task = RankingTask(items, generator.permutation(items), 50, relevant, np.full(1000, -1))
        gallery: UnitRows | np.ndarray = UnitRows(rows, [str(at) for at in range(items)])
    else:
        problem = sized(name)
        queries_QD, gallery, task = problem.queries_QD, problem.gallery_ND, problem.task
        del problem
    np.matmul(queries_QD[:64], queries_QD[:64].T)  # the library's own buffers are not part of the ranking
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = megabytes("VmRSS")
    rank(queries_QD, gallery, task)
    assert "torch" not in sys.modules
    click.echo(f"{megabytes('VmHWM') - before:.1f} {megabytes('VmHWM'):.1f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
