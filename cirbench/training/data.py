"""Image-text pairs to train on: where they come from, and in which order they are seen."""

from __future__ import annotations

import csv
import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING

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

    from numpy.typing import NDArray

    from cirbench.backbones.interface import Backbone

SCENES_PAIRS = 60_000
_SAMPLED = 64


@dataclasses.dataclass(frozen=True)
class PairSource:
    """Pairs with a name and an identity.

    Attributes:
        name: As the user asked for it.
        pairs: The pairs, each opened when it is asked for.
        digest: Sha256 of what they are: their number, the file that lists them, and 64 of them spread evenly.
    """

    name: str
    pairs: Sequence[ImageTextPair]
    digest: str


def open_pairs(name: str) -> PairSource:
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


def _source(name: str, pairs: Sequence[ImageTextPair], *, listing: str) -> PairSource:
    if not len(pairs):
        raise UsageError(f"{name} holds no pairs.")
    spread = np.unique(np.linspace(0, len(pairs) - 1, _SAMPLED).astype(int))
    sample = [[pair.image.content, pair.caption] for pair in (pairs[int(place)] for place in spread)]
    return PairSource(name, pairs, digest([listing, len(pairs), sample]))


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

    source: PairSource
    backbone: Backbone
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        if not self.per_epoch:
            raise UsageError(
                f"{self.source.name} holds {len(self.source.pairs)} pairs, fewer than one batch of {self.batch_size}.",
                hint=f"For instance: --set batch_size={len(self.source.pairs)}",
            )

    @property
    def per_epoch(self) -> int:
        """Whole batches an epoch."""
        return len(self.source.pairs) // self.batch_size

    def positions(self, step: int) -> NDArray[np.int64]:
        """The positions of the pairs of a step, (B,)."""
        epoch, batch = divmod(step, self.per_epoch)
        order = _order(self.seed, epoch, len(self.source.pairs))
        return order[batch * self.batch_size : (batch + 1) * self.batch_size]

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step.

        Raises:
            MissingData: An image is absent or cannot be decoded; the message names it and its pair.
        """
        import torch

        size = self.backbone.image_size
        pixels_B3SS = torch.empty(self.batch_size, 3, size, size)
        captions = []
        for row, position in enumerate(self.positions(step)):
            pair = self.source.pairs[int(position)]
            try:
                pixels_B3SS[row] = self.backbone.preprocess(pair.image.open())
            except CirbenchError as error:
                message = f"Pair {position + 1} of {self.source.name} cannot be used: {error.message}"
                raise type(error)(message, hint=error.hint) from error
            captions.append(pair.caption)
        return Batch(pixels_B3SS.to(self.backbone.device), tuple(captions))


@functools.lru_cache(maxsize=1)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(count)
