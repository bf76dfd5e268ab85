"""Files written atomically, locked, hashed; JSON files with a schema version, read strictly and brought up to date.

A reader never sees a half-written file: content goes to a temporary name in the same folder, is flushed to disk,
and takes its place by an atomic rename. A full disk or a missing permission becomes one clear error.
"""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import errno
import functools
import glob
import hashlib
import json
import os
import re
import sys
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, TypeVar

import msgspec

from cirbench.errors import CirbenchError, CorruptFile, MissingData
from cirbench.support.textfiles import nfc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    Migration = Callable[[dict[str, Any]], dict[str, Any]]

_CHUNK = 1 << 20


@contextlib.contextmanager
def atomic_writer(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file that appears at ``path`` only when the block ends without an exception.

    Raises:
        CirbenchError: The disk is full, or the place cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise writing_failed(path, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise writing_failed(path, error) from error
        raise


def remove_partial(folder: Path, names: Iterable[str]) -> None:
    """Remove what writers that were killed have left of files in a folder; only where nobody else writes them."""
    for name in names:
        for path in folder.glob(f".{glob.escape(name)}.*.part"):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``, so that two processes do not do the same work; a killed process lets it go.

    Raises:
        CirbenchError: The place cannot be written.
    """
    from filelock import FileLock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(path).acquire()
    except OSError as error:
        raise writing_failed(path, error) from error
    with held:
        yield


@contextlib.contextmanager
def locked_if_free(path: Path) -> Iterator[bool]:
    """Hold the lock file ``path`` if nobody else does; yield whether it is held."""
    from filelock import FileLock, Timeout

    try:
        held = FileLock(path).acquire(timeout=0)
    except Timeout:
        yield False
        return
    except OSError as error:
        raise writing_failed(path, error) from error
    with held:
        yield True


def hold_shared(path: Path, owner: object) -> None:
    """Hold a lock file together with whoever else reads the same, for as long as ``owner`` lives.

    So `locked_if_free` keeps its hands off. Where a system or a file system has no such locks, nothing is held.
    """
    with contextlib.suppress(ImportError, OSError):
        import fcntl

        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        weakref.finalize(owner, os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)


def lock_of(folder: Path) -> Path:
    """The lock file of a folder: beside it, so that it stays when the folder is removed."""
    return folder.with_name(f".{folder.name}.lock")


def utc_now() -> str:
    """Return the time in UTC, to the second, as files that are written say it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically."""
    with atomic_writer(path) as file:
        file.write(content)


def write_text(path: Path, content: str) -> None:
    """Write ``content`` to ``path`` atomically, as UTF-8."""
    write_bytes(path, content.encode())


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` to ``path`` atomically as indented JSON; NaN and infinities are refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def make_folder(path: Path) -> None:
    """Make a folder and those above it, if they are not there.

    Raises:
        CirbenchError: The place cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise writing_failed(path, error) from error


def spelled(folder: Path, name: str) -> Path:
    """Return the path of a name below a folder as the disk spells it; names are one if they are one after NFC."""
    path = place = folder / name
    try:
        if name.isascii() or path.exists():
            return path
        place = folder
        for part in Path(name).parts:
            there = (place / part).exists()
            place /= part if there else _spellings(place, place.stat().st_mtime_ns).get(nfc(part), part)
    except OSError:  # a folder on the way is absent, or the name is too long
        return path
    return place


@functools.lru_cache(maxsize=1024)
def _spellings(folder: Path, modified_ns: int) -> dict[str, str]:  # the time is part of the key: a changed folder
    return {nfc(path.name): path.name for path in sorted(folder.iterdir(), reverse=True)}


_EXCHANGE, _HERE = 2, -100  # RENAME_EXCHANGE and AT_FDCWD of Linux


def exchange(new: Path, place: Path) -> None:
    """Put a folder in a place, and what was there, if anything, where the folder came from.

    On Linux both happen in one step, so that whoever looks finds the one or the other. Where the system cannot do that,
    the earlier folder is renamed aside first, and put back if the new one cannot take its place.

    Raises:
        CirbenchError: The place cannot be written.
    """
    try:
        if not place.exists():
            new.rename(place)
        elif not _exchanged(new, place):
            aside = new.with_name(f"{new.name}.earlier")
            place.rename(aside)
            try:
                new.rename(place)
            except BaseException:
                aside.rename(place)
                raise
            aside.rename(new)
    except OSError as error:
        raise writing_failed(place, error) from error


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two names by one call of the system; return whether it could."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    return call is not None and call(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0


def digest(value: Any) -> str:
    """Return the sha256 of ``value`` as canonical JSON: sorted keys, no spaces, UTF-8."""
    return hashlib.sha256(_canonical(value)).hexdigest()


def digest_of_rows(rows: Sequence[Any]) -> str:
    """Return the `digest` of a list; only one row of it is held as JSON at a time."""
    hasher = hashlib.sha256(b"[")
    for nth, row in enumerate(rows):
        hasher.update(b"," * (nth > 0) + _canonical(row))
    hasher.update(b"]")
    return hasher.hexdigest()


def _canonical(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def sha256_of_file(path: Path) -> str:
    """Return the sha256 of a file's bytes, read in pieces of one MiB."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            hasher.update(piece)
    return hasher.hexdigest()


def writing_failed(path: Path, error: OSError) -> CirbenchError:
    """Say why ``path`` could not be written, and what helps."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return CirbenchError(
            f"No space is left on the disk while writing {path}.", hint="Free some space and run again."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return CirbenchError(f"No permission to write {path}.", hint="Choose another place, or change the permissions.")
    return CirbenchError(f"{path} could not be written: {error.strerror or error}.")


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


T = TypeVar("T")

LIMIT = 16 << 20
"""Bytes; what we write is far smaller, so a larger file is not ours."""


class _Version(msgspec.Struct):
    schema_version: Annotated[int, msgspec.Meta(ge=1)]


def read_versioned(
    path: Path,
    kind: type[T],
    *,
    version: int,
    migrations: Mapping[int, Migration] | None = None,
    limit: int = LIMIT,
    hint: str | None = None,
) -> T:
    """Read a file that carries a ``schema_version``.

    Args:
        path: The file.
        kind: What it holds, in its newest form.
        version: Of that form.
        migrations: By version, how to turn the content of a file of that version into the next one's.
        limit: In bytes; a larger file is not read.
        hint: What helps against damage.

    Raises:
        MissingData: It cannot be read.
        CorruptFile: It is damaged, too large, or was written by a newer version.
    """
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise MissingData(f"{path} cannot be read: {error.strerror or error}.") from error
    if len(content) > limit:
        raise CorruptFile(f"{path} is larger than {limit:,} bytes, which no file of its kind is.", hint=hint)
    try:
        values = msgspec.json.decode(content, type=dict[str, Any])
        found = msgspec.convert(values, _Version).schema_version
        if found > version:
            raise CorruptFile(
                f"{path} has schema version {found}; this cirbench reads up to {version}.", hint="Upgrade cirbench."
            )
        for step in range(found, version):
            values = (migrations or {})[step](values)
        return msgspec.convert(values, kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError, TypeError) as error:
        raise CorruptFile(f"{path} is damaged: {error}.", hint=hint) from error


def write_versioned(path: Path, value: msgspec.Struct) -> None:
    """Write a value that carries its ``schema_version`` as indented JSON, atomically."""
    write_bytes(path, msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def slug(name: str) -> str:
    """Make a file name of a name: lower-case letters, digits and single hyphens; at most 80, and never nothing."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return plain[:80] or hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def cache_root() -> Path:
    """Return the folder of everything that can be computed again: ``CIRBENCH_CACHE``, or the user's cache folder."""
    import platformdirs

    chosen = os.environ.get("CIRBENCH_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("cirbench", appauthor=False))
