"""Training data counted, and looked through: what `cirbench data describe` and `check` say of them."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec

from cirbench.benchmarks.files.check import Spread, spread
from cirbench.errors import MissingData, UsageError
from cirbench.protocol import Triplet
from cirbench.support.console import silent

if TYPE_CHECKING:
    from cirbench.protocol import ImageSource
    from cirbench.support.console import Display
    from cirbench.training.data.source import Sample, Source


class TripletCensus(msgspec.Struct, frozen=True):
    """What triplets hold beside their images and captions.

    Attributes:
        references: How many different ones there are.
        targets: How many different ones there are.
        repeated_targets: Targets that several triplets ask for.
        empty_captions: Captions that are empty, also where another one of the triplet is not.
        groups: How many different ones there are.
        negatives: How many there are, over all triplets.
        unusable: Triplets that cannot be trained on, with the reason.
    """

    references: int
    targets: int
    repeated_targets: int
    empty_captions: int
    groups: int
    negatives: int
    unusable: list[str]


class Census(msgspec.Struct, frozen=True):
    """What training data hold.

    Attributes:
        source: Their name.
        samples: How many samples there are.
        images: How many different images they have.
        captions: How many have a caption that is not empty.
        words: Words per caption.
        repeated_captions: Captions that occur more than once.
        unreadable_captions: Samples whose caption cannot be read, with the reason.
        triplets: What triplets hold besides; ``None`` for other samples.
    """

    source: str
    samples: int
    images: int
    captions: int
    words: Spread | None
    repeated_captions: int
    unreadable_captions: list[str]
    triplets: TripletCensus | None = None


class ImageCheck(msgspec.Struct, frozen=True):
    """Which images of training data can be used.

    Attributes:
        source: The name of the data.
        images: How many different ones there are.
        broken: Those that are missing or cannot be decoded, with the reason.
        unusable: Triplets that cannot be trained on, with the reason.
    """

    source: str
    images: int
    broken: list[str]
    unusable: list[str] = []


def describe_source(source: Source) -> Census:
    """Count what training data hold; no image is opened."""
    captions: Counter[str] = Counter()
    unreadable: list[str] = []
    empty = 0
    for place, sample in enumerate(source.samples):
        try:
            texts = [*sample.captions] if isinstance(sample, Triplet) else [sample.caption or ""]
        except MissingData as error:
            unreadable.append(f"sample {place + 1}: {error.message}")
            continue
        said = [" ".join(text.split()) for text in texts]
        captions.update(filter(None, said))
        empty += said.count("")
    words = [len(caption.split()) for caption in captions.elements()]
    repeated = sum(count > 1 for count in captions.values())
    return Census(
        source.name,
        len(source.samples),
        len(_images(source)),
        captions.total(),
        spread(words),
        repeated,
        unreadable,
        _triplets(source, empty) if isinstance(source.samples[0], Triplet) else None,
    )


def _triplets(source: Source, empty_captions: int) -> TripletCensus:
    targets = Counter(triplet.target.id for triplet in source.triplets)
    return TripletCensus(
        references=len({triplet.reference.id for triplet in source.triplets}),
        targets=len(targets),
        repeated_targets=sum(count > 1 for count in targets.values()),
        empty_captions=empty_captions,
        groups=len({triplet.group for triplet in source.triplets} - {None}),
        negatives=sum(len(triplet.negatives) for triplet in source.triplets),
        unusable=[*source.unusable.values()],
    )


def check_source(source: Source, *, display: Display = silent) -> ImageCheck:
    """Decode every image of training data, each once.

    Raises:
        UsageError: They are texts alone.
    """
    images = _images(source)
    if not images:
        raise UsageError(f"{source.name} holds no images to check.")
    broken = []
    # Threads do: Pillow lets go of the interpreter while it decodes.
    with ThreadPoolExecutor(os.cpu_count()) as pool, display("Decoding images", len(images)) as advance:
        for problem in pool.map(_problem, images):
            if problem is not None:
                broken.append(problem)
            advance(1)
    return ImageCheck(source.name, len(images), broken, [*source.unusable.values()])


def _images(source: Source) -> list[ImageSource]:
    shown = (image for sample in source.samples for image in _images_of(sample))
    return list({str(image): image for image in shown if image is not None}.values())


def _images_of(sample: Sample) -> list[ImageSource | None]:
    if isinstance(sample, Triplet):
        return [item.image for item in (sample.reference, sample.target, *sample.negatives)]
    return [sample.image]


def _problem(image: ImageSource) -> str | None:
    try:
        image.open()
    except MissingData as error:
        return error.message
    return None
