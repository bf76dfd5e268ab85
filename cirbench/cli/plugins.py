"""``cirbench new`` and ``check``: scaffold a plug-in of any kind or a data set, and check a plug-in."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cirbench.cli import JSON
from cirbench.errors import CheckFailed
from cirbench.support.console import print_lines, print_path, say, typed
from cirbench.support.parameters import pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cirbench.backbones.interface import Backbone
    from cirbench.methods.interface import Method, MethodSpec
    from cirbench.support.plugins import Finding


@click.group()
def new_command() -> None:
    """Scaffold a new plug-in of any kind, or a data set of your own."""


def _new(kind: str, what: str) -> None:
    """Add ``cirbench new KIND``."""

    @new_command.command(kind, short_help=f"Write a whole, working {what} package NAME to change.")
    @click.argument("name")
    @click.option("--path", "parent", type=click.Path(path_type=Path), default=Path(), help="Folder to create it in.")
    def command(name: str, parent: Path) -> None:
        from cirbench.support.scaffold import object_of, write_plugin

        files = write_plugin(kind, name, parent)
        for file in files:
            print_path(file)
        say(f"It works already: cirbench check {kind} {typed(f'{files[0].absolute()}:{object_of(kind)}')}")

    command.help = f"Write a whole, working {what} package NAME to change.\n\n\b\ncirbench new {kind} my-{kind}"


for _kind, _what in (
    ("method", "method"),
    ("benchmark", "benchmark"),
    ("backbone", "backbone"),
    ("metric", "metric"),
    ("server", "server form"),
):
    _new(_kind, _what)


@new_command.command("dataset")
@click.argument("path", type=click.Path(path_type=Path))
def new_dataset(path: Path) -> None:
    """Write a data set of your own into the folder PATH: a few drawn images and queries, to be replaced.

    \b
    cirbench new dataset my-data
    """
    from cirbench.benchmarks.folder import write_example

    for file in write_example(path):
        print_path(file)
    say(f"It runs already: cirbench run --method image-text --dataset {typed(path)} --backbone scenes-vit")


@new_command.command("joint-model", short_help="Write a tiny, random model of image and text together.")
@click.argument("path", type=click.Path(path_type=Path))
def new_joint_model(path: Path) -> None:
    """Write a tiny model that reads image and text together into the folder PATH, to try one without a download.

    It is a Qwen3-VL of 1 MB with random weights: everything works, and its numbers are those of chance.

    \b
    cirbench new joint-model tiny-joint
    """
    from cirbench.backbones.joint import write_joint_model

    print_path(write_joint_model(path))
    named = typed(path if path.is_absolute() else f"./{path}")
    say(f"It runs already: cirbench run --method embedder --dataset scenes --split tiny --backbone {named}")


ITEMS, QUERIES = 16, 8


@click.group()
def check_command() -> None:
    """Check a plug-in of any kind against the rules of its kind."""


@check_command.command("method")
@click.argument("name")
@click.option("-b", "--backbone", default="scenes-vit", show_default=True, help="Backbone to check it on.")
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    help="Checkpoint folder of a trained method.  [default: train it briefly]",
)
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Set a parameter of the method.")
@JSON
def check_method(
    name: str, backbone: str, checkpoint: Path | None, assignments: tuple[str, ...], as_json: bool
) -> None:
    """Run the method NAME on a few items of scenes/tiny and say which rules hold.

    Of a trained method the objective is checked too: a finite loss, gradients that reach the weights, a loss that falls
    on one batch, and the same loss on two processes.

    \b
    cirbench check method pli
    cirbench check method my-method/my_method/__init__.py:SPEC
    """
    from cirbench.methods.conformance import check_spec
    from cirbench.methods.interface import METHODS, find_method

    spec = find_method(name)
    findings = [*check_spec(spec, METHODS.reference(name)), *_run(spec, name, backbone, checkpoint, pairs(assignments))]
    _report(f"method {spec.name}", findings, METHODS.page, as_json=as_json)


_DATA_ROOT = click.option(
    "--data-root", type=click.Path(path_type=Path), help="Folder of the annotations.  [default: CIRBENCH_DATA]"
)


@check_command.command("benchmark")
@click.argument("name")
@_DATA_ROOT
@JSON
def check_benchmark(name: str, data_root: Path | None, as_json: bool) -> None:
    """Check what the benchmark NAME declares, and load each protocol whose files are there.

    \b
    cirbench check benchmark circo
    cirbench check benchmark mine/__init__.py:BENCHMARK --data-root DATA
    """
    from cirbench.benchmarks.conformance import check_benchmark
    from cirbench.benchmarks.interface import BENCHMARKS

    benchmark = BENCHMARKS.find(name)
    root = _data_root(data_root)
    _report(f"benchmark {benchmark.name}", check_benchmark(benchmark, root), BENCHMARKS.page, as_json=as_json)


@check_command.command("backbone")
@click.argument("name")
@click.option("--device", default="auto", show_default=True, help="Device: auto, cpu, cuda or cuda:N.")
@JSON
def check_backbone(name: str, device: str, as_json: bool) -> None:
    """Load the backbone NAME, as --backbone takes it, and run it on a few images and texts.

    \b
    cirbench check backbone ViT-B-32/openai
    cirbench check backbone my-model/my_model/__init__.py:FAMILY
    """
    from cirbench.backbones import load_backbone
    from cirbench.backbones.conformance import check_backbone
    from cirbench.backbones.families import BACKBONES

    if name.rpartition(":")[0].endswith(".py"):
        family = BACKBONES.find(name)
        backbone = family.load()(family.name, device=device)
    else:
        backbone = load_backbone(name, device=device)
    _report(f"backbone {backbone.identity.name}", check_backbone(backbone), BACKBONES.page, as_json=as_json)


@check_command.command("metric")
@click.argument("name")
@JSON
def check_metric(name: str, as_json: bool) -> None:
    """Hold the metric NAME to what is true of every metric, on random ranks.

    \b
    cirbench check metric nDCG
    cirbench check metric mine.py:PRECISION
    """
    from cirbench.metrics.conformance import check_metric
    from cirbench.metrics.table import METRICS

    metric = METRICS.find(name)
    _report(f"metric {metric.name}", check_metric(metric), METRICS.page, as_json=as_json)


@check_command.command("server")
@click.argument("name")
@_DATA_ROOT
@JSON
def check_server(name: str, data_root: Path | None, as_json: bool) -> None:
    """Write the files of the server form NAME for a ranking, and hold them to its own rules.

    \b
    cirbench check server circo --data-root DATA
    """
    from cirbench.benchmarks.catalogue import find_protocol
    from cirbench.submissions.check import check_server, protocol_loader
    from cirbench.submissions.form import SERVERS

    form = SERVERS.find(name)
    scored = form.protocols[0]
    known = protocol_loader(data_root)(scored) if find_protocol(scored) else None
    _report(f"server form {form.name}", check_server(form, known), SERVERS.page, as_json=as_json)


def _data_root(given: Path | None) -> Path | None:
    """The data root, or nothing where none is named."""
    from cirbench.benchmarks.annotation_files import VARIABLE, data_root

    return data_root(given) if given is not None or os.environ.get(VARIABLE) else None


def _report(what: str, findings: list[Finding], page: str, *, as_json: bool) -> None:
    """Print findings.

    Raises:
        CheckFailed: A rule is broken.
    """
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            print_lines([f"ok      {finding.rule}" if finding.problem is None else f"BROKEN  {finding.rule}"])
            if remark := finding.problem or finding.note:
                print_lines([f"        {remark}"])
    broken = sum(finding.problem is not None for finding in findings)
    if broken:
        raise CheckFailed(f"The {what} breaks {broken} of {len(findings)} rules.", hint=f"{page} has them.")


def _run(spec: MethodSpec, method: str, name: str, checkpoint: Path | None, values: dict[str, str]) -> list[Finding]:
    from cirbench.backbones import load_backbone
    from cirbench.backbones.encoder import Encoder
    from cirbench.benchmarks.scenes import scenes_protocol
    from cirbench.methods.conformance import check_method, check_objective, check_reranker
    from cirbench.methods.loading import CheckedReranker, build, build_reranker, parse_parameters

    parameters = parse_parameters(spec, values, name)
    backbone = load_backbone(name) if "backbone" in spec.needs else None
    protocol = scenes_protocol("tiny")
    assert protocol.gallery is not None
    if spec.reranks:

        def make_reranker() -> CheckedReranker:
            encoder = None if backbone is None else Encoder(backbone, None, batch_size=QUERIES)
            return build_reranker(spec, encoder, parameters)

        return check_reranker(make_reranker, protocol.gallery.items[:ITEMS], protocol.queries[:QUERIES])
    with _checkpoint(spec, backbone, checkpoint) as folder:

        def make() -> Method:
            encoder = None if backbone is None else Encoder(backbone, None, batch_size=QUERIES)
            return build(spec, encoder, parameters, folder)

        findings = check_method(make, protocol.gallery.items[:ITEMS], protocol.queries[:QUERIES])
    if spec.trainer is not None and backbone is not None:
        findings += check_objective(spec, backbone, method, name)
    return findings


@contextlib.contextmanager
def _checkpoint(spec: MethodSpec, backbone: Backbone | None, given: Path | None) -> Iterator[Path | None]:
    """The checkpoint that was given; else, for a trained method, one of two steps."""
    if spec.trainer is None or backbone is None or given is not None:
        yield given
        return
    from cirbench.methods.conformance import train_briefly

    with tempfile.TemporaryDirectory(prefix="cirbench-") as folder:
        yield train_briefly(spec, backbone, Path(folder) / spec.name)
