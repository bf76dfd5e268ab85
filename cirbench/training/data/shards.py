"""Samples from tar shards in webdataset form, on disk or on a server, read in any order.

Files that share the path up to the first dot of their name are one sample: ``000123.jpg`` and ``000123.txt``. The
places are found once for each file, and kept in the cache.
"""

from __future__ import annotations

import bisect
import dataclasses
import hashlib
import re
import tarfile
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from cirbench.backbones.features.store import cache_root
from cirbench.backbones.images.decode import decode_bytes
from cirbench.errors import CorruptFile, MissingData, UsageError
from cirbench.support.download import fetch
from cirbench.support.files import digest, locked, write_bytes
from cirbench.training.data.source import Lazy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from cirbench.support.download import Display
    from cirbench.training.data.source import Part

SCHEMA = 1
SUFFIXES = ("jpg", "jpeg", "png", "webp", "txt", "json")
_IMAGES = SUFFIXES.index("txt")
_JSON = SUFFIXES.index("json")
_NONE = (-1, 0, 0)


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """A member of a tar file.

    Attributes:
        suffix: What follows the first dot of its name, in lower case.
        offset: Where its bytes begin.
        size: How many there are.
    """

    suffix: str
    offset: int
    size: int

    def read(self, path: Path) -> bytes:
        """Read its bytes.

        Raises:
            MissingData: The tar file cannot be read.
            CorruptFile: It ends too early.
        """
        try:
            with path.open("rb") as file:
                file.seek(self.offset)
                content = file.read(self.size)
        except OSError as error:
            raise MissingData(f"The shard {path} cannot be read: {error.strerror}.") from error
        if len(content) < self.size:
            raise CorruptFile(f"The shard {path} has become shorter than it was.", hint="Copy it again.")
        return content


class Entry(NamedTuple):
    """A sample in a tar file: its name, its image and its text, where it has them."""

    name: str
    image: Span | None
    text: Span | None


class _Kept(msgspec.Struct):
    """The form of an index in the cache: names, and six numbers a sample."""

    names: list[str]
    numbers: list[int]
    schema: int = SCHEMA


@dataclasses.dataclass(frozen=True)
class Index:
    """The samples of a tar file, in its order.

    Attributes:
        names: Their names.
        spans_N23: Of image and text: suffix as a place in `SUFFIXES`, -1 where there is none; offset; size.
        digest: Sha256 over both.
    """

    names: list[str]
    spans_N23: NDArray[np.int64]
    digest: str

    def __len__(self) -> int:
        return len(self.names)

    def entry(self, place: int) -> Entry:
        """One sample."""
        image, text = (
            None if suffix < 0 else Span(SUFFIXES[suffix], offset, size)
            for suffix, offset, size in self.spans_N23[place].tolist()
        )
        return Entry(self.names[place], image, text)


def index(path: Path) -> Index:
    """Find the samples of a tar file, or what was found when it was last looked at.

    Raises:
        MissingData: It does not exist or cannot be read, or holds no samples.
        CorruptFile: It is not a tar file, or is cut off.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise MissingData(f"The shard {path} cannot be read: {error.strerror}.") from error
    key = digest([SCHEMA, str(path.resolve()), status.st_size, status.st_mtime_ns])
    kept = cache_root() / "shards" / f"{key[:32]}.json"
    if not kept.is_file():
        samples = _samples(path)
        if not samples:
            raise MissingData(
                f"The shard {path} holds no samples.",
                hint=f"A sample is a file that ends in .{', .'.join(SUFFIXES)}, or an image and a text of one name.",
            )
        numbers = [number for spans in samples.values() for span in spans for number in span]
        write_bytes(kept, msgspec.json.encode(_Kept([*samples], numbers)))
    content = kept.read_bytes()
    found = msgspec.json.decode(content, type=_Kept)
    spans_N23 = np.array(found.numbers, np.int64).reshape(-1, 2, 3)
    return Index(found.names, spans_N23, hashlib.sha256(content).hexdigest())


def _samples(path: Path) -> dict[str, list[tuple[int, int, int]]]:
    """The spans of image and text of each sample, by its name."""
    samples: dict[str, list[tuple[int, int, int]]] = {}
    try:
        with tarfile.open(path, "r:") as file:
            for member in file:
                folder, slash, base = member.name.rpartition("/")
                stem, _, suffix = base.partition(".")
                if not member.isreg() or suffix.lower() not in SUFFIXES:
                    continue
                spans = samples.setdefault(f"{folder}{slash}{stem}", [_NONE, _NONE])
                code = SUFFIXES.index(suffix.lower())
                part = int(code >= _IMAGES)
                if code != _JSON or spans[part] == _NONE:  # a .txt wins over a .json
                    spans[part] = (code, member.offset_data, member.size)
    except (tarfile.TarError, EOFError) as error:
        raise CorruptFile(
            f"The shard {path} is not a complete tar file: {error}.",
            hint="Copy it again; unpack it if it is compressed.",
        ) from error
    except OSError as error:
        raise MissingData(f"The shard {path} cannot be read: {error.strerror}.") from error
    return samples


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
        """Decode the image; see `cirbench.backbones.images.decode.decode`."""
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
            CorruptFile: The text is not UTF-8, or the JSON holds no caption.
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
