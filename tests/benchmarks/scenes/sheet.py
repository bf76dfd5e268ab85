"""A contact sheet for people: queries with their reference, ground truths and the rest of their group.

``python -m tests.benchmarks.scenes.sheet OUT.png``
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from cirbench.benchmarks.scenes.benchmark import scenes_benchmark
from cirbench.benchmarks.scenes.draw import render
from cirbench.support.files import write_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cirbench.benchmarks.scenes.benchmark import Benchmark, ScenesQuery

_TILE = 96
_GAP = 6
_LINE = 20
_SHOWN = 4
_FRAME = {"reference": (60, 60, 70), "relevant": (30, 140, 60), "not relevant": (200, 50, 50)}
_WIDTH = (1 + 2 * _SHOWN) * (_TILE + _GAP) + 3 * _GAP


def contact_sheet(benchmark: Benchmark, numbers: Sequence[int]) -> Image.Image:
    """Draw one row a query: the reference, up to four ground truths (green), up to four others of its group (red)."""
    height = _LINE + _TILE + 2 * _GAP
    sheet = Image.new("RGB", (_WIDTH, height * len(numbers)), "white")
    for row, number in enumerate(numbers):
        sheet.paste(_row(benchmark, benchmark.queries[number]), (0, row * height))
    return sheet


def _row(benchmark: Benchmark, query: ScenesQuery) -> Image.Image:
    row = Image.new("RGB", (_WIDTH, _LINE + _TILE + 2 * _GAP), "white")
    canvas = ImageDraw.Draw(row)
    text = f"{query.blueprint.caption}   (keep: {query.blueprint.shared_concept})"
    canvas.text((_GAP, _GAP // 2), text, fill=(20, 20, 30), font=ImageFont.load_default(13))
    others = [place for place in query.group if place != query.reference and place not in query.relevant]
    tiles = [(query.reference, "reference", 0)]
    tiles += [(place, "relevant", 1 + column) for column, place in enumerate(query.relevant[:_SHOWN])]
    tiles += [(place, "not relevant", 1 + _SHOWN + column) for column, place in enumerate(others[:_SHOWN])]
    for place, role, column in tiles:
        left = _GAP + column * (_TILE + _GAP) + _GAP * (role != "reference") // 2 + _GAP * (role == "not relevant") // 2
        box = (left - 2, _LINE + 1, left + _TILE + 1, _LINE + _TILE + 4)
        canvas.rectangle(box, outline=_FRAME[role], width=2)
        row.paste(Image.fromarray(render(benchmark.gallery[place], _TILE)), (left, _LINE + 3))
    return row


def main(arguments: Sequence[str]) -> None:
    """Write the sheet of six queries of ``scenes/val`` to the file that is named."""
    picture = io.BytesIO()
    contact_sheet(scenes_benchmark("val"), range(0, 24, 4)).quantize(128).save(picture, "PNG", optimize=True)
    write_bytes(Path(arguments[0]), picture.getvalue())


if __name__ == "__main__":
    main(sys.argv[1:])
