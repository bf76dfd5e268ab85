"""Sources of samples by name: what may stand after ``--data``."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cirbench.datasets.pairs import ImageTextPair
from cirbench.datasets.scenes import training_pairs
from cirbench.errors import CorruptFile, MissingData, UsageError
from cirbench.files import sha256_of_file
from cirbench.images.decode import FileImage
from cirbench.training.data.source import identified

if TYPE_CHECKING:
    from cirbench.training.data.source import Source

SCENES_PAIRS = 60_000


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
        return identified(name, training_pairs(int(count or SCENES_PAIRS)), listing="scenes")
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
    return identified(name, pairs, listing=sha256_of_file(path))


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
