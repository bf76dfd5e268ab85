"""Small ranking problems and the plainest way to solve them."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st

from cirbench.ranking import UNRANKED, RankingTask
from cirbench.support.arrays import Ragged

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class Case:
    """A ranking problem."""

    queries_QD: NDArray[np.float32]
    gallery_ND: NDArray[np.float32]
    task: RankingTask


class FileRows:
    """Rows in a file of nothing else, read when they are asked for, so that they never count as memory of the process.

    Args:
        path: The file.
        shape: (N, D).
        dtype: Of its numbers.
    """

    def __init__(self, path: Path, shape: tuple[int, int], dtype: type[np.floating[Any]]) -> None:
        self._path = path
        self._type = np.dtype(dtype)
        self.shape = shape

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[np.floating[Any]]:
        """Read the rows of a slice, or of an array of positions one by one."""
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(self.shape[0])
            return self._read(start, stop)
        return np.concatenate([np.empty((0, self.shape[1]), self._type), *(self._read(row, row + 1) for row in rows)])

    def _read(self, start: int, stop: int) -> NDArray[np.floating[Any]]:
        width, size = self.shape[1], self._type.itemsize
        rows = np.fromfile(self._path, self._type, count=(stop - start) * width, offset=int(start) * width * size)
        return rows.reshape(stop - start, width)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw problems with ties, near ties, exclusions, groups and sometimes pools."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    queries, items = draw(st.integers(1, 12)), draw(st.integers(6, 40))
    return random_case(
        generator,
        queries,
        items,
        dimension=draw(st.integers(1, 5)),
        kind=draw(st.sampled_from(["coarse", "fine", "near"])),
        pooled=draw(st.booleans()),
    )


def random_case(
    generator: np.random.Generator, queries: int, items: int, dimension: int, kind: str, pooled: bool = False
) -> Case:
    """Make a problem: ``coarse`` features tie often, ``near`` ones differ in the last bits only."""
    if kind == "coarse":
        queries_QD = generator.integers(-2, 3, (queries, dimension)).astype(np.float32)
        gallery_ND = generator.integers(-2, 3, (items, dimension)).astype(np.float32)
    else:
        queries_QD = generator.standard_normal((queries, dimension)).astype(np.float32)
        gallery_ND = generator.standard_normal((items, dimension)).astype(np.float32)
    if kind == "near":
        steps = generator.integers(-2, 3, gallery_ND.shape) * np.float32(2**-23)
        gallery_ND = (gallery_ND[generator.integers(0, 3, items)] * (1 + steps)).astype(np.float32)
    pools = pool_of_query_Q = None
    if pooled:
        sizes = generator.integers(1, items + 1, 3)
        pools = tuple(np.sort(generator.choice(items, size, replace=False)) for size in sizes)
        pool_of_query_Q = generator.integers(0, 3, queries)
    wanted = [generator.choice(items, generator.integers(0, 5), replace=False).tolist() for _ in range(queries)]
    groups = [generator.choice(items, 5, replace=False).tolist() for _ in range(queries)]
    task = RankingTask(
        gallery_size=items,
        tie_order_N=generator.permutation(items),
        depth=7,
        relevant=Ragged.of(wanted, np.int64),
        excluded_Q=generator.integers(-1, items, queries),
        groups=Ragged.of(groups, np.int64),
        pools=pools,
        pool_of_query_Q=pool_of_query_Q,
    )
    return Case(queries_QD, gallery_ND, task)


def exact_scores(query_D: NDArray[np.float32], gallery_ND: NDArray[np.float32]) -> list[Fraction]:
    """The exact dot products."""
    query = [Fraction(float(value)) for value in query_D]
    return [sum((Fraction(float(x)) * q for x, q in zip(item, query, strict=True)), Fraction(0)) for item in gallery_ND]


def nearest_float32(value: Fraction) -> np.float32:
    """Round to nearest, ties to the even last bit."""
    guess = np.float32(float(value))
    around = [np.nextafter(guess, np.float32(-np.inf)), guess, np.nextafter(guess, np.float32(np.inf))]
    return min(around, key=lambda number: (abs(Fraction(float(number)) - value), int(number.view(np.int32)) & 1))


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the plainest ranking says about one query."""

    order: list[int]
    scores: list[float]
    ranks: list[int]
    ties: list[int]
    group: list[int]
    group_rank: int


def plain_answer(case: Case, row: int) -> Answer:
    """Score every candidate exactly, sort all of them, and look everything up in the sorted list."""
    exact = exact_scores(case.queries_QD[row], case.gallery_ND)
    return plain_order(case.task, row, [float(nearest_float32(value)) for value in exact])


def plain_order(task: RankingTask, row: int, scores: list[float]) -> Answer:
    """Sort all candidates by given scores, and look everything up in the sorted list."""

    def place(item: int) -> tuple[float, int]:
        return -scores[item], int(task.tie_order_N[item])

    pool = list(range(task.gallery_size))
    if task.pools is not None and task.pool_of_query_Q is not None:
        pool = task.pools[task.pool_of_query_Q[row]].tolist()
    order = sorted((item for item in pool if item != task.excluded_Q[row]), key=place)
    wanted = task.relevant[row].tolist()
    assert task.groups is not None
    group = sorted(task.groups[row].tolist(), key=place)
    return Answer(
        order=order,
        scores=[scores[item] for item in order],
        ranks=[1 + order.index(item) if item in order else UNRANKED for item in wanted],
        ties=[sum(scores[other] == scores[item] for other in order) - 1 if item in order else 0 for item in wanted],
        group=group,
        group_rank=1 + group.index(wanted[0]) if wanted and wanted[0] in group else UNRANKED,
    )
