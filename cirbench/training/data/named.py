"""Training data by name, each found without loading anything; what a benchmark or a corpus brings is one entry here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench.benchmarks.scenes import training_pairs, training_sentences, training_triplets
from cirbench.errors import UnknownName, UsageError, quoted
from cirbench.training.data.corpora import CORPORA
from cirbench.training.data.source import Asked, NamedSource, Source, identified
from cirbench.training.data.triplet_sets import TRIPLET_SETS

if TYPE_CHECKING:
    from collections.abc import Mapping

SCENES_PAIRS = 60_000
SCENES_SENTENCES = 300_000
SCENES_TRIPLETS = 10_000


class ScenesPairs(NamedSource):
    """Image-caption pairs that are drawn."""

    def open(self, asked: Asked) -> Source:
        """Draw so many pairs as were asked for."""
        return identified(asked.name, training_pairs(asked.count or SCENES_PAIRS), listing="scenes")


class ScenesSentences(NamedSource):
    """Images that are drawn, with captions and sentences by turns."""

    def open(self, asked: Asked) -> Source:
        """Draw so many pairs as were asked for."""
        return identified(asked.name, training_sentences(asked.count or SCENES_SENTENCES), listing="scenes sentences")


class ScenesTriplets(NamedSource):
    """Triplets that are drawn."""

    def open(self, asked: Asked) -> Source:
        """Draw so many triplets as were asked for."""
        return identified(asked.name, training_triplets(asked.count or SCENES_TRIPLETS), listing="scenes triplets")


_SOURCES: tuple[NamedSource, ...] = (
    ScenesPairs("scenes", f"{SCENES_PAIRS:,} image-caption pairs that are drawn, or N of them", counted=True),
    ScenesSentences(
        "scenes:sentences",
        f"{SCENES_SENTENCES:,} pairs that are drawn, or N of them, every other text a sentence",
        counted=True,
    ),
    ScenesTriplets(
        "scenes:triplets",
        f"{SCENES_TRIPLETS:,} triplets that are drawn, or N of them",
        kinds=("triplets", "triplet-features"),
        counted=True,
    ),
    *TRIPLET_SETS,
    *CORPORA,
)


def named_sources() -> Mapping[str, NamedSource]:
    """Return every named source by its name."""
    return {source.name: source for source in _SOURCES}


def find_named(data: str) -> tuple[NamedSource, int | None] | None:
    """Return the source that ``NAME`` or ``NAME:N`` stands for, and N; ``None`` where the name is of no source.

    Raises:
        UsageError: What follows a name is not what may follow it.
    """
    sources = named_sources()
    if data in sources:
        return sources[data], None
    name, _, count = data.rpartition(":")
    if name in sources and sources[name].counted and count.isdecimal() and int(count):
        return sources[name], int(count)
    family = data.partition(":")[0]
    alike = [f"{each.name}:1000" if each.counted else each.name for each in sources.values()]
    if examples := [f"--data {each}" for each in alike if each.partition(":")[0] == family]:
        raise UsageError(f"{quoted(data)} is not training data.", hint=f"For instance: {', or '.join(examples)}")
    return None


def sources_called(name: str, split: str | None = None) -> tuple[NamedSource, ...]:
    """Return the sources that ``cirbench data`` calls ``name``: one of them, or all parts of a corpus.

    Raises:
        UnknownName: The corpus has no such split.
    """
    found = [source for source in named_sources().values() if name in (source.name, source.corpus)]
    splits = [source.name.partition(":")[2] for source in found]
    if found and split is not None and split not in splits:
        raise UnknownName(f"split of {name}", split, splits)
    return tuple(source for source, part in zip(found, splits, strict=True) if split in (None, part))
