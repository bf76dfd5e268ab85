"""``cirbench caption``: captions for a folder of images."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click


@click.command()
@click.option(
    "--images", required=True, type=click.Path(path_type=Path), help="Folder of images; those in subfolders count too."
)
@click.option("--model", required=True, help="BLIP or BLIP-2 captioner: a name on the hub, or a folder.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The .jsonl file to write.")
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=16, show_default=True, help="Number of images in a batch."
)
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True)
@click.option("--device", default="auto", show_default=True, help="Device: auto, cpu, cuda or cuda:N.")
def command(
    images: Path, model: str, output: Path, batch_size: int, precision: Literal["fp32", "bf16"], device: str
) -> None:
    """Describe every image below a folder, for `cirbench train --data` and for the method captioning.

    It may be stopped at any moment and goes on where it was: what was written of an image is kept by the image's
    content and the captioner's files. The path of the file is printed on stdout; beside it lies a card that says who
    wrote the captions. Needs: pip install 'cirbench[transformers]'

    \b
    cirbench caption --images imagenet/test --model Salesforce/blip2-flan-t5-xl --output captions.jsonl
    cirbench train pli --backbone ViT-L-14/openai --data captions.jsonl
    cirbench run --method captioning --set captions=captions.jsonl --dataset circo
    """
    from cirbench.artefacts import default_captions, describe
    from cirbench.artefacts.captioner import load_captioner
    from cirbench.artefacts.captions import require_jsonl, write_captions
    from cirbench.backbones.images import FileImage
    from cirbench.errors import some
    from cirbench.support import console
    from cirbench.training.data.listed import read_folder

    require_jsonl(output)
    folder = read_folder(images, None)
    if folder.unused:
        console.say(f"{len(folder.unused):,} files are not images and get no caption: {some(folder.unused)}.")
    paths = [folder.folder / name for name in folder.images]
    captioner = load_captioner(model, device=device, precision=precision, batch_size=batch_size)
    sources = [FileImage(path) for path in paths]
    captions = describe(sources, captioner, default_captions(captioner.identity), console.progress)
    card = write_captions(output, paths, captions, captioner)
    if card.speechless:
        shown = ", ".join(card.speechless[:10])
        console.say(f"The captioner said nothing of {len(card.speechless)} images, which are left out: {shown}")
    click.echo(output)
