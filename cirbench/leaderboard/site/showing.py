"""Cases as a page shows them: every image a small copy with an address, every rank as text."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from typing import TYPE_CHECKING

from cirbench.errors import MissingData
from cirbench.support.files import write_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cirbench.leaderboard.site.cases import Answer, Case, Hit
    from cirbench.protocol import ImageSource

SIDE = 96
"""Pixels of the longer side; an image that is smaller keeps its size."""

_VERSION = 1  # of what is done to an image; part of each file name


class Thumbnails:
    """A folder of thumbnails, named by what they show.

    Args:
        folder: Where they go.
        href: How a page names that folder.
    """

    def __init__(self, folder: Path, href: str) -> None:
        self._folder = folder
        self._href = href
        self.names: set[str] = set()

    def of(self, image: ImageSource) -> str | None:
        """Write the thumbnail of an image unless it is there; return its address, or ``None`` if the image is not."""
        try:
            name = f"{hashlib.sha256(f'{_VERSION} {SIDE} {image.content}'.encode()).hexdigest()[:20]}.webp"
            if not (self._folder / name).is_file():
                write_bytes(self._folder / name, _encode(image))
        except MissingData:
            return None
        self.names.add(name)
        return f"{self._href}/{name}"


def _encode(image: ImageSource) -> bytes:
    from PIL import Image, ImageOps

    picture = ImageOps.exif_transpose(image.open()).convert("RGB")
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=80, method=6)
    return buffer.getvalue()


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image on a page: its id, the address of its thumbnail if it has one, its text alternative."""

    id: str
    href: str | None
    text: str
    right: bool = False


@dataclasses.dataclass(frozen=True)
class ShownAnswer:
    """What one run answered."""

    name: str
    value: float | None
    ranks: str
    top: tuple[Picture, ...]


@dataclasses.dataclass(frozen=True)
class ShownCase:
    """One query on a page."""

    number: int
    id: str
    captions: tuple[str, ...]
    metric: str
    reference: Picture
    truths: tuple[Picture, ...]
    answers: tuple[ShownAnswer, ...]


def shown(cases: Sequence[Case], metric: str, thumbnails: Thumbnails | None) -> tuple[ShownCase, ...]:
    """Prepare cases for a page, with thumbnails where they may be shown."""

    def picture(id: str, image: ImageSource | None, text: str, right: bool = False) -> Picture:
        return Picture(id, thumbnails.of(image) if thumbnails and image else None, text, right)

    def hit(each: Hit, place: int) -> Picture:
        return picture(
            each.id, each.image, f"place {place}: image {each.id}{', a ground truth' if each.right else ''}", each.right
        )

    return tuple(
        ShownCase(
            number,
            case.query.id,
            case.query.captions,
            metric,
            picture(case.query.reference.id, case.query.reference.image, f"reference image {case.query.reference.id}"),
            tuple(picture(each.id, each.image, f"ground truth {each.id}", True) for each in case.truths),
            tuple(
                ShownAnswer(
                    answer.name,
                    answer.value,
                    ranks_text(answer),
                    tuple(hit(each, place) for place, each in enumerate(answer.top, start=1)),
                )
                for answer in case.answers
            ),
        )
        for number, case in enumerate(cases, start=1)
    )


def ranks_text(answer: Answer) -> str:
    """Write the ranks of the ground truths in order, a dash for one that was no candidate."""
    return ", ".join("–" if rank is None else f"{rank:,}" for rank in answer.ranks)
