"""``cirbench new`` and ``check``: scaffold a method or a data set, and check a method."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cirbench.errors import CheckFailed
from cirbench.support.console import print_path, say, typed
from cirbench.support.parameters import pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cirbench.backbones.interface import Backbone
    from cirbench.methods.conformance import Finding
    from cirbench.methods.interface import Method, MethodSpec


@click.group()
def new_command() -> None:
    """Scaffold a new method or data set."""


@new_command.command("method")
@click.argument("name")
@click.option("--path", "parent", type=click.Path(path_type=Path), default=Path(), help="Folder to create it in.")
def new_method(name: str, parent: Path) -> None:
    """Write a whole, working method package NAME to change.

    \b
    cirbench new method my-method
    """
    from cirbench.methods.scaffold import write_method

    files = write_method(name, parent)
    for file in files:
        print_path(file)
    say(f"It works already: cirbench check method {typed(f'{files[0].absolute()}:SPEC')}")


@new_command.command("dataset")
@click.argument("path", type=click.Path(path_type=Path))
def new_dataset(path: Path) -> None:
    """Write a data set of your own into the folder PATH: a few drawn images and queries, to be replaced.

    \b
    cirbench new dataset my-data
    """
    from cirbench.benchmarks.example import write_example

    for file in write_example(path):
        print_path(file)
    say(f"It runs already: cirbench run --method image-text --dataset {typed(path)} --backbone scenes-vit")


ITEMS, QUERIES = 16, 8


@click.group()
def check_command() -> None:
    """Check a method against the interface."""


@check_command.command("method")
@click.argument("name")
@click.option("-b", "--backbone", default="scenes-vit", show_default=True, help="Backbone to check it on.")
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    help="Checkpoint folder of a trained method.  [default: train it briefly]",
)
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Set a parameter of the method.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check_method(
    name: str, backbone: str, checkpoint: Path | None, assignments: tuple[str, ...], as_json: bool
) -> None:
    """Run the method NAME on a few items of scenes/tiny and say which rules hold.

    \b
    cirbench check method pli
    cirbench check method my-method/my_method/__init__.py:SPEC
    """
    from cirbench.methods.conformance import check_spec
    from cirbench.methods.registry import METHODS, find_method

    spec = find_method(name)
    findings = [*check_spec(spec, METHODS.reference(name)), *_run(spec, backbone, checkpoint, pairs(assignments))]
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            click.echo(f"ok      {finding.rule}" if finding.problem is None else f"BROKEN  {finding.rule}")
            if finding.problem is not None:
                click.echo(f"        {finding.problem}")
    broken = sum(finding.problem is not None for finding in findings)
    if broken:
        raise CheckFailed(
            f"The method {spec.name} breaks {broken} of {len(findings)} rules.",
            hint="docs/adding-a-method.md has them.",
        )


def _run(spec: MethodSpec, name: str, checkpoint: Path | None, values: dict[str, str]) -> list[Finding]:
    from cirbench.backbones import load_backbone
    from cirbench.backbones.features.encoder import Encoder
    from cirbench.benchmarks.scenes import scenes_protocol
    from cirbench.methods.conformance import check_method
    from cirbench.methods.loading import build, parse_parameters

    parameters = parse_parameters(spec, values, name)
    backbone = load_backbone(name) if "backbone" in spec.needs else None
    protocol = scenes_protocol("tiny")
    assert protocol.gallery is not None
    with _checkpoint(spec, backbone, checkpoint) as folder:

        def make() -> Method:
            encoder = None if backbone is None else Encoder(backbone, None, batch_size=QUERIES)
            return build(spec, encoder, parameters, folder)

        return check_method(make, protocol.gallery.items[:ITEMS], protocol.queries[:QUERIES])


@contextlib.contextmanager
def _checkpoint(spec: MethodSpec, backbone: Backbone | None, given: Path | None) -> Iterator[Path | None]:
    """The checkpoint that was given; else, for a trained method, one of two steps."""
    if spec.trainer is None or backbone is None or given is not None:
        yield given
        return
    from cirbench.methods.training import train_method, training_parameters
    from cirbench.training.data import open_source

    brief = training_parameters(spec, backbone.identity.name, {"steps": 2, "batch_size": 8})
    source = open_source("scenes:triplets:64" if spec.needs_triplets else "scenes:64")
    with tempfile.TemporaryDirectory(prefix="cirbench-") as folder:
        yield train_method(spec, backbone, source, brief, output=Path(folder) / spec.name)
