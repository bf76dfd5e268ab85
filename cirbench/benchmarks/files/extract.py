"""Archives unpacked without ever leaving the target folder.

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

from cirbench.errors import CheckFailed, CorruptFile, excerpt, quoted
from cirbench.support.console import silent
from cirbench.support.files import writing_failed
from cirbench.support.textfiles import refuse_placeholder

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

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
