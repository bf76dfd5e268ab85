"""Tables of compared runs: the runs, their unimodal baselines, their slices, and a sweep with its plot."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import TYPE_CHECKING

from cirbench.comparison.baselines import baselines_beside, diagnose, unimodal_of
from cirbench.comparison.standings import compare_runs
from cirbench.methods.interface import reference_baseline, unimodal_baselines
from cirbench.metrics.paired import SIGNIFICANCE
from cirbench.metrics.table import parse_label, short_label
from cirbench.runs.schema import is_transductive
from cirbench.support.tables import Column, Number, Row, Table
from cirbench.support.tables.svg import Plot, Point, Series

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cirbench.comparison.baselines import Diagnosis, Unimodal
    from cirbench.comparison.standings import Standing, Standings
    from cirbench.metrics.paired import Pair
    from cirbench.runs.folder import Run
    from cirbench.runs.schema import MethodRecord, MetricValue
    from cirbench.runs.session import Setting, Sweep

_BAR = 20
_NAMED = 3
_EIGHTHS = " ▏▎▍▌▋▊▉"


def standings_table(standings: Standings) -> Table:
    """Lay out runs with their numbers, places and differences to the baseline."""
    rows = standings.by_value()
    backbones = {row.run.result.backbone.digest for row in rows}
    several, ranked = len(backbones) > 1, any(row.place for row in rows)
    transductive = any_transductive([row.run for row in rows])
    columns = (
        Column("run", "run"),
        *((Column("backbone", "backbone", optional=2),) if several else ()),
        *((Column("rank", "rank"),) if ranked else ()),
        Column("value", standings.label),
        *((TRANSDUCTIVE,) if transductive else ()),
        Column("difference", f"against {standings.baseline.name}"),
        Column("p", "p (Holm)", optional=1),
        *(Column(name, name, optional=3) for name in ("wins", "ties", "losses")),
    )
    run = standings.baseline.run
    return Table(
        title=title(run, backbone=not several),
        columns=columns,
        rows=tuple(
            _standing(row, standings.label, backbone=several, ranked=ranked, transductive=transductive) for row in rows
        ),
        caption=f"{statistics_caption(standings)} Wins, ties, losses: queries.",
        notes=tuple(_notes(standings)),
        summary=" ".join(
            [
                f"{short_label(standings.label)} on {run.result.protocol.name}, in percent, with 95 % intervals.",
                *training_notes([(row.name, row.run) for row in rows]),
            ]
        ),
    )


def diagnostics_table(named: Sequence[tuple[str, Run]], label: str) -> Table | None:
    """Lay out what the unimodal baselines say about each run; ``None`` where no run has them.

    Args:
        named: Runs with their names; baselines are looked for among them and beside them.
        label: The number.
    """
    runs = [run for _, run in named]
    rows: dict[int, Row] = {}
    for one, places in _on_one_ground(runs, label):
        for at, found in zip(places, diagnose([runs[at] for at in places], one), strict=True):
            rows[at] = _diagnosis(named[at][0], runs[at], one, found)
    if not rows:
        return None
    k = parse_label(label).k
    return Table(
        title=f"{label} beside retrieval by one side of the query alone",
        columns=(
            Column("run", "run"),
            Column("value", label),
            Column("gain", "gain over better unimodal"),
            Column("composition", "composition subset"),
            Column("composition_queries", "its queries", optional=2),
            Column("image_hits", f"image-only, hit in top {k}", optional=1),
            Column("text_hits", f"text-only, hit in top {k}", optional=1),
        ),
        rows=tuple(rows[at] for at in sorted(rows)),
        caption=f"Percent; differences in points; 95 % intervals. {composition_definition(label)} The gain is also "
        "called composition gap. Image-only retrieval is what a method gets that copies the reference, text-only what "
        "one gets that ignores it.",
    )


def _on_one_ground(runs: Sequence[Run], label: str) -> list[tuple[Unimodal, list[int]]]:
    """Each pair of unimodal baselines, with the positions of the runs that it belongs to."""
    groups: list[tuple[Unimodal, list[int]]] = []
    for at, run in enumerate(runs):
        known = [places for one, places in groups if unimodal_of(run, (one.image, one.text), label)]
        if known:
            known[0].append(at)
        elif one := unimodal_of(run, runs, label) or unimodal_of(run, [*runs, *baselines_beside(run)], label):
            groups.append((one, [at]))
    return groups


def _diagnosis(name: str, run: Run, one: Unimodal, found: Diagnosis) -> Row:
    return (
        shown_name(name, run),
        number(run, one.label),
        None if found.gain is None else difference(found.gain),
        None if found.composition is None else value_with_interval(found.composition),
        Number(one.composition, digits=0),
        Number(100 * one.image_hits / one.answered),
        Number(100 * one.text_hits / one.answered),
    )


def reranking_table(named: Sequence[tuple[str, Run]], label: str) -> Table | None:
    """Lay out what a second stage did within which bounds and at which cost; ``None`` where no run has one."""
    rows: list[Row] = []
    for name, run in named:
        second = run.result.reranking
        if second is None:
            continue
        seconds = second.seconds_per_query
        rows.append(
            (
                shown_name(name, run),
                Number(second.k, digits=0),
                None if second.recall is None else Number(second.recall),
                number(run, label),
                None if second.at_most is None else Number(second.at_most),
                Number(second.calls_per_query, digits=1),
                "recorded" if seconds is None else Number(seconds, digits=3),
                Number(second.undecided, digits=0),
            )
        )
    if not rows:
        return None
    headline = named[0][1].result.metrics[0].label
    return Table(
        title="Re-ranked",
        columns=(
            Column("run", "run"),
            Column("k", "K"),
            Column("recall", "Recall@K before"),
            Column("value", label),
            Column("at_most", f"{headline} at most", optional=1),
            Column("calls", "answers a query", optional=2),
            Column("seconds", "seconds a query", optional=2),
            Column("undecided", "undecided queries", optional=3),
        ),
        rows=tuple(rows),
        caption="Percent. The first K of each query are judged, and its group where the protocol has one; nothing else "
        f"moves, so Recall@K stays. {headline} at most: of the best order of these K. Answers: of a model, recorded or "
        "not, those on groups included. Undecided: queries whose K items all got the same judgement.",
    )


def slices_table(names: Sequence[str], runs: Sequence[Run], *, bars: bool = False) -> Table | None:
    """Lay out every number per aspect, category or the like, ``None`` where there is none; with ``bars`` also drawn."""
    by_slice: dict[str, list[tuple[str, Run, MetricValue]]] = {}
    for name, run in zip(names, runs, strict=True):
        for label, value in _slices(run):
            by_slice.setdefault(label, []).append((name, run, value))
    if not by_slice:
        return None
    columns = (
        Column("slice", "slice"),
        Column("queries", "queries", optional=1),
        Column("run", "run"),
        Column("value", "value"),
    )
    rows: list[Row] = []
    for label, values in by_slice.items():
        for at, (name, run, value) in enumerate(values):
            head: Row = (label, Number(value.n, digits=0)) if at == 0 or not bars else ("", None)
            rows.append(
                (*head, shown_name(name, run), number(run, value.label), *((bar(value.value),) if bars else ()))
            )
    return Table(
        title="By slice",
        columns=(*columns, *((Column("bar", "0 to 100", optional=2),) if bars else ())),
        rows=tuple(rows),
        caption="Percent, with 95 % intervals.",
    )


def _slices(run: Run) -> Iterator[tuple[str, MetricValue]]:
    """The numbers of a run per aspect, category or the like, by ``"mAP@10 aspect=negation"``."""
    for metric in run.result.metrics:
        label = parse_label(metric.label)
        if label.part is not None:
            yield f"{metric.label.partition('[')[0]} {label.by}={label.part}", metric


def title(run: Run, *, backbone: bool = True) -> str:
    """Say what was run: protocol, backbone unless that differs, and how much of the benchmark was scored."""
    result, counts = run.result, run.result.counts
    scored = f"queries {counts.queries}/{counts.queries_expected}, gallery {counts.gallery}/{counts.gallery_expected}"
    partial = " · PARTIAL" if counts.partial else ""
    protocol = f"{result.protocol.name} ({result.protocol.digest[:8]})"
    return " · ".join([protocol, *([result.backbone.name] if backbone else []), f"{scored}{partial}"])


def statistics_caption(standings: Standings) -> str:
    """Say how intervals and p-values of a table came about, and over which family of tests they are corrected."""
    intervals = interval_caption([row.run for row in standings.rows])
    test = test_caption(len(standings.pairs), standings.family)
    return f"Percent. {intervals} p: {test}."


def interval_caption(runs: Sequence[Run]) -> str:
    """Say what the intervals of runs of one protocol cover."""
    clusters, queries = len(set(runs[0].clusters)), len(runs[0].clusters)
    over = "queries" if clusters == queries else f"the {clusters} clusters of queries that share images"
    seeds = ", and over seeds where there are several" if any(run.replicates for run in runs) else ""
    return f"Intervals: 95 %, over {over}{seeds}. Differences: paired, in points."


def test_caption(pairs: int, family: str) -> str:
    """Name the paired test and, of several, the family of tests that it is corrected over."""
    return "paired bootstrap-t, two-sided" + (f", after Holm's correction over {family}" if pairs > 1 else "")


def composition_definition(label: str) -> str:
    """Define the composition subset of a number, in a sentence."""
    return (
        "Composition subset: the queries on which neither the reference image alone nor the caption alone has a hit in "
        f"the top {parse_label(label).k} ({label} above 0)."
    )


def number(run: Run, label: str) -> Number:
    """Return a number of a run as a cell, with its interval and, over replicates, its standard deviation."""
    value = run.result[label]
    return Number(value.value, value.low, value.high, sd=run.sd(label))


def value_with_interval(value: MetricValue) -> Number:
    """Return a number as a cell."""
    return Number(value.value, value.low, value.high)


def difference(pair: Pair, *, note: str = "") -> Number:
    """Return the difference of a pair as a cell, in points."""
    return Number(100 * pair.difference, 100 * pair.interval.low, 100 * pair.interval.high, signed=True, note=note)


def bar(percent: float) -> str:
    """Draw a percentage as a line of blocks."""
    eighths = round(percent / 100 * _BAR * 8)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


def _standing(row: Standing, label: str, *, backbone: bool, ranked: bool, transductive: bool) -> Row:
    pair = row.against
    cells: list[str | Number | None] = [shown_name(row.name, row.run)]
    if backbone:
        cells.append(row.run.result.backbone.name)
    if ranked:
        cells.append("" if row.place is None else str(row.place))
    cells.append(dataclasses.replace(number(row.run, label), mark=row.mark))
    cells += [said_transductive(row.run)] if transductive else []
    if pair is None:
        return (*cells, None, None, None, None, None)
    counts = (pair.wins, pair.ties, pair.losses)
    return (*cells, difference(pair), Number(pair.corrected, digits=4), *(Number(count, digits=0) for count in counts))


def shown_name(name: str, run: Run) -> str:
    """Write the name of a row with what a reader must not miss in any form of a table: see `reservations`."""
    said = [f"{len(run.replicates)} seeds"] if run.replicates else []
    said += ["partial"] if run.result.counts.partial else []
    return with_remarks(name, [*said, *reservations(run.result.method, run.result.protocol.name)])


def with_remarks(name: str, said: Sequence[str]) -> str:
    """Write what is said of a row behind its name."""
    return f"{name} ({', '.join(said)})" if said else name


def reservations(method: MethodRecord, protocol: str, where: str = "here") -> list[str]:
    """Say why a number is not one of unseen data: weights chosen by it, or images of the protocol trained on."""
    seen = f"{method.overlap:,} images seen" if method.overlap else None
    return [*([f"chosen {where}"] if chosen_on(method, protocol) else ()), *([seen] if seen else ())]


def _notes(standings: Standings) -> list[str]:
    notes = []
    if any(row.place for row in standings.rows):
        notes.append(
            f"Rank: the ranks that a run may have, as far as pairs differ at p < {SIGNIFICANCE}; runs that share ranks "
            "cannot be told apart."
        )
    sizes = sorted(100 * pair.detectable for pair in standings.pairs if not math.isnan(pair.detectable))
    if sizes:
        span = f"{sizes[0]:.2f}" if len(sizes) == 1 else f"{sizes[0]:.2f} to {sizes[-1]:.2f}"
        by_pair = "" if len(sizes) == 1 else ", depending on the pair"
        notes.append(
            f"Minimum detectable effect at 80 % power: {span} points{by_pair}, at p < {SIGNIFICANCE} before correction."
        )
    scored = scored_notes([(row.name, row.run) for row in standings.rows])
    trained = training_notes([(row.name, row.run) for row in standings.rows])
    seen = [TRANSDUCTIVE_NOTE] if any_transductive([row.run for row in standings.rows]) else []
    oracles = oracle_notes([(row.name, row.run) for row in standings.rows])
    return [*notes, *thin_notes(standings), *scored, *trained, *oracles, *seen, *standings.remarks]


TRANSDUCTIVE = Column("transductive", "transductive")
TRANSDUCTIVE_NOTE = (
    "Transductive: the method answers a query by looking at other gallery items or queries too, which a single query "
    "in use may not have beside it."
)


def any_transductive(runs: Sequence[Run]) -> bool:
    """Return whether a run is declared transductive, so that a table of these runs says it of each."""
    return any(said_transductive(run) == "yes" for run in runs)


def said_transductive(run: Run) -> str:
    """Return what a run declares: yes, no or unknown."""
    return is_transductive(run.result.method, run.result.scored)


def scored_notes(named: Sequence[tuple[str, Run]]) -> list[str]:
    """Name the runs of which nothing is known but what was declared."""
    scored = [name for name, run in named if run.result.scored is not None]
    return [f"Made elsewhere and scored here, with what is declared of them: {', '.join(scored)}."] if scored else []


def oracle_notes(named: Sequence[tuple[str, Run]]) -> list[str]:
    """Name the runs that know the answers."""
    oracles = [name for name, run in named if run.result.method.oracle]
    return [f"Upper bounds, made with the ground truths: {', '.join(oracles)}."] if oracles else []


def training_notes(named: Sequence[tuple[str, Run]]) -> list[str]:
    """Say which rows are not numbers on unseen data: chosen on this protocol, or trained on its images."""
    chosen = [name for name, run in named if chosen_on(run.result.method, run.result.protocol.name)]
    shared = [f"{name} ({run.result.method.overlap})" for name, run in named if run.result.method.overlap]
    notes = [f"Weights chosen by their score on this protocol, so not of unseen data: {', '.join(chosen)}."]
    images = [f"Trained on images of this protocol, whose number is in brackets: {', '.join(shared)}."]
    return [*(notes if chosen else ()), *(images if shared else ())]


def chosen_on(method: MethodRecord, protocol: str) -> bool:
    """Whether weights of any stage were chosen on a protocol of any version, declared by its id or in words."""
    id = protocol.partition("@")[0]
    pattern = re.compile(rf"(?<![\w/-]){re.escape(id)}(?![\w/-])")
    return any(pattern.search(declared) for declared in method.selections)


def thin_notes(standings: Standings) -> list[str]:
    """Name the pairs on which too few queries differ to trust the bootstrap."""
    thin = [
        f"{standings.rows[pair.first].name} and {standings.rows[pair.second].name}"
        for pair in standings.pairs
        if pair.thin
    ]
    if not thin:
        return []
    more = f", and {len(thin) - _NAMED} more pairs" if len(thin) > _NAMED else ""
    return [
        f"Too few queries differ between {'; between '.join(thin[:_NAMED])}{more} to trust the bootstrap: p and "
        "interval are conservative bounds there."
    ]


def sweep_table(sweep: Sweep) -> Table:
    """Lay out a sweep in the order of its settings, each compared with the best."""
    label = sweep.label
    best = max(range(len(sweep.runs)), key=lambda at: sweep.runs[at].result[label].value)
    standings = compare_runs(sweep.runs, label=label, baseline=best)
    first = sweep.runs[0]
    rows = tuple(
        (
            *(_cell(value) for value in values),
            dataclasses.replace(number(row.run, label), mark=row.mark),
            "" if row.place is None else str(row.place),
            None if row.against is None else difference(row.against),
            None if row.against is None else Number(row.against.corrected, digits=4),
            ", ".join(each.folder.name for each in row.run.replicates or (row.run,)),
        )
        for values, row in zip(sweep.settings, standings.rows, strict=True)
    )
    return Table(
        title=f"{shown_name(first.result.method.name, first)}: {label} by {' and '.join(sweep.keys)} · {title(first)}",
        columns=(
            *(Column(key, key) for key in sweep.keys),
            Column("value", label),
            Column("rank", "rank"),
            Column("difference", "against the highest"),
            Column("p", "p (Holm)", optional=1),
            Column("run", "run", optional=2, aside=True),
        ),
        rows=rows,
        caption=f"{statistics_caption(standings)} Rank: the ranks that a setting may have, as far as "
        f"pairs differ at p < {SIGNIFICANCE}.",
        notes=(
            f"A setting chosen by this table is selected on {first.result.protocol.name}: report that, and confirm it "
            "on other queries.",
            *thin_notes(standings),
            *training_notes([(first.result.method.name, first)]),
            *standings.remarks,
        ),
    )


def sweep_plot(sweep: Sweep) -> Plot:
    """Draw a sweep over its first parameter, with one line for each setting of the others."""
    lines: dict[str, list[Point]] = {}
    for (x, *others), run in zip(sweep.settings, sweep.runs, strict=True):
        name = ", ".join(f"{key}={value}" for key, value in zip(sweep.keys[1:], others, strict=True))
        replicates = tuple(each.result[sweep.label].value for each in run.replicates)
        lines.setdefault(name, []).append(Point(x, number(run, sweep.label), replicates))
    first = sweep.runs[0].result
    return Plot(
        title=f"{first.method.name} on {first.protocol.name}, {first.backbone.name}",
        x=sweep.keys[0],
        y=f"{sweep.label} (%)",
        series=tuple(Series(name, tuple(points)) for name, points in lines.items()),
        levels=tuple(_levels(sweep)),
    )


def _levels(sweep: Sweep) -> list[tuple[str, Number]]:
    """The better unimodal baseline, and the sum of both sides without training."""
    swept = sweep.runs[0].result.method.name
    by_name = {
        run.result.method.name: Number(run.result[sweep.label].value)
        for run in sweep.beside
        if run.result.method.name != swept
    }
    sides = [(name, by_name[name]) for name in unimodal_baselines() if name in by_name]
    better = [max(sides, key=lambda side: side[1].value)] if sides else []
    return [*better, *((name, found) for name, found in by_name.items() if name == reference_baseline())]


def _cell(value: Setting) -> Number | str:
    """A setting as a number with the decimals that it has; a text where that would be many zeros."""
    if isinstance(value, str):
        return value
    decimals = f"{value:.10f}".rstrip("0").partition(".")[2]
    return Number(value, digits=len(decimals)) if value == 0 or 1e-4 <= abs(value) < 1e6 else f"{value:g}"
