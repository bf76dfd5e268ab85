"""The published results of the field, each with its source, and the protocol that it was measured on.

A row stands in a ranked column only if the protocol, the backbone and the kind of source are known; what else it says
is kept and shown.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import msgspec

from cirbench.benchmarks.catalogue import protocols
from cirbench.errors import CorruptFile, UnknownName, UsageError, quoted
from cirbench.support.files import read_versioned, slug

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA_VERSION = 1
SHIPPED = Path(__file__).parent / "published.json"

Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]
Provenance = Literal["own", "rerun", "quoted", "aggregator"]


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the file."""


class Citation(_Part, frozen=True):
    """Where the numbers of a row were published.

    Attributes:
        title: Of the paper, repository or page.
        id: An arXiv number or another handle.
        table: Which table or section of it.
        how: In the paper itself, its repository, a transcription or a results site.
        year: Of the source, where the id tells it.
    """

    title: str
    id: str
    table: str
    how: Literal["paper", "repository README", "secondary transcription", "results site"]
    year: int | None = None


class Input(_Part, frozen=True):
    """Something that only a user can give.

    Attributes:
        parameters: The parameters of the method of which one must be set.
        what: What it is, and how to get it.
    """

    parameters: tuple[str, ...]
    what: str


class Recipe(_Part, frozen=True):
    """How rows were made, as far as their paper and public code tell, where it differs from the method's defaults.

    Attributes:
        parameters: Of the method.
        preprocessing: Of images, where it is not the backbone's own.
        training: Training parameters of the checkpoint.
        inputs: What only a user can give.
        notes: What is not known about the rows, or assumed here.
    """

    parameters: dict[str, str | int | float | bool] = msgspec.field(default_factory=dict)
    preprocessing: str | None = None
    training: dict[str, str | int | float | bool] = msgspec.field(default_factory=dict)
    inputs: tuple[Input, ...] = ()
    notes: tuple[str, ...] = ()


class PublishedRow(_Part, frozen=True):
    """One row of a published table.

    Attributes:
        id: ``benchmark-split/method/backbone/provenance``; what `cirbench reproduce` takes.
        benchmark: Name of the data set.
        split: Of the data set.
        method: As printed.
        supervision: As tables group methods; ``zero-shot`` is trained, but not on the triplets of the benchmark.
        backbone: As printed, in one spelling.
        metrics: By the labels that `cirbench run` uses, in percent.
        provenance: The method's own paper (own), another paper's copy (quoted) or re-run (rerun), or a results site.
        source: See `Citation`.
        protocol: The protocol that it was measured on; ``None`` where there is none like it.
        not_comparable: Why there is no protocol.
        unranked: Why it is shown and not ranked, although there is a protocol.
        caveats: Names in `Published.caveats`.
        note: What else is known about the row.
        recipe: A name in `Published.recipes`; ``None`` where the defaults of the method are the row's.
        assumed_backbone: What the row presumably ran on, where its source does not say.
    """

    id: str
    benchmark: str
    split: str
    method: str
    supervision: Literal["training-free", "zero-shot", "supervised"]
    backbone: str
    metrics: dict[str, Percent]
    provenance: Provenance
    source: Citation
    protocol: str | None = None
    not_comparable: str | None = None
    unranked: str | None = None
    caveats: tuple[str, ...] = ()
    note: str | None = None
    recipe: str | None = None
    assumed_backbone: str | None = None


class Benchmark(_Part, frozen=True):
    """What a reader of a benchmark's table must know.

    Attributes:
        title: Its name.
        notes: One sentence each.
    """

    title: str
    notes: tuple[str, ...] = ()


class Published(_Part, frozen=True):
    """The file.

    Attributes:
        schema_version: Of this form.
        unit: Of every metric.
        methods: Printed names, and the method of cirbench that each is.
        caveats: What is said about many rows, by name.
        benchmarks: By name of the data set.
        backbones: The backbones that a row says exactly, and the name that loads each, if one does.
        recipes: How rows were made, by name.
        rows: In the order of the benchmarks and sources.
    """

    schema_version: int
    unit: Literal["percent"]
    methods: dict[str, str]
    caveats: dict[str, str]
    benchmarks: dict[str, Benchmark]
    backbones: dict[str, str | None]
    rows: tuple[PublishedRow, ...]
    recipes: dict[str, Recipe] = msgspec.field(default_factory=dict)

    def find(self, id: str) -> PublishedRow:
        """Return the row of an id.

        Raises:
            UnknownName: There is none; the hint names the nearest ones.
        """
        rows = {row.id: row for row in self.rows}
        if id not in rows:
            raise UnknownName("published row", id, rows, hint="See `cirbench reproduce --list`.")
        return rows[id]

    def choose(self, text: str) -> tuple[PublishedRow, ...]:
        """Return the rows that ``"circo/test:SEARLE"`` names, one for each backbone, or the one row of an id.

        Where several sources have a row, a method's own paper goes before another's run and that before a copy.

        Raises:
            UsageError: It is not ``PROTOCOL:METHOD``.
            UnknownName: There is no such protocol or method; the hint names the nearest ones.
        """
        if text in (ids := {row.id: row for row in self.rows}):
            return (ids[text],)
        protocol, colon, method = text.partition(":")
        if not colon:
            raise UsageError(
                f"{quoted(text)} names no published rows.",
                hint="Say PROTOCOL:METHOD, for instance circo/test:SEARLE, or an id of `cirbench reproduce --list`.",
            )
        rows = [row for row in self.rows if row.protocol == protocol]
        if not rows:
            known = {row.protocol for row in self.rows if row.protocol is not None}
            raise UnknownName("protocol with published rows", protocol, known)
        wanted = [row for row in rows if slug(row.method) == slug(method)]
        if not wanted:
            raise UnknownName(f"published row of {protocol}", method, {row.method for row in rows})
        best: dict[str, PublishedRow] = {}
        for row in sorted(wanted, key=lambda row: get_args(Provenance).index(row.provenance)):
            best.setdefault(row.backbone, row)
        return tuple(best.values())

    def caveats_of(self, row: PublishedRow) -> tuple[str, ...]:
        """Everything that must be said about a row, in sentences."""
        named = (self.caveats[name] for name in row.caveats)
        return tuple(text for text in (row.not_comparable, row.unranked, *named, row.note) if text is not None)


def load_published(path: Path = SHIPPED) -> Published:
    """Read the published rows.

    Raises:
        MissingData: The file is not there.
        CorruptFile: It is damaged, or contradicts itself.
    """
    published = read_versioned(path, Published, version=SCHEMA_VERSION)
    if problem := next(_contradictions(published), None):
        raise CorruptFile(f"{path} contradicts itself: {problem}.")
    return published


def _contradictions(published: Published) -> Iterator[str]:
    known = protocols()
    repeated = [id for id, count in Counter(row.id for row in published.rows).items() if count > 1]
    if repeated:
        yield f"the id {json.dumps(repeated[0])} occurs twice"
    for row in published.rows:
        if (row.protocol is None) == (row.not_comparable is None):
            yield f"{row.id} needs either a protocol or a reason why it has none"
        if row.protocol is not None and row.protocol not in known:
            yield f"{row.id} names the protocol {row.protocol!r}, which does not exist"
        if unknown := [name for name in row.caveats if name not in published.caveats]:
            yield f"{row.id} has the caveat {unknown[0]!r}, which is not explained"
        if row.benchmark not in published.benchmarks:
            yield f"{row.id} is of the benchmark {row.benchmark!r}, which is not described"
        if row.recipe is not None and row.recipe not in published.recipes:
            yield f"{row.id} has the recipe {row.recipe!r}, which is not there"
        if not row.metrics:
            yield f"{row.id} has no number"
