"""Triplets that are held out of a training: cut by group or reference, never by row, and a protocol of their own.

The published codes of supervised methods choose their weights on the split that they report. With ``held_out=0.1`` and
``--monitor held-out`` weights are chosen on training data that was not trained on, and the split stays unseen.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING

from cirbench.errors import UsageError
from cirbench.metrics.table import Measure
from cirbench.protocol import EvaluationProtocol, Gallery, Item, Labels, Query, Triplet
from cirbench.support.files import digest
from cirbench.training.data.source import Lazy, Sample, Source
from cirbench.training.interface import TripletTraining

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cirbench.training.interface import TrainingParameters

HELD_OUT = "held-out"
"""The id of the protocol."""
MEASURES = tuple(Measure("Recall", k) for k in (10, 1, 5, 50))


@dataclasses.dataclass(frozen=True)
class Part(Lazy):
    """Some samples of others."""

    samples: Sequence[Sample]
    places: Sequence[int]

    def __len__(self) -> int:
        return len(self.places)

    def at(self, place: int) -> Sample:
        """Take one of them."""
        return self.samples[self.places[place]]


@dataclasses.dataclass(frozen=True)
class Division:
    """What is trained on, and what is held out of it.

    Attributes:
        trained: The source that is trained on.
        held_out: The protocol of what is held out; ``None`` where nothing is.
    """

    trained: Source
    held_out: EvaluationProtocol | None


def divide(source: Source, parameters: TrainingParameters) -> Division:
    """Hold out the share of the triplets that the parameters ask for.

    Whole groups are held out, or all triplets of a reference where there are no groups: those whose name has a sha256
    below the share. So the cut depends neither on the seed nor on the order.

    Raises:
        UsageError: Nothing or everything would be held out.
    """
    share = parameters.held_out if isinstance(parameters, TripletTraining) else 0.0
    if not share:
        return Division(source, None)
    kept: list[int] = []
    held: list[tuple[int, Triplet]] = []
    for place, triplet in enumerate(source.samples):
        if not isinstance(triplet, Triplet):  # the method refuses it, and says why
            return Division(source, None)
        if _fraction(_unit(triplet)) >= share:
            kept.append(place)
        elif place not in source.unusable:
            held.append((place, triplet))
    if not kept or not held:
        counts = f"{len(kept)} triplets of {source.name} to train on, and {len(held)} to evaluate on"
        raise UsageError(f"held_out={share:g} leaves {counts}.", hint="Choose another share.")
    trained = Source(
        source.name,
        Part(source.samples, kept),
        digest([source.digest, "without", share]),
        unusable={new: source.unusable[old] for new, old in enumerate(kept) if old in source.unusable},
    )
    return Division(trained, _protocol(source, share, held))


def _unit(triplet: Triplet) -> str:
    return triplet.reference.id if triplet.group is None else f"group {triplet.group}"


def _fraction(name: str) -> float:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64


def _protocol(source: Source, share: float, held: Sequence[tuple[int, Triplet]]) -> EvaluationProtocol:
    """Queries of held-out triplets, against all of their images."""
    items: dict[str, Item] = {}
    for _, triplet in held:
        items.update((item.id, item) for item in (triplet.reference, triplet.target, *triplet.negatives))
    return EvaluationProtocol(
        id=HELD_OUT,
        version=1,
        title=f"{share:.0%} of {source.name}, held out of the training",
        queries=tuple(
            Query(str(place + 1), triplet.reference, tuple(triplet.captions), triplet.category)
            for place, triplet in held
        ),
        gallery=Gallery(tuple(items), [item.image for item in items.values()]),
        labels=Labels(tuple((triplet.target.id,) for _, triplet in held)),
        measures=MEASURES,
        exclude_reference=True,
        clusters=tuple(_unit(triplet) for _, triplet in held),
        captions="as annotated; the method joins several",
        data_digests={"triplets": source.digest},
    )
