"""What was fetched into a data root, from where and when: the digests of files that nobody had pinned."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

import msgspec

from cirbench.errors import CorruptFile
from cirbench.files import write_bytes

if TYPE_CHECKING:
    from pathlib import Path

NAME = ".cirbench-downloads.json"
SCHEMA_VERSION = 1


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One download.

    Attributes:
        url: Where from.
        size: Bytes.
        sha256: Of the content.
        date: When, in UTC.
        unpacked: How many files an archive held; ``None`` while it is not unpacked, and for other files.
    """

    url: str
    size: int
    sha256: str
    date: str
    unpacked: int | None = None


class Records(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every download below one folder, by its path relative to the data root."""

    schema_version: int = SCHEMA_VERSION
    files: dict[str, Record] = {}


def read_records(folder: Path) -> Records:
    """Read the downloads of a data set's folder; none where there is no file.

    Raises:
        CorruptFile: The file is damaged.
    """
    path = folder / NAME
    if not path.exists():
        return Records()
    try:
        records = msgspec.json.decode(path.read_bytes(), type=Records)
    except msgspec.DecodeError as error:
        raise CorruptFile(f"{path} is damaged: {error}.", hint="Delete it; digests are recorded anew.") from error
    if records.schema_version != SCHEMA_VERSION:
        raise CorruptFile(f"{path} has schema version {records.schema_version}, not {SCHEMA_VERSION}.")
    return records


def keep_record(folder: Path, path: str, record: Record) -> None:
    """Add one download; the caller holds the folder's lock."""
    files = {**read_records(folder).files, path: record}
    write_bytes(folder / NAME, msgspec.json.format(msgspec.json.encode(Records(files=files)), indent=2) + b"\n")


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
