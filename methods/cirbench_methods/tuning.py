"""Try settings of a method on scenes that are never reported: neither val nor tiny, and no training image.

    python -m cirbench_methods.tuning pic2word steps=100,lr=1e-3 steps=100,lr=3e-3 --use prompt=comma --use prompt=that

trains the method by each setting and prints mAP@5 in each use, below that of image-text on the same backbone. The
references, galleries and captions are drawn like those of ``scenes/val``, from another seed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cirbench.backbones import load_backbone
from cirbench.backbones.encoder import Encoder
from cirbench.backbones.store import default_store
from cirbench.benchmarks.scenes.benchmark import SceneImage, make_benchmark
from cirbench.methods.evaluate import evaluate
from cirbench.methods.interface import find_method
from cirbench.methods.loading import build, parse_parameters
from cirbench.methods.training import train_method, training_parameters
from cirbench.metrics.table import Measure
from cirbench.protocol import EvaluationProtocol, Gallery, Item, Labels, Query
from cirbench.support.console import progress
from cirbench.support.parameters import pairs
from cirbench.training.data import open_source

if TYPE_CHECKING:
    from pathlib import Path

    from cirbench.methods.interface import MethodSpec


TUNING = "tuning"
FAMILIES, GALLERY_SIZE = 500, 10_000


def tuning_protocol(families: int = FAMILIES, gallery_size: int = GALLERY_SIZE) -> EvaluationProtocol:
    """Queries and a gallery like those of ``scenes/val``, from another seed."""
    benchmark = make_benchmark(TUNING, families=families, gallery_size=gallery_size)
    images = [SceneImage(scene) for scene in benchmark.gallery]
    ids = tuple(f"{place:05d}" for place in range(len(images)))
    return EvaluationProtocol(
        id="scenes/tuning",
        version=1,
        title="Scenes, for the choice of settings only",
        queries=tuple(
            Query(str(number), Item(ids[q.reference], images[q.reference]), (q.blueprint.caption,))
            for number, q in enumerate(benchmark.queries)
        ),
        gallery=Gallery(ids, images),
        labels=Labels(tuple(tuple(ids[place] for place in q.relevant) for q in benchmark.queries)),
        measures=(Measure("mAP", 5),),
        exclude_reference=True,  # as in scenes/val: where it stays, it favours smaller weights of the image
    )


def score(
    spec: MethodSpec, encoder: Encoder, protocol: EvaluationProtocol, use: str = "", checkpoint: Path | None = None
) -> float:
    """mAP@5 in percent of a method in a use such as ``prompt=that,order=both``."""
    method = build(spec, encoder, parse_parameters(spec, settings(use), encoder.backbone.identity.name), checkpoint)
    return 100 * evaluate(method, protocol).measurements[0].value


def settings(text: str) -> dict[str, str]:
    """Take settings apart that are separated by commas."""
    return pairs(text.split(",")) if text else {}


@click.command()
@click.argument("method")
@click.argument("trainings", nargs=-1)
@click.option("--use", "uses", multiple=True, default=("",), help="Parameters of the method in use.")
@click.option("--backbone", default="scenes-vit", show_default=True)
@click.option("--data", default=None, help="Training data.  [default: scenes, or scenes:triplets]")
def main(method: str, trainings: tuple[str, ...], uses: tuple[str, ...], backbone: str, data: str | None) -> None:
    """Print a row of scores of METHOD for each of TRAININGS, or one row for a method that is not trained."""
    spec, start, protocol = find_method(method), load_backbone(backbone), tuning_protocol()
    encoder = Encoder(start, default_store(), progress=progress)
    data = data or ("scenes:triplets" if spec.needs_triplets else "scenes")
    click.echo(f"{'image-text':<60}{score(find_method('image-text'), encoder, protocol):8.2f}")
    click.echo(f"{f'mAP@5 of {method} in use':<60}" + "".join(f"  {use or 'as by default'}" for use in uses))
    for training in trainings or ("",):
        checkpoint = None
        if spec.trainer is not None:
            parameters = training_parameters(spec, start.identity.name, settings(training))
            checkpoint = train_method(spec, start, open_source(data), parameters, display=progress)
        found = [score(spec, encoder, protocol, use, checkpoint) for use in uses]
        click.echo(f"{training or 'as by default':<60}" + "".join(f"{value:8.2f}" for value in found))


if __name__ == "__main__":
    main()
