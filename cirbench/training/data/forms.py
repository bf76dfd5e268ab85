"""The form of a folder of training data, recognised by what lies in it: image folders, shards, tables, and others."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cirbench.errors import UsageError, some
from cirbench.support.files import digest, sha256_of_file
from cirbench.training.data.listed import Listed, read_folder, read_list
from cirbench.training.data.shards import Shards, read_shard_files
from cirbench.training.data.source import Source, identified

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from cirbench.support.console import Display

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
"""What describes the images of an image folder of Hugging Face's ``datasets``."""
_STATS = re.compile(r"(\d+)_stats\.json")
"""What img2dataset leaves beside each shard, whatever its form."""


def open_folder(name: str, folder: Path, *, display: Display, say: Callable[[str], None]) -> Source:
    """Open a folder in whichever form it is.

    | what lies in it                               | what it is                                                  |
    |-----------------------------------------------|-------------------------------------------------------------|
    | ``metadata.jsonl``, ``.csv`` or ``.parquet``  | an image folder: ``file_name`` and a caption in each row    |
    | ``00000_stats.json`` beside ``00000/``        | img2dataset's files                                         |
    | ``00000.tar`` ...                             | webdataset shards, those of img2dataset among them          |
    | images                                        | images alone, all below the folder                          |

    Raises:
        UsageError: It could be two of these.
        MissingData: It is none of these, or something is missing.
        CorruptFile: A file in it is damaged.
    """
    files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    shards = {match[1] for path in files if (match := _STATS.fullmatch(path.name))}
    described = [path for path in files if path.name in METADATA]
    if len(described) > 1:
        raise UsageError(
            f"{folder} holds {' and '.join(path.name for path in described)}, and only one of them can be meant.",
            hint=f"Name it: --data {folder} --captions {described[0]}",
        )
    if described:
        return open_listed(name, described[0], read_list(described[0], folder), say, folder=folder)
    tars = tuple(path for path in files if path.suffix == ".tar")
    if shards and not tars and all((folder / shard).is_dir() for shard in shards):
        return _open_files_of_img2dataset(name, folder, shards, say)
    if tars and (shards or not any(path.is_dir() for path in files)):
        return open_shards(name, f"{folder}", read_shard_files(tars, display=display), say)
    images = read_folder(folder, None)
    say_unused(images.unused, say)
    return identified(name, images, listing=digest(images.images))


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


def open_listed(
    name: str, path: Path, samples: Listed, say: Callable[[str], None], *, folder: Path | None = None
) -> Source:
    """Name the samples of a list, and say what it and the folder that it describes hold that is not used."""
    if samples.unused:
        say(f"{path}: not used: {some(samples.unused)}.")
    if folder is not None and samples.images is not None:
        below = read_folder(folder, None)
        listed = set(samples.images)
        if left := [image for image in below.images if image not in listed]:
            say(f"{path}: {len(left):,} images of {folder} have no row, and are not used: {some(left)}.")
    return identified(name, samples, listing=sha256_of_file(path))


def say_unused(unused: Sequence[str], say: Callable[[str], None]) -> None:
    """Say which files are there and not used."""
    if unused:
        say(f"{len(unused):,} files are neither an image nor its caption, and are not used: {some(unused)}.")
