"""What a piece of work rests on: whether it is there, how large it is, and what to type to get it.

Packages that only some work needs are extras of cirbench, and are imported where they are needed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.metadata
import textwrap
from typing import TYPE_CHECKING, Any

from cirbench.errors import MissingData
from cirbench.support import console

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


MODELS = ("torch", "open_clip_torch", "transformers", "sentence-transformers", "numpy", "pillow", "safetensors")
"""The packages whose version may move a feature."""


def require(package: str, *, extra: str, purpose: str) -> Any:
    """Import a package of an extra and return the module.

    Args:
        package: What to import, for instance ``"transformers"``.
        extra: The extra of cirbench that brings it.
        purpose: What needs it, as the beginning of a sentence: ``"BLIP"``.

    Raises:
        MissingData: It is not installed; the hint is the command to type.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package.partition(".")[0]:
            raise
        raise MissingData(
            f"{purpose} needs the package {error.name}, which is not installed.",
            hint=f"pip install 'cirbench[{extra}]'",
        ) from error


def data_frame(columns: Mapping[str, Any]) -> Any:
    """Build a pandas data frame from columns of one length.

    Raises:
        MissingData: pandas is not installed; the hint is the command to type.
    """
    return require("pandas", extra="pandas", purpose="A data frame").DataFrame(dict(columns))


def versions(packages: Iterable[str]) -> dict[str, str]:
    """The versions of packages, by the name that they are installed by; those that are not installed are left out."""
    found: dict[str, str] = {}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


PROGRAMS = ("cirbench", "hf", "img2dataset", "pip", "curl", "sed")
"""What a line of `Need.how` begins with if it is a command."""

UNKNOWN = "size unknown"
_LEAST_WIDTH = 60


@dataclasses.dataclass(frozen=True, slots=True)
class Need:
    """One thing that a piece of work rests on.

    Attributes:
        what: In one or two words: annotations, images, weights, checkpoint ...
        which: Which one, in a phrase.
        there: Whether it is there.
        size: How much is to be fetched: ``"20.1 GB"``, or `UNKNOWN`; empty where nothing is.
        how: How to get it, line by line; one that begins with one of `PROGRAMS` is a command and is never broken.
        automatic: Whether the work gets it by itself, so that its absence is no reason to refuse.
    """

    what: str
    which: str
    there: bool
    size: str = ""
    how: tuple[str, ...] = ()
    automatic: bool = False

    @property
    def blocks(self) -> bool:
        """Whether the work cannot be done without somebody getting it."""
        return not self.there and not self.automatic


def size_of(sizes: Iterable[int | None]) -> str:
    """Add sizes in bytes, some of which may not be known, for people."""
    sizes = [*sizes]
    known, unknown = sum(filter(None, sizes)), sizes.count(None)
    if not unknown:
        return console.amount(known, "B")
    if not known:
        return UNKNOWN
    return f"{console.amount(known, 'B')} and {unknown} file{'s' if unknown > 1 else ''} of unknown size"


def is_command(line: str) -> bool:
    """Say whether a line of `Need.how` is to be typed."""
    return line.partition(" ")[0] in PROGRAMS


def need_lines(needs: Iterable[Need]) -> Iterator[str]:
    """Write needs for people, as wide as the terminal, but each command in one line."""
    for need in needs:
        size = f" ({need.size})" if need.size and not need.there else ""
        yield from entry_lines("there" if need.there else "missing", need.what, f"{need.which}{size}")
        if not need.there:
            for line in need.how:
                yield from [f"    {line}"] if is_command(line) else _wrapped(line, "  ", "  ")


def entry_lines(state: str, what: str, text: str) -> Iterator[str]:
    """Write one entry of such a list: a word for its state, what it is, and a text that may take several lines."""
    head = f"{state:<9}{what:<15}"
    yield from _wrapped(text, head, " " * len(head))


def _wrapped(text: str, first: str, then: str) -> list[str]:
    width = console.width()
    if width is None:  # piped: a line is a line
        return [f"{first}{text}".rstrip()]
    wrapped = textwrap.wrap(
        text,
        max(_LEAST_WIDTH, width),
        initial_indent=first,
        subsequent_indent=then,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return wrapped or [first.rstrip()]
