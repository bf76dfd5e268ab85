"""An example of your own data: a few drawn shapes and queries about them, to be replaced."""

from __future__ import annotations

import csv
import io
import itertools
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from cirbench.benchmarks.folder import BAR
from cirbench.errors import UsageError
from cirbench.support.files import write_bytes, write_text

if TYPE_CHECKING:
    from pathlib import Path

COLOURS = ("red", "green", "blue", "yellow")
SHAPES = ("circle", "square", "triangle")
SIDE = 96

README = """\
# Your own data

`gallery/` holds the images that are ranked, `queries.csv` one query a row:

- `query_id`: unique, without white space;
- `reference`: the image to start from, by its path in `gallery/` (with or without suffix), or elsewhere in this folder;
- `text`: what to change;
- `targets`: the right answers in `gallery/`, separated by `|`; leave the column out where nobody knows them;
- `group` (optional): images among which the target must be found, separated by `|`;
- `aspect` (optional): labels to report separately, separated by `|`.

Replace all of it by yours, then:

    cirbench data check PATH
    cirbench run --method image-text --dataset PATH
"""


def write_example(folder: Path) -> list[Path]:
    """Write a whole data set to change into ``folder``; return its files, the table first.

    Raises:
        UsageError: The folder exists.
        CirbenchError: The folder cannot be written.
    """
    if folder.exists():
        raise UsageError(f"{folder} exists already.", hint="Choose another path.")
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["query_id", "reference", "text", "targets", "aspect"])
    writer.writerows(_queries())
    texts = {folder / "queries.csv": table.getvalue(), folder / "README.md": README}
    pictures = {
        folder / "gallery" / f"{colour}_{shape}.png": _drawn(colour, shape)
        for colour, shape in itertools.product(COLOURS, SHAPES)
    }
    for path, text in texts.items():
        write_text(path, text)
    for path, content in pictures.items():
        write_bytes(path, content)
    return [*texts, *pictures]


def _queries() -> list[tuple[str, str, str, str, str]]:
    """Ask each image for the next colour, and for the next shape in any other colour."""
    rows = []
    for (place, colour), (nth, shape) in itertools.product(enumerate(COLOURS), enumerate(SHAPES)):
        reference = f"{colour}_{shape}"
        wanted, other = COLOURS[(place + 1) % len(COLOURS)], SHAPES[(nth + 1) % len(SHAPES)]
        targets = BAR.join(f"{each}_{other}" for each in COLOURS if each != colour)
        rows.append((f"{reference}-1", reference, f"a {wanted} {shape}", f"{wanted}_{shape}", "colour"))
        rows.append((f"{reference}-2", reference, f"a {other}, not {colour}", targets, f"shape{BAR}negation"))
    return rows


def _drawn(colour: str, shape: str) -> bytes:
    image = Image.new("RGB", (SIDE, SIDE), "white")
    draw, low, high = ImageDraw.Draw(image), SIDE // 6, SIDE - SIDE // 6
    if shape == "circle":
        draw.ellipse((low, low, high, high), fill=colour)
    elif shape == "square":
        draw.rectangle((low, low, high, high), fill=colour)
    else:
        draw.polygon((SIDE // 2, low, high, high, low, high), fill=colour)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
