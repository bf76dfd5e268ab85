"""Getting a benchmark: each missing file fetched, verified and recorded; archives unpacked inside the target folder.

An archive is refused whole if one member could: a path that climbs or is absolute, a link, a device, a name twice, more
data than its size can honestly hold. Members are unpacked beside the target and moved into it when all of them are out,
so that an interrupted extraction leaves nothing half-written.
"""

from __future__ import annotations

import contextlib
import dataclasses
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING

import msgspec
from filelock import FileLock, Timeout

from cirbench.benchmarks.annotation_files import place_of
from cirbench.benchmarks.files.plan import missing_images
from cirbench.benchmarks.interface import Archive
from cirbench.errors import CheckFailed, CorruptFile, MissingData, excerpt, quoted
from cirbench.support.console import silent
from cirbench.support.download import RetryPolicy, fetch, require_space
from cirbench.support.files import sha256_of_file, utc_now, write_bytes, writing_failed
from cirbench.support.textfiles import refuse_placeholder

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from pathlib import Path

    from cirbench.benchmarks.interface import DatasetFiles, ImageSet, RemoteFile
    from cirbench.support.console import Display

_CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What an honest archive stays below.

    Attributes:
        ratio: Unpacked bytes per packed byte. Photographs hardly shrink, annotations in JSON by a factor of ten.
        floor: Unpacked bytes that are allowed at any ratio.
        total: Unpacked bytes altogether.
        members: Files and folders.
    """

    ratio: int = 100
    floor: int = 1 << 24
    total: int = 1 << 37
    members: int = 2_000_000

    def bytes_of(self, archive: Path) -> int:
        """Return how many bytes an archive may unpack to."""
        return min(self.total, max(self.floor, self.ratio * archive.stat().st_size))


@dataclasses.dataclass(frozen=True, slots=True)
class _Member:
    """One entry of an archive; ``odd`` says what it is when it is neither a plain file nor a folder."""

    name: str
    size: int
    packed: int
    is_folder: bool
    odd: str | None
    open: Callable[[], IO[bytes] | None]


def extract(
    archive: Path,
    target: Path,
    *,
    only: Collection[str] = (),
    limits: Limits | None = None,
    display: Display = silent,
) -> int:
    """Unpack a zip or tar archive into ``target``, into folders that may be there already, and return the file count.

    Args:
        archive: The archive; a tar may be compressed.
        target: The folder that members are placed below.
        only: Unpack these members and leave the others out; they must be there. Everything, if empty.
        limits: What an honest archive stays below.
        display: Shows the progress.

    Raises:
        CheckFailed: A member would leave the target, is not a plain file or folder, or the archive is a bomb.
        CorruptFile: The archive is damaged, or lacks a member of ``only``.
        CirbenchError: The disk is full, or the place cannot be written.
    """
    staging = target / f".{archive.name}.unpacking"
    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        packed = archive.stat().st_size
        with _naming_damage(archive), _opened(archive) as members, display("unpacking", packed, unit="B") as advance:
            files = _unpack(archive, members, staging, set(only), limits or Limits(), advance)
        _move(archive, files, staging, target)
        return len(files)
    except OSError as error:
        raise writing_failed(target, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _unpack(
    archive: Path,
    members: Iterator[_Member],
    staging: Path,
    only: set[str],
    limits: Limits,
    advance: Callable[[int], None],
) -> list[PurePosixPath]:
    """Write every wanted file below ``staging``; return their paths."""
    allowed = limits.bytes_of(archive)
    seen: dict[PurePosixPath, None] = {}
    written = 0
    for count, member in enumerate(members, 1):
        if count > limits.members:
            raise _unsafe(archive, f"it holds more than {limits.members} members")
        path = _inside(archive, member)
        if member.is_folder or (only and str(path) not in only):
            continue
        if path in seen:
            raise _unsafe(archive, f"it holds {quoted(member.name)} twice")
        if written + member.size > allowed:
            raise _unsafe(archive, f"it would unpack to more than {allowed} bytes, as bombs do")
        seen[path] = None
        place = staging / path
        place.parent.mkdir(parents=True, exist_ok=True)
        content = member.open()
        if content is None:
            raise CorruptFile(f"The archive {archive} is damaged: {quoted(member.name)} has no content.")
        with content, place.open("xb") as file:
            while piece := content.read(_CHUNK):
                written += len(piece)
                if written > allowed:
                    raise _unsafe(archive, f"it unpacks to more than {allowed} bytes, as bombs do")
                file.write(piece)
        advance(member.packed)
    if absent := sorted(only - {str(path) for path in seen}):
        raise CorruptFile(f"The archive {archive} does not hold {', '.join(absent)}.")
    return list(seen)


def _inside(archive: Path, member: _Member) -> PurePosixPath:
    """Return the member's relative path, if it stays inside and is a plain file or folder."""
    path = PurePosixPath(member.name)
    if member.odd is not None:
        raise _unsafe(archive, f"{quoted(member.name)} is {member.odd}")
    if path.is_absolute() or ".." in path.parts or any(sign in member.name for sign in ("\\", ":", "\0")):
        raise _unsafe(archive, f"{quoted(member.name)} leads out of the folder")
    if not path.parts and not member.is_folder:
        raise _unsafe(archive, "it holds a file without a name")
    return path


def _move(archive: Path, files: list[PurePosixPath], staging: Path, target: Path) -> None:
    """Move every file to its place; folders on the way must not be links that lead elsewhere."""
    inside = target.resolve()
    for folder in dict.fromkeys(path.parent for path in files):
        (target / folder).mkdir(parents=True, exist_ok=True)
        if not (target / folder).resolve().is_relative_to(inside):
            raise _unsafe(archive, f"{target / folder} is a link that leads out of the folder")
    for path in files:
        (staging / path).replace(target / path)


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[Iterator[_Member]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            yield (_of_zip(opened, info) for info in opened.infolist())
    else:
        with tarfile.open(archive, "r:*") as tar:
            yield (_of_tar(tar, info) for info in tar)


def _of_zip(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    mode = info.external_attr >> 16
    odd = None
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        odd = "a link" if stat.S_ISLNK(mode) else "a device"
    elif info.flag_bits & 1:
        odd = "encrypted"
    return _Member(
        info.orig_filename, info.file_size, info.compress_size, info.is_dir(), odd, lambda: opened.open(info)
    )


def _of_tar(tar: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    odd = None
    if not (info.isfile() or info.isdir()):
        odd = "a link" if info.issym() or info.islnk() else "a device"
    return _Member(info.name, info.size, info.size, info.isdir(), odd, lambda: tar.extractfile(info))


@contextlib.contextmanager
def _naming_damage(archive: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError) as error:
        refuse_placeholder(archive, "archive")
        raise CorruptFile(
            f"The archive {archive} is damaged: {excerpt(error)}.", hint="Delete it and fetch it again."
        ) from error


def _unsafe(archive: Path, why: str) -> CheckFailed:
    return CheckFailed(
        f"The archive {archive} is refused: {why}. Nothing of it was unpacked.",
        hint="Do not use this archive; fetch the data set from its authors.",
    )


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

    def images(self, sources: DatasetFiles, names_of: Callable[[ImageSet, Path], list[str]]) -> None:
        """Bring every image that can be fetched and is not there in any layout; the annotations must be there.

        Args:
            sources: The files.
            names_of: Names the images of a set, from the annotations in a data root.

        Raises:
            MissingData: As in `annotations`.
            CorruptFile: As in `annotations`.
            CirbenchError: As in `annotations`.
        """
        for images in sources.images:
            names = names_of(images, self.root)
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
            record = recorded or Record(file.url, target.stat().st_size, expected or sha256_of_file(target), utc_now())
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
            record = Record(url, fetched.size, fetched.sha256, utc_now())
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
