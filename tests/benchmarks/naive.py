"""The benchmarks evaluated a second time, as plainly as possible: from the published files, one query at a time.

Nothing of cirbench is used. A score is a dot product of unit rows rounded to float32; equal scores are ordered by the
sha256 of the id.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Features = dict[str, NDArray[np.float32]]


def unit(row: NDArray[np.float32]) -> NDArray[np.float64]:
    """Divide a row by its length, in float32."""
    return (row / np.float32(np.sqrt((row.astype(np.float64) ** 2).sum()))).astype(np.float32).astype(np.float64)


class Searcher:
    """Ranks ids for one query after the other."""

    def __init__(self, queries: Features, gallery: Features) -> None:
        self.queries = {name: unit(row) for name, row in queries.items()}
        self.gallery = {name: unit(row) for name, row in gallery.items()}
        self.place = {name: place for place, name in enumerate(gallery)}
        self.rows = np.array([self.gallery[name] for name in gallery])
        keys = {name: hashlib.sha256(name.encode()).hexdigest() for name in gallery}
        self.ties = np.empty(len(keys), dtype=np.int64)
        for nth, name in enumerate(sorted(keys, key=keys.__getitem__)):
            self.ties[self.place[name]] = nth
        self.names = np.array(list(gallery), dtype=object)

    def places(self, candidates: Iterable[str]) -> NDArray[np.int64]:
        return np.array([self.place[name] for name in dict.fromkeys(candidates)])

    def rank(self, query: str, at: NDArray[np.int64], without: str | None = None) -> list[str]:
        scores = (self.rows[at] * self.queries[query]).sum(axis=1).astype(np.float32)
        ranked = self.names[at[np.lexsort((self.ties[at], -scores))]]
        return [name for name in ranked if name != without]


def load(root: Path, name: str) -> Any:
    return json.loads((root / name).read_text())


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def fashioniq(root: Path, queries: Features, gallery: Features) -> dict[str, float]:
    search = Searcher(queries, gallery)
    found: dict[str, float] = {}
    for category in ("dress", "shirt", "toptee"):
        split = search.places(load(root, f"fashioniq/image_splits/split.{category}.val.json"))
        values: dict[int, list[float]] = {10: [], 50: []}
        for number, row in enumerate(load(root, f"fashioniq/captions/cap.{category}.val.json")):
            ranked = search.rank(f"{category}-{number}", split)
            for k, hits in values.items():
                hits.append(float(row["target"] in ranked[:k]))
        for k, hits in values.items():
            found[f"Recall@{k}[category={category}]"] = mean(hits)
    for k in (10, 50):
        parts = [value for label, value in found.items() if label.startswith(f"Recall@{k}[")]
        found[f"Recall@{k}[mean over category]"] = mean(parts)
    return found


def cirr(root: Path, queries: Features, gallery: Features) -> dict[str, float]:
    search = Searcher(queries, gallery)
    split = search.places(load(root, "cirr/image_splits/split.rc2.val.json"))
    values: dict[str, list[float]] = {}
    for row in load(root, "cirr/captions/cap.rc2.val.json"):
        ranked = search.rank(str(row["pairid"]), split, without=row["reference"])
        group = [name for name in ranked if name in row["img_set"]["members"]]
        for k in (1, 5, 10, 50):
            values.setdefault(f"Recall@{k}", []).append(float(row["target_hard"] in ranked[:k]))
        for k in (1, 2, 3):
            values.setdefault(f"Recall_subset@{k}", []).append(float(row["target_hard"] in group[:k]))
        for k in (1, 5, 10, 50):
            soft = max([row["target_soft"].get(name, 0.0) for name in ranked[:k]])
            values.setdefault(f"Recall_soft@{k}", []).append(max(0.0, soft))
    found = {label: mean(each) for label, each in values.items()}
    found["(R@5+Rs@1)/2"] = (found["Recall@5"] + found["Recall_subset@1"]) / 2
    return found


def cirr_soft_subset(root: Path, queries: Features, gallery: Features) -> dict[str, float]:
    """Rank the whole split, keep the group, and take the largest soft label among the first K, as CIRPLANT's code."""
    search = Searcher(queries, gallery)
    split = search.places(load(root, "cirr/image_splits/split.rc2.val.json"))
    values: dict[int, list[float]] = {1: [], 2: [], 3: []}
    for row in load(root, "cirr/captions/cap.rc2.val.json"):
        ranked = search.rank(str(row["pairid"]), split, without=row["reference"])
        group = [name for name in ranked if name in row["img_set"]["members"]]
        for k, each in values.items():
            each.append(max([0.0, *(gain for name, gain in row["target_soft"].items() if name in group[:k])]))
    return {f"Recall_soft@{k}": mean(each) for k, each in values.items()}


def average_precision(ranked: Sequence[str], truths: Iterable[str], k: int) -> float:
    """The mean precision at the ground truths among the first k, over as many as there could be."""
    truths, found = set(truths), 0.0
    for place, name in enumerate(ranked[:k], start=1):
        if name in truths:
            found += len(truths & set(ranked[:place])) / place
    return found / min(len(truths), k)


def ndcg(ranked: Sequence[str], gains: dict[str, float], k: int) -> float:
    """The discounted gain of the first k, over that of the largest gains in order."""
    best = sorted(gains.values(), reverse=True)[:k]
    found = sum(gains.get(name, 0.0) / math.log2(place + 1) for place, name in enumerate(ranked[:k], start=1))
    return found / sum(gain / math.log2(place + 1) for place, gain in enumerate(best, start=1))


def judged_targets(root: Path, dataset: str, part: str, *, united: bool) -> Iterator[tuple[int, str, dict[str, float]]]:
    """Yield the place, the annotated target and the gains of each query that has any, with the judge's as published."""
    path = "cirr/captions/cap.rc2.val.json" if dataset == "cirr" else f"fashioniq/captions/cap.{part}.val.json"
    rows = load(root, f"{dataset}/soft/{part}_multi_target_selection.json")
    judged = {(row["reference_image_name"], row["target_image_name"]): row["confidence_scores"] for row in rows}
    for number, row in enumerate(load(root, path)):
        reference, target = row.get("reference", row.get("candidate")), row.get("target_hard", row.get("target"))
        gains = {name: gain for name, gain in judged.get((reference, target), {}).items() if name != reference}
        if united:
            gains[target] = 1.0
        if gains:
            yield number, target, gains


def multi_target(root: Path, dataset: str, queries: Features, gallery: Features, *, united: bool) -> dict[str, float]:
    search = Searcher(queries, gallery)
    parts: dict[str, dict[str, list[float]]] = {}
    for part in ("cirr",) if dataset == "cirr" else ("dress", "shirt", "toptee"):
        if dataset == "cirr":
            rows = load(root, "cirr/captions/cap.rc2.val.json")
            split = search.places(load(root, "cirr/image_splits/split.rc2.val.json"))
            named = [(str(row["pairid"]), row["reference"]) for row in rows]
        else:
            split = search.places(load(root, f"fashioniq/image_splits/split.{part}.val.json"))
            named = [
                (f"{part}-{number}", None)
                for number in range(len(load(root, f"fashioniq/captions/cap.{part}.val.json")))
            ]
        values = parts.setdefault(part, {})
        for number, target, gains in judged_targets(root, dataset, part, united=united):
            ranked = search.rank(named[number][0], split, without=named[number][1])
            for k in (5, 10, 25, 50):
                values.setdefault(f"mAP@{k}", []).append(average_precision(ranked, gains, k))
            values.setdefault("nDCG@10", []).append(ndcg(ranked, gains, 10))
            for k in (1, 5, 10, 50):
                values.setdefault(f"Hit_rate@{k}", []).append(float(bool(gains.keys() & set(ranked[:k]))))
                values.setdefault(f"Recall@{k}", []).append(float(target in ranked[:k]))
    if dataset == "cirr":
        return {label: mean(each) for label, each in parts["cirr"].items()}
    labels = parts["dress"]
    found = {f"{label}[category={part}]": mean(each) for part, row in parts.items() for label, each in row.items()}
    means = {label: mean([mean(row[label]) for row in parts.values()]) for label in labels}
    return found | {f"{label}[mean over category]": value for label, value in means.items()}


def circo(root: Path, queries: Features, gallery: Features, *, drop_reference: bool = False) -> dict[str, float]:
    search = Searcher(queries, gallery)
    values: dict[str, list[float]] = {}
    everything = search.places(gallery)
    for row in load(root, "circo/annotations/val.json"):
        reference = str(row["reference_img_id"]) if drop_reference else None
        ranked = search.rank(str(row["id"]), everything, without=reference)
        truths = {str(image) for image in row["gt_img_ids"]}
        for k in (5, 10, 25, 50):
            hits, total = 0, 0.0
            for place, name in enumerate(ranked[:k], start=1):
                if name in truths:
                    hits += 1
                    total += hits / place
            values.setdefault(f"mAP@{k}", []).append(total / min(len(truths), k))
            values.setdefault(f"Recall@{k}", []).append(float(str(row["target_img_id"]) in ranked[:k]))
        for aspect in row["semantic_aspects"]:
            values.setdefault(f"mAP@10[aspect={aspect}]", []).append(values["mAP@10"][-1])
    return {label: mean(each) for label, each in values.items()}


def genecis(root: Path, task: str, queries: Features, gallery: Features) -> dict[str, float]:
    search = Searcher(queries, gallery)
    values: dict[str, list[float]] = {}
    for number, row in enumerate(load(root, f"genecis/{task.replace('-', '_')}.json")):
        candidates = [genecis_id(each) for each in (row["target"], *row["gallery"])]
        ranked = search.rank(f"{task}-{number}", search.places(candidates))
        for k in (1, 2, 3):
            values.setdefault(f"Recall@{k}", []).append(float(candidates[0] in ranked[:k]))
    return {label: mean(each) for label, each in values.items()}


def genecis_id(shown: dict[str, Any]) -> str:
    if "val_image_id" in shown:
        return str(shown["val_image_id"])
    return f"{shown['image_id']}:" + ",".join(f"{side:g}" for side in shown["instance_bbox"])


def imagenet_r(root: Path, queries: Features, gallery: Features) -> dict[str, float]:
    search = Searcher(queries, gallery)
    targets = [line.split() for line in (root / "imagenet-r/imgnet_targets.txt").read_text().splitlines()]
    everything = search.places(name for name, _ in targets)
    values: dict[str, list[float]] = {}
    for line in (root / "imagenet-r/imgnet_real_query.txt").read_text().splitlines():
        path, label = line.split()
        for place, domain in enumerate(("cartoon", "origami", "toy", "sculpture")):
            relevant = {name for name, each in targets if int(each) == 1000 * place + int(label)}
            ranked = search.rank(f"{domain}/{path.split('/')[-1].split('.')[0]}", everything)
            for k in (10, 50):
                hits = len(relevant & set(ranked[:k]))
                share = hits / len(relevant) if relevant else 0.0
                values.setdefault(f"Recall_fractional@{k}[domain={domain}]", []).append(share)
                values.setdefault(f"Hit_rate@{k}[domain={domain}]", []).append(float(hits > 0))
    found = {label: mean(each) for label, each in values.items()}
    for metric in ("Recall_fractional", "Hit_rate"):
        for k in (10, 50):
            parts = [value for label, value in found.items() if label.startswith(f"{metric}@{k}[")]
            found[f"{metric}@{k}[mean over domain]"] = mean(parts)
    return found
