"""Cases as a page shows them: every image with an address, every rank as text."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cirbench.datasets.protocol import ImageSource
    from cirbench.site.cases import Answer, Case, Hit
    from cirbench.site.thumbnails import Thumbnails


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
