"""Samples from tar shards in webdataset form, pairs or triplets, on disk or on a server, read in any order.

The suffix of a member is what follows the last dot of its name, and members that share everything before it are one
sample: ``000123.jpg`` and ``000123.txt``, ``shoe_v1.0.jpg`` and ``shoe_v1.0.txt``. Where a sample ``000123`` exists,
``000123.mask.png`` is another part of it, as webdataset has it, and is not used. What is not used is counted by suffix.
The places are found once for each file, and kept in the cache.
"""

from __future__ import annotations

import bisect
import dataclasses
import hashlib
import re
import tarfile
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, overload

import msgspec
import numpy as np

from cirbench.backbones.images import decode_bytes, image_suffixes
from cirbench.errors import CorruptFile, MissingData, UsageError, excerpt, some
from cirbench.protocol import Item, Triplet
from cirbench.support.download import fetch
from cirbench.support.files import cache_root, digest, lock_of, locked, write_bytes
from cirbench.support.textfiles import decode_utf8, nfc, refuse_placeholder
from cirbench.training.data.source import Lazy, Source, identified

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray
    from PIL import Image

    from cirbench.support.console import Display
    from cirbench.training.data.source import Part


_SCHEMA = 3
_TEXTS = ("txt", "json")
_NUMBERED = ("jpg", "jpeg", "png", "webp", *_TEXTS)
"""Suffixes with a number of their own in an index; further ones are numbered by each index as they come."""
_NONE = (-1, 0, 0)

_ROLES = {"reference": "reference", "query": "reference", "target": "target"}

_PARTS = ("reference", "target", "text")


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """A member of a tar file.

    Attributes:
        suffix: What follows the last dot of its name, in lower case.
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


class _Samples(msgspec.Struct):
    """Samples as they are digested: names, and six numbers a sample."""

    names: list[str]
    numbers: list[int]
    schema: int = 1


class _CachedIndex(msgspec.Struct):
    """The form of an index in the cache."""

    samples: _Samples
    suffixes: list[str]
    unused: dict[str, tuple[int, str]]


@dataclasses.dataclass(frozen=True)
class Index:
    """The samples of a tar file, in its order.

    Attributes:
        names: Their names.
        spans_N23: Of image and text: suffix as a place in ``suffixes``, -1 where there is none; offset; size.
        suffixes: Every suffix that occurs.
        unused: By suffix, or by what else they are: how many members belong to no sample, and the first of them.
        digest: Sha256 over names, places and suffixes.
    """

    names: list[str]
    spans_N23: NDArray[np.int64]
    suffixes: tuple[str, ...]
    unused: Mapping[str, tuple[int, str]]
    digest: str

    def __len__(self) -> int:
        return len(self.names)

    def entry(self, place: int) -> Entry:
        """One sample."""
        image, text = (
            None if suffix < 0 else Span(self.suffixes[suffix], offset, size)
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
    key = digest([_SCHEMA, str(path.resolve()), status.st_size, status.st_mtime_ns])
    place = cache_root() / "shards" / f"{key[:32]}.json"
    if not place.is_file():
        write_bytes(place, msgspec.json.encode(_look_into(path)))
    kept = msgspec.json.decode(place.read_bytes(), type=_CachedIndex)
    samples = kept.samples
    hasher = hashlib.sha256(msgspec.json.encode(samples))
    if kept.suffixes:
        hasher.update(msgspec.json.encode(kept.suffixes))
    spans_N23 = np.array(samples.numbers, np.int64).reshape(-1, 2, 3)
    return Index(samples.names, spans_N23, (*_NUMBERED, *kept.suffixes), kept.unused, hasher.hexdigest())


class Member(NamedTuple):
    """A regular file in a tar: its name without the suffix, the suffix, and where its bytes are."""

    stem: str
    suffix: str
    offset: int
    size: int

    @property
    def first(self) -> str:
        """Its name up to the first dot, which is the name of a sample in webdataset."""
        folder, slash, base = self.stem.rpartition("/")
        return f"{folder}{slash}{base.partition('.')[0]}"


def _look_into(path: Path) -> _CachedIndex:
    members, unused = members_of(path)
    plain = {member.stem for member in members if member.stem == member.first}
    suffixes = list(_NUMBERED)
    samples: dict[str, list[tuple[int, int, int]]] = {}
    named: dict[tuple[str, int], str] = {}
    for member in members:
        if member.stem != member.first and member.first in plain:
            compound = f"{member.stem}.{member.suffix}".removeprefix(f"{member.first}.")
            _count(unused, f".{compound}", f"{member.stem}.{member.suffix}")
            continue
        spans = samples.setdefault(member.stem, [_NONE, _NONE])
        part = int(member.suffix in _TEXTS)
        if spans[part] != _NONE:  # a .txt wins over a .json, and else the last one
            if member.suffix == "json":
                _count(unused, ".json", f"{member.stem}.json")
                continue
            _count(unused, f".{suffixes[spans[part][0]]}", named[member.stem, part])
        if member.suffix not in suffixes:
            suffixes.append(member.suffix)
        spans[part] = (suffixes.index(member.suffix), member.offset, member.size)
        named[member.stem, part] = f"{member.stem}.{member.suffix}"
    if not samples:
        held = f"It holds {_in_words(unused)}." if unused else "It is empty."
        raise MissingData(
            f"The shard {path} holds no samples.",
            hint=f"{held} A sample is an image and a .txt or .json of one name, or one of them.",
        )
    numbers = [number for spans in samples.values() for span in spans for number in span]
    return _CachedIndex(_Samples([*samples], numbers), suffixes[len(_NUMBERED) :], unused)


def members_of(path: Path) -> tuple[list[Member], dict[str, tuple[int, str]]]:
    """The members of a tar file that are images or texts, and a count of the others."""
    known = {suffix.removeprefix(".") for suffix in image_suffixes()} | set(_TEXTS)
    members: list[Member] = []
    unused: dict[str, tuple[int, str]] = {}
    try:
        with tarfile.open(path, "r:") as file:
            for member in file:
                folder, slash, base = member.name.rpartition("/")
                stem, dot, suffix = base.rpartition(".")
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    _count(unused, "links, devices and sparse files", member.name)
                elif base.startswith("."):
                    _count(unused, "hidden files", member.name)
                elif suffix.lower() not in known:
                    _count(unused, f".{suffix}" if suffix and dot else "files without a suffix", member.name)
                else:
                    members.append(
                        Member(nfc(f"{folder}{slash}{stem}"), suffix.lower(), member.offset_data, member.size)
                    )
            end = file.offset
        _require_end(path, end)
    except (tarfile.TarError, EOFError) as error:
        refuse_placeholder(path, "shard")
        raise CorruptFile(
            f"The shard {path} is not a complete tar file: {excerpt(error)}.",
            hint="Copy it again; unpack it if it is compressed.",
        ) from error
    except OSError as error:
        raise MissingData(f"The shard {path} cannot be read: {error.strerror}.") from error
    return members, unused


def _require_end(path: Path, end: int) -> None:
    """Refuse a tar file whose members do not end by its end: `tarfile` stops in silence where a header is not one."""
    with path.open("rb") as file:
        file.seek(end)
        marker = file.read(tarfile.BLOCKSIZE)
        rest = iter(lambda: file.read(1 << 20), b"")
        followed = not any(marker) and any(any(block) for block in rest)
    if len(marker) < tarfile.BLOCKSIZE:
        raise CorruptFile(
            f"The shard {path} is cut off: it ends at byte {end + len(marker):,} without the end of a tar file.",
            hint="Copy it again; if it is whole, unpack it and pack it again.",
        )
    if any(marker):
        raise CorruptFile(
            f"The shard {path} is damaged: at byte {end:,} there is neither a member nor the end of a tar file.",
            hint="Copy it again.",
        )
    if followed:
        raise CorruptFile(
            f"The shard {path} goes on after its end at byte {end:,}, as tar files do that cat has joined.",
            hint="Give each tar file by itself, or join them by `tar --concatenate`.",
        )


def _count(unused: dict[str, tuple[int, str]], kind: str, name: str) -> None:
    count, first = unused.get(kind, (0, name))
    unused[kind] = (count + 1, first)


def _in_words(unused: Mapping[str, tuple[int, str]]) -> str:
    return some([f"{count:,} {kind} ({first})" for kind, (count, first) in unused.items()])


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
        """Decode the image; see `cirbench.backbones.images.decode`."""
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
            CorruptFile: The text is not UTF-8, or the JSON is damaged.
        """
        text = self.entry.text
        if text is None:
            return None
        content = text.read(self.path)
        member = f"{self.entry.name}.{text.suffix} in {self.path}"
        try:
            caption = decode_utf8(content, member) if text.suffix == "txt" else _caption(content)
        except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
            raise CorruptFile(f"its caption {member} cannot be read: {excerpt(error)}.") from error
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
    def unused(self) -> str:
        """How many members belong to no sample, by suffix, each with an example; empty where all do."""
        counts: dict[str, tuple[int, str]] = {}
        for index in self.indices:
            for kind, (count, first) in index.unused.items():
                before, example = counts.get(kind, (0, first))
                counts[kind] = (before + count, example)
        return _in_words(counts)

    @property
    def halves(self) -> str:
        """What follows the first dot in samples of which only an image or only a text is there, counted."""
        counts: dict[str, tuple[int, str]] = {}
        for index in self.indices:
            for place in np.flatnonzero((index.spans_N23[:, :, 0] < 0).any(axis=1)).tolist():
                entry = index.entry(place)
                span = entry.image or entry.text
                assert span is not None
                whole = f"{entry.name}.{span.suffix}"
                _, dot, suffix = whole.rpartition("/")[2].partition(".")
                if "." in suffix:
                    _count(counts, dot + suffix, whole)
        return _in_words(counts)

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

    Shards on a server are fetched into the cache first and read from there: where the samples of a tar file are is
    known only after it has been read.

    Args:
        pattern: A path or address, with ``{000..099}`` for a range and ``{a,b}`` for a choice.
        display: Shows how far the fetching is.
        say: Tells the user what is fetched where to.

    Raises:
        UsageError: The pattern names nothing.
        MissingData: A shard is absent, cannot be fetched, or holds no samples.
        CorruptFile: A shard is damaged.
    """
    return read_shard_files(shard_files(pattern, display=display, say=say), display=display)


def shard_files(pattern: str, *, display: Display, say: Callable[[str], None]) -> tuple[Path, ...]:
    """Return the files of every shard that a pattern names, fetched into the cache where they are on a server."""
    names = expand(pattern)
    if names[0].startswith(("http://", "https://")):
        return _fetched(names, _cached(pattern), display, say)
    return tuple(map(Path, names))


def are_fetched(pattern: str) -> bool:
    """Say whether every shard on a server that a pattern names is in the cache."""
    return all(path.is_file() for path in _cached(pattern))


def _cached(pattern: str) -> tuple[Path, ...]:
    """Where the shards of a pattern are in the cache."""
    folder = cache_root() / "shards" / digest(pattern)[:16]
    return tuple(folder / address.rpartition("/")[2] for address in expand(pattern))


def read_shard_files(paths: tuple[Path, ...], *, display: Display) -> Shards:
    """Find the samples of tar files on disk, in their order; see `read_shards`."""
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


def _fetched(
    addresses: Sequence[str], paths: tuple[Path, ...], display: Display, say: Callable[[str], None]
) -> tuple[Path, ...]:
    folder = paths[0].parent
    with locked(lock_of(folder)):
        absent = [(address, path) for address, path in zip(addresses, paths, strict=True) if not path.is_file()]
        if absent:
            say(f"Fetching {len(absent)} of {len(paths)} shards into {folder}, where they stay.")
        for address, path in absent:
            fetch(address, path, display=display, say=say)
    return paths


def open_shards(name: str, place: str, shards: Shards, say: Callable[[str], None]) -> Source:
    """Name shards, and say what they hold that is not used."""
    if shards.unused:
        say(f"{place}: members that belong to no sample and are not used: {shards.unused}.")
    if shards.halves:
        say(f"{place}: image or text alone, since both need one name before the last dot: {shards.halves}.")
    return identified(name, shards, listing=shards.listing, lacking=shards.lacking)


@dataclasses.dataclass(frozen=True, slots=True)
class _Text(Sequence[str]):
    """The text of a sample, read when it is asked for."""

    sample: ShardSample

    def __len__(self) -> int:
        return 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        return [self.sample.caption or ""][index]


@dataclasses.dataclass(frozen=True)
class TripletShards(Lazy):
    """The triplets of tar files in webdataset form: per sample the file, the name, and where its parts are.

    A sample ``000123`` has ``000123.reference.jpg``, ``000123.target.jpg`` and ``000123.txt`` (or a ``.json`` with
    ``caption`` or ``text``); ``query`` stands for ``reference`` too. Other members are counted and named.
    """

    entries: Sequence[tuple[Path, str, dict[str, Span]]]

    def __len__(self) -> int:
        return len(self.entries)

    def at(self, place: int) -> Triplet:
        """Make one triplet."""
        path, name, spans = self.entries[place]
        reference, target = (
            Item(f"{path.name}/{name}.{role}", ShardImage(path, f"{name}.{role}", spans[role]))
            for role in ("reference", "target")
        )
        return Triplet(reference, _Text(ShardSample(path, Entry(name, None, spans["text"]))), target)


def open_triplet_shards(name: str, pattern: str, *, display: Display, say: Callable[[str], None]) -> Source:
    """Open shards in the form that `TripletShards` describes.

    Raises:
        UsageError: They hold no triplets.
        MissingData: A shard is absent, cannot be fetched or cannot be read.
        CorruptFile: A shard is damaged.
    """
    entries: list[tuple[Path, str, dict[str, Span]]] = []
    unused: list[str] = []
    for path in shard_files(pattern, display=display, say=say):
        samples: dict[str, dict[str, Span]] = {}
        members, other = members_of(path)
        unused += [f"{count:,} {kind} ({first})" for kind, (count, first) in other.items()]
        for member in members:
            role = "text" if member.suffix in _TEXTS else _ROLES.get(member.stem.removeprefix(f"{member.first}."), "")
            parts = samples.setdefault(member.first, {})
            if not role or (member.suffix == "json" and role in parts):
                unused.append(f"{member.stem}.{member.suffix}")
                continue
            if role in parts:
                unused.append(f"{member.first} (another {role}, before the last one)")
            parts[role] = Span(member.suffix, member.offset, member.size)
        for sample, parts in samples.items():
            if missing := sorted(set(_PARTS) - parts.keys()):
                unused.append(f"{sample} (without {some(missing)})")
            else:
                entries.append((path, sample, parts))
    if not entries:
        raise UsageError(
            f"{pattern} holds no triplets.",
            hint="A sample 000123 has 000123.reference.jpg, 000123.target.jpg and 000123.txt, with any image suffix.",
        )
    if unused:
        say(f"{pattern}: not used: {some(unused)}.")
    places = [[path.name, sample, [[s.offset, s.size] for s in parts.values()]] for path, sample, parts in entries]
    flaws = {
        place: f"{path.name}, {sample}: {flaw}"
        for place, (path, sample, parts) in enumerate(entries)
        if (flaw := _flaw(path, parts)) is not None
    }
    return identified(name, TripletShards(entries), listing=digest(places), unusable=flaws)


def _flaw(path: Path, parts: Mapping[str, Span]) -> str | None:
    """What is wrong with a triplet of a shard, as far as it shows without opening every member."""
    reference, target = parts["reference"], parts["target"]
    if not parts["text"].size:
        return "its text is empty"
    if reference.size == target.size and reference.read(path) == target.read(path):
        return "its reference is its target"
    return None
