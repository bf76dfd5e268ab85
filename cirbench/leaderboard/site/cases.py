"""Queries worth a look: what runs found for each, beside its ground truths.

Pages of boards show them from entries; ``cirbench report`` shows them from one or two runs, as a page of its own or as
a table for the terminal.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import itertools
from typing import TYPE_CHECKING, Literal

import numpy as np

import cirbench
from cirbench.benchmarks.catalogue import find_dataset, load_protocol
from cirbench.comparison.audit import audit_run, side_by_side
from cirbench.comparison.baselines import baselines_beside, with_labels
from cirbench.comparison.differences import run_names
from cirbench.comparison.tables import reservations, with_remarks
from cirbench.errors import CheckFailed, MissingData, UsageError
from cirbench.leaderboard.entry import spread
from cirbench.leaderboard.site.frame import render
from cirbench.metrics.functions import UNRANKED, Ranks
from cirbench.runs.folder import PER_QUERY, load_run
from cirbench.runs.scored import config_of, entry_and_root
from cirbench.support.arrays import read_archive
from cirbench.support.files import write_bytes, write_text
from cirbench.support.tables import Column, Number, Table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cirbench.comparison.audit import Audit
    from cirbench.leaderboard.entry import Entry, Evidence
    from cirbench.protocol import EvaluationProtocol, ImageSource, Query
    from cirbench.runs.folder import Run
    from cirbench.runs.schema import Result
    from cirbench.support.arrays import Ragged


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """What one run found.

    Attributes:
        name: How it is called beside others.
        result: Its result, or the entry that was made of it.
        query_ids: The queries, in order.
        top_QK: Gallery positions, best first; -1 where a query has fewer candidates than K.
        ranks: Per query, the exact rank of each ground truth, in the protocol's order.
        values_Q: The headline number of each query as a fraction; NaN where there is none.
    """

    name: str
    result: Result | Entry
    query_ids: tuple[str, ...]
    top_QK: NDArray[np.int64]
    ranks: Ragged[np.int64]
    values_Q: NDArray[np.float64]

    @property
    def first_Q(self) -> NDArray[np.int64]:
        """The rank of the best-ranked ground truth of each query; `UNRANKED` where none is ranked."""
        return Ranks(self.ranks).best_Q


def read_outcomes(runs: Sequence[Run]) -> tuple[list[Outcomes], list[Outcomes]]:
    """Read what runs that are to be shown side by side found, and the unimodal baselines that lie beside the first.

    Raises:
        CorruptFile: The rankings of a run are damaged.
        CheckFailed: Their protocols or their queries differ; the message says how.
    """
    for other in runs[1:]:
        if (why := _apart(runs[0], other)) is not None:
            raise CheckFailed(f"These runs cannot be shown side by side: {why}.", hint="See `cirbench list runs`.")
    known = {run.result.digest for run in runs}
    backbone = runs[0].result.backbone.digest
    beside = {
        run.result.method.name: run
        for run in reversed(baselines_beside(runs[0]))
        if run.result.digest not in known and run.result.backbone.digest == backbone and _apart(runs[0], run) is None
    }
    asked = [outcomes_of(run, name) for run, name in zip(runs, run_names(runs), strict=True)]
    return asked, [outcomes_of(beside[name], name) for name in sorted(beside)]


def outcomes_of(run: Run, name: str) -> Outcomes:
    """Read what a run found.

    Raises:
        CorruptFile: Its rankings are damaged.
    """
    arrays = read_archive(run.folder / PER_QUERY)
    headline = run.result.metrics[0].label if run.result.metrics else None
    values_Q = np.full(len(run.query_ids), np.nan) if headline is None else run.values[headline]
    return Outcomes(name, run.result, run.query_ids, arrays["top_QK"].astype(np.int64), run.ranks, values_Q)


def outcomes_of_entry(entry: Entry, evidence: Evidence) -> Outcomes:
    """Take what an entry kept: everything but the first items, of which it has those of a few queries."""
    top_QK = np.full((len(evidence.query_ids), evidence.shown_SK.shape[1]), -1, dtype=np.int64)
    top_QK[evidence.shown_places] = evidence.shown_SK
    (measured,) = evidence.measured([entry.metrics[0].label])[:1]
    return Outcomes(entry.method.name, entry, evidence.query_ids, top_QK, evidence.relevant_ranks, measured.values_Q)


def _apart(first: Run, other: Run) -> str | None:
    """Say why two runs cannot be shown side by side, or ``None`` where they can."""
    names = [run.result.method.name for run in (first, other)]
    if first.result.protocol.digest != other.result.protocol.digest:
        protocols = [run.result.protocol.name for run in (first, other)]
        if protocols[0] == protocols[1]:
            return f"they were made on different versions of {protocols[0]}"
        return f"{names[0]} was run on {protocols[0]}, and {names[1]} on {protocols[1]}"
    if first.query_ids != other.query_ids:
        return f"{names[0]} covers {len(first.query_ids)} queries, and {names[1]} {len(other.query_ids)} or others"
    return None


Choice = Literal["spread", "worst", "best", "disagree"]


@dataclasses.dataclass(frozen=True)
class Hit:
    """One retrieved item; its image where the gallery's images are available, and whether it is a ground truth."""

    id: str
    image: ImageSource | None
    right: bool


@dataclasses.dataclass(frozen=True)
class Answer:
    """What one run answered to one query.

    Attributes:
        name: The run's name.
        top: The first items.
        ranks: The exact rank of each ground truth, in the order of `Case.truths`; ``None`` for one without a rank.
        value: The headline number of this query in percent, or ``None``.
    """

    name: str
    top: tuple[Hit, ...]
    ranks: tuple[int | None, ...]
    value: float | None

    @property
    def best(self) -> int | None:
        """The rank of the ground truth that was found first, or ``None``."""
        return min((rank for rank in self.ranks if rank is not None), default=None)


@dataclasses.dataclass(frozen=True)
class Case:
    """One query: its ground truths (none where a server keeps them), what all runs answered, and what it is about."""

    query: Query
    truths: tuple[Hit, ...]
    answers: tuple[Answer, ...]
    labels: tuple[str, ...]


def choose(outcomes: Sequence[Outcomes], choice: Choice, count: int, among: Sequence[int] | None = None) -> list[int]:
    """Choose queries by what the first run, or the first two, made of them.

    ``spread`` takes queries at even distances, whatever became of them. ``worst`` and ``best`` order by the headline
    number of the query and, where that is equal, by the rank of the best ground truth. ``disagree`` takes the queries
    on which two runs differ most. What is still equal stays in the benchmark's order. With ``among``, only queries at
    these places are taken.

    Returns:
        At most ``count`` places in the runs' order of queries.

    Raises:
        UsageError: ``count`` is not positive, or ``disagree`` is asked of one run.
        CheckFailed: The choice needs ground truths, and a server keeps them.
    """
    if count < 1:
        raise UsageError(f"The number of queries to show must be at least 1, not {count}.")
    first = outcomes[0]
    total = len(first.query_ids)
    if choice == "spread":
        return spread(total, count) if among is None else [among[at] for at in spread(len(among), count)]
    if np.isnan(first.values_Q).all():
        raise CheckFailed(
            f"The {choice} queries are unknown: the ground truths of {first.result.protocol.name} are not available.",
            hint="Leave --worst, --best or --disagree out to see queries at even distances.",
        )
    values_Q, log_Q = _comparable(first)
    keys = {"worst": (-log_Q, values_Q), "best": (log_Q, -values_Q)}
    if choice == "disagree":
        if len(outcomes) < 2:
            raise UsageError("--disagree compares two runs, and one is given.", hint="Name a second run folder.")
        other_Q, other_log_Q = _comparable(outcomes[1])
        keys["disagree"] = (-np.abs(log_Q - other_log_Q), -np.abs(values_Q - other_Q))
    order = np.lexsort((np.arange(total), *keys[choice]))
    measured = order[~np.isnan(values_Q[order])]
    if among is not None:
        measured = measured[np.isin(measured, among)]
    return [int(place) for place in measured[:count]]


def cases(
    protocol: EvaluationProtocol, outcomes: Sequence[Outcomes], places: Sequence[int], *, top: int
) -> tuple[Case, ...]:
    """Put together what is to be seen of the queries at ``places``.

    Args:
        protocol: The runs' protocol, whole.
        outcomes: Runs on the same queries.
        places: Places in the runs' order of queries.
        top: How many retrieved items to show.

    Raises:
        CheckFailed: The protocol is not the runs' any more.
    """
    recorded = outcomes[0].result.protocol
    if protocol.digest != recorded.digest:
        changed = [name for name, value in protocol.fields.items() if recorded.fields.get(name) != value]
        raise CheckFailed(
            f"The run was made on another {recorded.name} than the one here: {', '.join(changed)} changed since.",
            hint="Run it again, or look at it where its data are (--data-root).",
        )
    at = {query.id: place for place, query in enumerate(protocol.queries)}
    return tuple(_case(protocol, outcomes, place, at[outcomes[0].query_ids[place]], top) for place in places)


def _case(protocol: EvaluationProtocol, outcomes: Sequence[Outcomes], place: int, query: int, top: int) -> Case:
    gallery = protocol.gallery
    assert gallery is not None, "runs rank a gallery"
    labelled = protocol.labels.relevant[query] if protocol.labels is not None else ()
    counted = protocol.labels.right[query] if protocol.labels is not None else ()
    truths = tuple(itertools.compress(labelled, counted))
    right = {gallery.positions[name] for name in truths}

    def hit(position: int) -> Hit:
        image = None if gallery.images is None else gallery.images[position]
        return Hit(gallery.ids[position], image, position in right)

    answers = tuple(
        Answer(
            run.name,
            tuple(hit(int(position)) for position in run.top_QK[place][:top] if position >= 0),
            tuple(None if rank == UNRANKED else int(rank) for rank in itertools.compress(run.ranks[place], counted)),
            None if np.isnan(run.values_Q[place]) else 100 * float(run.values_Q[place]),
        )
        for run in outcomes
    )
    labels = tuple(label for by_query in protocol.slices.values() for label in by_query[query])
    return Case(protocol.queries[query], tuple(hit(gallery.positions[name]) for name in truths), answers, labels)


def _comparable(run: Outcomes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return run.values_Q, np.log(run.first_Q.astype(np.float64))


SIDE = 96
"""Pixels of the longer side; an image that is smaller keeps its size."""

_VERSION = 1  # of what is done to an image; part of each file name


class Thumbnails:
    """A folder of thumbnails, named by what they show.

    Args:
        folder: Where they go.
        href: How a page names that folder.
    """

    def __init__(self, folder: Path, href: str) -> None:
        self._folder = folder
        self._href = href
        self.names: set[str] = set()

    def of(self, image: ImageSource) -> str | None:
        """Write the thumbnail of an image unless it is there; return its address, or ``None`` if the image is not."""
        try:
            name = f"{hashlib.sha256(f'{_VERSION} {SIDE} {image.content}'.encode()).hexdigest()[:20]}.webp"
            if not (self._folder / name).is_file():
                write_bytes(self._folder / name, _encode(image))
        except MissingData:
            return None
        self.names.add(name)
        return f"{self._href}/{name}"


def _encode(image: ImageSource) -> bytes:
    from PIL import Image, ImageOps

    picture = ImageOps.exif_transpose(image.open()).convert("RGB")
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=80, method=6)
    return buffer.getvalue()


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image on a page: its id, the address of its thumbnail if it has one, its text alternative."""

    id: str
    href: str | None
    text: str
    right: bool = False


@dataclasses.dataclass(frozen=True)
class ShownAnswer:
    """What one run answered."""

    name: str
    value: float | None
    ranks: str
    best: int | None
    top: tuple[Picture, ...]


@dataclasses.dataclass(frozen=True)
class ShownCase:
    """One query on a page."""

    number: int
    id: str
    captions: tuple[str, ...]
    metric: str
    reference: Picture
    truths: tuple[Picture, ...]
    answers: tuple[ShownAnswer, ...]
    labels: tuple[str, ...]


def shown(cases: Sequence[Case], metric: str, thumbnails: Thumbnails | None) -> tuple[ShownCase, ...]:
    """Prepare cases for a page, with thumbnails where they may be shown."""

    def picture(id: str, image: ImageSource | None, text: str, right: bool = False) -> Picture:
        return Picture(id, thumbnails.of(image) if thumbnails and image else None, text, right)

    def hit(each: Hit, place: int) -> Picture:
        return picture(
            each.id, each.image, f"place {place}: image {each.id}{', a ground truth' if each.right else ''}", each.right
        )

    return tuple(
        ShownCase(
            number,
            case.query.id,
            case.query.captions,
            metric,
            picture(case.query.reference.id, case.query.reference.image, f"reference image {case.query.reference.id}"),
            tuple(picture(each.id, each.image, f"ground truth {each.id}", True) for each in case.truths),
            tuple(
                ShownAnswer(
                    answer.name,
                    answer.value,
                    ranks_text(answer),
                    answer.best,
                    tuple(hit(each, place) for place, each in enumerate(answer.top, start=1)),
                )
                for answer in case.answers
                if answer.top
            ),
            case.labels,
        )
        for number, case in enumerate(cases, start=1)
    )


def ranks_text(answer: Answer) -> str:
    """Write the ranks of the ground truths in order, a dash for one that was no candidate."""
    return ", ".join("–" if rank is None else f"{rank:,}" for rank in answer.ranks)


_HOW = {
    "spread": "{} of {:,} queries, at even distances, whatever became of them.",
    "worst": "The {} of {:,} queries on which {} does worst.",
    "best": "The {} of {:,} queries on which {} does best.",
    "disagree": "The {} of {:,} queries on which {} and {} differ most.",
}


@dataclasses.dataclass(frozen=True)
class QueryReport:
    """One or two runs, query by query.

    Attributes:
        protocol: Theirs.
        free: Whether its images come with cirbench, so that anyone may show them.
        title: What it is about.
        outcomes: The runs that were asked for, then the unimodal ones that lie beside the first.
        cases: The chosen queries.
        chosen: How they were chosen, as a sentence.
        runs: The runs that were asked for.
    """

    protocol: EvaluationProtocol
    free: bool
    title: str
    outcomes: tuple[Outcomes, ...]
    cases: tuple[Case, ...]
    chosen: str
    runs: tuple[Run, ...]

    def audits(self) -> list[Audit]:
        """Audit the runs that were asked for."""
        asked = zip(self.outcomes[: len(self.runs)], self.runs, strict=True)
        return [audit_run(outcomes.name, run, self.protocol) for outcomes, run in asked]

    @property
    def metric(self) -> str:
        """The headline metric; empty where a server keeps the ground truths."""
        metrics = self.outcomes[0].result.metrics
        return metrics[0].label if metrics else ""


def read_report(
    folders: Sequence[Path],
    choice: Choice = "spread",
    count: int = 8,
    *,
    top: int = 10,
    by: str | None = None,
    data_root: Path | None = None,
) -> QueryReport:
    """Read runs and choose queries of them.

    Args:
        folders: One or two run folders.
        choice: How queries are chosen; see `choose`.
        count: How many.
        top: How many retrieved items to show of each.
        by: A kind of labels; as many queries are chosen from each of its parts (`cirbench.comparison.baselines`).
        data_root: Where annotations and images are; where the run found them if not given.

    Raises:
        MissingData: A folder holds no run, or the benchmark's files are not there.
        CorruptFile: A file of a run is damaged, changed or missing.
        CheckFailed: The runs cannot be shown side by side, or the benchmark has changed since.
        UsageError: The choice does not fit the runs.
    """
    runs = [load_run(folder) for folder in folders]
    asked, beside = read_outcomes(runs)
    protocol, free = _protocol(runs[0], data_root)
    outcomes = (*asked, *beside)
    if by is None:
        places, meaning = choose(asked, choice, count), ""
        looked_at = cases(protocol, outcomes, places, top=top)
    else:
        labelled = with_labels(runs[:1], by)
        labels_Q = labelled.runs[0].slices[labelled.kind]
        parts = sorted({label for labels in labels_Q for label in labels})
        inside = [[place for place, labels in enumerate(labels_Q) if part in labels] for part in parts]
        places = [*dict.fromkeys(place for among in inside for place in choose(asked, choice, count, among))]
        meaning = " ".join(("", f"As many from each part by {labelled.kind}.", *labelled.meaning))
        looked_at = tuple(
            dataclasses.replace(case, labels=tuple(dict.fromkeys((*case.labels, *labels_Q[place]))))
            for case, place in zip(cases(protocol, outcomes, places, top=top), places, strict=True)
        )
    chosen = _HOW[choice].format(len(places), len(asked[0].query_ids), *(run.name for run in asked)) + meaning
    title = f"{' and '.join(run.name for run in asked)} on {protocol.name}"
    return QueryReport(protocol, free, title, outcomes, looked_at, chosen, tuple(runs))


def write_page(report: QueryReport, page: Path, *, thumbnails: bool = False) -> int:
    """Write a report as one page, with the thumbnails in a folder beside it.

    Args:
        report: What to write.
        page: The HTML file; its thumbnails go to a folder of the same name that ends in ``_files``.
        thumbnails: Copy images small whose licence the user has to judge; those of cirbench are always shown.

    Returns:
        How many thumbnails the page shows; images that are not available are shown by their ids.
    """
    beside = page.with_name(f"{page.stem}_files")
    pictures = Thumbnails(beside, beside.name) if thumbnails or report.free else None
    audits = report.audits()
    content = {
        "report": report,
        "cases": shown(report.cases, report.metric, pictures),
        "audit_lines": side_by_side(audits),
        "audited": [each.name for each in audits],
        "version": cirbench.__version__,
    }
    write_text(page, render("report.html", **content, pictured=pictures is not None))
    return 0 if pictures is None else len(pictures.names)


def summary(report: QueryReport) -> Table:
    """Lay a report out for the terminal: one row a query and run."""
    first = report.outcomes[0].result
    columns = (
        Column("query", "query"),
        Column("caption", "relative caption"),
        Column("run", "run"),
        Column("value", report.metric or "number"),
        Column("ranks", "ground truths at rank"),
        Column("top", "retrieved first"),
    )
    names = {
        each.name: with_remarks(each.name, reservations(each.result.method, each.result.protocol.name))
        for each in report.outcomes
    }
    rows = [
        (
            case.query.id if place == 0 else "",
            " / ".join(case.query.captions) if place == 0 else "",
            names.get(answer.name, answer.name),
            None if answer.value is None else Number(answer.value),
            ranks_text(answer),
            " ".join(f"{hit.id}{'*' if hit.right else ''}" for hit in answer.top),
        )
        for case in report.cases
        for place, answer in enumerate(case.answers)
    ]
    title = f"{first.protocol.name} ({first.protocol.digest[:8]}) · {first.backbone.name}"
    return Table(title, columns, tuple(rows), caption=report.chosen, notes=("Percent. * marks a ground truth.",))


def _protocol(run: Run, data_root: Path | None) -> tuple[EvaluationProtocol, bool]:
    """Load the protocol that a run's configuration names, and say whether its images come with cirbench."""
    config = config_of(run)
    entry, root = entry_and_root(config, data_root)
    free = entry.folder is None and find_dataset(config.dataset).needs is None
    return load_protocol(entry.address, root), free
