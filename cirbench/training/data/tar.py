"""Where the samples lie in a tar file of the webdataset form, so that any one can be read without the others.

Files that share the path up to the first dot of their name are one sample: ``000123.jpg`` and ``000123.txt``. The
places are found once for each file, and kept in the cache.
"""

from __future__ import annotations

import dataclasses
import hashlib
import tarfile
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from cirbench.errors import CorruptFile, MissingData
from cirbench.features.store import cache_root
from cirbench.files import digest, write_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

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
        CorruptFile: It is no tar file, or is not whole.
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
            f"The shard {path} is no whole tar file: {error}.", hint="Copy it again; unpack it if it is compressed."
        ) from error
    except OSError as error:
        raise MissingData(f"The shard {path} cannot be read: {error.strerror}.") from error
    return samples
