"""Samples with a name and an identity: opened by a training, counted and looked through by `cirbench data`."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, cast, overload

import msgspec
import numpy as np

from cirbench.benchmarks.files.check import Spread, spread
from cirbench.benchmarks.files.plan import needs_of, plan_files
from cirbench.benchmarks.interface import DatasetFiles
from cirbench.errors import MissingData, UsageError, some
from cirbench.protocol import Triplet
from cirbench.support.console import say_once, silent
from cirbench.support.files import digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from cirbench.benchmarks.files.plan import Plan
    from cirbench.benchmarks.interface import ImageSet
    from cirbench.protocol import ImageSource
    from cirbench.support.console import Display
    from cirbench.support.needs import Need


Kind = Literal["pairs", "images", "texts", "features", "pair-features", "triplets", "triplet-features"]
"""What a training looks at; with features, what its objective has made of images, so that a step opens none."""
Part = Literal["image", "caption"]
OPENED: Mapping[Kind, tuple[Part, ...]] = {
    "pairs": ("image", "caption"),
    "images": ("image",),
    "texts": ("caption",),
    "features": (),
    "pair-features": (),
    "triplets": ("image", "caption"),
    "triplet-features": ("caption",),
}
"""What a step opens of its samples."""

FIRST = " (the first {})"
"""What follows the name of a source that is the start of another."""

TRIPLETS: tuple[Kind, ...] = ("triplets", "triplet-features")

_WANTED = {
    "pairs": "images with captions",
    "images": "images",
    "texts": "texts",
    "features": "images",
    "pair-features": "images with captions",
    **dict.fromkeys(TRIPLETS, "triplets"),
}
_PARTS: Mapping[Kind, tuple[Part, ...]] = {
    **OPENED,
    "features": ("image",),
    "pair-features": ("image", "caption"),
    "triplet-features": ("image", "caption"),
}
SAMPLE_SIZE = 64
_SHOWN = 10


class Pair(Protocol):
    """An image, a caption, or both. Reading a part that is damaged raises `MissingData`."""

    @property
    def image(self) -> ImageSource | None: ...  # noqa: D102

    @property
    def caption(self) -> str | None: ...  # noqa: D102


Sample: TypeAlias = Pair | Triplet


class Lazy(Sequence[Sample]):
    """Samples that are made when they are asked for; subclasses say how many there are, and make one."""

    @abstractmethod
    def at(self, place: int) -> Sample:
        """Make the sample at a place, counted from 0."""

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        places = range(len(self))[index]
        return self.at(places) if isinstance(places, int) else [self.at(place) for place in places]


@dataclasses.dataclass(frozen=True)
class Source:
    """Samples with a name and an identity.

    Attributes:
        name: As the user asked for it.
        samples: The samples, each opened when it is asked for.
        digest: Sha256 of what they are: their number, the file that lists them, and 64 of them spread evenly.
        lacking: The positions of samples that are known to lack an image or a caption which others have.
        unusable: By position, why a triplet is known to be of no use.
    """

    name: str
    samples: Sequence[Sample]
    digest: str
    lacking: Mapping[Part, NDArray[np.int64]] = dataclasses.field(default_factory=dict, compare=False)
    unusable: Mapping[int, str] = dataclasses.field(default_factory=dict, compare=False)

    @property
    def pairs(self) -> Sequence[Pair]:
        """The samples of a source that holds no triplets."""
        assert not isinstance(self.samples[0], Triplet), f"{self.name} holds triplets"
        return cast("Sequence[Pair]", self.samples)

    @property
    def triplets(self) -> Sequence[Triplet]:
        """The samples of a source that holds triplets."""
        assert isinstance(self.samples[0], Triplet), f"{self.name} holds no triplets"
        return cast("Sequence[Triplet]", self.samples)

    def require(self, kind: Kind, *, owner: str) -> None:
        """Refuse to go on where the samples lack what ``owner`` is trained on.

        Raises:
            UsageError: There are images where texts are needed, or the other way round; or triplets where pairs are.
        """
        if isinstance(self.samples[0], Triplet) != (kind in TRIPLETS):
            held = "no triplets" if kind in TRIPLETS else "triplets"
            raise UsageError(
                f"{owner} is trained on {_WANTED[kind]}, and {self.name} holds {held}.",
                hint="Triplets: --data scenes:triplets, cirr:train, or a table of reference, text and target."
                if kind in TRIPLETS
                else None,
            )
        if kind not in TRIPLETS and not self._holds(kind):
            missing = "images" if self.pairs[0].image is None else "captions"
            raise UsageError(f"{owner} is trained on {_WANTED[kind]}, and {self.name} holds no {missing}.")

    def require_parts(self, kind: Kind, *, allowed: int) -> None:
        """Refuse to go on where more samples than are allowed are known to lack a part, or to be of no use.

        Raises:
            MissingData: They do; the message names the first of them.
        """
        if len(self.unusable) > allowed:
            raise MissingData(
                f"{len(self.unusable)} of {len(self.samples)} triplets of {self.name} cannot be used: "
                f"{some([*dict.fromkeys(self.unusable.values())], _SHOWN)}.",
                hint=f"Repair them, or leave them out: --skip-broken {len(self.unusable)}",
            )
        for part in _PARTS[kind]:
            places = self.lacking.get(part, ())
            if len(places) > allowed:
                named = ", ".join(_name(self.samples[int(place)], place) for place in places[:_SHOWN])
                more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
                raise MissingData(
                    f"{len(places)} of {len(self.samples)} samples of {self.name} have no {part}: {named}{more}.",
                    hint=f"Add what is missing, or leave them out: --skip-broken {len(places)}",
                )

    def _holds(self, kind: Kind) -> bool:
        incomplete = {int(place) for places in self.lacking.values() for place in places}
        whole = next((place for place in range(len(self.samples)) if place not in incomplete), 0)
        sample = self.pairs[whole]
        return all((sample.image if part == "image" else sample.caption) is not None for part in _PARTS[kind])

    def some_captions(self, most: int) -> list[str]:
        """Captions at even distances, at most so many; samples that cannot be read are passed over."""
        found: list[str | None] = []
        for place in _spread(len(self.samples), most):
            with contextlib.suppress(MissingData):  # a training says which samples cannot be used, or skips them
                sample = self.samples[place]
                found += [" and ".join(sample.captions)] if isinstance(sample, Triplet) else [sample.caption]
        return [caption for caption in found if caption is not None]

    def first(self, count: int) -> Source:
        """The first so many samples, as a source of its own; this one where it holds no more."""
        if count >= len(self.samples):
            return self
        return Source(
            self.name + FIRST.format(count),
            [self.samples[place] for place in range(count)],
            digest([self.digest, count]),
            {part: places[places < count] for part, places in self.lacking.items()},
            {place: why for place, why in self.unusable.items() if place < count},
        )


def identified(
    name: str,
    samples: Sequence[Sample],
    *,
    listing: str,
    lacking: Mapping[Part, NDArray[np.int64]] | None = None,
    unusable: Mapping[int, str] | None = None,
) -> Source:
    """Give samples a name and an identity.

    Args:
        name: As the user asked for them.
        samples: The samples.
        listing: What is known of all of them without opening one, for instance the checksum of their list.
        lacking: See `Source`.
        unusable: See `Source`.

    Raises:
        UsageError: There are none.
        MissingData: Not one of those that are looked at can be read.
    """
    if not len(samples):
        raise UsageError(f"{name} holds no samples.")
    looked_at: list[list[Any] | None] = []
    failure: MissingData | None = None
    for place in _spread(len(samples), SAMPLE_SIZE):
        try:
            looked_at.append(_content(samples[place]))
        except MissingData as error:  # a training says which samples cannot be used, or skips them
            looked_at.append(None)
            failure = error
    if failure is not None and not any(looked_at) and not unusable:
        raise failure
    return Source(name, samples, digest([listing, len(samples), looked_at]), lacking or {}, unusable or {})


def _spread(total: int, count: int) -> list[int]:
    return [int(place) for place in np.unique(np.linspace(0, total - 1, count).astype(int))]


def _content(sample: Sample) -> list[Any]:
    if isinstance(sample, Triplet):
        items = [sample.reference, sample.target, *sample.negatives]
        labels = [sample.group, sample.category, sample.weight]
        return [[[item.id, item.image.content] for item in items], list(sample.captions), labels]
    return [None if sample.image is None else sample.image.content, sample.caption]


def _name(sample: Sample, place: int) -> str:
    if isinstance(sample, Triplet):
        return f"triplet {place + 1} ({sample.reference.id} to {sample.target.id})"
    return f"sample {place + 1}" if sample.image is None else str(sample.image)


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """How a named source is asked for.

    Attributes:
        name: As typed.
        count: N of ``NAME:N``; ``None`` where it was not typed.
        data_root: The folder of the data sets; the one that ``CIRBENCH_DATA`` names where it is ``None``.
        kind: What a training looks at, so that images are not needed for texts; ``None`` for all there is.
        display: Shows how far longer work is.
        say: Tells the user what is there and not used.
    """

    name: str
    count: int | None = None
    data_root: Path | None = None
    kind: Kind | None = None
    display: Display = silent
    say: Callable[[str], None] = say_once


@dataclasses.dataclass(frozen=True)
class NamedSource(ABC):
    """Training data that a name stands for; `cirbench.training.data.named` lists them.

    Attributes:
        name: What is typed after ``--data``, for instance ``"coco:train2017"``.
        title: One line for people.
        kinds: What trainings may look at in it.
        counted: Whether ``NAME:N`` asks for N samples of it.
        corpus: A name for all parts of a corpus together, whose files `cirbench data get` fetches.
        files: What it fetches.
        licence: Of the annotations.
    """

    name: str
    title: str
    kinds: tuple[Kind, ...] = ("pairs", "images", "texts", "features", "pair-features")
    counted: bool = False
    corpus: str = ""
    files: DatasetFiles = dataclasses.field(default_factory=DatasetFiles)
    licence: str = "unknown"

    def image_names(self, images: ImageSet, root: Path) -> list[str]:
        """Name the images of a set that it needs, from annotations that are there in a data root."""
        return []

    def plan(self, root: Path | None) -> Plan:
        """Say what getting its files takes; see `cirbench.benchmarks.files.plan.plan`."""
        return plan_files(self.name, [], self.licence, self.files, root, self.image_names)

    def needs(self, root: Path | None, kind: Kind | None) -> tuple[Need, ...]:
        """List what it is made of, there or missing; nothing where it is made when it is asked for.

        Args:
            root: The data root; ``None`` where none is named.
            kind: What a training looks at; ``None`` for all there is.
        """
        return tuple(needs_of(self.plan(root), root, images=kind != "texts"))

    @abstractmethod
    def open(self, asked: Asked) -> Source:
        """Open it.

        Raises:
            MissingData: It is not there; the hint is the command that gets it.
            CorruptFile: It is there, and is damaged.
        """


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
        _census_of(source, empty) if isinstance(source.samples[0], Triplet) else None,
    )


def _census_of(source: Source, empty_captions: int) -> TripletCensus:
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
