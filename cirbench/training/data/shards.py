"""Samples from tar shards of the webdataset form, on disk or on a server, in any order."""

from __future__ import annotations

import bisect
import dataclasses
import hashlib
import re
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from cirbench.data.download import fetch
from cirbench.errors import CorruptFile, UsageError
from cirbench.features.store import cache_root
from cirbench.files import digest, locked
from cirbench.images.decode import decode_bytes
from cirbench.training.data.source import Lazy
from cirbench.training.data.tar import index

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from cirbench.data.download import Display
    from cirbench.training.data.source import Part
    from cirbench.training.data.tar import Entry, Index, Span


@dataclasses.dataclass(frozen=True, slots=True)
class ShardImage:
    """An image in a tar file; an `ImageSource`."""

    path: Path
    name: str
    span: Span

    @property
    def content(self) -> str:
        """Sha256 of the image file's bytes.

        Raises:
            MissingData: The tar file cannot be read.
        """
        return hashlib.sha256(self.span.read(self.path)).hexdigest()

    def open(self) -> Image.Image:
        """Decode the image; see `cirbench.images.decode.decode`."""
        return decode_bytes(self.span.read(self.path), str(self))

    def __str__(self) -> str:
        return f"{self.name}.{self.span.suffix} in {self.path}"


@dataclasses.dataclass(frozen=True, slots=True)
class ShardSample:
    """A sample of a tar file."""

    path: Path
    entry: Entry

    @property
    def image(self) -> ShardImage | None:
        """Its image."""
        return None if self.entry.image is None else ShardImage(self.path, self.entry.name, self.entry.image)

    @property
    def caption(self) -> str | None:
        """Its text: all of a ``.txt``, or the ``caption`` or ``text`` of a ``.json``.

        Raises:
            MissingData: The tar file cannot be read.
            CorruptFile: The text is none, or the JSON holds no caption.
        """
        text = self.entry.text
        if text is None:
            return None
        content = text.read(self.path)
        try:
            caption = content.decode() if text.suffix == "txt" else _caption(content)
        except (UnicodeDecodeError, msgspec.DecodeError) as error:
            member = f"{self.entry.name}.{text.suffix} in {self.path}"
            raise CorruptFile(f"its caption {member} cannot be read: {error}.") from error
        return " ".join(caption.split())


class _Json(msgspec.Struct):
    caption: str | None = None
    text: str | None = None


def _caption(content: bytes) -> str:
    written = msgspec.json.decode(content, type=_Json)
    return written.caption or written.text or ""


@dataclasses.dataclass(frozen=True)
class Shards(Lazy):
    """The samples of tar files, one after the other."""

    paths: tuple[Path, ...]
    indices: tuple[Index, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ends", list(accumulate(map(len, self.indices))))

    _ends: list[int] = dataclasses.field(init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return self._ends[-1]

    def at(self, place: int) -> ShardSample:
        """Make one sample."""
        shard = bisect.bisect_right(self._ends, place)
        index = self.indices[shard]
        return ShardSample(self.paths[shard], index.entry(place - self._ends[shard] + len(index)))

    @property
    def listing(self) -> str:
        """Sha256 over the names and places of all samples."""
        return digest([index.digest for index in self.indices])

    @property
    def lacking(self) -> dict[Part, NDArray[np.int64]]:
        """The positions of samples without an image, and without a text, where others have one."""
        absent_N2 = np.concatenate([index.spans_N23[:, :, 0] for index in self.indices]) < 0
        places: dict[Part, NDArray[np.int64]] = {
            "image": np.flatnonzero(absent_N2[:, 0]),
            "caption": np.flatnonzero(absent_N2[:, 1]),
        }
        return {part: missing for part, missing in places.items() if len(missing) < len(self)}


def read_shards(pattern: str, *, display: Display, say: Callable[[str], None]) -> Shards:
    """Find the samples of every shard that a pattern names.

    Shards on a server are fetched into the cache first and read from there: a tar file tells where its samples lie only
    to those who have read it.

    Args:
        pattern: A path or address, where ``{000..099}`` stands for a range and ``{a,b}`` for a choice.
        display: Shows how far the fetching is.
        say: Tells the user what is fetched where to.

    Raises:
        UsageError: The pattern names nothing.
        MissingData: A shard is absent, cannot be fetched, or holds no samples.
        CorruptFile: A shard is damaged.
    """
    names = expand(pattern)
    if names[0].startswith(("http://", "https://")):
        folder = cache_root() / "shards" / digest(pattern)[:16]
        paths = _fetched(names, folder, display, say)
    else:
        paths = tuple(map(Path, names))
    with display("Looking into the shards", len(paths)) as advance:
        indices = []
        for path in paths:
            indices.append(index(path))
            advance(1)
    return Shards(paths, tuple(indices))


def expand(pattern: str) -> tuple[str, ...]:
    """Write out ``{000..099}`` and ``{a,b}``, as shells do.

    Raises:
        UsageError: A range runs backwards.
    """
    match = re.search(r"\{(?:(\d+)\.\.(\d+)|([^{},]+(?:,[^{},]+)+))\}", pattern)
    if match is None:
        return (pattern,)
    first, last, choice = match.groups()
    words = choice.split(",") if choice else [str(n).zfill(len(first)) for n in range(int(first), int(last) + 1)]
    if not words:
        raise UsageError(f"The range {match[0]} of {pattern} runs backwards.")
    rests = expand(pattern[match.end() :])
    return tuple(f"{pattern[: match.start()]}{word}{rest}" for word in words for rest in rests)


def _fetched(addresses: Sequence[str], folder: Path, display: Display, say: Callable[[str], None]) -> tuple[Path, ...]:
    paths = tuple(folder / address.rpartition("/")[2] for address in addresses)
    with locked(folder.parent / f".{folder.name}.lock"):
        absent = [(address, path) for address, path in zip(addresses, paths, strict=True) if not path.is_file()]
        if absent:
            say(f"Fetching {len(absent)} of {len(paths)} shards into {folder}, where they stay.")
        for address, path in absent:
            fetch(address, path, display=display, say=say)
    return paths
