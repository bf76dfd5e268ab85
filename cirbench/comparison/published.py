"""The published results of the field, each with its source, and the protocol that it was measured on.

A row is in a ranked column only if the protocol, the backbone and the kind of source are known; what else it says
is kept and shown.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import msgspec

from cirbench.benchmarks.catalogue import protocols
from cirbench.errors import CirbenchError, CorruptFile, MissingData, UnknownName, UsageError, quoted
from cirbench.metrics.table import parse_label, parts_of
from cirbench.support.files import read_versioned, slug

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

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


class Reference(_Part, frozen=True):
    """What to cite and where to look, for the methods of one paper.

    Attributes:
        methods: Their printed names.
        bibtex: An entry, as the authors or the publisher print it; empty where none was found.
        code: The address of the public code; empty where none was found.
    """

    methods: tuple[str, ...]
    bibtex: str = ""
    code: str = ""


class Benchmark(_Part, frozen=True):
    """What a reader of a benchmark's table must know.

    Attributes:
        title: Its name.
        notes: One sentence each.
    """

    title: str
    notes: tuple[str, ...] = ()


class Published(_Part, frozen=True, dict=True):
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
        awaited: Protocols that rows were measured on and cirbench does not have yet, each with what it is. Their rows
            are shown under these ids, and are ranked as soon as there is such a protocol.
        references: What to cite for the methods, by a short name.
    """

    schema_version: int
    unit: Literal["percent"]
    methods: dict[str, str]
    caveats: dict[str, str]
    benchmarks: dict[str, Benchmark]
    backbones: dict[str, str | None]
    rows: tuple[PublishedRow, ...]
    recipes: dict[str, Recipe] = msgspec.field(default_factory=dict)
    awaited: dict[str, str] = msgspec.field(default_factory=dict)
    references: dict[str, Reference] = msgspec.field(default_factory=dict)

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
        known = (row.not_comparable, row.unranked, *named, row.note, self.spread(row))
        return tuple(text for text in known if text is not None)

    def awaits(self, row: PublishedRow) -> str | None:
        """Say that the protocol of a row does not exist here yet, if so."""
        if row.protocol is None or row.protocol in protocols():
            return None
        return f"cirbench does not have this protocol yet: {self.awaited[row.protocol]}"

    def first_hand(self, row: PublishedRow) -> PublishedRow:
        """Of all rows of a method on a backbone and protocol, return the nearest to its origin; it alone is ranked."""
        return self._same.get(_same_result(row), [row])[0]

    def spread(self, row: PublishedRow) -> str | None:
        """Say what other sources print for a row, where they differ, by its first number that differs."""
        others = [other for other in self._same.get(_same_result(row), []) if other.id != row.id]
        for label in sorted(row.metrics, key=lambda label: "=" in label):  # a part says less than a mean
            value = row.metrics[label]
            printed = [other for other in others if other.metrics.get(label, value) != value]
            if printed:
                values = [value, *(other.metrics[label] for other in printed)]
                elsewhere = "; ".join(f"{other.metrics[label]:g} ({_where(other)})" for other in printed)
                return f"Sources differ at {label} by {max(values) - min(values):.2f}: {value:g} here, {elsewhere}."
        return None

    def reference_of(self, row: PublishedRow) -> Reference | None:
        """Return what to cite for a row's method, if that is known."""
        return next((each for each in self.references.values() if row.method in each.methods), None)

    @cached_property
    def _same(self) -> dict[tuple[str, str, str], list[PublishedRow]]:
        """The rows of each method on each backbone and protocol, the nearest to its origin first."""
        found: dict[tuple[str, str, str], list[PublishedRow]] = {}
        for row in sorted(self.rows, key=_distance):
            found.setdefault(_same_result(row), []).append(row)
        return found


def _distance(row: PublishedRow) -> tuple[bool, int]:
    """How far a row is from its origin, after all rows that may be ranked; see `Published.choose`."""
    return row.unranked is not None, get_args(Provenance).index(row.provenance)


def _same_result(row: PublishedRow) -> tuple[str, str, str]:
    """What rows have in common that are the same result; a row without a protocol is like no other."""
    return row.protocol or row.id, slug(row.method), row.backbone


def _where(row: PublishedRow) -> str:
    how = {"own": "its own paper", "quoted": "quoted in", "rerun": "run again by", "aggregator": "on"}[row.provenance]
    return how if row.provenance == "own" else f"{how} {re.split('[:(]', row.source.title)[0].strip()}"


class Contribution(_Part, frozen=True):
    """A row that somebody has added, in a file of its own (TOML); the fields of `PublishedRow` are explained there.

    Attributes:
        benchmark: Name of the data set; only where there is no protocol.
        code: See `Reference`.
        bibtex: See `Reference`.
    """

    method: str
    backbone: str
    supervision: Literal["training-free", "zero-shot", "supervised"]
    provenance: Provenance
    metrics: dict[str, Percent]
    source: Citation
    protocol: str | None = None
    benchmark: str = ""
    not_comparable: str | None = None
    unranked: str | None = None
    caveats: tuple[str, ...] = ()
    note: str | None = None
    code: str = ""
    bibtex: str = ""

    def row(self, taken: Container[str], exact: Container[str]) -> PublishedRow:
        """Make the row of it.

        Args:
            taken: Ids that other rows have; the row gets another one.
            exact: The backbones that are known exactly.
        """
        benchmark, _, split = (self.protocol or f"{self.benchmark}/other").partition("/")
        parts = (f"{benchmark}-{split}", self.method, self.backbone.removeprefix("CLIP "), self.provenance)
        id = "/".join(map(slug, parts))
        others = (f"{id}-{number}" for number in itertools.count(2))
        unranked = self.unranked or (None if self.protocol is None else self._unranked(exact))
        return PublishedRow(
            id=id if id not in taken else next(other for other in others if other not in taken),
            benchmark=benchmark,
            split=split,
            unranked=unranked,
            **{
                name: getattr(self, name)
                for name in PublishedRow.__struct_fields__
                if name in self.__struct_fields__ and name not in ("benchmark", "unranked")
            },
        )

    def _unranked(self, exact: Container[str]) -> str | None:
        if self.provenance in _UNRANKED:
            return _UNRANKED[self.provenance]
        return None if self.backbone in exact else "Which backbone it is, cirbench does not know exactly."


_UNRANKED: dict[Provenance, str] = {
    "rerun": "It is a re-run of another paper, shown beside the published rows.",
    "aggregator": "It is from a results site only.",
}
CONTRIBUTED = Path(__file__).parent / "contributed"


def load_published(path: Path = SHIPPED, contributed: Path | None = CONTRIBUTED) -> Published:
    """Read the published rows, with those that were contributed to a folder, if one is given.

    Raises:
        MissingData: The file is not there.
        CorruptFile: It is damaged, or contradicts itself; or a contributed row does.
    """
    published = read_versioned(path, Published, version=SCHEMA_VERSION)
    for file in () if contributed is None else contributed_files(contributed):
        published, _ = with_contribution(published, file)
    if problem := next(_contradictions(published), None):
        raise CorruptFile(f"{path} contradicts itself: {problem}.")
    return published


def count_published() -> int:
    """Count the published rows that come with cirbench."""
    return len(load_published().rows)


def contributed_files(folder: Path = CONTRIBUTED) -> list[Path]:
    """List the contributed rows in the order in which they are read."""
    return sorted(folder.glob("*.toml"))


def with_contribution(published: Published, file: Path) -> tuple[Published, PublishedRow]:
    """Add a contributed row, and what to cite for it.

    Raises:
        MissingData: The file cannot be read.
        CorruptFile: It is not a row.
    """
    try:
        contribution = msgspec.toml.decode(file.read_bytes(), type=Contribution)
    except OSError as error:
        raise MissingData(f"{file} cannot be read: {error.strerror or error}.") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptFile(f"{file} is not a row: {error}.", hint="docs/leaderboard.md shows the form.") from error
    row = contribution.row({other.id for other in published.rows}, published.backbones)
    references = dict(published.references)
    if contribution.code or contribution.bibtex:
        references[file.stem] = Reference((contribution.method,), contribution.bibtex, contribution.code)
    rows = (*published.rows, row)
    return msgspec.structs.replace(published, rows=rows, references=references), row


_FINDABLE = re.compile(r"arXiv:\d{4}\.\d{4,5}\b|https?://|(github|gitlab):|(doi:)?10\.\d{4,}/")


def problems_of_file(published: Published, file: Path) -> list[str]:
    """Say everything that is wrong with a contributed row, beside the others."""
    try:
        together, row = with_contribution(published, file)
    except CirbenchError as error:
        return [error.message]
    contradictions = [problem for problem in _contradictions(together) if row.id in problem]
    return [*contradictions, *problems_of(row, published), *_unlike_others(row, published)]


def problems_of(row: PublishedRow, published: Published) -> Iterator[str]:
    """Say which numbers of a row cannot be: labels that do not exist, recall that falls with K, wrong averages."""
    points: dict[tuple[str, str | None, str | None], list[tuple[int, float]]] = {}
    for label, value in row.metrics.items():
        try:
            parsed = parse_label(label)
        except ValueError as error:
            if row.protocol in protocols():
                yield f"{error}, such as Recall@1 or mAP@5"
            continue
        if parsed.metric.startswith("Recall"):
            points.setdefault((parsed.metric, parsed.by, parsed.part), []).append((parsed.k, value))
        # The last printed digit of an average may be off by one.
        parts = [row.metrics[part] for part in parts_of(label, row.metrics)]
        digit = 0.1 if round(value, 1) == value else 0.01
        if parts and abs(value - sum(parts) / len(parts)) > digit + 1e-9 and "average-off" not in row.caveats:
            mean = sum(parts) / len(parts)
            yield (
                f"{label} is {value:g}, and the mean of its parts is {mean:.2f}: correct it, or say by the caveat "
                "average-off that it is printed so"
            )
    for found in points.values():
        for (low, less), (high, more) in itertools.pairwise(sorted(found)):
            if less > more:
                yield f"recall cannot fall with K: {less:g} at {low}, {more:g} at {high}"


def _unlike_others(row: PublishedRow, published: Published) -> Iterator[str]:
    """Say what a new row has that no row of its protocol has, and whether it is there already."""
    if not _FINDABLE.match(row.source.id):
        yield f"source.id {quoted(row.source.id)} leads nowhere: give arXiv:NUMBER, a DOI or an address"
    others = [other for other in published.rows if other.protocol == row.protocol and row.protocol is not None]
    labels = dict.fromkeys(label for other in others for label in other.metrics)
    if labels and (unknown := [label for label in row.metrics if label not in labels]):
        yield f"{unknown[0]} is not among the numbers of {row.protocol}: {', '.join(labels)}"
    for other in others:
        if _same_result(other) == _same_result(row) and dict(other.metrics) == dict(row.metrics):
            yield f"the row is there already: {other.id}"


def _contradictions(published: Published) -> Iterator[str]:
    known = protocols()
    repeated = [id for id, count in Counter(row.id for row in published.rows).items() if count > 1]
    if repeated:
        yield f"the id {json.dumps(repeated[0])} occurs twice"
    for row in published.rows:
        if (row.protocol is None) == (row.not_comparable is None):
            yield f"{row.id} needs either a protocol or a reason why it has none"
        if row.protocol is not None and row.protocol not in known and row.protocol not in published.awaited:
            yield f"{row.id} names the protocol {row.protocol!r}, which does not exist"
        if unknown := [name for name in row.caveats if name not in published.caveats]:
            yield f"{row.id} has the caveat {unknown[0]!r}, which is not explained"
        if row.benchmark not in published.benchmarks:
            yield f"{row.id} is of the benchmark {row.benchmark!r}, which is not described"
        if row.recipe is not None and row.recipe not in published.recipes:
            yield f"{row.id} has the recipe {row.recipe!r}, which is not there"
        if not row.metrics:
            yield f"{row.id} has no number"
