"""``cirbench report``: one or two runs, query by query, as a page or as a table for the terminal."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import cirbench
from cirbench.benchmarks.catalogue import choose_protocol, find_dataset, load_protocol
from cirbench.comparison.audit import audit_run
from cirbench.comparison.audit_tables import side_by_side
from cirbench.comparison.slices import with_labels
from cirbench.comparison.tables import reservations, with_remarks
from cirbench.leaderboard.site.cases import (
    Case,
    Choice,
    Outcomes,
    Thumbnails,
    cases,
    choose,
    ranks_text,
    read_outcomes,
    shown,
)
from cirbench.leaderboard.site.frame import render
from cirbench.runs.folder import load_run
from cirbench.runs.scored import config_of
from cirbench.support.files import write_text
from cirbench.support.tables import Column, Number, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cirbench.comparison.audit import Audit
    from cirbench.protocol import EvaluationProtocol
    from cirbench.runs.folder import Run

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
        choice: How queries are chosen; see `cirbench.leaderboard.site.cases.choose`.
        count: How many.
        top: How many retrieved items to show of each.
        by: A kind of labels; as many queries are chosen from each of its parts (`cirbench.comparison.slices`).
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
    root = data_root or (None if config.data_root is None else Path(config.data_root))
    entry = choose_protocol(config.dataset, protocol=config.protocol)
    free = entry.folder is None and find_dataset(config.dataset).needs is None
    return load_protocol(entry.address, root), free
