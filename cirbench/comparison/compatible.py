"""Which runs may stand in one column, and what a reader must know about those that do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cirbench.results.folder import Run
    from cirbench.results.schema import ProtocolRecord

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
