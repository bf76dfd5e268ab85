"""The way in which public evaluation code ranks, written down as the thing to compare speed and memory with.

What costs there, and is kept here: the whole distance matrix at once, a full argsort of each of its rows, names as
string arrays as large as the matrix that are compared with repeated target names, and for CIRCO one query at a time
with the names turned into an array for each query.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

DEPTH = 50


def single_target_recalls(
    queries_QD: torch.Tensor, gallery_ND: torch.Tensor, names: Sequence[str], targets: Sequence[str], ks: Sequence[int]
) -> dict[str, float]:
    """FashionIQ: one target per query, the whole gallery sorted."""
    distances_QN = 1 - queries_QD @ torch.nn.functional.normalize(gallery_ND, dim=-1).T
    order_QN = torch.argsort(distances_QN, dim=-1)
    sorted_names_QN = np.array(names)[order_QN.numpy()]
    hits_QN = torch.tensor(sorted_names_QN == np.repeat(np.array(targets), len(names)).reshape(len(targets), -1))
    return {f"Recall@{k}": float(hits_QN[:, :k].sum() / len(hits_QN)) for k in ks}


def recalls_with_groups(
    queries_QD: torch.Tensor,
    gallery_ND: torch.Tensor,
    names: Sequence[str],
    references: Sequence[str],
    targets: Sequence[str],
    groups: Sequence[Sequence[str]],
) -> dict[str, float]:
    """CIRR: the whole gallery sorted, the reference taken out, and the order within each group read off."""
    distances_QN = 1 - queries_QD @ torch.nn.functional.normalize(gallery_ND, dim=-1).T
    sorted_names_QN = np.array(names)[torch.argsort(distances_QN, dim=-1).numpy()]
    kept_QN = sorted_names_QN != np.repeat(np.array(references), len(names)).reshape(len(references), -1)
    sorted_names_QN = sorted_names_QN[kept_QN].reshape(len(references), -1)
    hits_QN = torch.tensor(sorted_names_QN == np.repeat(np.array(targets), len(names) - 1).reshape(len(targets), -1))
    in_group_QN = (sorted_names_QN[..., None] == np.array(groups)[:, None, :]).sum(-1).astype(bool)
    group_hits_QG = hits_QN[torch.from_numpy(in_group_QN)].reshape(len(targets), -1)
    recalls = {f"Recall@{k}": float(hits_QN[:, :k].sum() / len(hits_QN)) for k in (1, 5, 10, 50)}
    return recalls | {f"Recall_subset@{k}": float(group_hits_QG[:, :k].sum() / len(hits_QN)) for k in (1, 2, 3)}


def mean_average_precisions(
    queries_QD: torch.Tensor, gallery_ND: torch.Tensor, names: Sequence[str], truths: Sequence[Sequence[str]]
) -> dict[str, float]:
    """CIRCO: one query at a time, the names made an array for each, hits found with `np.isin`."""
    gallery_ND = torch.nn.functional.normalize(gallery_ND.float())
    precisions: dict[str, list[float]] = {f"mAP@{k}": [] for k in (5, 10, 25, 50)}
    recalls: dict[str, list[float]] = {f"Recall@{k}": [] for k in (5, 10, 25, 50)}
    for query_D, relevant in zip(queries_QD, truths, strict=True):
        similarity_N = query_D @ gallery_ND.T
        best_K = torch.topk(similarity_N, dim=-1, k=DEPTH).indices
        sorted_names_K: NDArray[np.str_] = np.array(names)[best_K.numpy()]
        hits_K = torch.tensor(np.isin(sorted_names_K, relevant))
        precision_K = torch.cumsum(hits_K, dim=0) * hits_K / torch.arange(1, DEPTH + 1)
        target_K = torch.tensor(sorted_names_K == relevant[0])
        for k in (5, 10, 25, 50):
            precisions[f"mAP@{k}"].append(float(precision_K[:k].sum() / min(len(relevant), k)))
            recalls[f"Recall@{k}"].append(float(target_K[:k].sum()))
    return {label: float(np.mean(values)) for label, values in (precisions | recalls).items()}


def chunked_top_k(queries_QD: torch.Tensor, gallery_ND: torch.Tensor, chunk: int = 16_384) -> torch.Tensor:
    """A search by hand: `torch.topk` of each chunk of float32 scores and of what the chunks left; no ranks."""
    best_QK = torch.empty((len(queries_QD), 0))
    items_QK = torch.empty((len(queries_QD), 0), dtype=torch.int64)
    for start in range(0, len(gallery_ND), chunk):
        scores_QC = queries_QD @ gallery_ND[start : start + chunk].T
        scores_QK, columns_QK = torch.topk(scores_QC, min(DEPTH, scores_QC.shape[1]), dim=-1)
        best_QK, items_QK = torch.cat([best_QK, scores_QK], 1), torch.cat([items_QK, columns_QK + start], 1)
        best_QK, kept_QK = torch.topk(best_QK, min(DEPTH, best_QK.shape[1]), dim=-1)
        items_QK = torch.gather(items_QK, 1, kept_QK)
    return items_QK
