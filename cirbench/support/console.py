"""What a person at a terminal sees: progress on stderr, tables on stdout."""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from cirbench.errors import hidden, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from cirbench.support.tables import Table

_QUIET_SECONDS = 2.0
_LINE_SECONDS = 10.0


class Display(Protocol):
    """Shows how far a piece of work is, as `progress` does."""

    def __call__(
        self, description: str, total: int, *, unit: str = ""
    ) -> AbstractContextManager[Callable[[int], None]]:
        """Open a display of ``total`` units of work; it yields a function that advances it."""
        ...


class Advance(Protocol):
    """Advances a display by some units; a note is shown in the place of how many are done."""

    def __call__(self, more: int, note: str = "", /) -> None:
        """Advance it."""
        ...


class NotedDisplay(Protocol):
    """A `Display` that can show a note."""

    def __call__(self, description: str, total: int, *, unit: str = "") -> AbstractContextManager[Advance]:
        """Open a display of ``total`` units of work; it yields a function that advances it."""
        ...


@contextlib.contextmanager
def silent(description: str, total: int, *, unit: str = "") -> Iterator[Advance]:
    """Show nothing; a `Display`."""
    yield lambda more, note="": None


@contextlib.contextmanager
def progress(description: str, total: int, *, unit: str = "") -> Iterator[Advance]:
    """Show how far a piece of work is, with its rate and the time left; yield a function that advances it.

    On a terminal it is a bar on stderr; elsewhere a plain line every ten seconds, and none at all for work that ends
    within two. A unit is written after each number; with ``"B"``, bytes are shown as kB, MB and GB.
    """
    display = _bar if sys.stderr.isatty() else _lines
    with display(description, total, unit) as advance:
        yield advance


@contextlib.contextmanager
def _bar(description: str, total: int, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column
    from rich.text import Text

    class Rate(TextColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{amount(task.speed, unit)}/s" if task.speed else "", style="dim")

    class Done(MofNCompleteColumn):
        def render(self, task: Task) -> Text:
            return Text(task.fields["note"]) if task.fields["note"] else super().render(task)

    done = DownloadColumn() if unit == "B" else Done(table_column=Column(no_wrap=True))
    columns = (TextColumn("{task.description}"), BarColumn(None), done, Rate(""), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(escape(visible(description)), total=total, note="")
        yield lambda more, note="": bar.update(task, advance=more, note=note)


@contextlib.contextmanager
def _lines(description: str, total: int, unit: str) -> Iterator[Advance]:
    started = last = time.monotonic()
    done = 0
    bytes_only = unit if unit == "B" else ""

    def how_far() -> str:
        return f"{amount(done, bytes_only)}/{amount(total, unit)}"

    def advance(more: int, note: str = "", /) -> None:
        nonlocal done, last
        done += more
        now = time.monotonic()
        if now - last >= _LINE_SECONDS:
            rate = done / (now - started)
            left = max(0, total - done) / rate
            say(f"{description}: {note or how_far()}, {amount(rate, unit)}/s, {duration(left)} left")
            last = now

    yield advance
    elapsed = time.monotonic() - started
    if elapsed >= _QUIET_SECONDS:
        say(f"{description}: {how_far()} in {elapsed:.1f} s")


def duration(seconds: float) -> str:
    """Write a time for people: ``60 s``, ``14 min``, ``3 h 20 min``, ``2 d 4 h``."""
    if seconds < 180:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def amount(number: float, unit: str = "") -> str:
    """Write a number of things for people, or with the unit ``"B"`` of bytes."""
    if unit != "B":
        return f"{number:,.0f} {unit}".rstrip()
    for prefix, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.1f} {prefix}B"
    return f"{number:.0f} B"


def say(line: str) -> None:
    """Tell the person something that is not data, in one line."""
    click.echo(visible(line), err=True)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines on stdout, for people."""
    click.echo("\n".join(map(visible, lines)))


def print_path(path: Path) -> None:
    """Print a path on stdout: as it is for a program, and on a terminal without characters that act unseen."""
    click.echo(visible(str(path)) if sys.stdout.isatty() else path)


def typed(word: str | Path) -> str:
    r"""Write an argument of a printed command as a shell takes it; a path is absolute, so that it works anywhere.

    What acts without being seen is written in octal, ``$'a\033b'``: POSIX has it since 2024, bash and zsh always had.
    """
    text = str(word.absolute()) if isinstance(word, Path) else word
    if not any(map(hidden, text)):
        return shlex.quote(text)
    return f"$'{''.join(map(_in_octal, text))}'"


def _in_octal(sign: str) -> str:
    if not hidden(sign):
        return f"\\{sign}" if sign in "\\'" else sign
    from_a_name = "\udc80" <= sign <= "\udcff"  # a byte that is not UTF-8
    return "".join(
        f"\\{byte:03o}" for byte in sign.encode("utf-8", "surrogateescape" if from_a_name else "surrogatepass")
    )


@functools.cache
def say_once(line: str) -> None:
    """Tell the person something the first time that it is found."""
    say(line)


def width() -> int | None:
    """Return how many columns a line has: ``COLUMNS``, else the terminal's; ``None`` where there is none."""
    asked = os.environ.get("COLUMNS", "")
    if asked.isdecimal() and int(asked):
        return int(asked)
    try:
        return (os.get_terminal_size(sys.stdout.fileno()).columns or None) if sys.stdout.isatty() else None
    except (OSError, ValueError):  # a stream of a notebook or a test
        return None


def print_table(table: Table, form: str = "rich", *, wide: bool = False, borders: bool = True) -> None:
    """Print a table in one of `cirbench.support.tables.formats.FORMATS`; rich fits the terminal unless ``wide``."""
    if form != "rich":
        from cirbench.support.tables.formats import render

        click.echo(render(table, form), nl=False)
        return
    from rich.console import Console

    from cirbench.support.tables.terminal import to_lines

    lines = to_lines(table, None if wide else width(), borders=borders)
    if not sys.stdout.isatty():
        click.echo("\n".join(line.plain for line in lines))
        return
    console = Console(width=max(line.cell_len for line in lines) + 1)
    for line in lines:
        console.print(line, no_wrap=True, overflow="ignore", crop=False)
