"""``cirbench convert``: make a checkpoint of a file that a method's authors published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cirbench.support.parameters import pairs

if TYPE_CHECKING:
    from cirbench.backbones.interface import Activation


@click.command()
@click.argument("method")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "-b", "--backbone", required=True, help="Backbone its authors trained on: a name, MODEL/TAG or a model folder."
)
@click.option("--weights", type=click.Path(path_type=Path), help="A local file with the backbone's weights.")
@click.option(
    "--activation",
    type=click.Choice(["gelu", "quick_gelu"]),
    help="Activation that a local weights file was trained with.",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="State a training parameter that the file does not hold.",
)
@click.option("--ema", is_flag=True, help="Take the averaged weights (EMA) that FILE holds.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder to write to.  [default: one in the cache]"
)
def command(
    method: str,
    file: Path,
    backbone: str,
    weights: Path | None,
    activation: Activation | None,
    assignments: tuple[str, ...],
    ema: bool,
    output: Path | None,
) -> None:
    """Make a checkpoint of METHOD from FILE, as its authors published it.

    Pickles are read as tensors or refused. The folder of the checkpoint is printed on stdout; give it to `cirbench run
    --checkpoint`. A file that is converted already is not converted again.

    \b
    cirbench convert searle SEARLE_ViT-L14.pt --backbone ViT-L-14/openai
    cirbench convert pic2word pic2word_model.pt --backbone ViT-L-14/openai
    cirbench convert pli epoch_2.pth --backbone ViT-B-32/openai --set mask_ratio=0.75
    """
    from cirbench.methods.registry import find_method
    from cirbench.methods.training import training_parameters

    spec = find_method(method)
    parameters = training_parameters(spec, "", pairs(assignments))

    from cirbench.backbones import load_backbone
    from cirbench.methods.conversion import convert

    model = load_backbone(backbone, weights=weights, activation=activation, device="cpu")
    click.echo(convert(spec, file, model, parameters, output=output, ema=ema))
