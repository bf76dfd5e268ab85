"""Annotation files: found below the data root, decoded into types, refused where they are not what was published."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from cirbench.benchmarks.interface import BENCHMARKS, Archive
from cirbench.errors import CheckFailed, CorruptFile, MissingData, excerpt, some
from cirbench.support.console import typed
from cirbench.support.textfiles import numbered_lines, read_bytes, read_text, refuse_placeholder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

VARIABLE = "CIRBENCH_DATA"
"""The environment variable that names the data root."""

_EXAMPLE = "a folder that holds, for instance, circo/annotations/val.json"


def data_root(given: Path | None = None) -> Path:
    """Return the folder that holds the data sets: ``given``, else the one that ``CIRBENCH_DATA`` names.

    Raises:
        MissingData: Neither is set, or what is set is not a folder.
    """
    named = os.environ.get(VARIABLE)
    hint = f"Give --data-root DIR, or set {VARIABLE}: {_EXAMPLE}."
    if given is None and not named:
        raise MissingData("Nothing says where the data sets are.", hint=hint)
    root = given if given is not None else Path(str(named))
    if not root.is_dir():
        source = "--data-root" if given is not None else VARIABLE
        raise MissingData(f"The data root {root} (from {source}) is not a folder.", hint=hint)
    return root


def locate(root: Path, *candidates: str, hint: str | None = None) -> Path:
    """Return the first of ``candidates``, paths relative to ``root``, that is a file.

    Raises:
        MissingData: None is; the message names every path that was tried.
        CheckFailed: See `find`.
    """
    found = find(root, *candidates)
    if found is None:
        tried = ", ".join(str(path) for candidate in candidates for path in possible_places(root, candidate))
        get = f"cirbench data get {candidates[0].partition('/')[0]} --data-root {typed(root)}"
        hint = hint or f"Type `{get}`, or point --data-root or {VARIABLE} elsewhere: {_EXAMPLE}."
        raise MissingData(f"A file of the data set is missing; tried {tried}.", hint=hint)
    return found


def find(root: Path, *candidates: str) -> Path | None:
    """Return the first of ``candidates``, paths relative to ``root``, that is a file, or ``None``.

    A path that begins with the name of a data set is looked for in every folder of `dataset_folders`.

    Raises:
        CheckFailed: A candidate leads out of the root, by ``..``, by an absolute path or through a link. The data root
            bounds what is read, so that a downloaded folder cannot make other files of this machine part of a result.
            The folder of a data set itself may be a link.
    """
    for candidate in candidates:
        for path in possible_places(root, candidate):
            resolved = path.resolve()
            if not any(resolved.is_relative_to(folder.resolve()) for folder in (root, *_home(root, candidate, path))):
                raise CheckFailed(
                    f"{path} leads out of the data root, to {resolved}.",
                    hint="Copy the file into the data root, or choose a data root that holds both. The folder of a "
                    "whole data set may be a link.",
                )
            if resolved.is_file():
                return path
    return None


def dataset_folders(root: Path, name: str) -> list[Path]:
    """Return the folders below a data root that may hold a data set; without any, the one where it belongs.

    Its folder may be written in other capitals, with other separators, or with "dataset" behind it (``CIRR``,
    ``fashion-iq``, ``cirr_dataset``). It may lie in a folder of the same name, as the annotations of CIRR do where
    images lie beside them (``CIRR/cirr/captions``, ``CIRR/dev``). The data root may also be the data set itself.
    """
    exact = [root / name] if (root / name).is_dir() else []
    found = list(dict.fromkeys([*exact, *_alike(root, name)]))
    found += [inner for outer in found for inner in _alike(outer, name)]
    if any((root / path).exists() for path in _known_files(name)):
        found.append(root)
    return found or [root / name]


def possible_places(root: Path, path: str) -> list[Path]:
    """Return where a file or folder of a data set may be, given its path relative to the data root."""
    name, slash, rest = path.partition("/")
    if name not in BENCHMARKS.names():
        return [root / path]
    return [folder / rest if slash else folder for folder in dataset_folders(root, name)]


def place_of(root: Path, path: str) -> Path:
    """Return where a file or folder of a data set is, given its path relative to the data root, or where it belongs."""
    places = possible_places(root, path)
    return next((each for each in places if each.exists()), places[0])


def _home(root: Path, candidate: str, path: Path) -> list[Path]:
    """The folder of the data set that a path begins with."""
    name = candidate.partition("/")[0]
    return (
        [folder for folder in dataset_folders(root, name) if path.is_relative_to(folder)]
        if name in BENCHMARKS.names()
        else []
    )


def _known_files(name: str) -> Iterator[str]:
    """The files that a data set is known by, relative to its folder."""
    if name in BENCHMARKS.names():
        for file in BENCHMARKS.find(name).files.annotations:
            yield (file.yields if isinstance(file, Archive) else file.path).partition("/")[2]


def _alike(folder: Path, name: str) -> list[Path]:
    """The folders in a folder that are called ``name``, however it is written."""
    try:
        with os.scandir(folder) as entries:
            return sorted(
                Path(entry.path) for entry in entries if _plain(entry.name) == _plain(name) and entry.is_dir()
            )
    except OSError:
        return []


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower())).removesuffix("dataset")


T = TypeVar("T")


def decode(path: Path, type: type[T]) -> T:
    """Decode a JSON file into ``type``.

    Raises:
        MissingData: It cannot be read.
        CorruptFile: It is not whole JSON of that type; the message names the place.
    """
    content = read_bytes(path)
    try:
        return msgspec.json.decode(content, type=type)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        refuse_placeholder(path, "file")
        raise not_as_published(path, excerpt(error)) from error


def read_lines(path: Path) -> list[str]:
    """Read the lines of a UTF-8 text file, blank ones left out.

    Raises:
        MissingData: It cannot be read.
        CorruptFile: It is not UTF-8.
    """
    return [line for _, line in numbered_lines(read_text(path))]


def read_records(path: Path, what: str, width: int, *, needed: Sequence[int]) -> list[list[str]]:
    """Read the rows of a CSV file without a header, blanks around cells and blank lines left out.

    Args:
        path: The file.
        what: What a row holds, for the message.
        width: How many cells a row has.
        needed: The cells that may not be empty.

    Raises:
        MissingData: It cannot be read.
        CorruptFile: It is not a CSV file, or a row is another one; the message names the lines.
    """
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(read_text(path)), strict=True)]
    except csv.Error as error:
        raise not_as_published(path, f"it is not a CSV file ({error})") from error
    odd = [
        number
        for number, row in enumerate(rows, start=1)
        if row and (len(row) != width or not all(row[place] for place in needed))
    ]
    refuse(path, [f"not {what} in line {some(odd)}"] if odd else [])
    return [row for row in rows if row]


def unsuffixed(path: str) -> str:
    """Return a path without its suffix, by which images are looked for."""
    return path.rpartition(".")[0] or path


def numbered(ids: Iterable[str]) -> Iterator[str]:
    """Yield each id, with -2, -3 and so on behind one that occurs again."""
    seen: Counter[str] = Counter()
    for id in ids:
        seen[id] += 1
        yield id if seen[id] == 1 else f"{id}-{seen[id]}"


def refuse(path: Path, problems: Iterable[str]) -> None:
    """Raise one error that lists every problem, if there is any.

    Raises:
        CorruptFile: There is one.
    """
    if listed := "; ".join(problems):
        raise not_as_published(path, listed)


def not_as_published(path: Path, problem: str) -> CorruptFile:
    """Say that a file is not what its authors published, and why."""
    return CorruptFile(
        f"{path} is not the file that was published: {problem.rstrip('.')}.",
        hint="Fetch the file again from the benchmark's authors.",
    )


Expected = Mapping[str, int]
"""How many of each thing the published annotation files hold, by what is counted; the words go into messages."""


def wrong_counts(found: Mapping[str, int], expected: Expected) -> Iterator[str]:
    """Yield a problem for each count that is not the expected one; what has no expected count is not compared."""
    for what, count in found.items():
        if count != expected.get(what, count):
            yield f"it holds {count} {what}, not {expected[what]}"


def repeated(what: str, names: Iterable[object]) -> Iterator[str]:
    """Yield a problem that names everything that occurs more than once."""
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        yield f"it holds {what} more than once: {some(twice)}"


def queries(ids: Sequence[object]) -> str:
    """Name queries."""
    return f"{'query' if len(ids) == 1 else 'queries'} {some(ids)}"
