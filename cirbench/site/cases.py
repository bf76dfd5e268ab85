"""Queries worth a look, each with its ground truths and every run's answer."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

import numpy as np

from cirbench.errors import CheckFailed, UsageError
from cirbench.leaderboard.evidence import spread
from cirbench.retrieval.task import UNRANKED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cirbench.datasets.protocol import EvaluationProtocol, ImageSource, Query
    from cirbench.site.outcomes import Outcomes

Choice = Literal["spread", "worst", "best", "disagree"]


@dataclasses.dataclass(frozen=True)
class Hit:
    """One retrieved item; its image where the gallery's images are at hand, and whether it is a ground truth."""

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


@dataclasses.dataclass(frozen=True)
class Case:
    """One query, its ground truths (none where a server keeps them), and the answers of all runs."""

    query: Query
    truths: tuple[Hit, ...]
    answers: tuple[Answer, ...]


def choose(outcomes: Sequence[Outcomes], choice: Choice, count: int) -> list[int]:
    """Choose queries by what the first run, or the first two, made of them.

    ``spread`` takes queries at even distances, whatever became of them. ``worst`` and ``best`` order by the headline
    number of the query and, where that is equal, by the rank of the best ground truth. ``disagree`` takes the queries
    on which two runs differ most. What is still equal stays in the benchmark's order.

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
        return spread(total, count)
    if np.isnan(first.values_Q).all():
        raise CheckFailed(
            f"The {choice} queries cannot be told: the ground truths of {first.result.protocol.name} are not at hand.",
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
            f"The run was made on another {recorded.name} than the one at hand: {', '.join(changed)} changed since.",
            hint="Run it again, or look at it where its data are (--data-root).",
        )
    at = {query.id: place for place, query in enumerate(protocol.queries)}
    return tuple(_case(protocol, outcomes, place, at[outcomes[0].query_ids[place]], top) for place in places)


def _case(protocol: EvaluationProtocol, outcomes: Sequence[Outcomes], place: int, query: int, top: int) -> Case:
    gallery = protocol.gallery
    assert gallery is not None, "runs rank a gallery"
    truths = protocol.labels.relevant[query] if protocol.labels is not None else ()
    right = {gallery.positions[name] for name in truths}

    def hit(position: int) -> Hit:
        image = None if gallery.images is None else gallery.images[position]
        return Hit(gallery.ids[position], image, position in right)

    answers = tuple(
        Answer(
            run.name,
            tuple(hit(int(position)) for position in run.top_QK[place][:top] if position >= 0),
            tuple(None if rank == UNRANKED else int(rank) for rank in run.ranks[place]) if truths else (),
            None if np.isnan(run.values_Q[place]) else 100 * float(run.values_Q[place]),
        )
        for run in outcomes
    )
    return Case(protocol.queries[query], tuple(hit(gallery.positions[name]) for name in truths), answers)


def _comparable(run: Outcomes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return run.values_Q, np.log(run.first_Q.astype(np.float64))
