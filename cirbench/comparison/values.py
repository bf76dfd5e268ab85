"""Numbers of a run with their values for each query, as statistics want them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cirbench.errors import UnknownName, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from cirbench.results.folder import Run

_MACRO = "[mean over "


@dataclasses.dataclass(frozen=True)
class Kept:
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


def kept(run: Run, label: str) -> list[Kept]:
    """Return a number and, where it is an unweighted mean over slices, after it the numbers that it averages."""
    parts: tuple[str, ...] = ()
    if _MACRO in label:
        start = label.replace(_MACRO, "[").removesuffix("]") + "="
        parts = tuple(part for part in run.values if part.startswith(start))
    return [
        Kept(name, run.values[name], run.result[name].value / 100, parts if name == label else ())
        for name in (label, *parts)
    ]


def choose_label(runs: Sequence[Run], label: str | None) -> str:
    """Return the number to compare runs on: the given one, or the headline.

    Raises:
        UnknownName: A run does not report it; the nearest ones are named.
        UsageError: A run has no numbers, because its ground truths are not at hand.
    """
    for run in runs:
        if not run.result.metrics:
            raise UsageError(
                f"{run.folder} has no numbers: the ground truths of {run.result.protocol.name} are not at hand.",
                hint="Its files for the test server: cirbench submit build.",
            )
    label = label or runs[0].result.metrics[0].label
    for run in runs:
        if label not in run.values:
            raise UnknownName(f"metric of {run.folder}", label, run.values)
    return label
