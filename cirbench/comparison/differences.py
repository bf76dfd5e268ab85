"""What differs between runs: names that tell them apart, every setting as it takes effect, and queries that flipped."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from cirbench.metrics.functions import UNRANKED, Ranks, target_ranks
from cirbench.metrics.table import METRICS, parse_label
from cirbench.runs.folder import seeds_of
from cirbench.support.tables import Column, Number, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from cirbench.runs.folder import Run
    from cirbench.runs.schema import ProtocolRecord, Result

_BACKBONE = ("architecture", "weights", "activation", "preprocessing", "precision")
_DIGEST, _SHORT = 64, 12


_MOST = 3


def run_names(runs: Sequence[Run]) -> tuple[str, ...]:
    """Name each run by its method; runs of one method also by the settings that differ, or else by their folder."""
    return distinct_names(
        [run.result.method.name for run in runs],
        [{**settings(run.result), "seed": ",".join(map(str, seeds_of(run)))} for run in runs],
        [run.folder.name for run in runs],
    )


def distinct_names(
    methods: Sequence[str], settings: Sequence[Mapping[str, Any]], otherwise: Sequence[str]
) -> tuple[str, ...]:
    """Name results by their methods, by the first settings that differ within a method, or by ``otherwise``."""

    def named(place: int) -> str:
        kin = [settings[other] for other, method in enumerate(methods) if method == methods[place]]
        mine = settings[place]
        differing = [key for key in mine if any(other.get(key) != mine[key] for other in kin)]
        return " ".join([methods[place], *(f"{key}={mine[key]}" for key in differing[:_MOST])])

    names = [*map(named, range(len(methods)))]
    times = Counter(names)
    return tuple(f"{name} ({other})" if times[name] > 1 else name for name, other in zip(names, otherwise, strict=True))


def settings(result: Result) -> dict[str, Any]:
    """Return what a user set or could have set, by the name it is set by."""
    method = result.method
    return {
        **method.parameters,
        **(method.training or {}),
        "data": method.trained_on,
        "backbone": result.backbone.name,
        "precision": result.backbone.precision,
        "seed": result.seed,
    }


@dataclasses.dataclass(frozen=True)
class Difference:
    """One setting in which two runs differ; ``None`` where a run does not have it."""

    field: str
    one: Any
    other: Any


@dataclasses.dataclass(frozen=True)
class Flip:
    """A query that has a hit in the top k of one of two runs and not of the other.

    Attributes:
        query: Its id.
        one: The rank of its ground truth in the first run; ``None`` where that is not ranked.
        other: In the second run.
        gained: Whether it is the second run that has the hit.
    """

    query: str
    one: int | None
    other: int | None
    gained: bool


def differences(one: Run, other: Run) -> list[Difference]:
    """Return every setting in which two runs differ, in the order in which they take effect.

    Protocol, what was scored, backbone, method with its parameters and its training, code, seed, and at last the
    machine: the first one is the first suspect.
    """
    protocol = protocol_fields(one.result.protocol, other.result.protocol)
    found = [Difference(f"protocol {name}", *values) for name, values in protocol.items()]
    for mine, theirs in zip(_stages(one.result), _stages(other.result), strict=True):
        found += [
            Difference(field, mine.get(field), theirs.get(field))
            for field in {**mine, **theirs}
            if mine.get(field) != theirs.get(field)
        ]
    return found


def protocol_fields(one: ProtocolRecord, other: ProtocolRecord) -> dict[str, tuple[str, str]]:
    """Return the fields in which two protocols differ, each with both values."""
    absent = "unknown"
    return {
        name: (one.fields.get(name, absent), other.fields.get(name, absent))
        for name in {**one.fields, **other.fields}
        if one.fields.get(name) != other.fields.get(name)
    } or ({} if one.digest == other.digest else {"digest": (one.digest, other.digest)})


def flips(one: Run, other: Run, label: str) -> list[Flip]:
    """Return the queries with a hit in the top k of one run and not of the other, those that moved most first.

    A hit is a value above 0 of the number ``label``, which is taken at k. The rank is that of the target, or for
    numbers on all ground truths that of the best of them. The runs must have been scored on the same queries.
    """
    values = [run.values[label] for run in (one, other)]
    ranks = [_ranks(run, label) for run in (one, other)]
    places = np.flatnonzero((values[0] > 0) != (values[1] > 0))
    order = places[np.argsort(-np.abs(np.log(ranks[0][places]) - np.log(ranks[1][places])), kind="stable")]
    return [
        Flip(one.query_ids[at], _ranked(ranks[0][at]), _ranked(ranks[1][at]), gained=bool(values[1][at] > 0))
        for at in order
    ]


def differences_table(found: list[Difference], names: tuple[str, str]) -> Table:
    """Lay out the settings in which two runs differ."""
    return Table(
        title="Settings that differ, in the order in which they take effect" if found else "No setting differs",
        columns=(Column("field", "field"), Column("one", names[0]), Column("other", names[1])),
        rows=tuple((each.field, _said(each.one), _said(each.other)) for each in found),
    )


def flips_table(found: list[Flip], names: tuple[str, str], label: str, *, most: int | None = None) -> Table:
    """Lay out the queries that flipped; at most so many of them."""
    gained = sum(flip.gained for flip in found)
    shown = found[:most]
    left = len(found) - len(shown)
    return Table(
        title=f"{len(found)} queries flipped at {label}: {gained} gained, {len(found) - gained} lost",
        columns=(
            Column("query", "query"),
            Column("one", f"rank in {names[0]}"),
            Column("other", f"rank in {names[1]}"),
            Column("outcome", "outcome"),
        ),
        rows=tuple(
            (flip.query, _cell(flip.one), _cell(flip.other), "gained" if flip.gained else "lost") for flip in shown
        ),
        caption=f"Gained: only {names[1]} has a hit in the top {parse_label(label).k} ({label} above 0); lost: only "
        f"{names[0]} has one. Those whose rank moved most come first.",
        notes=(f"{left} more: --format csv --table queries lists them all.",) if left else (),
    )


def _stages(result: Result) -> Iterator[dict[str, Any]]:
    """What was set, stage by stage of a run."""
    counts, method, environment = result.counts, result.method, result.environment
    yield {
        "queries scored": f"{counts.queries} of {counts.queries_expected}",
        "gallery ranked": f"{counts.gallery} of {counts.gallery_expected}",
        "lost images": ", ".join(result.lost) or None,
    }
    yield {f"backbone {field}": getattr(result.backbone, field) for field in _BACKBONE}
    yield {"method": method.name}
    declared = (
        ("supervision", "uses_triplets", "uses_llm", "transductive", "uses_shared_concept") if result.scored else ()
    )
    yield {f"declared {name.replace('_', ' ')}": getattr(method, name) for name in declared}
    yield {f"parameter {name}": value for name, value in method.parameters.items()}
    yield {
        "checkpoint": method.checkpoint,
        "trained on": method.trained_on,
        "selected on": ", ".join(method.selections) or None,
    }
    yield {f"training {name}": value for name, value in (method.training or {}).items()}
    yield {"code of the method": method.code, "seed": result.seed}
    scored = [] if result.scored is None else result.scored.files
    yield {"provenance": "a run of cirbench" if result.scored is None else str(result.scored)}
    second = result.reranking
    yield (
        {}
        if second is None
        else {
            f"re-ranking {field}": getattr(second, field)
            for field in ("reranker", "k", "first_stage", "recall", "calls")
        }
    )
    yield {
        f"scored {at} {file.role}": f"{file.name} {file.array} {file.sha256[:_SHORT]}"
        for at, file in enumerate(scored, start=1)
    }
    yield {field: getattr(environment, field) for field in ("cirbench", "device", "platform", "python")}
    yield {f"package {name}": version for name, version in environment.packages.items()}


def _ranks(run: Run, label: str) -> NDArray[np.int64]:
    """Per query the rank that decides: the target's, or the best of all ground truths."""
    if METRICS.find(parse_label(label).metric).on_all:
        return Ranks(run.ranks).best_Q
    ranks_Q, labelled_Q = target_ranks(run.ranks)
    return np.where(labelled_Q, ranks_Q, UNRANKED)


def _ranked(rank: np.int64) -> int | None:
    return None if rank >= UNRANKED else int(rank)


def _cell(rank: int | None) -> Number | str:
    return "not ranked" if rank is None else Number(rank, digits=0)


def _said(value: Any) -> str:
    if value is None:
        return "none"
    text = str(value)
    return text[:_SHORT] if len(text) == _DIGEST and text.isalnum() else text
