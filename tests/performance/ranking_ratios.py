"""Print how long a ranking takes beside other ways to do it, as a table for docs/performance.md.

``OMP_NUM_THREADS=1 python -m tests.performance.ranking_ratios [NAME ...]``. CPU seconds, the least of three rounds
interleaved in one process; a column is empty where the way does not apply or is not installed.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import time
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import torch

from cirbench.ranking import rank
from tests.performance import public_pattern
from tests.performance.ranking_cases import sized

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tests.performance.ranking_cases import Sized

NAMES = ("fashioniq-dress", "cirr", "1k of 10k", "220 of 30k", "clustered", "circo")
WAYS = ("public code", "float32 product", "torch.topk", "faiss", "float64 loop", "cirbench")


def ways(problem: Sized, name: str) -> dict[str, Callable[[], object]]:
    """Return the ways to rank a problem."""
    queries_QD, gallery_ND = problem.queries_QD, problem.gallery_ND
    queries, gallery = torch.from_numpy(queries_QD), torch.from_numpy(gallery_ND)
    targets = [row[0] for row in problem.truths]
    found: dict[str, Callable[[], object]] = {
        "float32 product": lambda: [
            queries_QD @ gallery_ND[at : at + 4096].T for at in range(0, len(gallery_ND), 4096)
        ],
        "torch.topk": lambda: public_pattern.chunked_top_k(queries, gallery),
        "float64 loop": lambda: float64_loop(problem),
        "cirbench": lambda: rank(queries_QD, gallery_ND, problem.task),
    }
    if name.startswith("fashioniq"):
        found["public code"] = lambda: public_pattern.single_target_recalls(
            queries, gallery, problem.names, targets, (10, 50)
        )
    if name == "cirr":
        found["public code"] = lambda: public_pattern.recalls_with_groups(
            queries, gallery, problem.names, problem.references, targets, problem.groups
        )
    if name == "circo":
        found["public code"] = lambda: public_pattern.mean_average_precisions(
            queries[:100], gallery, problem.names, problem.truths[:100]
        )
    if importlib.util.find_spec("faiss") is not None:
        faiss: Any = importlib.import_module("faiss")
        faiss.omp_set_num_threads(1)
        found["faiss"] = lambda: faiss.knn(queries_QD, gallery_ND, problem.task.depth, faiss.METRIC_INNER_PRODUCT)
    return found


def float64_loop(problem: Sized) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rank by float64 products of all pairs, rounded once: the first K of each query, and the ranks of its truths.

    The shortest way there is, and right but for pairs beside a rounding boundary.
    """
    task, wide_ND = problem.task, problem.gallery_ND.astype(np.float64)
    top_QK = np.empty((len(problem.queries_QD), task.depth), dtype=np.int64)
    ranks = []
    for start in range(0, len(problem.queries_QD), 64):
        scores_TN = (problem.queries_QD[start : start + 64].astype(np.float64) @ wide_ND.T).astype(np.float32)
        for query, scores_N in enumerate(scores_TN, start):
            if task.excluded_Q[query] >= 0:
                scores_N[task.excluded_Q[query]] = -np.inf
            near = np.flatnonzero(scores_N >= np.partition(scores_N, -task.depth)[-task.depth])
            top_QK[query] = near[np.lexsort((task.tie_order_N[near], -scores_N[near]))][: task.depth]
            for item in task.relevant[query]:
                ties = np.flatnonzero(scores_N == scores_N[item])
                before = np.count_nonzero(scores_N > scores_N[item])
                ranks.append(1 + before + np.count_nonzero(task.tie_order_N[ties] < task.tie_order_N[item]))
    return top_QK, np.array(ranks)


def least_seconds(functions: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Run functions in turn, and give the least CPU seconds of each."""
    seconds = dict.fromkeys(functions, np.inf)
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.process_time()
            function()
            seconds[name] = min(seconds[name], time.process_time() - start)
    return seconds


def main(names: list[str]) -> None:
    """Print a line for each problem."""
    torch.set_num_threads(1)
    click.echo("| case | " + " | ".join(WAYS) + " | times public code |")
    click.echo("|---" * (len(WAYS) + 2) + "|")
    for name in names or NAMES:
        problem = sized(name)
        seconds = least_seconds(ways(problem, name), 3)
        if name == "circo" and "public code" in seconds:
            seconds["public code"] *= (
                8  # it takes one query at a time, so an eighth of them takes an eighth of the time
            )
        cells = [f"{seconds[way]:.3g}" if way in seconds else "" for way in WAYS]
        times = f"{seconds['public code'] / seconds['cirbench']:.1f}" if "public code" in seconds else ""
        size = " × ".join(f"{side:,}" for side in (*problem.queries_QD.shape[:1], *problem.gallery_ND.shape))
        click.echo(f"| {name}, {size} | " + " | ".join([*cells, times]) + " |")


if __name__ == "__main__":
    main(sys.argv[1:])
