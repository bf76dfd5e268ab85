"""One file over HTTP: resumed, retried, hashed while it streams, and placed only when it is whole.

The bytes go to a hidden part file beside the target. Whatever ends a download, a dropped connection, a full disk or
``kill -9``, the next one goes on from there, if the server confirms that its file is still the same one (``If-Range``)
or the sha256 of the whole is known beforehand. A validator or a total that differs from the first answer's starts again
from zero; lengths and ranges that cannot be read are refused.
"""

from __future__ import annotations

import dataclasses
import email.utils
import hashlib
import importlib.metadata
import os
import re
import shutil
import time
from typing import TYPE_CHECKING, Any, NoReturn

import requests

from cirbench.errors import CirbenchError, CorruptFile, MissingData, excerpt, quoted
from cirbench.support.console import silent
from cirbench.support.files import writing_failed
from cirbench.support.textfiles import HEAD, placeholder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cirbench.support.console import Display

_CHUNK = 1 << 18
_PIECE = 1 << 14  # what is lost of the last piece when a connection breaks is less than this
_PASSING = {408, 425, 429, 500, 502, 503, 504}


@dataclasses.dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to put up with a server, in seconds.

    Attributes:
        attempts: Attempts in a row that bring no new byte before the download is given up.
        first_wait: The wait before the second attempt; it doubles with each further one.
        longest_wait: No wait is longer, whatever the server asks for.
        connect: For a connection to be made.
        read: Without a byte, after which a connection counts as stalled.
    """

    attempts: int = 6
    first_wait: float = 1.0
    longest_wait: float = 60.0
    connect: float = 15.0
    read: float = 60.0

    def wait(self, fruitless: int, asked: float = 0.0) -> float:
        """Return the wait after so many attempts without a new byte, and at least what the server asked for."""
        return min(self.longest_wait, max(asked, self.first_wait * 2.0 ** max(0, fruitless - 1)))


@dataclasses.dataclass(frozen=True, slots=True)
class Fetched:
    """What a download brought.

    Attributes:
        size: Bytes of the whole file.
        sha256: Of the whole file.
        resumed_at: Bytes that an earlier download had left behind.
    """

    size: int
    sha256: str
    resumed_at: int


def fetch(
    url: str,
    target: Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    patience: RetryPolicy | None = None,
    display: Display = silent,
    say: Callable[[str], None] = lambda line: None,
) -> Fetched:
    """Download ``url`` to ``target``, which appears only when it is whole and has the given size and sha256.

    The caller ensures that no other process downloads the same target.

    Raises:
        MissingData: The server does not have the file, or does not answer.
        CorruptFile: What it sent is not what was expected.
        CirbenchError: The disk is full, or the place cannot be written.
    """
    patience = patience or RetryPolicy()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _Part(target) as part, requests.Session() as session:
            session.headers["User-Agent"] = f"cirbench/{importlib.metadata.version('cirbench')}"
            transfer = _Transfer(session, url, part, size, sha256, patience, display, say)
            fetched = transfer.run()
            part.place()
    except requests.RequestException as error:  # the ones that no retry helps
        raise MissingData(f"{url} cannot be fetched: {excerpt(error)}.", hint=_by_hand(target)) from error
    except OSError as error:
        raise writing_failed(target, error) from error
    return fetched


def require_space(folder: Path, needed: int, what: str) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises:
        CirbenchError: Fewer than ``needed`` bytes are free where ``folder`` is or will be.
    """
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise CirbenchError(
            f"There is not enough space for {what} in {folder}: {needed:,} bytes are needed, {free:,} are free.",
            hint="Free some space, or give a --data-root on another disk.",
        )


class TransientError(Exception):
    """A failure that a later attempt may not meet."""

    def __init__(self, why: str, asked: float = 0.0) -> None:
        super().__init__(why)
        self.asked = asked


class _Part:
    """The bytes that are there so far, with their hash, and what the server called the file they belong to."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f".{target.name}.part")
        self._tag = target.with_name(f".{target.name}.tag")

    def __enter__(self) -> _Part:
        self._file = self.path.open("ab+")
        self._hasher = hashlib.sha256()
        self.size = 0
        self._file.seek(0)
        while piece := self._file.read(_CHUNK):
            self._hasher.update(piece)
            self.size += len(piece)
        tag = self._tag.read_text() if self._tag.exists() else ""
        self.validator, _, total = tag.partition("\n")
        self.total = int(total) if total.isdecimal() else None
        self.resumed_at = self.size
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()
        if self.size == 0:
            self.path.unlink(missing_ok=True)
            self._tag.unlink(missing_ok=True)

    @property
    def sha256(self) -> str:
        return self._hasher.hexdigest()

    def head(self) -> bytes:
        self._file.seek(0)
        return self._file.read(HEAD)

    def restart(self, validator: str = "", total: int | None = None) -> None:
        """Forget every byte, and remember what the server calls the file that follows, and how long it is."""
        self._file.truncate(0)
        self._hasher = hashlib.sha256()
        self.size = self.resumed_at = 0
        self.validator, self.total = validator, total
        self._tag.write_text(f"{validator}\n{'' if total is None else total}")

    def write(self, piece: bytes) -> None:
        self._file.write(piece)
        self._hasher.update(piece)
        self.size += len(piece)

    def place(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self.path.replace(self.target)
        self._tag.unlink(missing_ok=True)


@dataclasses.dataclass
class _Transfer:
    session: requests.Session
    url: str
    part: _Part
    size: int | None
    expected: str | None
    patience: RetryPolicy
    display: Display
    say: Callable[[str], None]

    def run(self) -> Fetched:
        """Attempt until the file is whole, the server refuses for good, or patience ends."""
        if self.part.size and not (self.part.validator or self.expected):
            self.part.restart()
        best = self.part.size
        fruitless = 0
        while not self._whole():
            try:
                self._attempt()
            except (
                TransientError,
                requests.ConnectionError,
                requests.Timeout,
                requests.exceptions.ChunkedEncodingError,
            ) as e:
                if isinstance(e, requests.exceptions.SSLError):
                    raise
                fruitless = 0 if self.part.size > best else fruitless + 1
                best = max(best, self.part.size)
                self._pause(_reason(e), fruitless, getattr(e, "asked", 0.0))
                continue
            break
        instead = placeholder(self.part.head()) if self.expected != self.part.sha256 else None
        if self.expected is None and instead is not None:
            self.part.restart()
            self._refuse(f"it sent {instead[0]}")
        if self.expected not in (None, self.part.sha256) or self.size not in (None, self.part.size):
            found = f"{self.part.size} bytes with sha256 {self.part.sha256}"
            resumed = self.part.resumed_at > 0
            self.part.restart()
            if resumed:
                self.say(f"What an earlier download had left of {self.part.target.name} does not fit; starting again.")
                return self.run()
            wanted = f"{'any number of' if self.size is None else self.size} bytes with sha256 {self.expected}"
            if instead is not None:
                self._refuse(f"it sent {instead[0]}")
            raise CorruptFile(
                f"{self.url} is not the file that was published: it sent {found}, not {wanted}.",
                hint="A proxy or a mirror may have changed it. " + _by_hand(self.part.target),
            )
        return Fetched(self.part.size, self.part.sha256, self.part.resumed_at)

    def _whole(self) -> bool:
        return self.size is not None and self.part.size >= self.size > 0

    def _pause(self, why: str, fruitless: int, asked: float) -> None:
        if fruitless >= self.patience.attempts:
            raise MissingData(
                f"{self.url} cannot be fetched: {why}, {fruitless} times in a row.",
                hint=f"What was fetched ({self.part.size} bytes) is kept: run the same command again to resume.",
            )
        wait = self.patience.wait(fruitless, asked)
        self.say(f"{self.part.target.name}: {why}; trying again in {wait:.0f} s.")
        time.sleep(wait)

    def _attempt(self) -> None:
        headers = {"Accept-Encoding": "identity"}
        if self.part.size:
            headers["Range"] = f"bytes={self.part.size}-"
            if self.part.validator:
                headers["If-Range"] = self.part.validator
        timeout = (self.patience.connect, self.patience.read)
        with self.session.get(self.url, headers=headers, stream=True, timeout=timeout) as response:
            self._judge(response)
            length = self._length(response)
            if not self._continues(response):
                self.part.restart(_validator(response), length)
                if length is None and self.size is None and self.expected is None:
                    self.say(
                        f"{self.part.target.name}: the server does not say how long it is; a loss stays unnoticed."
                    )
            left = length or 0
            if self.size is not None and left and self.part.size + left != self.size:
                self._refuse(f"it offers {self.part.size + left} bytes, and {self.size} were published")
            require_space(self.part.target.parent, left, self.part.target.name)
            with self.display(self.part.target.name, left, unit="B") if left else silent("", 0) as advance:
                for piece in response.iter_content(_PIECE):
                    self.part.write(piece)
                    advance(len(piece))
        if self.part.total is not None and self.part.size < self.part.total:
            raise TransientError("the server sent a part of the file only")

    def _judge(self, response: requests.Response) -> None:
        """Raise unless the response brings the file."""
        if response.status_code == 416:
            self.part.restart()
            raise TransientError("the server does not have the rest of what was begun")
        if response.status_code in _PASSING:
            raise TransientError(f"the server answers {_status(response)}", retry_after(response))
        if response.status_code not in (200, 206):
            raise MissingData(
                f"{self.url} cannot be fetched: the server answers {_status(response)}.",
                hint=f"It may have moved. {_by_hand(self.part.target)}",
            )
        if self.url.startswith("https:") and not response.url.startswith("https:"):
            self._refuse(f"it leads to {response.url}, which is not encrypted")
        if "text/html" in response.headers.get("Content-Type", ""):
            self._refuse("it answers with a web page, as login pages of networks do")

    def _length(self, response: requests.Response) -> int | None:
        """How many bytes of the file follow, if the response says so."""
        stated = response.headers.get("Content-Length")
        if stated is None or response.headers.get("Content-Encoding", "identity") != "identity":
            return None
        if not re.fullmatch(r"[0-9]+", stated.strip()):
            self._refuse(f"its Content-Length is {quoted(stated)}, not a number of bytes")
        return int(stated)

    def _continues(self, response: requests.Response) -> bool:
        """Whether the response goes on exactly where the part ends, with the rest of the same file."""
        if response.status_code != 206:
            return False
        stated = response.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes ([0-9]+)-[0-9]+/([0-9]+|\*)", stated.strip())
        if match is None:
            self._refuse(f"its Content-Range is {quoted(stated)}, not a range of bytes")
        first, total = match.groups()
        validator = _validator(response)
        change = None
        if int(first) != self.part.size:
            change = "the server sent another part of the file than the one that was asked for"
        elif validator and self.part.validator and validator != self.part.validator:
            change = "the file has changed on the server since it was begun"
        elif total != "*" and self.part.total not in (None, int(total)):
            change = f"the file has {int(total):,} bytes on the server now, and had {self.part.total:,}"
        if change is None:
            return True
        self.part.restart()
        raise TransientError(change)

    def _refuse(self, why: str) -> NoReturn:
        raise CorruptFile(f"{self.url} is not fetched: {why}.", hint=_by_hand(self.part.target))


def _by_hand(target: Path) -> str:
    return f"Fetch it by other means, put it at {target}, and run the same command again."


def _status(response: requests.Response) -> str:
    return f"{response.status_code} {response.reason or ''}".strip()


def _reason(error: Exception) -> str:
    if isinstance(error, TransientError):
        return str(error)
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return "the connection stalled"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    return f"the connection failed ({_innermost(error)})"


def _innermost(error: BaseException) -> str:
    cause: Any = error
    while getattr(cause, "reason", None) is not None or (cause.args and isinstance(cause.args[0], BaseException)):
        cause = getattr(cause, "reason", None) or cause.args[0]
    return str(cause)


def _validator(response: requests.Response) -> str:
    etag = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")


def retry_after(response: requests.Response) -> float:
    """Return the seconds that a server asks to wait, as a number or until a date; 0 where it asks for none."""
    asked = response.headers.get("Retry-After", "")
    if asked.isascii() and asked.isdecimal():
        return float(asked)
    date = email.utils.parsedate_tz(asked)
    return 0.0 if date is None else max(0.0, email.utils.mktime_tz(date) - time.time())
