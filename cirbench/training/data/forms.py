"""The form of a folder of training data, recognised by what lies in it: image folders, shards, tables, and others."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

from cirbench.backbones.images import is_image
from cirbench.errors import UsageError, some
from cirbench.protocol import Item, Triplet
from cirbench.support.console import typed
from cirbench.support.files import digest, sha256_of_file
from cirbench.support.textfiles import nfc
from cirbench.training.data.columnar import (
    SAVED,
    SAVED_SPLITS,
    Columns,
    open_columns,
    read_parquet,
    read_saved,
)
from cirbench.training.data.listed import read_folder, read_list
from cirbench.training.data.shards import (
    TEXTS,
    Entry,
    ShardImage,
    Shards,
    ShardSample,
    Span,
    members_of,
    read_shard_files,
    shard_files,
)
from cirbench.training.data.source import Lazy, Source, identified

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from cirbench.support.console import Display
    from cirbench.training.data.source import Kind

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
"""What describes the images of an image folder of Hugging Face's ``datasets``."""
PARQUET = ".parquet"
TABLES = (".csv", ".tsv", ".jsonl", PARQUET, ".json")
"""Suffixes of what holds images with captions."""
_STATS = re.compile(r"(\d+)_stats\.json")
"""What img2dataset leaves beside each shard, whatever its form."""


def open_folder(
    name: str, folder: Path, kind: Kind | None = None, *, display: Display, say: Callable[[str], None]
) -> Source:
    """Open a folder in whichever form it is.

    | what lies in it                               | what it is                                                  |
    |-----------------------------------------------|-------------------------------------------------------------|
    | ``metadata.jsonl``, ``.csv`` or ``.parquet``  | an image folder: ``file_name`` and a caption in each row    |
    | ``00000_stats.json`` beside ``00000/``        | img2dataset's files                                         |
    | ``00000.tar`` ...                             | webdataset shards, those of img2dataset among them          |
    | ``state.json`` and ``dataset_info.json``      | a data set that Hugging Face's ``datasets`` has saved       |
    | ``.parquet`` and no images                    | tables with images, img2dataset's among them, or with paths |
    | images                                        | images alone, all below the folder                          |

    Raises:
        UsageError: It could be two of these.
        MissingData: It is none of these, or something is missing.
        CorruptFile: A file in it is damaged.
    """
    files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    names = {path.name for path in files}
    if SAVED_SPLITS in names or names.issuperset(SAVED):
        return open_tables(name, [read_saved(folder)], folder, kind, display=display, say=say)
    described = [path for path in files if path.name in METADATA]
    if len(described) > 1:
        raise UsageError(
            f"{folder} holds {' and '.join(path.name for path in described)}, and only one of them can be meant.",
            hint=f"Name it: --data {typed(folder)} --captions {typed(described[0])}",
        )
    if described:
        return open_list(name, described[0], folder, kind, display=display, say=say, whole=True)
    shards = {match[1] for path in files if (match := _STATS.fullmatch(path.name))}
    tars = tuple(path for path in files if path.suffix == ".tar")
    tables = [path for path in files if path.suffix == ".parquet"]
    if shards and not tars and all((folder / shard).is_dir() for shard in shards):
        return _open_files_of_img2dataset(name, folder, shards, say)
    alone = not any(path.is_dir() or is_image(str(path)) for path in files)
    if tars and (shards or alone):
        own = re.compile(rf"({'|'.join(sorted(shards))})(_stats\.json|\.parquet)")
        others = [path for path in files if path not in tars and not own.fullmatch(path.name)]
        say_unused([str(path) for path in others], say)
        return open_shards(name, str(folder), read_shard_files(tars, display=display), say)
    if tables and alone:
        if any(path.suffix == ".tfrecord" for path in files):
            raise UsageError(
                f"{folder} holds TFRecords, which cirbench does not read.",
                hint="Let img2dataset write webdataset, files or parquet: --output_format webdataset",
            )
        return open_tables(name, [read_parquet(path) for path in tables], folder, kind, display=display, say=say)
    images = read_folder(folder, None)
    say_unused(images.unused, say)
    return identified(name, images, listing=digest(images.images))


def open_list(
    name: str,
    path: Path,
    folder: Path,
    kind: Kind | None = None,
    *,
    display: Display,
    say: Callable[[str], None],
    whole: bool = False,
) -> Source:
    """Open a file that lists samples, by the reader of its suffix.

    Args:
        name: As the user asked for it.
        path: The file.
        folder: What paths in it are relative to.
        kind: What a training looks at; ``None`` for all there is.
        display: Shows how far longer work is.
        say: Tells the user what is there and not used.
        whole: Whether it describes every image of the folder, so that others are not used.
    """
    if path.suffix.lower() == PARQUET:
        return open_tables(name, [read_parquet(path)], folder, kind, display=display, say=say)
    samples = read_list(path, folder)
    if samples.unused:
        say(f"{path}: not used: {some(samples.unused)}.")
    if whole and samples.images is not None:
        listed = {nfc(image) for image in samples.images}
        if left := [image for image in read_folder(folder, None).images if nfc(image) not in listed]:
            say(f"{path}: {len(left):,} images of {folder} have no row, and are not used: {some(left)}.")
    return identified(name, samples, listing=sha256_of_file(path))


def open_tables(
    name: str,
    tables: Sequence[Columns],
    folder: Path,
    kind: Kind | None,
    *,
    display: Display,
    say: Callable[[str], None],
) -> Source:
    """Name the samples of tables of Arrow, and say what they hold that is not used."""
    opened = open_columns(tables, folder, kind, display=display, say=say)
    if opened.unused:
        say(f"{tables[0].place}: not used: {some(opened.unused)}.")
    if opened.failed:
        say(f"{folder}: {opened.failed:,} rows have no image, since it could not be downloaded, and are not used.")
    return identified(name, opened.samples, listing=opened.listing)


def _open_files_of_img2dataset(name: str, folder: Path, shards: set[str], say: Callable[[str], None]) -> Source:
    samples = read_folder(folder, folder)
    metadata = re.compile(rf"({'|'.join(sorted(shards))})(_stats\.json|\.parquet|/[^/]*\.json)")
    own = len(str(folder)) + 1
    say_unused([path for path in samples.unused if not metadata.fullmatch(path[own:])], say)
    listing = digest([samples.images, samples.texts])
    return identified(name, samples, listing=listing, lacking={"caption": samples.uncaptioned})


def open_shards(name: str, place: str, shards: Shards, say: Callable[[str], None]) -> Source:
    """Name shards, and say what they hold that is not used."""
    if shards.unused:
        say(f"{place}: members that belong to no sample and are not used: {shards.unused}.")
    if shards.halves:
        say(f"{place}: image or text alone, since both need one name before the last dot: {shards.halves}.")
    return identified(name, shards, listing=shards.listing, lacking=shards.lacking)


def say_unused(unused: Sequence[str], say: Callable[[str], None]) -> None:
    """Say which files are there and not used."""
    if unused:
        say(f"{len(unused):,} files are neither an image nor its caption, and are not used: {some(unused)}.")


_ROLES = {"reference": "reference", "query": "reference", "target": "target"}
_PARTS = ("reference", "target", "text")


@dataclasses.dataclass(frozen=True, slots=True)
class ShardText(Sequence[str]):
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
        return Triplet(reference, ShardText(ShardSample(path, Entry(name, None, spans["text"]))), target)


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
            role = "text" if member.suffix in TEXTS else _ROLES.get(member.stem.removeprefix(f"{member.first}."), "")
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
