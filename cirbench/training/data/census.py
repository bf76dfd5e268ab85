"""Training data counted, and looked through: what `cirbench data describe` and `check` say of them."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec

from cirbench.benchmarks.files.describe import Spread, spread
from cirbench.errors import MissingData, UsageError
from cirbench.protocol import Triplet
from cirbench.support.console import silent

if TYPE_CHECKING:
    from cirbench.protocol import ImageSource
    from cirbench.support.console import Display
    from cirbench.training.data.source import Pair, Source


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
    """

    source: str
    samples: int
    images: int
    captions: int
    words: Spread | None
    repeated_captions: int
    unreadable_captions: list[str]


class ImageCheck(msgspec.Struct, frozen=True):
    """Which images of training data can be used.

    Attributes:
        source: The name of the data.
        images: How many different ones there are.
        broken: Those that are missing or cannot be decoded, with the reason.
    """

    source: str
    images: int
    broken: list[str]


def describe_source(source: Source) -> Census:
    """Count what training data hold; no image is opened.

    Raises:
        UsageError: They are triplets.
    """
    captions: Counter[str] = Counter()
    unreadable: list[str] = []
    for place, sample in enumerate(_pairs(source)):
        try:
            caption = " ".join((sample.caption or "").split())
        except MissingData as error:
            unreadable.append(f"sample {place + 1}: {error.message}")
            continue
        if caption:
            captions[caption] += 1
    words = [len(caption.split()) for caption in captions.elements()]
    repeated = sum(count > 1 for count in captions.values())
    count = len(source.samples)
    return Census(source.name, count, len(_images(source)), captions.total(), spread(words), repeated, unreadable)


def check_source(source: Source, *, display: Display = silent) -> ImageCheck:
    """Decode every image of training data, each once.

    Raises:
        UsageError: They are triplets, or texts alone.
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
    return ImageCheck(source.name, len(images), broken)


def _pairs(source: Source) -> list[Pair]:
    if isinstance(source.samples[0], Triplet):
        raise UsageError(
            f"{source.name} holds triplets, and pairs, images or texts are counted here.",
            hint="Their tables are checked when they are read.",
        )
    return list(source.pairs)


def _images(source: Source) -> list[ImageSource]:
    images = [sample.image for sample in _pairs(source)]
    return list({str(image): image for image in images if image is not None}.values())


def _problem(image: ImageSource) -> str | None:
    try:
        image.open()
    except MissingData as error:
        return error.message
    return None
