"""Samples to train on: where they come from, and in which order they are seen."""

from __future__ import annotations

import csv
import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec
import numpy as np

from cirbench.datasets.pairs import ImageTextPair
from cirbench.datasets.scenes import training_pairs
from cirbench.errors import CirbenchError, CorruptFile, MissingData, UsageError
from cirbench.files import digest, sha256_of_file
from cirbench.images.decode import FileImage
from cirbench.training.objective import Batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    from cirbench.backbones.interface import Backbone
    from cirbench.datasets.protocol import ImageSource

SCENES_PAIRS = 60_000
_SAMPLED = 64


Kind = Literal["pairs", "images", "texts"]
"""What a training looks at."""


class Sample(Protocol):
    """An image, a caption, or both."""

    @property
    def image(self) -> ImageSource | None: ...  # noqa: D102

    @property
    def caption(self) -> str | None: ...  # noqa: D102


@dataclasses.dataclass(frozen=True)
class Source:
    """Samples with a name and an identity.

    Attributes:
        name: As the user asked for it.
        samples: The samples, each opened when it is asked for.
        digest: Sha256 of what they are: their number, the file that lists them, and 64 of them spread evenly.
    """

    name: str
    samples: Sequence[Sample]
    digest: str

    def require(self, kind: Kind, *, owner: str) -> None:
        """Refuse to go on where the samples lack what ``owner`` is trained on.

        Raises:
            UsageError: There are images where texts are needed, or the other way round.
        """
        sample = self.samples[0]
        for part, value in (("images", sample.image), ("texts", sample.caption)):
            if value is None and kind in ("pairs", part):
                raise UsageError(f"{owner} is trained on {_WANTED[kind]}, and {self.name} holds no {part}.")


_WANTED = {"pairs": "images with captions", "images": "images", "texts": "texts"}


def open_source(name: str) -> Source:
    """Open ``scenes`` (60,000 pairs), ``scenes:N``, or a CSV or JSON-lines file of ``image`` and ``caption``.

    Image paths are relative to the file.

    Raises:
        UsageError: It is none of these.
        MissingData: The file does not exist.
        CorruptFile: The file cannot be read; the message has the line.
    """
    kind, _, count = name.partition(":")
    if kind == "scenes":
        if count and not count.isdecimal():
            raise UsageError(f"{name!r} is no training data.", hint="For instance: --data scenes:60000")
        return _source(name, training_pairs(int(count or SCENES_PAIRS)), listing="scenes")
    path = Path(name)
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl}
    if path.suffix.lower() not in readers:
        raise UsageError(f"{name!r} is no training data.", hint="Give --data scenes, FILE.csv or FILE.jsonl.")
    if not path.is_file():
        raise MissingData(f"The file {path} does not exist.")
    try:
        rows = readers[path.suffix.lower()](path)
    except (UnicodeDecodeError, csv.Error) as error:
        raise CorruptFile(f"{path} cannot be read: {error}.") from error
    pairs = [ImageTextPair(FileImage(path.parent / row.image), row.caption) for row in rows]
    return _source(name, pairs, listing=sha256_of_file(path))


def _source(name: str, samples: Sequence[Sample], *, listing: str) -> Source:
    if not len(samples):
        raise UsageError(f"{name} holds no pairs.")
    spread = np.unique(np.linspace(0, len(samples) - 1, _SAMPLED).astype(int))
    chosen = (samples[int(place)] for place in spread)
    sample = [[None if each.image is None else each.image.content, each.caption] for each in chosen]
    return Source(name, samples, digest([listing, len(samples), sample]))


class _Row(msgspec.Struct):
    image: str
    caption: str


def _read_csv(path: Path) -> list[_Row]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        missing = {"image", "caption"} - set(reader.fieldnames or ())
        if missing:
            raise CorruptFile(f"{path} has no column {sorted(missing)[0]!r}; its first line is {reader.fieldnames}.")
        rows = []
        for row in reader:
            if not row["image"] or row["caption"] is None:
                raise CorruptFile(f"{path}, line {reader.line_num}: the image or the caption is missing.")
            rows.append(_Row(row["image"], row["caption"]))
        return rows


def _read_jsonl(path: Path) -> list[_Row]:
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if line.strip():
            try:
                rows.append(msgspec.json.decode(line, type=_Row))
            except msgspec.DecodeError as error:
                raise CorruptFile(f"{path}, line {number}: {error}.") from error
    return rows


@dataclasses.dataclass(frozen=True)
class Batches:
    """The batches of a training, each made from its number alone, so that a training resumes anywhere.

    Every epoch visits the pairs in an order of its own, drawn from seed and epoch; an incomplete last batch is left
    out.

    Raises:
        UsageError: There are fewer pairs than one batch needs.
    """

    source: Source
    backbone: Backbone
    batch_size: int
    seed: int
    kind: Kind = "pairs"

    def __post_init__(self) -> None:
        if not self.per_epoch:
            held = len(self.source.samples)
            raise UsageError(
                f"{self.source.name} holds {held} samples, fewer than one batch of {self.batch_size}.",
                hint=f"For instance: --set batch_size={held}",
            )

    @property
    def per_epoch(self) -> int:
        """Whole batches an epoch."""
        return len(self.source.samples) // self.batch_size

    def positions(self, step: int) -> NDArray[np.int64]:
        """The positions of the pairs of a step, (B,)."""
        epoch, batch = divmod(step, self.per_epoch)
        order = _order(self.seed, epoch, len(self.source.samples))
        return order[batch * self.batch_size : (batch + 1) * self.batch_size]

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step.

        Raises:
            MissingData: An image is absent or cannot be decoded; the message names it and its sample.
        """
        import torch

        positions_B = self.positions(step)
        samples = [self.source.samples[int(position)] for position in positions_B]
        count, size = 0 if self.kind == "texts" else len(samples), self.backbone.image_size
        pixels_B3SS = torch.empty(count, 3, size, size)
        for row in range(count):
            pixels_B3SS[row] = self._pixels(samples[row], int(positions_B[row]))
        captions = () if self.kind == "images" else tuple(sample.caption or "" for sample in samples)
        return Batch(pixels_B3SS.to(self.backbone.device), captions, positions_B, 0, len(samples))

    def _pixels(self, sample: Sample, position: int) -> torch.Tensor:
        try:
            if sample.image is None:
                raise MissingData("it has no image.")
            return self.backbone.preprocess(sample.image.open())
        except CirbenchError as error:
            message = f"Sample {position + 1} of {self.source.name} cannot be used: {error.message}"
            raise type(error)(message, hint=error.hint) from error


@functools.lru_cache(maxsize=1)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(count)
