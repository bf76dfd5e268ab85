"""Getting a benchmark: every missing file, verified and recorded; existing files are never overwritten."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import msgspec
from filelock import FileLock, Timeout

from cirbench.benchmarks.annotation_files import place_of
from cirbench.benchmarks.files.extract import extract
from cirbench.benchmarks.files.plan import missing_images, needed_images
from cirbench.benchmarks.files.remote import Archive
from cirbench.errors import CorruptFile, MissingData
from cirbench.support.console import silent
from cirbench.support.download import RetryPolicy, fetch, require_space
from cirbench.support.files import sha256_of_file, write_bytes, writing_failed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from cirbench.benchmarks.entry import ProtocolEntry
    from cirbench.benchmarks.files.remote import DatasetFiles, RemoteFile
    from cirbench.support.console import Display

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
        raise CorruptFile(f"{path} is damaged: {error}.", hint="Delete it; digests are recorded again.") from error
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


LOCK = ".cirbench-downloads.lock"


@dataclasses.dataclass(frozen=True, slots=True)
class Getter:
    """Brings files into a data root.

    Attributes:
        root: The data root.
        mirror: Fetch every file from here instead, at its path relative to the data root; digests are checked.
        offline: Fetch nothing, and say what is missing.
        patience: When to give up on a server.
        display: Shows the progress.
        say: Prints what happens, line by line.
    """

    root: Path
    mirror: str | None = None
    offline: bool = False
    patience: RetryPolicy = dataclasses.field(default_factory=RetryPolicy)
    display: Display = silent
    say: Callable[[str], None] = lambda line: None

    def annotations(self, sources: DatasetFiles) -> None:
        """Bring every annotation file.

        Raises:
            MissingData: A file cannot be fetched, or may not be, being offline.
            CorruptFile: A file is not what was published.
            CirbenchError: The disk is full, or the place cannot be written.
        """
        self._bring(file for file in sources.annotations if not (isinstance(file, Archive) and self._has(file.yields)))

    def images(self, sources: DatasetFiles, wanted: Iterable[ProtocolEntry]) -> None:
        """Bring every image that can be fetched and is not there in any layout; the annotations must be there.

        Raises:
            MissingData: As in `annotations`.
            CorruptFile: As in `annotations`.
            CirbenchError: As in `annotations`.
        """
        wanted = tuple(wanted)
        for images in sources.images:
            names = needed_images(images, wanted, self.root)
            if names and not missing_images(images, names, self.root):
                self.say(f"{images.title}: all {len(names)} images are there.")
                continue
            self._bring(archive for archive in images.archives if not self._unpacked(archive))
            if images.archives and (left := missing_images(images, names, self.root)):
                place = " and ".join(str(place_of(self.root, archive.yields)) for archive in images.archives)
                self.say(f"{images.title}: {len(left)} images are still missing. To fetch again, delete {place}.")

    def _bring(self, files: Iterable[RemoteFile]) -> None:
        files = tuple(files)
        if self.offline and (absent := [file for file in files if not self._has(file.path)]):
            raise MissingData(
                f"These files are not there, and --offline forbids to fetch them: {_listed(absent, self.root)}.",
                hint="Leave --offline out, or copy them there: "
                + ", ".join(dict.fromkeys(file.url for file in absent))
                + ".",
            )
        for file in files:
            with self._locked(file):
                self._bring_one(file)

    def _bring_one(self, file: RemoteFile) -> None:
        folder = self._folder(file)
        target = place_of(self.root, file.path)
        recorded = read_records(folder).files.get(file.path)
        expected = file.sha256 or (recorded.sha256 if recorded else None)
        if isinstance(file, Archive) and self._unpacked(file):
            return  # by another process, while this one waited
        if target.exists():
            self._verify(file, target, expected)
            self.say(f"{file.path}: already there.")
            record = recorded or Record(file.url, target.stat().st_size, expected or sha256_of_file(target), now())
        else:
            if isinstance(file, Archive) and file.size is not None:
                part = target.with_name(f".{target.name}.part")
                begun = part.stat().st_size if part.exists() else 0
                unpacked = file.size if file.unpacked is None else file.unpacked
                require_space(target.parent, max(0, file.size - begun) + unpacked, f"{file.path}, packed and unpacked,")
            url = file.url if self.mirror is None else f"{self.mirror.rstrip('/')}/{file.path}"
            fetched = fetch(
                url,
                target,
                size=file.size,
                sha256=expected,
                patience=self.patience,
                display=self.display,
                say=self.say,
            )
            record = Record(url, fetched.size, fetched.sha256, now())
            resumed = f", resumed at {fetched.resumed_at}" if fetched.resumed_at else ""
            self.say(f"{file.path}: {fetched.size} bytes{resumed}, {_how_sure(file, expected, fetched.sha256)}.")
        if isinstance(file, Archive):
            into = place_of(self.root, file.into)
            count = extract(target, into, only=file.only, display=self.display)
            record = msgspec.structs.replace(record, unpacked=count)
            target.unlink()
            self.say(f"{file.path}: {count} files unpacked into {into}; the archive is deleted.")
        keep_record(folder, file.path, record)

    def _verify(self, file: RemoteFile, target: Path, expected: str | None) -> None:
        if expected is not None and (found := sha256_of_file(target)) != expected:
            whose = "published" if file.sha256 else "fetched at first"
            raise CorruptFile(
                f"{target} is not the file that was {whose}: its sha256 is {found}, not {expected}.",
                hint="Nothing is overwritten: move it away, and run the same command again.",
            )

    def _unpacked(self, archive: Archive) -> bool:
        record = read_records(self._folder(archive)).files.get(archive.path)
        return record is not None and record.unpacked is not None and self._has(archive.yields)

    def _has(self, path: str) -> bool:
        return place_of(self.root, path).exists()

    def _folder(self, file: RemoteFile) -> Path:
        return place_of(self.root, PurePosixPath(file.path).parts[0])

    @contextlib.contextmanager
    def _locked(self, file: RemoteFile) -> Iterator[None]:
        """Keep other processes from fetching into the same folder."""
        folder = self._folder(file)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / LOCK)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                self.say(f"Another process is fetching into {folder}; waiting for it.")
                lock.acquire()
        except OSError as error:
            raise writing_failed(folder, error) from error
        try:
            yield
        finally:
            lock.release()


def _how_sure(file: RemoteFile, expected: str | None, found: str) -> str:
    if file.sha256 is not None:
        return "sha256 as published"
    return "sha256 as at first" if expected else f"sha256 {found} recorded, since none was known"


def _listed(files: Iterable[RemoteFile], root: Path) -> str:
    return ", ".join(str(place_of(root, file.path)) for file in files)
