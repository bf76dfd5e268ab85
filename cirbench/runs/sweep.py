"""One run for each value of a parameter: expand what is asked for, check all of it, then run it."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from cirbench.errors import UnknownName, UsageError
from cirbench.methods.interface import find_method
from cirbench.runs.config import parse_seeds
from cirbench.runs.folder import choose_label
from cirbench.runs.replicates import combine
from cirbench.runs.session import Session
from cirbench.support.console import typed
from cirbench.support.parameters import takes_list

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cirbench.methods.interface import MethodSpec
    from cirbench.runs.config import RunConfig
    from cirbench.runs.folder import Run

Setting: TypeAlias = float | str


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Runs of one method on one protocol.

    Attributes:
        label: The number to look at.
        keys: The parameters that were swept.
        settings: Per run, the value of each key.
        runs: The runs, in the order of their settings; over several seeds, the mean of each setting.
        beside: The untrained baselines on the same backbone.
    """

    label: str
    keys: tuple[str, ...]
    settings: tuple[tuple[Setting, ...], ...]
    runs: tuple[Run, ...]
    beside: tuple[Run, ...]


TRAIN = "train."
"""Before a name that a method has both for running and for training, it means the one for training."""


@dataclasses.dataclass(frozen=True)
class _Parameter:
    """One parameter with the values that it takes in turn."""

    key: str
    name: str
    of_training: bool
    values: tuple[str, ...]


def run_sweep(
    config: RunConfig, assignments: Mapping[str, str], *, label: str | None = None, force: bool = False
) -> Sweep:
    """Run a method once for each combination of values, trained again where a parameter of its training is among them.

    Everything is checked before anything runs; what has been run before is recognised.

    Args:
        config: What to run, with one method.
        assignments: Per parameter its values, separated by commas; one with a single value is the same in all runs.
            Several values of ``seed`` are replicates, as ``config.seeds`` are.
        label: The number to look at; the headline if not given.
        force: Run again what has been run before.

    Raises:
        UnknownName: There is no such parameter, or no such number.
        UsageError: No parameter has several values, or a value does not fit.
    """
    spec = find_method(config.method[0])
    parameters = [_parameter(spec, key, text) for key, text in assignments.items()]
    for seeds in [each for each in parameters if each.name == "seed" and len(each.values) > 1]:
        if config.seeds:
            raise UsageError("--seeds and --set seed=... exclude each other.", hint="Leave out one of them.")
        config = msgspec.structs.replace(config, seeds=parse_seeds(",".join(seeds.values)))
        parameters.remove(seeds)
    swept = tuple(parameter for parameter in parameters if len(parameter.values) > 1)
    if not swept and config.seeds:
        raise UsageError(
            "Nothing is swept: seeds alone make replicates of one setting.",
            hint=f"Run it: cirbench run --method {typed(spec.name)} --seeds {','.join(map(str, config.seeds))}",
        )
    if not swept:
        raise UsageError(
            "Nothing is swept: no parameter has several values.",
            hint=f"For instance: cirbench sweep {typed(spec.name)} --set {_example(spec)}=VALUE,VALUE",
        )
    combinations = [*itertools.product(*(parameter.values for parameter in parameters))]
    sessions: list[Session] = []
    for values in combinations:  # on the same data and backbone, so each is loaded once
        sessions.append(Session(_configured(config, parameters, values), sessions[0].ground if sessions else None))
    results: list[tuple[Run, ...]] = []
    for session in sessions:
        results.append(session.run(force=force))
        label = choose_label(results[-1], label)
    assert label is not None
    given = len(sessions[0].baselines)  # runs that stand beside every setting, and come first
    swept_runs = [runs[given:] for runs in results]
    return Sweep(
        label=label,
        keys=tuple(parameter.key for parameter in swept),
        settings=tuple(
            tuple(_setting(value) for parameter, value in zip(parameters, values, strict=True) if parameter in swept)
            for values in combinations
        ),
        runs=tuple(combine([run for run in runs if run.result.method.name == spec.name])[0][0] for runs in swept_runs),
        beside=tuple(combine(results[0])[0]),
    )


def _parameter(spec: MethodSpec, key: str, text: str) -> _Parameter:
    name = key.removeprefix(TRAIN)
    for_running = () if key != name else spec.parameters.__struct_fields__
    for_training = () if spec.training is None else spec.training.__struct_fields__
    if name not in (*for_running, *for_training):
        known = {*spec.parameters.__struct_fields__, *for_training}
        raise UnknownName(f"parameter of {spec.name}", key, known)
    of_training = name not in for_running
    kind = spec.training if of_training else spec.parameters
    assert kind is not None
    values = (text,) if takes_list(kind, name) else tuple(part.strip() for part in text.split(",") if part.strip())
    if len(set(values)) < len(values) or not values:
        raise UsageError(f"--set {key}={text} needs different values, separated by commas.")
    return _Parameter(key, name, of_training, values)


def _configured(config: RunConfig, parameters: list[_Parameter], values: tuple[str, ...]) -> RunConfig:
    chosen = [*zip(parameters, values, strict=True)]
    return msgspec.structs.replace(
        config,
        set={**config.set, **{each.name: value for each, value in chosen if not each.of_training}},
        train={**config.train, **{each.name: value for each, value in chosen if each.of_training}},
    )


def _setting(text: str) -> Setting:
    try:
        return float(text)
    except ValueError:
        return text


def _example(spec: MethodSpec) -> str:
    names = [*spec.parameters.__struct_fields__, *(() if spec.training is None else spec.training.__struct_fields__)]
    return names[0] if names else "KEY"
