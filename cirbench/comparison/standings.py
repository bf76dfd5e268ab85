"""Runs of one protocol compared on one number: which may be compared, the tests, and the ranks that each may have."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal, TypeAlias

from cirbench.comparison.differences import protocol_fields, run_names
from cirbench.errors import UsageError
from cirbench.metrics.paired import pairs_of, rank_ranges
from cirbench.runs.additional import with_metric
from cirbench.runs.folder import choose_label, combine, seeds_of
from cirbench.support.console import typed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cirbench.metrics.paired import Pair, RankRange
    from cirbench.runs.folder import Run
    from cirbench.runs.schema import MetricValue
    from cirbench.support.tables import Mark


Against: TypeAlias = Literal["all", "best", "baseline"]

_DATA = "data"
_DIGEST, _SHOWN = 64, 60


@dataclasses.dataclass(frozen=True)
class Standing:
    """One run among others.

    Attributes:
        name: What it is called here.
        run: The run, or the mean of its replicates.
        value: Its number.
        place: The places that it may have; ``None`` where it was scored on other queries, or where not every two were
            tested.
        mark: ``best`` where no run is significantly better, ``second`` for the group behind those.
        against: Compared with the baseline, this run first; ``None`` for the baseline itself.
    """

    name: str
    run: Run
    value: MetricValue
    place: RankRange | None
    mark: Mark
    against: Pair | None


@dataclasses.dataclass(frozen=True)
class Standings:
    """Runs compared on one number.

    Attributes:
        label: The number.
        baseline: The run that differences are taken to.
        rows: The runs, in the order in which they were given; replicates are one.
        pairs: Every two that can be compared; positions are those of the rows.
        remarks: What the reader should know.
        against: Which tests were asked for, and so which family the p-values are corrected over, see `compare_runs`.
    """

    label: str
    baseline: Standing
    rows: tuple[Standing, ...]
    pairs: tuple[Pair, ...]
    remarks: tuple[str, ...]
    against: Against = "all"

    @property
    def family(self) -> str:
        """The tests that p-values are corrected over, in words."""
        return family_of(self.against, len(self.pairs), self.baseline.name)

    def by_value(self) -> list[Standing]:
        """Return the rows with the best number first; runs that cannot be compared come last."""
        apart = {row.name for row in self.rows if row.run.query_ids != self.baseline.run.query_ids}
        return sorted(self.rows, key=lambda row: (row.name in apart, -row.value.value))


def family_of(against: Against, pairs: int, baseline: str) -> str:
    """Name a family of tests."""
    return f"the {pairs} comparisons with {baseline}" if against == "baseline" else f"all {pairs} pairs of these runs"


def compare_runs(
    runs: Sequence[Run], *, label: str | None = None, baseline: int = 0, against: Against = "all"
) -> Standings:
    """Compare runs of one protocol, query by query; runs that differ by nothing but the seed are one row.

    Args:
        runs: Two or more.
        label: The number to compare; the headline if not given.
        baseline: The position of the run that differences are taken to.
        against: ``baseline`` tests every run against that one, which has to be chosen before looking, and corrects over
            these tests alone; ``all`` tests every two. ``best`` tests every two as well, since the data choose which is
            best, and takes differences to the highest.

    Raises:
        UsageError: There are fewer than two, or they were not obtained in the same way.
        UnknownName: A run does not report the number.
    """
    if len(runs) < 2:
        raise UsageError("One run has nothing to be compared with.", hint="Give two or more: cirbench compare RUN RUN")
    return standings_of(runs, label, baseline, against)


def standings_of(runs: Sequence[Run], label: str | None, baseline: int, against: Against) -> Standings:
    """Compare runs as `compare_runs` does, also where there is but one."""
    base = runs[baseline]
    require_one_protocol([base, *runs])
    runs = [with_metric(run, label) for run in runs]
    label = choose_label(runs, label)
    runs, row_of = combine(runs)
    baseline, base = row_of[baseline], runs[row_of[baseline]]
    if against == "best":
        baseline = max(range(len(runs)), key=lambda at: runs[at].result[label].value)
        base = runs[baseline]
    compared = [at for at, run in enumerate(runs) if run.query_ids == base.query_ids]
    # One seed for one set of runs, so that their p-values do not depend on the baseline or on the order.
    seed = min(runs[at].result.seed for at in compared)
    one = compared.index(baseline) if against == "baseline" else None
    found = pairs_of([runs[at].measured(label) for at in compared], base.clusters, seed=seed, one=one)
    places = {} if one is not None else dict(zip(compared, rank_ranges(len(compared), found), strict=True))
    pairs = [dataclasses.replace(pair, first=compared[pair.first], second=compared[pair.second]) for pair in found]
    seen = {at: pair.seen_from(at) for pair in pairs for at in _others(pair, baseline)}
    starts = sorted({place.best for place in places.values()})
    names = run_names(runs)
    rows = tuple(
        Standing(names[at], run, run.result[label], places.get(at), _mark(places.get(at), starts), seen.get(at))
        for at, run in enumerate(runs)
    )
    # The baseline comes first, so that remarks say what differs from it.
    order = sorted(range(len(runs)), key=lambda at: at != baseline)
    notes = tuple(_remarks([runs[at] for at in order], [names[at] for at in order]))
    return Standings(label, rows[baseline], rows, tuple(pairs), notes, against)


def _others(pair: Pair, baseline: int) -> tuple[int, ...]:
    """Who is compared with the baseline in a pair, if anybody is."""
    sides = (pair.first, pair.second)
    return tuple(at for at in sides if at != baseline) if baseline in sides else ()


def _mark(place: RankRange | None, starts: Sequence[int]) -> Mark:
    if place is None or len(starts) == 1:
        return ""
    return "best" if place.best == starts[0] else "second" if place.best == starts[1] else ""


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
            hint=f"Choose the runs of one: --protocol {typed(one.name.partition('@')[0])}."
            if one.name != other.name
            else "They share a name and are two protocols: run one of them again.",
        )


def _remarks(runs: Sequence[Run], names: Sequence[str]) -> Iterator[str]:
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
    yield from seeds_remarks(runs, names)


def seeds_remarks(runs: Sequence[Run], names: Sequence[str]) -> Iterator[str]:
    """Say which rows are means over which seeds."""
    by_seeds: dict[tuple[int, ...], list[str]] = {}
    for run, name in zip(runs, names, strict=True):
        if run.replicates:
            by_seeds.setdefault(seeds_of(run), []).append(name)
    for seeds, means in by_seeds.items():
        verb = "is the mean" if len(means) == 1 else "are means"
        yield f"{', '.join(means)} {verb} over seeds {', '.join(map(str, seeds))}; ± is their standard deviation."


def _named(field: str, one: str, other: str) -> str:
    plain = len(one) != _DIGEST and len(other) != _DIGEST and max(len(one), len(other)) <= _SHOWN
    return f"{field} ({one!r} against {other!r})" if plain else field
