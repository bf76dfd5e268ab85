"""Small protocols shaped like the benchmarks: what is excluded, grouped and pooled is theirs, the items are not."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from cirbench.metrics.table import Measure
from cirbench.protocol import EvaluationProtocol, Gallery, Item, Labels, Query

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image


@dataclasses.dataclass(frozen=True)
class NoImage:
    """An image that nobody opens."""

    name: str

    @property
    def content(self) -> str:
        return self.name

    def open(self) -> Image.Image:
        raise AssertionError("ranking must not open images")

    def __str__(self) -> str:
        return self.name


def circo_like(queries: int = 120, items: int = 700, seed: int = 0) -> EvaluationProtocol:
    """Several ground truths, the reference in the gallery and kept, aspects."""
    generator = np.random.default_rng(seed)
    names = [str(4 * number + 7) for number in range(items)]
    truths, references, aspects = [], [], []
    for _ in range(queries):
        chosen = [names[at] for at in generator.choice(items, int(generator.integers(2, 9)), replace=False)]
        references.append(chosen[0])
        truths.append(tuple(chosen[1:]))
        aspects.append(tuple(sorted(generator.choice(["addition", "cardinality", "negation"], 2, replace=False))))
    measures = [Measure("mAP", k) for k in (5, 10, 25, 50)] + [Measure("Recall", k) for k in (5, 50)]
    return _protocol(
        "circo-like",
        references,
        names,
        truths,
        measures=(*measures, Measure("mAP", 10, by="aspect")),
        slices={"aspect": tuple(aspects)},
    )


def cirr_like(queries: int = 600, items: int = 300, seed: int = 1) -> EvaluationProtocol:
    """One target, the reference excluded, groups of six."""
    generator = np.random.default_rng(seed)
    names = [f"dev-{number}" for number in range(items)]
    groups = [tuple(names[at] for at in generator.choice(items, 6, replace=False)) for _ in range(queries)]
    measures = [Measure("Recall", k) for k in (1, 5, 10, 50)] + [Measure("Recall_subset", k) for k in (1, 2, 3)]
    return _protocol(
        "cirr-like",
        [group[0] for group in groups],
        names,
        [(group[1],) for group in groups],
        measures=tuple(measures),
        exclude_reference=True,
        groups=tuple(groups),
    )


def fashioniq_like(seed: int = 2) -> EvaluationProtocol:
    """Three categories with galleries of their own, one target, the reference kept, a macro mean."""
    generator = np.random.default_rng(seed)
    pools, references, truths, categories = [], [], [], []
    for category, items, queries in (("dress", 90, 40), ("shirt", 150, 70), ("toptee", 120, 50)):
        pool = [f"{category}{number}" for number in range(items)]
        pools.append(tuple(pool))
        for _ in range(queries):
            reference, target = generator.choice(items, 2, replace=False)
            references.append(pool[reference])
            truths.append((pool[target],))
            categories.append(category)
    kinds = ["dress", "shirt", "toptee"]
    return _protocol(
        "fashioniq-like",
        references,
        [name for pool in pools for name in pool],
        truths,
        measures=tuple(Measure("Recall", k, by="category", macro=True) for k in (10, 50)),
        pools=tuple(pools),
        pool_of_query=tuple(kinds.index(category) for category in categories),
        slices={"category": tuple((category,) for category in categories)},
    )


def genecis_like(queries: int = 2000, items: int = 1500, seed: int = 3) -> EvaluationProtocol:
    """Fifteen candidates for each query, the target listed first, the reference not among them."""
    generator = np.random.default_rng(seed)
    names = [f"coco{number}" for number in range(items)]
    drawn = [generator.choice(items, 16, replace=False) for _ in range(queries)]
    return _protocol(
        "genecis-like",
        [names[row[0]] for row in drawn],
        names,
        [(names[row[1]],) for row in drawn],
        measures=tuple(Measure("Recall", k) for k in (1, 2, 3)),
        pools=tuple(tuple(names[at] for at in row[1:]) for row in drawn),
        pool_of_query=tuple(range(queries)),
    )


def _protocol(
    name: str,
    references: Sequence[str],
    gallery: Sequence[str],
    truths: Sequence[tuple[str, ...]],
    measures: tuple[Measure, ...],
    exclude_reference: bool = False,
    groups: tuple[tuple[str, ...], ...] | None = None,
    pools: tuple[tuple[str, ...], ...] | None = None,
    pool_of_query: tuple[int, ...] | None = None,
    slices: dict[str, tuple[tuple[str, ...], ...]] | None = None,
) -> EvaluationProtocol:
    queries = [
        Query(str(number), Item(reference, NoImage(reference)), ("is red",))
        for number, reference in enumerate(references)
    ]
    return EvaluationProtocol(
        id=f"toy/{name}",
        version=1,
        title=f"A small protocol like {name.removesuffix('-like')}",
        queries=tuple(queries),
        gallery=Gallery(tuple(gallery)),
        labels=Labels(tuple(truths)),
        measures=measures,
        exclude_reference=exclude_reference,
        groups=groups,
        pools=pools,
        pool_of_query=pool_of_query,
        slices=slices or {},
    )
