"""``cirbench list``, ``show``, ``doctor`` and ``cache``: what there is, what works, and what is kept."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
import re
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from cirbench.cli import JSON, WIDE
from cirbench.errors import CheckFailed, UnknownName, UsageError, quoted
from cirbench.support.console import amount, duration, print_lines, print_table, say
from cirbench.support.files import cache_root

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cirbench.runs.cache import CacheEntry
    from cirbench.support.plugins import Plugins

    Rows = list[dict[str, str]]
    Facts = dict[str, Any]


_OPTIONAL = ("licence", "backbone", "paper")
"""What a narrow terminal leaves out of a list first."""


@click.command()
@click.argument(
    "kind",
    type=click.Choice(
        ["methods", "benchmarks", "datasets", "protocols", "backbones", "metrics", "servers", "sources", "runs"]
    ),
)
@click.option("--runs", "folder", default="runs", show_default=True, help="Folder that holds the runs.")
@JSON
@WIDE
def list_command(kind: str, folder: str, as_json: bool, wide: bool) -> None:
    """List methods, benchmarks (or datasets), their protocols, backbones, metrics, servers, training data, or runs.

    A plug-in that cannot be loaded is listed with the reason.
    """
    listings: dict[str, Callable[[], Rows]] = {
        "methods": _methods,
        "benchmarks": _datasets,
        "datasets": _datasets,
        "protocols": _protocols,
        "backbones": _backbones,
        "metrics": _metrics,
        "servers": _servers,
        "sources": _sources,
        "runs": lambda: _runs(folder),
    }
    rows = listings[kind]()
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    elif not rows:
        click.echo(f"No {kind} here.", err=True)
    else:
        from cirbench.support.console import print_table
        from cirbench.support.tables import Column, Table

        columns = tuple(Column(name, name, optional=name in _OPTIONAL) for name in rows[0])
        print_table(Table("", columns, tuple(tuple(row.values()) for row in rows)), wide=wide, borders=False)


def _methods() -> Rows:
    from cirbench.methods.interface import METHODS

    ready = [
        {
            "name": spec.name,
            "title": spec.title,
            "supervision": spec.supervision,
            "paper": spec.paper or "",
            "state": "train first" if spec.trainer is not None else "re-ranks" if spec.reranks else "ready",
        }
        for spec in METHODS.all()[0].values()
    ]
    return ready + [
        {"name": row["name"], "title": "", "supervision": "", "paper": "", "state": row["state"]}
        for row in _broken(METHODS, "state")
    ]


def _datasets() -> Rows:
    from cirbench.benchmarks.catalogue import datasets
    from cirbench.benchmarks.interface import BENCHMARKS

    return [
        {
            "name": entry.name,
            "title": entry.title,
            "splits": ", ".join(entry.splits),
            "licence": entry.licence,
            "needs": entry.needs or "nothing",
        }
        for entry in datasets().values()
    ] + [row | {"splits": "", "licence": "", "needs": ""} for row in _broken(BENCHMARKS, "title")]


def _servers() -> Rows:
    from cirbench.submissions.form import SERVERS

    return [
        {
            "name": form.name,
            "title": form.title,
            "protocols": ", ".join(form.protocols),
            "upload": form.upload,
            "answers": form.answers,
        }
        for form in SERVERS.all()[0].values()
    ] + [row | {"protocols": "", "upload": "", "answers": ""} for row in _broken(SERVERS, "title")]


def _broken(plugins: Plugins[Any], column: str) -> Rows:
    """The plug-ins that cannot be loaded, with the reason in ``column``."""
    return [{"name": name, column: f"broken: {error.message}"} for name, error in plugins.all()[1].items()]


def _sources() -> Rows:
    from cirbench.training.data.named import named_sources

    return [
        {"name": source.name, "title": source.title, "for training on": ", ".join(source.kinds)}
        for source in named_sources().values()
    ]


def _protocols() -> Rows:
    from cirbench.benchmarks.catalogue import protocols

    return [
        {
            "id": entry.id,
            "title": entry.title,
            "queries": _count(entry.queries),
            "gallery": _count(entry.gallery),
            "labels": "public" if entry.labelled else "kept by a test server",
        }
        for entry in protocols().values()
    ]


def _count(number: int | None) -> str:
    return "as in its file" if number is None else f"{number:,}"


def _backbones() -> Rows:
    from cirbench.backbones import list_backbones
    from cirbench.backbones.families import BACKBONES

    return [{"name": entry.name, "note": entry.note} for entry in list_backbones()] + _broken(BACKBONES, "note")


def _metrics() -> Rows:
    from cirbench.metrics.table import METRICS

    return [
        {
            "name": metric.name,
            "what it is": metric.title,
            "better": "higher" if metric.higher_is_better else "lower",
            "unit": metric.unit,
            "source": metric.source,
        }
        for metric in METRICS.all()[0].values()
    ] + [row | {"better": "", "unit": "", "source": ""} for row in _broken(METRICS, "what it is")]


def _runs(folder: str) -> Rows:
    from pathlib import Path

    from cirbench.errors import CirbenchError
    from cirbench.runs.folder import load_run
    from cirbench.runs.record import RESULT

    rows = []
    for path in sorted(Path(folder).glob(f"*/*/{RESULT}")):
        row = {"folder": str(path.parent), "protocol": "", "method": "", "backbone": "", "headline": "", "state": ""}
        try:
            result = load_run(path.parent).result
        except CirbenchError as error:
            rows.append(row | {"state": f"damaged: {error.message}"})
            continue
        headline = f"{result.metrics[0].label} {result.metrics[0].value:.2f}" if result.metrics else "labels hidden"
        rows.append(
            row
            | {
                "protocol": result.protocol.name,
                "method": result.method.name,
                "backbone": result.backbone.name,
                "headline": headline,
                "state": ("partial" if result.counts.partial else "whole")
                + (", scored" if result.scored else "")
                + (", re-ranked" if result.reranking else ""),
            }
        )
    return rows


@click.command()
@click.argument("name")
@click.option(
    "--data-root", type=click.Path(path_type=Path), help="Folder of the annotations.  [default: CIRBENCH_DATA]"
)
@JSON
def show_command(name: str, data_root: Path | None, as_json: bool) -> None:
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
        print_lines(_lines(facts))


def _facts(name: str, data_root: Path | None) -> Facts:
    from cirbench.backbones import list_backbones
    from cirbench.benchmarks.catalogue import protocols
    from cirbench.benchmarks.interface import BENCHMARKS
    from cirbench.methods.interface import list_methods
    from cirbench.metrics.table import METRICS

    if (Path(name) / "result.json").is_file():
        return _run(Path(name))
    backbones = {entry.name: entry for entry in list_backbones()}
    shelves: tuple[tuple[Any, Callable[[], Facts]], ...] = (
        (list_methods(), lambda: _method(name)),
        (BENCHMARKS.names(), lambda: _benchmark(name)),
        (protocols(), lambda: _protocol(name, data_root)),
        (backbones, lambda: _plain(backbones[name])),
        (METRICS.names(), lambda: _metric(name)),
    )
    for names, facts in shelves:
        if name in names:
            return facts()
    known = [known for names, _ in shelves for known in names]
    raise UnknownName("method, data set, protocol, backbone, metric or run", name, known)


def _method(name: str) -> Facts:
    from cirbench.methods.interface import find_method
    from cirbench.support.parameters import describe

    spec = find_method(name)
    apart = ("parameters", "training", "inference_presets", "training_presets")
    facts: Facts = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}
    facts = {
        key: "as its parameters say"
        if key in ("uses_shared_concept", "transductive", "oracle") and callable(value)
        else value
        for key, value in facts.items()
        if key not in apart
    }
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


def _benchmark(name: str) -> Facts:
    from cirbench.benchmarks.interface import BENCHMARKS

    benchmark = BENCHMARKS.find(name)
    return {
        **{key: value for key, value in _plain(benchmark).items() if key not in ("load", "files") and value != ""},
        "protocols": [each.id for each in benchmark.protocols],
        "annotation files": [file.path for file in benchmark.files.annotations],
        "images": [f"{images.title} in {images.folder}" for images in benchmark.files.images],
    }


def _metric(name: str) -> Facts:
    from cirbench.metrics.table import METRICS

    return {key: value for key, value in _plain(METRICS.find(name)).items() if key != "function"}


def _plain(entry: Any) -> Facts:
    return {
        field.name: value for field in dataclasses.fields(entry) if (value := getattr(entry, field.name)) is not None
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


_PACKAGES = ("torch", "torchvision", "open_clip_torch", "numpy", "scipy", "pillow", "safetensors", "rich", "msgspec")


@click.command()
@click.option("--selftest", is_flag=True, help="Compute golden numbers on this machine, and say what deviates.")
@click.option("--device", help="Device of the self-test: auto, cpu, cuda or cuda:N.")
@JSON
def doctor_command(selftest: bool, device: str | None, as_json: bool) -> None:
    """Say what is installed, what works and what does not.

    \b
    cirbench doctor
    cirbench doctor --selftest --device cuda
    """
    if selftest:
        _selftest(device or "auto", as_json)
        return
    if device is not None:
        raise UsageError("--device would have no effect.", hint="Add --selftest, or leave it out.")
    facts = {**_versions(), **_device(), **_places(), **_plugins()}
    if as_json:
        click.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        print_lines([f"{name:<{width}}  {value}"])


def _selftest(device: str, as_json: bool) -> None:
    from cirbench.backbones import load_backbone
    from cirbench.runs.selftest import compute, deviations

    backbone = load_backbone("scenes-vit", device=device)
    found = deviations(compute(backbone), on_gpu=backbone.device.type == "cuda")
    if as_json:
        click.echo(json.dumps([{**dataclasses.asdict(each), "ok": each.is_within} for each in found], indent=2))
    else:
        for each in found:
            bound = f"at most {each.tolerance:g}" if each.tolerance else "exactly equal"
            click.echo(f"{'ok      ' if each.is_within else 'DEVIATES'}  {each.what}: {each.largest:.2g} ({bound})")
    wrong = [each.what for each in found if not each.is_within]
    if wrong:
        raise CheckFailed(
            f"{len(wrong)} of {len(found)} kinds of numbers deviate on this machine: {', '.join(wrong)}.",
            hint="Compare the versions that cirbench doctor names with those of the project, and report it.",
        )


def _versions() -> dict[str, str]:
    from cirbench.runs.record import code_version

    facts = {"cirbench": code_version(), "python": f"{platform.python_version()} on {platform.platform(terse=True)}"}
    for name in _PACKAGES:
        try:
            facts[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            facts[name] = f"not installed: pip install {name}"
    return facts


def _device() -> dict[str, str]:
    try:
        import torch
    except ImportError as error:
        return {"device": f"torch cannot be imported: {error}"}
    if not torch.cuda.is_available():
        return {"device": f"cpu, {os.cpu_count()} cores, {torch.get_num_threads()} threads; no CUDA device"}
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {"device": f"cuda: {', '.join(names)}"}


def _places() -> dict[str, str]:
    from cirbench.runs.cache import usage
    from cirbench.support.files import cache_root

    cache = cache_root()
    size = usage(cache, set()).size
    root = os.environ.get("CIRBENCH_DATA")
    data = "CIRBENCH_DATA is not set" if root is None else root + ("" if Path(root).is_dir() else " (is not a folder)")
    existing = next(place for place in (cache, *cache.parents) if place.exists())
    free = shutil.disk_usage(existing).free
    return {"cache": f"{cache}, {size / 1e6:,.0f} MB used, {free / 1e9:,.0f} GB free", "data root": data}


def _plugins() -> dict[str, str]:
    from cirbench.backbones.families import BACKBONES
    from cirbench.benchmarks.interface import BENCHMARKS
    from cirbench.methods.interface import METHODS
    from cirbench.metrics.table import METRICS
    from cirbench.submissions.form import SERVERS

    kinds: tuple[Plugins[Any], ...] = (METHODS, BENCHMARKS, BACKBONES, METRICS, SERVERS)
    facts: dict[str, str] = {}
    for plugins in kinds:
        found, broken = plugins.all()
        facts[f"{plugins.kind}s"] = ", ".join(found) or "none: is cirbench installed? pip install -e ."
        facts |= {f"{plugins.kind} {name}": f"broken: {error.message}" for name, error in broken.items()}
    return facts


@click.group(invoke_without_command=True)
@WIDE
@JSON
@click.pass_context
def cache_command(context: click.Context, wide: bool, as_json: bool) -> None:
    """Say what is kept where and how large.

    Everything in the cache can be computed again. Runs and checkpoints that went to an --output are not in it.

    \b
    cirbench cache
    cirbench cache clear --older-than 30d
    """
    if context.invoked_subcommand is not None:
        return
    from cirbench.runs.cache import list_cache, list_weights

    root = cache_root()
    entries = [*list_cache(root), *list_weights()]
    if as_json:
        click.echo(json.dumps([_as_dict(entry) for entry in entries], indent=2, ensure_ascii=False))
        return
    if entries:
        _print_cache(entries, root, wide=wide)
    own = [entry for entry in entries if entry.kind != "weights"]
    say(f"{root}: {amount(sum(entry.usage.size for entry in own), 'B')}")


@cache_command.command("clear")
@click.option("-b", "--backbone", help="Remove features and checkpoints of a backbone.")
@click.option("--older-than", metavar="AGE", help="Remove what was not written to for so long: 30d, 12h, 4w.")
@click.option("--run", type=click.Path(path_type=Path), help="Remove the features and the checkpoint that a run used.")
@click.option("--all", "everything", is_flag=True, help="Remove everything.")
@WIDE
@click.option("-y", "--yes", is_flag=True, help="Remove without asking.")
def clear_command(
    backbone: str | None, older_than: str | None, run: Path | None, everything: bool, wide: bool, yes: bool
) -> None:
    """Remove what fits all conditions, after showing it.

    Without a terminal nothing is removed unless --yes is given. What another process uses is left alone.

    \b
    cirbench cache clear --backbone ViT-B-32/openai
    cirbench cache clear --run runs/circo/pli-0123abcd --yes
    """
    from cirbench.runs.cache import list_cache, remove, select

    conditions = (backbone, older_than, run)
    if everything == any(condition is not None for condition in conditions):
        raise UsageError(
            "Say what to remove: --backbone, --older-than and --run together or alone, or --all.",
            hint="For instance: cirbench cache clear --older-than 30d",
        )
    root = cache_root()
    entries = list_cache(root)
    names = {entry.backbone for entry in entries if entry.backbone is not None}
    if backbone is not None and backbone not in names:
        raise UnknownName("backbone in the cache", backbone, sorted(names))
    found = select(entries, backbone=backbone, older_than=None if older_than is None else _seconds(older_than), run=run)
    if not found:
        say("Nothing in the cache fits.")
        return
    _print_cache(found, root, wide=wide)
    size = amount(sum(entry.usage.size for entry in found), "B")
    if not yes and not sys.stdin.isatty():
        say(f"Nothing is removed: {size} would be. Add --yes to remove it.")
        return
    if not yes and not click.confirm(f"Remove {size}?", err=True):
        return
    kept = [entry for entry in found if not remove(entry)]
    for entry in kept:
        say(f"{entry.path} is in use by another process and stays.")
    say(f"Removed {amount(sum(entry.usage.size for entry in found if entry not in kept), 'B')}.")


_UNITS = {"h": 3600, "d": 86400, "w": 7 * 86400}


def _seconds(age: str) -> float:
    match = re.fullmatch(r"(\d+)([hdw])", age.strip())
    if match is None:
        raise UsageError(f"--older-than cannot be {quoted(age)}.", hint="It is a number of h, d or w: 30d")
    return float(int(match[1]) * _UNITS[match[2]])


def _print_cache(entries: Sequence[CacheEntry], root: Path, *, wide: bool) -> None:
    from cirbench.support.tables import Column, Table

    columns = (
        Column("kind", "kind"),
        Column("what", "what"),
        Column("size", "size"),
        Column("files", "files", optional=1),
        Column("written", "written", optional=2),
        Column("where", "where", optional=3),
    )
    now = time.time()
    rows = tuple(
        (
            entry.kind,
            entry.title + (" (in use)" if entry.is_in_use() else ""),
            amount(entry.usage.size, "B"),
            f"{entry.usage.files:,}",
            f"{duration(now - entry.usage.changed)} ago" if entry.usage.files else "",
            str(entry.path.relative_to(root) if entry.path.is_relative_to(root) else entry.path),
        )
        for entry in entries
    )
    print_table(Table(f"Cache {root}", columns, rows), wide=wide)


def _as_dict(entry: CacheEntry) -> dict[str, object]:
    return {
        "kind": entry.kind,
        "title": entry.title,
        "path": str(entry.path),
        "files": entry.usage.files,
        "bytes": entry.usage.size,
        "written": entry.usage.changed,
        "backbone": entry.backbone,
        "in_use": entry.is_in_use(),
    }
