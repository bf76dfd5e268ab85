"""``cirbench cache``: what is kept where and how large, and its removal."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cirbench.cli import WIDE
from cirbench.errors import UnknownName, UsageError, quoted
from cirbench.support.console import amount, duration, print_table, say
from cirbench.support.files import cache_root

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cirbench.runs.cache import CacheEntry


@click.group(invoke_without_command=True)
@WIDE
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def cache_command(context: click.Context, wide: bool, as_json: bool) -> None:
    """Say what is kept where and how large.

    Everything in the cache can be computed again. Runs and checkpoints that went to an --output are not in it.

    \b
    cirbench cache
    cirbench cache clear --older-than 30d
    """
    if context.invoked_subcommand is not None:
        return
    from cirbench.runs.cache import list_cache, list_weights

    root = cache_root()
    entries = [*list_cache(root), *list_weights()]
    if as_json:
        click.echo(json.dumps([_facts(entry) for entry in entries], indent=2, ensure_ascii=False))
        return
    if entries:
        _show(entries, root, wide=wide)
    own = [entry for entry in entries if entry.kind != "weights"]
    say(f"{root}: {amount(sum(entry.usage.size for entry in own), 'B')}")


@cache_command.command("clear")
@click.option("-b", "--backbone", help="Remove features and checkpoints of a backbone.")
@click.option("--older-than", metavar="AGE", help="Remove what was not written to for so long: 30d, 12h, 4w.")
@click.option("--run", type=click.Path(path_type=Path), help="Remove the features and the checkpoint that a run used.")
@click.option("--all", "everything", is_flag=True, help="Remove everything.")
@WIDE
@click.option("-y", "--yes", is_flag=True, help="Remove without asking.")
def clear_command(
    backbone: str | None, older_than: str | None, run: Path | None, everything: bool, wide: bool, yes: bool
) -> None:
    """Remove what fits all conditions, after showing it.

    Without a terminal nothing is removed unless --yes is given. What another process uses is left alone.

    \b
    cirbench cache clear --backbone ViT-B-32/openai
    cirbench cache clear --run runs/circo/pli-0123abcd --yes
    """
    from cirbench.runs.cache import list_cache, remove, select

    conditions = (backbone, older_than, run)
    if everything == any(condition is not None for condition in conditions):
        raise UsageError(
            "Say what to remove: --backbone, --older-than and --run together or alone, or --all.",
            hint="For instance: cirbench cache clear --older-than 30d",
        )
    root = cache_root()
    entries = list_cache(root)
    names = {entry.backbone for entry in entries if entry.backbone is not None}
    if backbone is not None and backbone not in names:
        raise UnknownName("backbone in the cache", backbone, sorted(names))
    found = select(entries, backbone=backbone, older_than=None if older_than is None else _seconds(older_than), run=run)
    if not found:
        say("Nothing in the cache fits.")
        return
    _show(found, root, wide=wide)
    size = amount(sum(entry.usage.size for entry in found), "B")
    if not yes and not sys.stdin.isatty():
        say(f"Nothing is removed: {size} would be. Add --yes to remove it.")
        return
    if not yes and not click.confirm(f"Remove {size}?", err=True):
        return
    kept = [entry for entry in found if not remove(entry)]
    for entry in kept:
        say(f"{entry.path} is in use by another process and stays.")
    say(f"Removed {amount(sum(entry.usage.size for entry in found if entry not in kept), 'B')}.")


_UNITS = {"h": 3600, "d": 86400, "w": 7 * 86400}


def _seconds(age: str) -> float:
    match = re.fullmatch(r"(\d+)([hdw])", age.strip())
    if match is None:
        raise UsageError(f"--older-than cannot be {quoted(age)}.", hint="It is a number of h, d or w: 30d")
    return float(int(match[1]) * _UNITS[match[2]])


def _show(entries: Sequence[CacheEntry], root: Path, *, wide: bool) -> None:
    from cirbench.support.tables import Column, Table

    columns = (
        Column("kind", "kind"),
        Column("what", "what"),
        Column("size", "size"),
        Column("files", "files", optional=1),
        Column("written", "written", optional=2),
        Column("where", "where", optional=3),
    )
    now = time.time()
    rows = tuple(
        (
            entry.kind,
            entry.title + (" (in use)" if entry.is_in_use() else ""),
            amount(entry.usage.size, "B"),
            f"{entry.usage.files:,}",
            f"{duration(now - entry.usage.changed)} ago" if entry.usage.files else "",
            str(entry.path.relative_to(root) if entry.path.is_relative_to(root) else entry.path),
        )
        for entry in entries
    )
    print_table(Table(f"Cache {root}", columns, rows), wide=wide)


def _facts(entry: CacheEntry) -> dict[str, object]:
    return {
        "kind": entry.kind,
        "title": entry.title,
        "path": str(entry.path),
        "files": entry.usage.files,
        "bytes": entry.usage.size,
        "written": entry.usage.changed,
        "backbone": entry.backbone,
        "in_use": entry.is_in_use(),
    }
