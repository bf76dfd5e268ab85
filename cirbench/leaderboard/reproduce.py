"""Running a published result again, and whether the numbers agree."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cirbench.benchmarks.catalogue import protocols
from cirbench.comparison.published import Recipe
from cirbench.errors import MissingData, UsageError
from cirbench.methods.interface import find_method
from cirbench.runs.config import read_config
from cirbench.runs.session import Session
from cirbench.submissions.uploads import build_submission, read_receipt, receipt_path, upload_hint
from cirbench.support.needs import Need, need_lines
from cirbench.support.tables import Column, Number, Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cirbench.comparison.published import Published, PublishedRow
    from cirbench.runs.config import RunConfig
    from cirbench.runs.folder import Run
    from cirbench.runs.schema import Result

TOLERANCE = 0.5
"""Percentage points. A choice: papers that ran one plain baseline print numbers from 0.1 to 1.8 points apart."""

INSIDE, NEAR, DIFFERS = "within the interval", f"within {TOLERANCE} points", "differs"


@dataclasses.dataclass(frozen=True, slots=True)
class Agreement:
    """One published number beside the one that was obtained, in percent.

    Attributes:
        label: What it is.
        expected: As published.
        obtained: Here, or by the server.
        low: Lower end of the 95 % interval; ``None`` where a server scored.
        high: Upper end.
    """

    label: str
    expected: float
    obtained: float
    low: float | None = None
    high: float | None = None

    @property
    def verdict(self) -> str:
        """``INSIDE``, ``NEAR`` or ``DIFFERS``."""
        if self.low is not None and self.high is not None and self.low <= self.expected <= self.high:
            return INSIDE
        return NEAR if abs(self.obtained - self.expected) <= TOLERANCE else DIFFERS


def agreements(row: PublishedRow, result: Result) -> tuple[Agreement, ...]:
    """Compare every number of a published row with a run's."""
    found = {metric.label: metric for metric in result.metrics}
    return tuple(
        Agreement(label, expected, metric.value, metric.low, metric.high)
        for label, expected in row.metrics.items()
        if (metric := found.get(label)) is not None
    )


def answered(row: PublishedRow, scores: dict[str, float]) -> tuple[Agreement, ...]:
    """Compare every number of a published row with a server's answer."""
    return tuple(
        Agreement(label, expected, scores[label]) for label, expected in row.metrics.items() if label in scores
    )


def as_table(row: PublishedRow, found: Sequence[Agreement], notes: Sequence[str] = ()) -> Table:
    """Lay the comparison out."""
    columns = (
        Column("metric", "metric"),
        Column("expected", "expected"),
        Column("obtained", "obtained [95 % interval]"),
        Column("difference", "difference"),
        Column("verdict", "verdict"),
    )
    rows = tuple(
        (
            each.label,
            Number(each.expected),
            Number(each.obtained, each.low, each.high),
            Number(each.obtained - each.expected, signed=True),
            each.verdict,
        )
        for each in found
    )
    caption = f"Percent. Expected: {row.source.title}, {row.source.table} ({row.source.id})."
    return Table(f"{row.id} · {row.protocol}", columns, rows, caption=caption, notes=tuple(notes))


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to run for a row.

    Attributes:
        method: Name of the method here.
        backbone: What loads it.
        recipe: How the row differs from the method's defaults.
        notes: What to know before trusting the comparison.
    """

    method: str
    backbone: str
    recipe: Recipe
    notes: tuple[str, ...]


def plan_of(row: PublishedRow, published: Published) -> Plan:
    """Return what to run for a row.

    Raises:
        UsageError: There is nothing to run: no such method, no such protocol, or a backbone that is not stated.
    """
    if row.protocol is None:
        raise UsageError(f"{row.id} was measured under a protocol that cirbench does not have. {row.not_comparable}")
    if (awaits := published.awaits(row)) is not None:
        raise UsageError(f"{row.id} was measured on {row.protocol}. {awaits}")
    if row.method not in published.methods:
        raise UsageError(f"cirbench has no method {row.method}.", hint="`cirbench list methods` names those it has.")
    loads = published.backbones.get(row.assumed_backbone or row.backbone)
    if loads is None:
        raise UsageError(f"{row.id} ran on {row.backbone}, which cirbench cannot load as the paper had it.")
    recipe = Recipe() if row.recipe is None else published.recipes[row.recipe]
    notes = recipe.notes
    if row.assumed_backbone is not None:
        notes = (f"The table does not say which backbone it is; {row.assumed_backbone} is assumed.", *notes)
    return Plan(published.methods[row.method], loads, recipe, notes)


SUBMISSIONS = Path("submissions")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a row.

    Attributes:
        run: The run.
        found: Its numbers beside the published ones; empty while a server has not answered.
        upload: The files that wait for the server's answer, and where they go.
    """

    run: Run
    found: tuple[Agreement, ...]
    upload: tuple[Path, ...] = ()
    hint: str | None = None


class Reproduction:
    """A published row, resolved against what there is on this machine.

    Args:
        row: The row.
        published: The file that it is in.
        options: Fields of `cirbench.runs.config.RunConfig` that win over what the row says: ``data_root``,
            ``checkpoint``, ``backbone``, ``weights``, ``device``, ``set``, ``output`` ...

    Raises:
        UsageError: There is nothing to run; see `plan_of`.
        UnknownName: The method of the row is not installed.
    """

    def __init__(self, row: PublishedRow, published: Published, options: Mapping[str, Any] | None = None) -> None:
        self.row = row
        self.plan = plan_of(row, published)
        self.spec = find_method(self.plan.method)
        assert row.protocol is not None  # or there would be no plan
        self.entry = protocols()[row.protocol]
        given = {key: value for key, value in (options or {}).items() if value is not None}
        chosen = {**self.plan.recipe.parameters, **given.pop("set", {})}
        values = {
            "method": [self.spec.name],
            "dataset": self.entry.dataset,
            "protocol": row.protocol,
            "backbone": self.plan.backbone,
            "preprocessing": self.plan.recipe.preprocessing,
            **given,
            "set": chosen,
        }
        if self.spec.trainer is not None and "checkpoint" not in given:
            values["train"] = dict(self.plan.recipe.training)
        self.config: RunConfig = read_config(None, values)

    @cached_property
    def _session(self) -> Session:
        return Session(self.config)

    def needs(self) -> tuple[Need, ...]:
        """List everything that the row needs, there or missing; no network is asked."""
        parameters = ", ".join(f"{key}={value}" for key, value in self.config.set.items())
        found = [
            Need("method", f"{self.spec.name}{f' ({parameters})' if parameters else ''}", True),
            *self._session.needs,
        ]
        for each in self.plan.recipe.inputs:
            given = bool({*each.parameters} & self.config.set.keys())
            found.append(Need(each.parameters[0], each.what, given, how=(f"Give it: --set {each.parameters[0]}=FILE",)))
        return tuple(found)

    def run(self) -> Outcome:
        """Run the row and compare its numbers.

        Raises:
            MissingData: Something that the row needs is not here; the message lists all of it.
        """
        missing = [need for need in self.needs() if not need.there]
        if any(need.blocks for need in missing):
            lines = "\n".join(need_lines(missing))
            raise MissingData(f"{self.row.id} needs {len(missing)} things that are not here:", hint=lines)
        (run,) = (run for run in self._session.run() if run.result.method.name == self.spec.name)
        if run.result.metrics:
            return Outcome(run, agreements(self.row, run.result))
        paths = build_submission(run, SUBMISSIONS, protocol=None)
        answers = [read_receipt(path) for path in paths if receipt_path(path).exists()]
        scores = {label: value for answer in answers for label, value in answer.scores.items()}
        if scores:
            return Outcome(run, answered(self.row, scores))
        return Outcome(run, (), paths, upload_hint(self.entry.dataset))
