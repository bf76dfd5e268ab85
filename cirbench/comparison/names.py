"""What to call runs beside each other: by method, and where that is not enough, by what differs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cirbench.results.folder import Run
    from cirbench.results.schema import Result

_MOST = 3


def run_names(runs: Sequence[Run]) -> tuple[str, ...]:
    """Name each run by its method; runs of one method also by the settings that differ, or else by their folder."""
    names = [run.result.method.name for run in runs]
    names = [_among(run, runs) if names.count(name) > 1 else name for run, name in zip(runs, names, strict=True)]
    times = Counter(names)
    return tuple(
        f"{name} ({run.folder.name})" if times[name] > 1 else name for run, name in zip(runs, names, strict=True)
    )


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


def _among(run: Run, runs: Sequence[Run]) -> str:
    """The method with the settings in which it differs from others of its kind."""
    method = run.result.method.name
    kin = [settings(other.result) for other in runs if other.result.method.name == method]
    mine = settings(run.result)
    differing = [key for key in mine if any(other.get(key) != mine[key] for other in kin)]
    return " ".join([method, *_said(mine, differing)])


def _said(values: dict[str, Any], keys: Sequence[str]) -> Iterator[str]:
    for key in keys[:_MOST]:
        yield f"{key}={values[key]}"
