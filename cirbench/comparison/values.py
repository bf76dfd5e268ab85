"""Runs side by side: which may stand in one column, what to call them, and their values per query."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING, Any

from cirbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from cirbench.runs.folder import Run
    from cirbench.runs.schema import ProtocolRecord, Result

_MACRO = "[mean over "


@dataclasses.dataclass(frozen=True)
class PerQueryMetric:
    """A number as it was kept with its run.

    Attributes:
        label: What it is.
        values_Q: Per query a fraction, NaN for a query that does not take part.
        value: The number, a fraction.
        mean_of: The labels of the slices whose unweighted mean it is.
    """

    label: str
    values_Q: NDArray[np.float64]
    value: float
    mean_of: tuple[str, ...] = ()


def kept(run: Run, label: str) -> list[PerQueryMetric]:
    """Return a number and, where it is an unweighted mean over slices, after it the numbers that it averages."""
    parts: tuple[str, ...] = ()
    if _MACRO in label:
        start = label.replace(_MACRO, "[").removesuffix("]") + "="
        parts = tuple(part for part in run.values if part.startswith(start))
    return [
        PerQueryMetric(name, run.values[name], run.result[name].value / 100, parts if name == label else ())
        for name in (label, *parts)
    ]


_DATA = "data"
_DIGEST = 64
_SHOWN = 60


def require_one_protocol(runs: Sequence[Run]) -> None:
    """Refuse runs whose protocols differ in anything but the content of the data, which is marked instead.

    Raises:
        UsageError: They differ; the message names the fields.
    """
    first = runs[0]
    for run in runs[1:]:
        differing = protocol_fields(first.result.protocol, run.result.protocol)
        if [*differing] in ([], [_DATA]):
            continue
        one, other = first.result.protocol, run.result.protocol
        fields = ", ".join(_named(name, *values) for name, values in differing.items())
        raise UsageError(
            f"{first.folder} and {run.folder} were not obtained in the same way: {one.name} ({one.digest[:8]}) and "
            f"{other.name} ({other.digest[:8]}) differ in {fields}.",
            hint="Compare runs of one protocol; `cirbench list runs` names the protocol of each.",
        )


def protocol_fields(one: ProtocolRecord, other: ProtocolRecord) -> dict[str, tuple[str, str]]:
    """Return the fields in which two protocols differ, each with both values."""
    absent = "unknown"
    return {
        name: (one.fields.get(name, absent), other.fields.get(name, absent))
        for name in {**one.fields, **other.fields}
        if one.fields.get(name) != other.fields.get(name)
    } or ({} if one.digest == other.digest else {"digest": (one.digest, other.digest)})


def remarks(runs: Sequence[Run], names: Sequence[str]) -> Iterator[str]:
    """Say what else differs between runs of one protocol: backbones, data, and how much was scored."""
    backbones = {run.result.backbone.digest: run.result.backbone.name for run in runs}
    if len(backbones) > 1:
        told_apart = ", ".join(f"{name} {digest[:8]}" for digest, name in backbones.items())
        yield f"The backbones differ ({told_apart}): a difference may be theirs."
    for run, name in zip(runs, names, strict=True):
        if run.result.protocol.digest != runs[0].result.protocol.digest:
            yield f"{name} ran on other data than {names[0]}: the same ids, and another content behind them."
        counts = run.result.counts
        if counts.partial:
            yield (
                f"{name} is partial: queries {counts.queries}/{counts.queries_expected}, "
                f"gallery {counts.gallery}/{counts.gallery_expected}."
            )
        if run.query_ids != runs[0].query_ids:
            yield f"{name} was scored on other queries than {names[0]}, so it is shown and not compared."


def _named(field: str, one: str, other: str) -> str:
    plain = len(one) != _DIGEST and len(other) != _DIGEST and max(len(one), len(other)) <= _SHOWN
    return f"{field} ({one!r} against {other!r})" if plain else field


_MOST = 3


def run_names(runs: Sequence[Run]) -> tuple[str, ...]:
    """Name each run by its method; runs of one method also by the settings that differ, or else by their folder."""
    return distinct_names(
        [run.result.method.name for run in runs],
        [settings(run.result) for run in runs],
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
