"""``cirbench show``: everything about one method, data set, protocol, backbone, metric or run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from cirbench.errors import UnknownName

if TYPE_CHECKING:
    from collections.abc import Callable

    Facts = dict[str, Any]


@click.command()
@click.argument("name")
@click.option(
    "--data-root", type=click.Path(path_type=Path), help="Folder of the annotations.  [default: CIRBENCH_DATA]"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(name: str, data_root: Path | None, as_json: bool) -> None:
    """Show everything about a method, data set, protocol, backbone, metric or run folder.

    \b
    cirbench show pli
    cirbench show scenes/val
    cirbench show runs/scenes/pli-0123abcd
    """
    facts = _facts(name, data_root)
    if as_json:
        click.echo(json.dumps(facts, indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(_lines(facts)))


def _facts(name: str, data_root: Path | None) -> Facts:
    from cirbench.backbones import list_backbones
    from cirbench.benchmarks.catalogue import datasets, protocols
    from cirbench.methods.registry import list_methods
    from cirbench.metrics.table import METRICS

    if (Path(name) / "result.json").is_file():
        return _run(Path(name))
    backbones = {entry.name: entry for entry in list_backbones()}
    shelves: tuple[tuple[Any, Callable[[], Facts]], ...] = (
        (list_methods(), lambda: _method(name)),
        (datasets(), lambda: _plain(datasets()[name])),
        (protocols(), lambda: _protocol(name, data_root)),
        (backbones, lambda: _plain(backbones[name])),
        (METRICS, lambda: _plain(METRICS[name])),
    )
    for names, facts in shelves:
        if name in names:
            return facts()
    known = [known for names, _ in shelves for known in names]
    raise UnknownName("method, data set, protocol, backbone, metric or run", name, known)


def _method(name: str) -> Facts:
    from cirbench.methods.registry import find_method
    from cirbench.support.parameters import describe

    spec = find_method(name)
    apart = ("parameters", "training", "inference_presets", "training_presets")
    facts: Facts = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}
    facts = {key: value for key, value in facts.items() if key not in apart}
    if spec.trainer is None:
        facts = {key: value for key, value in facts.items() if key not in ("trainer", "trains_on", "converter")}
    for kind in ("parameters", "training"):
        struct = getattr(spec, kind)
        if struct is not None:
            facts[kind] = {field.name: field.default for field in describe(struct)}
            facts[f"meaning of {kind}"] = {field.name: field.text for field in describe(struct)}
    for backbone, setting in spec.inference_presets.items():
        facts[f"parameters on {backbone}"] = msgspec.to_builtins(setting)
    for backbone, recipe in spec.training_presets.items():
        facts[f"training on {backbone}"] = msgspec.to_builtins(recipe)
    return facts


def _protocol(name: str, data_root: Path | None) -> Facts:
    from cirbench.benchmarks.catalogue import load_protocol
    from cirbench.metrics.measure import ceilings
    from cirbench.protocol import TIE_RULE

    protocol = load_protocol(name, data_root)
    labels = protocol.labels
    clusters = protocol.clusters
    return {
        "name": protocol.name,
        "title": protocol.title,
        "queries": len(protocol.queries),
        "gallery": None if protocol.gallery is None else len(protocol.gallery),
        "ground truths": None if labels is None else sum(map(len, labels.relevant)),
        "independent clusters of queries": len(protocol.queries if clusters is None else set(clusters)),
        "reference": "removed from its own query's candidates" if protocol.exclude_reference else "kept",
        "measures": [str(measure) for measure in protocol.measures],
        "best any ranking can get": {best.label: f"{100 * best.value:.2f} %" for best in ceilings(protocol)},
        "captions": protocol.captions,
        "ties": TIE_RULE,
        "licence": protocol.licence,
        "digest": protocol.digest,
        "digests of its parts": dict(protocol.fields),
        "digests of the data": dict(protocol.data_digests),
    }


def _run(folder: Path) -> Facts:
    from cirbench.runs.folder import load_run

    facts: Facts = msgspec.to_builtins(load_run(folder).result)
    facts["metrics"] = {
        metric["label"]: f"{metric['value']:.2f} [{metric['low']:.2f}, {metric['high']:.2f}] n={metric['n']}"
        + ("" if metric["optimistic"] is None else f", {metric['optimistic']:.2f} without lost queries")
        for metric in facts["metrics"]
    }
    return facts


def _plain(entry: Any) -> Facts:
    return {
        field.name: [each.id for each in value] if field.name == "protocols" else value
        for field in dataclasses.fields(entry)
        if (value := getattr(entry, field.name)) is not None
    }


def _lines(facts: Facts, indent: str = "") -> list[str]:
    width = max((len(str(key)) for key in facts), default=0)
    lines: list[str] = []
    for key, value in facts.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}", *_lines(value, indent + "  ")]
        else:
            text = ", ".join(map(_said, value)) if isinstance(value, list | tuple) else _said(value)
            lines.append(f"{indent}{key!s:<{width}}  {text}")
    return lines


def _said(value: Any) -> str:
    """A value as ``--set`` takes it."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)
