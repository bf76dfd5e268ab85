"""Running a published result again, and whether the numbers agree."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cirbench.benchmarks.catalogue import load_protocol, protocols
from cirbench.benchmarks.images import require_images
from cirbench.comparison.published import Recipe
from cirbench.errors import CirbenchError, MissingData, UsageError
from cirbench.methods.registry import find_method
from cirbench.runs.config import read_config
from cirbench.runs.needs import ways_to_checkpoint
from cirbench.runs.session import Session
from cirbench.submissions.build import build_submission, upload_hint
from cirbench.submissions.receipts import read_receipt, receipt_path
from cirbench.support.console import typed
from cirbench.support.tables import Column, Number, Table
from cirbench.training.checkpoint import read_card

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
class Need:
    """One thing that a row needs.

    Attributes:
        what: In a word.
        which: Which one.
        missing: Why it is not here, and the command that gets it; ``None`` where it is.
    """

    what: str
    which: str
    missing: str | None = None

    def __str__(self) -> str:
        return f"{self.what:<11} {self.which}" + (f"\n{'':<11} missing: {self.missing}" if self.missing else "")


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
        published: The file that it stands in.
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
        self.config: RunConfig = read_config(None, values)

    def needs(self, *, weights: bool = True) -> tuple[Need, ...]:
        """List everything that the row needs, and what of it is missing; with ``weights`` the backbone is loaded."""
        config = self.config
        parameters = ", ".join(f"{key}={value}" for key, value in config.set.items())
        found = [Need("method", f"{self.spec.name}{f' ({parameters})' if parameters else ''}")]
        found.append(Need("data", self.entry.title, _missing(self._open_data)))
        name = f"{config.backbone}{f', {config.preprocessing}' if config.preprocessing else ''}"
        found.append(Need("backbone", name, _missing(self._open_backbone) if weights else None))
        if self.spec.trainer is not None:
            found.append(
                Need("checkpoint", config.checkpoint or "of the trained method", _missing(self._open_checkpoint))
            )
        for each in self.plan.recipe.inputs:
            missing = None if {*each.parameters} & config.set.keys() else "give it with --set"
            found.append(Need(each.parameters[0], each.what, missing))
        return tuple(found)

    def run(self) -> Outcome:
        """Run the row and compare its numbers.

        Raises:
            MissingData: Something that the row needs is not here; the message lists all of it.
        """
        if any(need.missing for need in self.needs(weights=False)):
            raise self._incomplete()
        (run,) = (run for run in Session(self.config).run() if run.result.method.name == self.spec.name)
        if run.result.metrics:
            return Outcome(run, agreements(self.row, run.result))
        paths = build_submission(run, SUBMISSIONS, protocol=None)
        answers = [read_receipt(path) for path in paths if receipt_path(path).exists()]
        scores = {label: value for answer in answers for label, value in answer.scores.items()}
        if scores:
            return Outcome(run, answered(self.row, scores))
        return Outcome(run, (), paths, upload_hint(self.entry.dataset))

    def _incomplete(self) -> MissingData:
        needs = [need for need in self.needs() if need.missing]
        lines = "\n".join(f"  {need.what}: {need.which}\n    {need.missing}" for need in needs)
        return MissingData(f"{self.row.id} needs {len(needs)} things that are not here:", hint=lines)

    @property
    def how_to_train(self) -> str:
        """How to get a checkpoint like the row's, with the commands."""
        training = "".join(f" --set {typed(f'{name}={value}')}" for name, value in self.plan.recipe.training.items())
        backbone = self.config.backbone or self.plan.backbone
        return " ".join(ways_to_checkpoint(self.spec, backbone, training))

    def _open_data(self) -> None:
        root = None if self.config.data_root is None else Path(self.config.data_root)
        require_images(load_protocol(self.entry.address, root))

    def _open_backbone(self) -> None:
        from cirbench.backbones import load_backbone

        assert self.config.backbone is not None
        weights = None if self.config.weights is None else Path(self.config.weights)
        load_backbone(
            self.config.backbone,
            weights=weights,
            ema=self.config.ema,
            activation=self.config.activation,
            device="cpu",
        )

    def _open_checkpoint(self) -> None:
        if self.config.checkpoint is None:
            raise MissingData(f"{self.how_to_train}; then give --checkpoint CHECKPOINT")
        read_card(Path(self.config.checkpoint))


def _missing(open_it: Any) -> str | None:
    """What a thing says that cannot be opened, in one line."""
    try:
        open_it()
    except CirbenchError as error:
        first = error.message.splitlines()[0]
        return " ".join([first, *(error.hint or "").splitlines()[:1]])
    return None
