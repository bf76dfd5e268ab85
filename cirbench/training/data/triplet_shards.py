"""Triplets from tar shards in webdataset form: two images and a text of one name.

A sample ``000123`` has ``000123.reference.jpg``, ``000123.target.jpg`` and ``000123.txt`` (or a ``.json`` with
``caption`` or ``text``); ``query`` stands for ``reference`` too. Members that are none of these are counted and named.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

from cirbench.errors import UsageError, some
from cirbench.protocol import Item, Triplet
from cirbench.support.files import digest
from cirbench.training.data.shards import TEXTS, Entry, ShardImage, ShardSample, Span, members_of, shard_files
from cirbench.training.data.source import Lazy, Source, identified

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cirbench.support.console import Display

_ROLES = {"reference": "reference", "query": "reference", "target": "target"}
_PARTS = ("reference", "target", "text")


@dataclasses.dataclass(frozen=True, slots=True)
class ShardText(Sequence[str]):
    """The text of a sample, read when it is asked for."""

    sample: ShardSample

    def __len__(self) -> int:
        return 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        return [self.sample.caption or ""][index]


@dataclasses.dataclass(frozen=True)
class TripletShards(Lazy):
    """The triplets of tar files: per sample the file, the name, and where its parts are."""

    entries: Sequence[tuple[Path, str, dict[str, Span]]]

    def __len__(self) -> int:
        return len(self.entries)

    def at(self, place: int) -> Triplet:
        """Make one triplet."""
        path, name, spans = self.entries[place]
        reference, target = (
            Item(f"{path.name}/{name}.{role}", ShardImage(path, f"{name}.{role}", spans[role]))
            for role in ("reference", "target")
        )
        return Triplet(reference, ShardText(ShardSample(path, Entry(name, None, spans["text"]))), target)


def open_triplet_shards(name: str, pattern: str, *, display: Display, say: Callable[[str], None]) -> Source:
    """Open shards; see the module.

    Raises:
        UsageError: They hold no triplets.
        MissingData: A shard is absent, cannot be fetched or cannot be read.
        CorruptFile: A shard is damaged.
    """
    entries: list[tuple[Path, str, dict[str, Span]]] = []
    unused: list[str] = []
    for path in shard_files(pattern, display=display, say=say):
        samples: dict[str, dict[str, Span]] = {}
        members, other = members_of(path)
        unused += [f"{count:,} {kind} ({first})" for kind, (count, first) in other.items()]
        for member in members:
            role = "text" if member.suffix in TEXTS else _ROLES.get(member.stem.removeprefix(f"{member.first}."), "")
            parts = samples.setdefault(member.first, {})
            if not role or (member.suffix == "json" and role in parts):
                unused.append(f"{member.stem}.{member.suffix}")
                continue
            parts[role] = Span(member.suffix, member.offset, member.size)
        whole = {sample: parts for sample, parts in samples.items() if parts.keys() == set(_PARTS)}
        unused += [f"{sample} (without {some(sorted(set(_PARTS) - parts.keys()))})" for sample, parts in samples.items()
                   if sample not in whole]  # fmt: skip
        entries += [(path, sample, parts) for sample, parts in whole.items()]
    if not entries:
        raise UsageError(
            f"{pattern} holds no triplets.",
            hint="A sample 000123 has 000123.reference.jpg, 000123.target.jpg and 000123.txt, with any image suffix.",
        )
    if unused:
        say(f"{pattern}: not used: {some(unused)}.")
    places = [[path.name, sample, [[s.offset, s.size] for s in parts.values()]] for path, sample, parts in entries]
    return identified(name, TripletShards(entries), listing=digest(places))
