"""Every error that cirbench raises on purpose.

An error is written for the person who reads it: what went wrong, why, and what to type next. The command line
prints it in that order without a traceback, and exits with the code of its class:

    CirbenchError              1  the run failed
    ├── UsageError             2  an option, a name or a parameter is wrong
    │   └── UnknownName        2  … and here are the nearest ones
    ├── MissingData            3  images, annotations or weights are not there, or not whole
    │   └── CorruptFile        3  … a file is there, and is damaged
    ├── CheckFailed            4  a file or a plug-in broke a rule that was checked
    │   └── InvalidPredictions 4  … predictions that cannot be scored
    └── PluginFailed           5  a plug-in cannot be loaded, or is not what it is registered as
        └── MethodFailed       5  … a method failed, or returned what it must not
"""

from __future__ import annotations

import difflib
import unicodedata
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


QUOTED = 200
"""Characters of foreign content that a message shows at most."""


def excerpt(text: object) -> str:
    """Show foreign text in a message: the first `QUOTED` characters, those that act without being seen as escapes."""
    whole = str(text)
    shown = _printable(whole[:QUOTED])
    return shown if len(shown) <= QUOTED and len(whole) <= QUOTED else f"{shown[: QUOTED - 1]}…"


def excerpt_of_path(path: object) -> str:
    """Show a foreign path in a message, as `excerpt`; of one that is longer the end, where the file's name is."""
    whole = str(path)
    shown = _printable(whole[-QUOTED:])
    return shown if len(shown) <= QUOTED and len(whole) <= QUOTED else f"…{shown[1 - QUOTED :]}"


_JOINERS = "\u200c\u200d"  # parts of words and of emoji
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def visible(text: str) -> str:
    r"""Show each control, bidirectional, invisible or broken character as an escape, ``\x1b`` or ``\u202e``."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(sign) if hidden(sign) else sign for sign in text)


def hidden(sign: str) -> bool:
    """Whether a character acts without being seen: C0 and C1 controls, bidi controls, separators, lone surrogates."""
    return unicodedata.category(sign) in _HIDDEN and sign not in _JOINERS


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else _escape(sign) for sign in text)


def _escape(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")


def quoted(value: object, most: int = QUOTED) -> str:
    """Show a foreign value in a message as Python writes it, at most so many characters of it."""
    shown = repr(value[: most + 1] if isinstance(value, str | bytes) else value)
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def some(names: Sequence[object], most: int = 10, show: Callable[[object], str] = excerpt) -> str:
    """Name the first of many in a message, at most `QUOTED` characters of them, and say how many more there are."""
    shown: list[str] = []
    for name in map(show, names[:most]):
        if shown and len(", ".join([*shown, name])) > QUOTED:
            break
        shown.append(name)
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


class CirbenchError(Exception):
    """Something went wrong that the user can act on.

    Args:
        message: What went wrong and why, in one or two sentences that name the file, query or item.
        hint: What to do next, preferably a command to type.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        hint = () if self.hint is None else self.hint.split("\n")
        return "\n".join(map(visible, (self.message, *hint)))


class UsageError(CirbenchError):
    """An option, a name or a parameter is wrong."""

    exit_code = 2


_MOST = 40
"""Names that a message lists."""


class UnknownName(UsageError):
    """A name that nothing answers to; the hint offers the nearest ones.

    Args:
        kind: What was looked up, for instance ``"method"``.
        name: What was asked for.
        known: Every name that exists.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], *, hint: str | None = None) -> None:
        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        first = ", ".join(known[:_MOST]) + (f" and {len(known) - _MOST} more" if len(known) > _MOST else "")
        offered = f"Nearest: {', '.join(near)}." if near else f"Known: {first or 'none'}."
        super().__init__(f"There is no {kind} called {quoted(name)}.", hint=" ".join(filter(None, (offered, hint))))


class MissingData(CirbenchError):
    """Images, annotations or weights are absent or incomplete."""

    exit_code = 3


class CorruptFile(MissingData):
    """A file exists and its content is damaged or not what it claims to be."""


class CheckFailed(CirbenchError):
    """A rule that was checked does not hold."""

    exit_code = 4


class InvalidPredictions(CheckFailed):
    """Predictions that cannot be scored: unknown, missing or repeated ids, or a broken file."""


class PluginFailed(CirbenchError):
    """A plug-in of any kind could not be loaded, or is not what it is registered as."""

    exit_code = 5


class MethodFailed(PluginFailed):
    """A method raised, or returned what it must not."""
