"""Files that are whole or absent, and digests of what they hold.

A reader never sees a half-written file: content goes to a temporary name in the same folder, is flushed to disk,
and takes its place by an atomic rename. A full disk or a missing permission becomes one clear error.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from cirbench.errors import CirbenchError

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def digest(value: Any) -> str:
    """Return the sha256 of ``value`` as canonical JSON: sorted keys, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


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
