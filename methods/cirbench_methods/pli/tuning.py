"""Try settings of PLI on a part of scenes that is never reported: neither val nor tiny, and no training pair.

    python -m cirbench_methods.pli.tuning steps=100,lr=3e-5 steps=100,lr=3e-5,mask_ratio=0.25 clip:steps=100,lr=3e-5

prints mAP@5 at several weights of the image: of the backbone as it is, and after each training. ``clip:`` trains as
long by the plain contrastive loss, which shows what is owed to more training alone. The references, galleries and
captions are drawn like those of ``scenes/val``, from another seed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cirbench.backbones import load_backbone
from cirbench.backbones.encoder import Encoder
from cirbench.methods.evaluate import evaluate
from cirbench.methods.training import training_parameters
from cirbench.support.console import progress
from cirbench.training.checkpoint import WEIGHTS as WEIGHTS_FILE
from cirbench.training.contrastive import Contrastive
from cirbench.training.data import open_source
from cirbench.training.train import Request, train
from cirbench_methods.baselines import SumParameters
from cirbench_methods.baselines.method import ImageText
from cirbench_methods.pli import SPEC
from cirbench_methods.pli.train import MaskedTuning
from cirbench_methods.tuning import settings as parsed
from cirbench_methods.tuning import tuning_protocol

if TYPE_CHECKING:
    from pathlib import Path

    from cirbench.backbones.interface import Backbone
    from cirbench.protocol import EvaluationProtocol

WEIGHTS = (0.25, 0.5, 0.75, 1.0, 1.5)


def scores(backbone: Backbone, protocol: EvaluationProtocol) -> list[float]:
    """mAP@5 in percent at each of `WEIGHTS`; the towers add like image-text, whether they were tuned or not."""
    encoder = Encoder(backbone, None)
    found = []
    for weight in WEIGHTS:
        evaluation = evaluate(ImageText(encoder, SumParameters(weight=weight)), protocol)
        found.append(100 * evaluation.measurements[0].value)
    return found


def checkpoint(backbone: Backbone, setting: str) -> Path:
    """Train by a setting such as ``steps=100,lr=3e-5``, or find the checkpoint of it."""
    kind, colon, values = setting.rpartition(":")
    parameters = training_parameters(SPEC, backbone.identity.name, parsed(values))
    objective = Contrastive if colon else MaskedTuning
    return train(Request(kind or SPEC.name, objective, parameters, backbone, open_source("scenes")), display=progress)


@click.command()
@click.argument("settings", nargs=-1)
@click.option("--backbone", default="scenes-vit", show_default=True)
def main(settings: tuple[str, ...], backbone: str) -> None:
    """Print a row of scores for the backbone and for each of SETTINGS."""
    protocol, start = tuning_protocol(), load_backbone(backbone)
    click.echo(f"{'mAP@5 at weight':<50}" + "".join(f"{weight:>8}" for weight in WEIGHTS))
    for setting in ("", *settings):
        tuned = start.with_weights(checkpoint(start, setting) / WEIGHTS_FILE) if setting else start
        row = "".join(f"{score:8.2f}" for score in scores(tuned, protocol))
        click.echo(f"{setting or 'untrained':<50}{row}")


if __name__ == "__main__":
    main()
