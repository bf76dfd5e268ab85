"""What a training takes of triplets: which are held out of it, and what is drawn of each of the others in a step.

The published codes of supervised methods choose their weights on the split that they report. With ``held_out=0.1`` and
``--monitor held-out`` weights are chosen on training data that was not trained on, and the split stays unseen.

Everything is drawn from the seed of the training, the step and the place in its whole batch. So it is the same on one
process and on many, with any number of workers, and where a training is resumed. Importing this takes no torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from typing import TYPE_CHECKING

from PIL import Image

from cirbench.errors import MissingData, UsageError
from cirbench.metrics.table import Measure
from cirbench.protocol import EvaluationProtocol, Gallery, Item, Labels, Query, Triplet
from cirbench.support.files import digest
from cirbench.training.data.source import Lazy, Sample, Source
from cirbench.training.interface import HELD_OUT, TripletTraining

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from cirbench.protocol import ImageSource
    from cirbench.training.interface import (
        Augmentation,
        CaptionForm,
        CaptionPolicy,
        TrainingParameters,
        TripletImageTraining,
    )

_MEASURES = tuple(Measure("Recall", k) for k in (10, 1, 5, 50))

_ENDS = ".?, "
"""What CLIP4Cir takes off both ends of each of FashionIQ's two captions."""

_RATIO = 4 / 3
_ATTEMPTS = 10


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
        _Some(source.samples, kept),
        digest([source.digest, "without", share]),
        unusable={new: source.unusable[old] for new, old in enumerate(kept) if old in source.unusable},
    )
    return Division(trained, _held_out_protocol(source, share, held))


@dataclasses.dataclass(frozen=True)
class _Some(Lazy):
    """Some samples of others."""

    samples: Sequence[Sample]
    places: Sequence[int]

    def __len__(self) -> int:
        return len(self.places)

    def at(self, place: int) -> Sample:
        """Take one of them."""
        return self.samples[self.places[place]]


def _unit(triplet: Triplet) -> str:
    return triplet.reference.id if triplet.group is None else f"group {triplet.group}"


def _fraction(name: str) -> float:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64


def _held_out_protocol(source: Source, share: float, held: Sequence[tuple[int, Triplet]]) -> EvaluationProtocol:
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
        measures=_MEASURES,
        exclude_reference=True,
        clusters=tuple(_unit(triplet) for _, triplet in held),
        captions="as annotated; the method joins several",
        data_digests={"triplets": source.digest},
    )


def caption_variants(captions: Sequence[str], policy: CaptionPolicy, form: CaptionForm = "annotated") -> list[str]:
    """Every text that a policy makes of a triplet's captions, each as often as its share of the draws says.

    Empty captions are left out first, so that no text begins or ends with "and", and none is empty.

    Args:
        captions: As annotated.
        policy: ``joined``: all by " and ", in order. ``shuffled``: the same in any order. ``one``: one of them alone.
            ``four-ways``: joined in order, joined in reverse, or one alone, with the shares 1/4, 1/4 and 1/2.
        form: ``sentence`` takes . ? , and blanks off both ends of each of several captions and writes the first one
            with a capital letter and the rest of it small (CLIP4Cir on FashionIQ). A single caption stays as it is.

    Raises:
        MissingData: All of them are empty.
    """
    clean, parts = _parts(captions, form)
    if not parts:
        raise MissingData("all its captions are empty.")
    return [_joined(order, clean) for order in _orders(parts, policy)]


def composed_text(captions: Sequence[str], form: CaptionForm = "annotated") -> str:
    """The text of a query: what `caption_variants` makes of its captions in order, or nothing where all are empty."""
    clean, parts = _parts(captions, form)
    return _joined(parts, clean) if parts else ""


def _parts(captions: Sequence[str], form: CaptionForm) -> tuple[bool, list[str]]:
    clean = form == "sentence" and len(captions) > 1
    return clean, [caption.strip(_ENDS) if clean else caption for caption in captions if caption.strip(_ENDS)]


def _joined(parts: Sequence[str], clean: bool) -> str:
    return " and ".join([parts[0].capitalize(), *parts[1:]] if clean else parts)


def _orders(parts: Sequence[str], policy: CaptionPolicy) -> list[Sequence[str]]:
    alone = [[part] for part in parts]
    if policy == "one" or len(parts) == 1:
        return [*alone]
    if policy == "joined":
        return [parts]
    if policy == "shuffled":
        return [*itertools.permutations(parts)]
    return [parts, parts[::-1]] * len(parts) + [*alone, *alone]


def draw(triplet: Triplet, view: TripletTraining, generator: np.random.Generator) -> Triplet:
    """The triplet with one text, and with as many negatives as are looked at.

    Raises:
        MissingData: It has no text, or too few negatives.
    """
    texts = caption_variants(triplet.captions, view.captions, view.caption_form)
    text = texts[int(generator.random() * len(texts))]
    return dataclasses.replace(triplet, captions=(text,), negatives=_some_negatives(triplet, view.negatives, generator))


def _some_negatives(triplet: Triplet, count: int, generator: np.random.Generator) -> tuple[Item, ...]:
    if len(triplet.negatives) < count:
        raise MissingData(f"it has {len(triplet.negatives)} negatives, and {count} are to be looked at.")
    chosen = generator.permutation(len(triplet.negatives))[:count] if count else ()
    return tuple(triplet.negatives[int(place)] for place in chosen)


def open_images(drawn: Triplet, view: TripletImageTraining, generator: np.random.Generator) -> list[Image.Image]:
    """Decode reference, target and negatives, and augment the first two.

    Raises:
        MissingData: An image is absent or damaged.
    """
    reference = _augmented(drawn.reference.image, view.augment_reference, view.crop_scale, generator)
    target = _augmented(drawn.target.image, view.augment_target, view.crop_scale, generator)
    return [reference, target, *(item.image.open() for item in drawn.negatives)]


def _augmented(
    source: ImageSource, asked: tuple[Augmentation, ...], scale: float, generator: np.random.Generator
) -> Image.Image:
    image = source.open()
    if "crop" in asked:
        image = _crop(image, scale, generator)
    if "flip" in asked and generator.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image


def _crop(image: Image.Image, scale: float, generator: np.random.Generator) -> Image.Image:
    """A random part with at least ``scale`` of the area and a side ratio of 3:4 to 4:3 times that of the image.

    The whole image after ten draws that do not fit into it.
    """
    width, height = image.size
    for _ in range(_ATTEMPTS):
        area, ratio = generator.uniform(scale, 1.0), _RATIO ** generator.uniform(-1, 1)
        wide, high = round(width * (area * ratio) ** 0.5), round(height * (area / ratio) ** 0.5)
        if 0 < wide <= width and 0 < high <= height:
            left, top = (int(generator.integers(0, room + 1)) for room in (width - wide, height - high))
            return image.crop((left, top, left + wide, top + high))
    return image
