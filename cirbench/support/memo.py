"""What was computed from files, kept on disk for as long as those files stay the same.

A file is taken for the same while its path, its size, the time of its last change in nanoseconds and its inode are. So
a change is missed only if a program puts the time of a file back after it has written to the same place and at the same
length; within `by_content` every file is read again. Files and folders that changed in the last moments are not
remembered: their time could stay the same through another change.

The memo is one SQLite database in the cache. Any number of processes may read and write it at once; where it is locked
for long, damaged or cannot be written, everything is computed as if there were no memo. Once in 30 days a process that
writes drops what follows from the numbers of runs and was kept more than 90 days ago, and facts of files that are gone.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import json
import os
import sqlite3
import stat
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cirbench.support.files import cache_root, sha256_of_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Signature = tuple[int, int, int]
"""Size, time of the last change in nanoseconds, and inode; of a folder the size counts as 0."""

_SETTLED_NS = 1_000_000_000
"""So old must a change be: clocks of file systems are coarse."""
_BATCH = 256
"""Facts that are written in one transaction."""
_DAY_S = 86400
_KEPT_DAYS = 90
"""So long is a result kept."""
_PRUNED_DAYS = 30
"""So often is the memo pruned."""
_LOOK_S = 2.0
"""So long are files looked for at most, which may lie in slow places."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (
    path TEXT, what TEXT, size INTEGER, changed INTEGER, inode INTEGER, value TEXT, PRIMARY KEY (path, what)
) WITHOUT ROWID;
DROP TABLE IF EXISTS results;
CREATE TABLE IF NOT EXISTS dated_results (key TEXT PRIMARY KEY, value TEXT, files TEXT, kept INTEGER) WITHOUT ROWID;
"""

NAME = "memo.sqlite3"
"""The file in the cache."""


def sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes.

    Raises:
        OSError: The file cannot be read.
    """
    return fact(path, "sha256", lambda: sha256_of_file(path))


def fact(path: Path, what: str, find: Callable[[], str]) -> str:
    """Return what is known of one file, or find it out.

    Args:
        path: The file.
        what: What it is that is known; with a version, where the way to find it may change.
        find: Reads the file.

    Raises:
        OSError: The file cannot be read.
    """
    name = str(path.absolute())
    signature = _signature(path.stat())
    _note(name, signature)
    known = None if _by_content else _memo().fact(name, what, signature)
    if known is not None:
        return known
    found = find()
    if _is_settled(signature):
        _memo().keep_fact(name, what, signature, found)
    return found


def recall(key: str) -> Any:
    """Return what was kept under a key, if every file that it rests on is as it was; else ``None``."""
    kept = None if _by_content else _memo().result(key)
    if kept is None:
        return None
    value, files = kept
    return value if all(_now(path) == tuple(signature) for path, signature in files.items()) else None


def keep(key: str, value: Any, files: Mapping[str, Signature]) -> None:
    """Keep a value of JSON types under a key for as long as some files stay as they are."""
    if all(map(_is_settled, files.values())):
        _memo().keep_result(key, value, files)


@contextlib.contextmanager
def by_content() -> Iterator[None]:
    """Let nothing be taken from the memo: files are read again, and the memo is brought up to date."""
    global _by_content
    before, _by_content = _by_content, True
    try:
        yield
    finally:
        _by_content = before


@contextlib.contextmanager
def files_read(into: dict[str, Signature] | None) -> Iterator[None]:
    """Collect the files that are opened for reading and the folders that are listed, as they were when that began.

    Libraries and the code of cirbench are left out, and so are the folders that Python looks for modules in.
    """
    global _collected
    if not _hooked:
        _hooked.append(True)
        sys.addaudithook(_audit)
    before, _collected = _collected, into
    try:
        yield
    finally:
        _collected = before


_by_content = False
_hooked: list[bool] = []
_collected: dict[str, Signature] | None = None
_PACKAGE = f"{Path(__file__).parent.parent}{os.sep}"
_LIBRARIES = (
    *{f"{Path(folder).resolve()}{os.sep}" for folder in (sys.prefix, sys.base_prefix)},
    *("/dev/", "/etc/", "/lib", "/proc/", "/sys/", "/usr/"),
)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _collected is None or event not in ("open", "os.listdir", "os.scandir"):
        return
    path = "." if arguments[0] is None else arguments[0]
    if isinstance(path, int) or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
        return
    path = Path(os.fsdecode(path)).absolute()
    if event != "open" and str(path) in (str(Path(folder).absolute()) for folder in sys.path):
        return
    if path.suffix == ".pyc":  # what counts is the module that it was compiled from
        path = path.parent.parent / f"{path.name.partition('.')[0]}.py"
    with contextlib.suppress(OSError):  # there is nothing to read
        _note(str(path), _signature(path.stat()))


def _note(path: str, signature: Signature) -> None:
    if _collected is None or "site-packages" in path or path.startswith(_LIBRARIES):
        return
    if not (path.startswith(_PACKAGE) and (path.endswith(".py") or signature[0] == 0)):
        _collected.setdefault(path, signature)


def _signature(status: os.stat_result) -> Signature:
    size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    return size, status.st_mtime_ns, status.st_ino


def _now(path: str) -> Signature | None:
    try:
        return _signature(Path(path).stat())
    except OSError:
        return None


def _is_settled(signature: Signature) -> bool:
    return time.time_ns() - signature[1] > _SETTLED_NS


class _Memo:
    """The database of one process; a process that is forked opens its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.process = os.getpid()
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, str], tuple[Signature, str]] = {}
        self._database: sqlite3.Connection | None = None
        with contextlib.suppress(OSError, sqlite3.Error):
            path.parent.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(path, timeout=10, check_same_thread=False)
            database.executescript(_SCHEMA)
            self._database = database
        atexit.register(self.flush)

    def fact(self, path: str, what: str, signature: Signature) -> str | None:
        """Return what is known of a file with this signature."""
        with self._lock:
            if (waiting := self._waiting.get((path, what))) is not None:
                return waiting[1] if waiting[0] == signature else None
            row = self._first("SELECT size, changed, inode, value FROM facts WHERE path = ? AND what = ?", path, what)
        return row[3] if row is not None and row[:3] == signature else None

    def keep_fact(self, path: str, what: str, signature: Signature, value: str) -> None:
        """Keep what was found out about a file; it is written with others."""
        with self._lock:
            self._waiting[path, what] = signature, value
            full = len(self._waiting) >= _BATCH
        if full:
            self.flush()

    def flush(self) -> None:
        """Write the facts that wait."""
        with self._lock:
            if self.process == os.getpid() and self._waiting:
                rows = [(*key, *signature, value) for key, (signature, value) in self._waiting.items()]
                self._write("INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?, ?, ?)", rows)
                self._waiting.clear()
                self._prune()

    def result(self, key: str) -> tuple[Any, dict[str, list[int]]] | None:
        """Return what is kept under a key, and the files that it rests on."""
        with self._lock:
            row = self._first("SELECT value, files FROM dated_results WHERE key = ?", key)
        return None if row is None else (json.loads(row[0]), json.loads(row[1]))

    def keep_result(self, key: str, value: Any, files: Mapping[str, Signature]) -> None:
        """Keep a value."""
        with self._lock:
            rows = [(key, json.dumps(value), json.dumps(files), int(time.time()))]
            self._write("INSERT OR REPLACE INTO dated_results VALUES (?, ?, ?, ?)", rows)
            self._prune()

    def _prune(self) -> None:
        """Drop what is old, and facts of files that are gone, unless that was done lately."""
        today, last = int(time.time()) // _DAY_S, self._first("PRAGMA user_version")
        if self._database is None or last is None or today - last[0] < _PRUNED_DAYS:
            return
        self._write("DELETE FROM dated_results WHERE kept < ?", [((today - _KEPT_DAYS) * _DAY_S,)])
        with contextlib.suppress(sqlite3.Error):
            self._database.execute(f"PRAGMA user_version = {today}")
            paths = self._database.execute("SELECT DISTINCT path FROM facts").fetchall()
            until = time.monotonic() + _LOOK_S
            looked_at = itertools.takewhile(lambda _: time.monotonic() < until, paths)
            self._write("DELETE FROM facts WHERE path = ?", [row for row in looked_at if not os.path.lexists(row[0])])

    def _first(self, query: str, *keys: str) -> tuple[Any, ...] | None:
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                row: tuple[Any, ...] | None = self._database.execute(query, keys).fetchone()
                return row
        return None

    def _write(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error), self._database:
                self._database.executemany(statement, rows)


_open: list[_Memo] = []


def _memo() -> _Memo:
    path = cache_root() / NAME
    if not _open or _open[0].path != path or _open[0].process != os.getpid():
        for other in _open:
            other.flush()
        _open[:] = [_Memo(path)]
    return _open[0]
