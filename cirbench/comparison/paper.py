"""The table of a paper: rows are methods, by backbone; columns are numbers, by protocol.

A row is a method in one setting, wherever it was run; runs that differ by nothing but the seed are one row. Every
number is tested by itself, as `cirbench.comparison.standings` does, so that no p-value depends on the other columns.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from typing import TYPE_CHECKING

from cirbench.benchmarks.catalogue import paper_columns
from cirbench.comparison.differences import run_names, settings
from cirbench.comparison.published import load_published
from cirbench.comparison.standings import family_of, require_one_protocol, standings_of
from cirbench.comparison.tables import reservations, test_caption, training_notes, with_remarks
from cirbench.errors import UnknownName, UsageError
from cirbench.metrics.paired import SIGNIFICANCE
from cirbench.metrics.table import short_label
from cirbench.runs.additional import with_metric
from cirbench.runs.folder import choose_label, combine
from cirbench.support.files import digest
from cirbench.support.tables import BEST, Column, Number, Row, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cirbench.comparison.published import Published, PublishedRow
    from cirbench.comparison.standings import Against, Standings
    from cirbench.runs.folder import Run

_LETTERS, _RAISED = "abcdefghijklmnoprstuvwxyz", "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ"
_PUBLISHED = "†"


@dataclasses.dataclass(frozen=True)
class PaperColumn:
    """One number under one protocol.

    Attributes:
        protocol: Its id, with the version where several versions are compared.
        label: The number.
        standings: The runs compared on it; ``None`` where only published rows have it.
        tested: Whether differences are taken to the baseline that was asked for, which may not have run here.
    """

    protocol: str
    label: str
    standings: Standings | None
    tested: bool

    @property
    def key(self) -> str:
        """What it is called in CSV and JSON."""
        return f"{self.protocol}:{self.label}"


@dataclasses.dataclass(frozen=True)
class PaperRow:
    """One method in one setting.

    Attributes:
        name: What it is called here.
        backbone: In the spelling of the literature where it has one.
        runs: By protocol, the run, or the mean of its replicates; empty for a published row.
        published: The row of the literature, or ``None``.
    """

    name: str
    backbone: str
    runs: Mapping[str, Run]
    published: PublishedRow | None = None

    def number(self, column: PaperColumn) -> Number | None:
        """Return a number, without any mark."""
        if self.published is not None:
            value = self.published.metrics.get(column.label) if self.published.protocol == column.protocol else None
            return None if value is None else Number(value)
        run = self.runs.get(column.protocol)
        if run is None or column.label not in run.values:
            return None
        return Number(run.result[column.label].value, sd=run.sd(column.label))


@dataclasses.dataclass(frozen=True)
class Paper:
    """Methods compared over several protocols and numbers.

    Attributes:
        columns: The numbers, by protocol.
        rows: The methods, by backbone, the best in the first column first.
        reference: What significance is marked against: a name, ``"the highest"``, or ``None`` for every two rows.
        remarks: What the reader should know.
    """

    columns: tuple[PaperColumn, ...]
    rows: tuple[PaperRow, ...]
    reference: str | None
    remarks: tuple[str, ...]

    @property
    def protocols(self) -> tuple[str, ...]:
        """The protocols, in the order of the columns."""
        return tuple(dict.fromkeys(column.protocol for column in self.columns))


def compare_on_paper(
    runs: Sequence[Run],
    *,
    labels: Sequence[str] = (),
    baseline: Run | None = None,
    against: Against = "all",
    published: Iterable[str] = (),
) -> Paper:
    """Compare runs of one or several protocols on one or several numbers.

    Args:
        runs: The runs.
        labels: The numbers; those that papers print if not given.
        baseline: The run that significance is marked against, under each protocol the run of the same setting.
        against: Which tests, see `cirbench.comparison.standings.compare_runs`.
        published: Rows of the literature, as ``"circo/test:SEARLE"``.

    Raises:
        UsageError: There is nothing to compare, or runs of one protocol were not obtained in the same way.
        UnknownName: Nothing has a number that was asked for, or there is no such published row.
    """
    known = load_published()
    literature = [*{row.id: row for text in published for row in known.choose(text)}.values()]
    if len(runs) + len(literature) < 2:
        raise UsageError("One run has nothing to be compared with.", hint="Give two or more: cirbench compare RUN RUN")
    for label in labels:
        if not any(label in run.values for run in runs):
            runs = [with_metric(run, label) for run in runs]
    reported = {label for run in runs for label in run.values} | {label for row in literature for label in row.metrics}
    if unknown := [label for label in labels if label not in reported]:
        raise UnknownName("metric of these runs", unknown[0], reported)
    by_protocol = _by_protocol(runs)
    columns: list[PaperColumn] = []
    for protocol in dict.fromkeys([*by_protocol, *(row.protocol for row in literature if row.protocol)]):
        mine = by_protocol.get(protocol, [])
        shown = _labels(protocol, labels, mine, [row for row in literature if row.protocol == protocol])
        columns += [_column(protocol, label, mine, baseline, against) for label in shown]
    rows = [*_rows(by_protocol, known.backbones), *(_of_published(row) for row in literature)]
    marked = None if baseline is None else next((row.name for row in rows if _holds(row, baseline)), None)
    return Paper(
        tuple(columns),
        tuple(_in_order(rows, columns)),
        "the highest of its column" if against == "best" else marked,
        tuple(dict.fromkeys([*_remarks(columns, rows, marked), *_sources(literature, known)])),
    )


def _by_protocol(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs by the id of their protocol; by id and version where there are several versions of one."""
    names = dict.fromkeys(run.result.protocol.name for run in runs)
    versions = Counter(name.partition("@")[0] for name in names)
    found: dict[str, list[Run]] = {}
    for run in runs:
        id, _, version = run.result.protocol.name.partition("@")
        found.setdefault(f"{id}@{version}" if versions[id] > 1 else id, []).append(run)
    for mine in found.values():
        require_one_protocol(mine)
    return found


def _labels(protocol: str, asked: Sequence[str], runs: Sequence[Run], literature: Sequence[PublishedRow]) -> list[str]:
    """What is shown of a protocol: what was asked for, or what papers print."""
    for run in runs:
        choose_label([run], None)  # it has numbers
    reported = dict.fromkeys(label for run in runs for label in run.values)
    reported |= dict.fromkeys(label for row in literature for label in row.metrics)
    return [label for label in asked if label in reported] if asked else [*paper_columns(protocol, [*reported])]


def _column(protocol: str, label: str, runs: Sequence[Run], baseline: Run | None, against: Against) -> PaperColumn:
    having = [run for run in runs if label in run.values]
    if not having:
        return PaperColumn(protocol, label, None, tested=False)
    places = [at for at, run in enumerate(having) if baseline is not None and _setting(run) == _setting(baseline)]
    places.sort(key=lambda at: baseline is None or having[at].folder != baseline.folder)
    tested = baseline is None or bool(places)
    standings = standings_of(having, label, places[0] if places else 0, against if tested else "all")
    return PaperColumn(protocol, label, standings, tested)


# From columns to rows.


def _setting(run: Run) -> str:
    """A digest over what a method was set to, its backbone and its data; not over the protocol, code and seed."""
    found = {**settings(run.result), "seed": None}
    return digest([run.result.method.name, run.result.backbone.digest, {name: str(found[name]) for name in found}])


def _rows(by_protocol: Mapping[str, Sequence[Run]], loads: Mapping[str, str | None]) -> list[PaperRow]:
    """One row for each setting; two runs with one setting under one protocol are two rows."""
    found: dict[tuple[str, int], dict[str, Run]] = {}
    for protocol, runs in by_protocol.items():
        times: Counter[str] = Counter()
        for run in combine(runs)[0]:
            key = _setting(run)
            found.setdefault((key, times[key]), {})[protocol] = run
            times[key] += 1
    groups: dict[str, list[dict[str, Run]]] = {}
    for row in found.values():
        groups.setdefault(next(iter(row.values())).result.backbone.digest, []).append(row)
    backbones = _backbones([next(iter(rows[0].values())) for rows in groups.values()], loads)
    return [
        PaperRow(name, backbone, row)
        for backbone, rows in zip(backbones, groups.values(), strict=True)
        for name, row in zip(run_names([next(iter(row.values())) for row in rows]), rows, strict=True)
    ]


def _backbones(runs: Sequence[Run], loads: Mapping[str, str | None]) -> list[str]:
    """Name the backbone of each run as papers do; with a digest where two that differ share a name."""
    literature = {name: spelling for spelling, name in loads.items() if name is not None}
    names = [literature.get(run.result.backbone.name, run.result.backbone.name) for run in runs]
    times = Counter(names)
    return [
        f"{name} ({run.result.backbone.digest[:8]})" if times[name] > 1 else name
        for name, run in zip(names, runs, strict=True)
    ]


def _of_published(row: PublishedRow) -> PaperRow:
    return PaperRow(f"{row.method}{_PUBLISHED}", row.backbone, {}, row)


def _in_order(rows: Sequence[PaperRow], columns: Sequence[PaperColumn]) -> list[PaperRow]:
    """By backbone, in the order of their first rows; then by the first number that a row has, the highest first."""
    backbones = [*dict.fromkeys(row.backbone for row in rows)]

    def key(row: PaperRow) -> tuple[int, int, float]:
        numbers = ((at, number.value) for at, column in enumerate(columns) if (number := row.number(column)))
        at, value = next(numbers, (len(columns), 0.0))
        return backbones.index(row.backbone), at, -value

    return sorted(rows, key=key)


def _holds(row: PaperRow, run: Run) -> bool:
    """Whether a row has a run, or where that is of another protocol, one of the same setting."""
    runs = [each for mean in row.runs.values() for each in mean.replicates or (mean,)]
    here = any(each.result.protocol.name == run.result.protocol.name for each in runs)
    return any(each.folder == run.folder or (not here and _setting(each) == _setting(run)) for each in runs)


# What the reader should know.


def _remarks(columns: Sequence[PaperColumn], rows: Sequence[PaperRow], marked: str | None) -> Iterator[str]:
    for column in columns:
        for remark in () if column.standings is None else column.standings.remarks:
            if not remark.startswith("The backbones differ"):  # they divide the rows
                yield f"{column.protocol}: {remark}"
    for protocol, here in itertools.groupby(columns, key=lambda column: column.protocol):
        compared = [(column.label, column.standings, column.tested) for column in here if column.standings is not None]
        if compared and not all(tested for _, _, tested in compared):
            yield f"{marked} was not run on {protocol}, so nothing is marked there."
        if thin := [short_label(label) for label, found, _ in compared if any(pair.thin for pair in found.pairs)]:
            yield (
                f"{protocol}: too few queries differ between some rows to trust the bootstrap for {', '.join(thin)}; "
                "p is a conservative bound there."
            )
    yield from _said_of_training(columns, rows)
    for row in rows:
        weights = [{each.result.method.checkpoint for each in run.replicates or (run,)} for run in row.runs.values()]
        if any(each != weights[0] for each in weights):
            yield f"{row.name} was run with other checkpoints on one protocol than on another."


def _said_of_training(columns: Sequence[PaperColumn], rows: Sequence[PaperRow]) -> Iterator[str]:
    protocols = [*dict.fromkeys(column.protocol for column in columns)]
    for protocol in protocols:
        notes = training_notes([(row.name, row.runs[protocol]) for row in rows if protocol in row.runs])
        yield from notes if len(protocols) == 1 else (f"{protocol}: {note}" for note in notes)


def _sources(rows: Sequence[PublishedRow], known: Published) -> Iterator[str]:
    for row in rows:
        source = row.source
        said = " ".join([f"{source.title}, {source.table} ({source.id}; {source.how}).", *known.caveats_of(row)])
        yield f"{row.method}{_PUBLISHED} on {row.protocol}, {row.backbone}: {said}"


# From the comparison to a table.


def paper_table(paper: Paper) -> Table:
    """Lay methods out as a paper prints them: the best bold, the second underlined, significance by signs."""
    letters = _letters(paper)
    signs = [_signs(column, paper, letters) for column in paper.columns]
    numbers = [_heading(column, paper) for column in paper.columns]
    sections = len({row.backbone for row in paper.rows}) > 1
    columns = (
        *((Column("backbone", "backbone"),) if sections else ()),
        *((Column("letter", ""),) if letters else ()),
        Column("method", "method"),
        *numbers,
    )
    rows: list[Row] = []
    for at, row in enumerate(paper.rows):
        cells: list[str | Number | None] = [row.backbone] if sections else []
        if letters:
            cells.append(letters.get(at, ""))
        cells.append(_name(row))
        for column, signs_of in zip(paper.columns, signs, strict=True):
            number = row.number(column)
            cells.append(number and dataclasses.replace(number, sign=signs_of.get(at, "")))
        rows.append(tuple(cells))
    table = Table(
        title=", ".join(_digests(paper)),
        columns=columns,
        rows=tuple(rows),
        caption=f"Percent. {BEST} {_legend(paper, letters)} {_tests(paper)}",
        notes=paper.remarks,
        summary=" ".join(
            filter(
                None,
                [
                    f"{', '.join(paper.protocols)}, in percent. {BEST}",
                    _legend(paper, letters),
                    *_said_of_training(paper.columns, paper.rows),
                ],
            )
        ),
        sections="backbone" if sections else "",
    )
    return table.with_best({column.key for column in numbers})


def _heading(column: PaperColumn, paper: Paper) -> Column:
    """A column under its protocol, where there are several, and under its slice."""
    at = [each.label for each in paper.columns if each.protocol == column.protocol].index(column.label)
    metric, _, rest = column.label.partition("[")
    part = short_label(column.label).removeprefix(short_label(metric)).strip() if rest else ""
    group = " ".join(filter(None, (column.protocol if len(paper.protocols) > 1 else "", part)))
    return Column(column.key, short_label(metric), group=group, optional=at)


def _name(row: PaperRow) -> str:
    """The name of a row, with how many seeds it is the mean of, and whether a part of a benchmark is missing."""
    seeds = {len(run.replicates) for run in row.runs.values()} - {0}
    said = [f"{' or '.join(map(str, sorted(seeds)))} seeds"] if seeds else []
    said += ["partial"] if any(run.result.counts.partial for run in row.runs.values()) else []
    for protocol, run in row.runs.items():
        said += reservations(run.result.method, protocol, "here" if len(row.runs) == 1 else f"on {protocol}")
    return with_remarks(row.name, [*dict.fromkeys(said)])


def _letters(paper: Paper) -> dict[int, str]:
    """A letter for each row, where every two are tested and nothing is the reference; none where there are too many."""
    runs = [at for at, row in enumerate(paper.rows) if row.published is None]
    return {} if paper.reference or not 1 < len(runs) <= len(_LETTERS) else dict(zip(runs, _LETTERS, strict=False))


def _signs(column: PaperColumn, paper: Paper, letters: Mapping[int, str]) -> dict[int, str]:
    """The mark behind the number of each row: a star, or the letters of the rows that it is better than."""
    if column.standings is None or not column.tested:
        return {}
    standings = column.standings
    found: dict[int, str] = {}
    folders = {run.folder: at for at, row in enumerate(paper.rows) for run in row.runs.values()}
    places = [folders.get(standing.run.folder, -1) for standing in standings.rows]
    if paper.reference:
        return {
            at: "*"
            for at, row in zip(places, standings.rows, strict=True)
            if row.against is not None and row.against.apart
        }
    for pair in standings.pairs:
        if pair.apart:
            better, worse = (pair.first, pair.second) if pair.difference > 0 else (pair.second, pair.first)
            found[places[better]] = found.get(places[better], "") + letters.get(places[worse], "")
    return {at: "".join(sorted(signs)).translate(str.maketrans(_LETTERS, _RAISED)) for at, signs in found.items()}


def _legend(paper: Paper, letters: Mapping[int, str]) -> str:
    """What the signs of a table mean."""
    said = []
    if paper.reference:
        said.append(f"*: differs from {paper.reference} at p < {SIGNIFICANCE}.")
    elif letters:
        said.append(f"Letters: significantly above those rows (p < {SIGNIFICANCE}).")
    if any(row.published for row in paper.rows):
        said.append(f"{_PUBLISHED}: as published.")
    if any(run.replicates for row in paper.rows for run in row.runs.values()):
        said.append("±: standard deviation over seeds.")
    return " ".join(said)


def _tests(paper: Paper) -> str:
    """Name the test and the family of tests of each number, by protocol."""
    families = {
        column.protocol: test_caption(pairs, family_of(found.against, pairs, paper.reference or ""))
        for column in paper.columns
        if (found := column.standings) is not None and (pairs := len(found.pairs)) and column.tested
    }
    if not families:
        return ""
    corrected = any(column.standings is not None and len(column.standings.pairs) > 1 for column in paper.columns)
    each = "each number by itself" if corrected and len(paper.columns) > len(families) else ""
    if len(set(families.values())) == 1:
        said = next(iter(families.values()))
    else:
        said = "; ".join(f"on {protocol} {family}" for protocol, family in families.items())
    return f"p: {', '.join(filter(None, (said, each)))}."


def _digests(paper: Paper) -> Iterator[str]:
    """Each protocol with its version and digest, where runs have one."""
    for protocol in paper.protocols:
        runs = [row.runs[protocol] for row in paper.rows if protocol in row.runs]
        yield f"{runs[0].result.protocol.name} ({runs[0].result.protocol.digest[:8]})" if runs else protocol
