"""The pages of runs: numbers, identities, commands, and what was retrieved where the pictures are ours to show."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import TYPE_CHECKING

from cirbench.benchmarks.catalogue import datasets, load_protocol
from cirbench.errors import CheckFailed
from cirbench.leaderboard.entry import RANKS, read_entry
from cirbench.leaderboard.evidence import SHOWN_ITEMS, SHOWN_QUERIES, read_evidence, spread
from cirbench.leaderboard.site import figures
from cirbench.leaderboard.site.cases import cases, outcomes_of_entry
from cirbench.leaderboard.site.showing import ShownCase, shown
from cirbench.methods.registry import UNIMODAL_BASELINES

if TYPE_CHECKING:
    from pathlib import Path

    from cirbench.leaderboard.board import BoardRow
    from cirbench.leaderboard.entry import Entry, Score
    from cirbench.leaderboard.site.cases import Outcomes
    from cirbench.leaderboard.site.figures import Figure
    from cirbench.leaderboard.site.showing import Thumbnails
    from cirbench.leaderboard.site.views import BoardView
    from cirbench.protocol import EvaluationProtocol


@dataclasses.dataclass(frozen=True)
class RunView:
    """The page of a run.

    Attributes:
        title: What it is about.
        benchmark: The page of its benchmark.
        row: Its row.
        facts: What a reader wants to know first, in pairs.
        commands: What to type to make it again.
        scores: Its numbers.
        figures: Its pictures.
        identity: Digests and versions, in pairs.
        cases: What it retrieved.
        chosen: How those queries were chosen.
    """

    title: str
    benchmark: str
    row: BoardRow
    facts: tuple[tuple[str, str], ...]
    commands: tuple[str, ...]
    scores: tuple[Score, ...]
    figures: tuple[Figure, ...]
    identity: tuple[tuple[str, str], ...]
    cases: tuple[ShownCase, ...]
    chosen: str


def run_view(view: BoardView, row: BoardRow, entries: Path, thumbnails: Thumbnails) -> RunView:
    """Read an entry and prepare its page.

    Raises:
        CheckFailed: What it says it retrieved does not fit its benchmark.
    """
    entry = read_entry(entries / row.id)
    told = _cases(entry, view, entries, thumbnails)
    return RunView(
        f"{row.title} on {row.protocol}",
        view.benchmark,
        row,
        _facts(entry, row),
        entry.commands,
        entry.metrics,
        (*figures.recall_curves([row]), *figures.slices([row])),
        _identity(entry),
        told,
        f"{len(told)} of {entry.counts.queries:,} queries, at even distances, whatever became of them.",
    )


def _facts(entry: Entry, row: BoardRow) -> tuple[tuple[str, str], ...]:
    counts, headline = entry.counts, entry.metrics[0]
    interval = "" if headline.low is None or headline.high is None else f" [{headline.low:.2f}, {headline.high:.2f}]"
    facts = {
        headline.label: f"{headline.value:.2f} %{interval}",
        "rank": f"{row.rank} among rows on {row.backbone}" if row.rank else "none",
        "method": f"{entry.method.name}: {entry.method.title}",
        "backbone": row.backbone,
        "protocol": f"{entry.protocol.name} ({entry.protocol.digest[:8]})",
        "scored": f"queries {counts.queries:,}/{counts.queries_expected:,}, "
        f"gallery {counts.gallery:,}/{counts.gallery_expected:,}",
        "made": f"{entry.created[:10]}, cirbench {entry.environment.cirbench} on {entry.environment.device}",
        **row.disclosures,
    }
    if entry.note:
        facts["note"] = entry.note
    return tuple(facts.items())


def _identity(entry: Entry) -> tuple[tuple[str, str], ...]:
    backbone, method = entry.backbone, entry.method
    settings = {**method.parameters, **(method.training or {})}
    facts = {
        "entry": entry.id,
        "run": entry.run,
        "ranks": entry.ranks or "scored by a server",
        "method's code": method.code,
        "checkpoint": method.checkpoint or "none",
        "settings": ", ".join(f"{name}={value}" for name, value in settings.items()) or "none",
        "seed": str(entry.seed),
        "backbone": f"{backbone.name}: {backbone.architecture}, {backbone.activation}, {backbone.precision}",
        "weights": backbone.weights,
        "preprocessing": backbone.preprocessing,
        "packages": ", ".join(f"{name} {version}" for name, version in sorted(entry.environment.packages.items())),
        "python": f"{entry.environment.python} on {entry.environment.platform}",
        **{f"protocol: {name}": value for name, value in entry.protocol.fields.items()},
    }
    return tuple(facts.items())


def _cases(entry: Entry, view: BoardView, entries: Path, thumbnails: Thumbnails) -> tuple[ShownCase, ...]:
    """What was retrieved, where every image comes with cirbench and the benchmark is still the entry's."""
    dataset = datasets().get(view.board.benchmark)
    if dataset is None or dataset.needs is not None or not entry.ranks_stored or entry.partial:
        return ()
    protocol = _protocol(view.board.protocol or "")
    if protocol.digest != entry.protocol.digest:
        return ()
    beside = [
        read_entry(entries / row.id)
        for row in view.board.rows
        if row.method in UNIMODAL_BASELINES and row.ranks is not None and not row.partial and row.id != entry.id
    ]
    same = [other for other in beside if other.backbone.digest == entry.backbone.digest]
    outcomes = [outcomes_of_entry(each, read_evidence(entries / each.id / RANKS)) for each in (entry, *same)]
    places = spread(len(outcomes[0].query_ids), SHOWN_QUERIES)
    for each in outcomes:
        _hold_together(each, protocol, places)
    return shown(cases(protocol, outcomes, places, top=SHOWN_ITEMS), entry.metrics[0].label, thumbnails)


@cache
def _protocol(id: str) -> EvaluationProtocol:
    return load_protocol(id)


def _hold_together(outcomes: Outcomes, protocol: EvaluationProtocol, places: list[int]) -> None:
    """Refuse first items that contradict the ranks of the ground truths."""
    assert protocol.labels is not None
    assert protocol.gallery is not None
    for place in places:
        top = outcomes.top_QK[place].tolist()
        if not all(-1 <= position < len(protocol.gallery) for position in top):
            raise CheckFailed(f"{outcomes.name} says it retrieved images that {protocol.name} does not have.")
        for name, rank in zip(protocol.labels.relevant[place], outcomes.ranks[place].tolist(), strict=True):
            at = protocol.gallery.positions[name]
            if (at in top) != (rank <= len(top)) or (at in top and top.index(at) != rank - 1):
                raise CheckFailed(
                    f"{outcomes.name} on {protocol.name} says that query {outcomes.query_ids[place]} retrieved {name} "
                    "at another place than its ranks say.",
                    hint="Make the entry again from its run: cirbench leaderboard add RUN",
                )
