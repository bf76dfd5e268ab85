"""Samples with a name and an identity."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from cirbench.errors import UsageError
from cirbench.files import digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cirbench.datasets.protocol import ImageSource

Kind = Literal["pairs", "images", "texts"]
"""What a training looks at."""

_WANTED = {"pairs": "images with captions", "images": "images", "texts": "texts"}
_LOOKED_AT = 64


class Sample(Protocol):
    """An image, a caption, or both."""

    @property
    def image(self) -> ImageSource | None: ...  # noqa: D102

    @property
    def caption(self) -> str | None: ...  # noqa: D102


@dataclasses.dataclass(frozen=True)
class Source:
    """Samples with a name and an identity.

    Attributes:
        name: As the user asked for it.
        samples: The samples, each opened when it is asked for.
        digest: Sha256 of what they are: their number, the file that lists them, and 64 of them spread evenly.
    """

    name: str
    samples: Sequence[Sample]
    digest: str

    def require(self, kind: Kind, *, owner: str) -> None:
        """Refuse to go on where the samples lack what ``owner`` is trained on.

        Raises:
            UsageError: There are images where texts are needed, or the other way round.
        """
        sample = self.samples[0]
        for part, value in (("images", sample.image), ("texts", sample.caption)):
            if value is None and kind in ("pairs", part):
                raise UsageError(f"{owner} is trained on {_WANTED[kind]}, and {self.name} holds no {part}.")

    def first(self, count: int) -> Source:
        """The first so many samples, as a source of its own; this one where it holds no more."""
        if count >= len(self.samples):
            return self
        return Source(
            f"{self.name} (the first {count})",
            [self.samples[place] for place in range(count)],
            digest([self.digest, count]),
        )


def identified(name: str, samples: Sequence[Sample], *, listing: str) -> Source:
    """Give samples a name and an identity.

    Args:
        name: As the user asked for them.
        samples: The samples.
        listing: What is known of all of them without opening one, for instance the checksum of their list.

    Raises:
        UsageError: There are none.
        MissingData: One of those that are looked at cannot be read.
    """
    if not len(samples):
        raise UsageError(f"{name} holds no samples.")
    spread = np.unique(np.linspace(0, len(samples) - 1, _LOOKED_AT).astype(int))
    chosen = (samples[int(place)] for place in spread)
    looked_at = [[None if each.image is None else each.image.content, each.caption] for each in chosen]
    return Source(name, samples, digest([listing, len(samples), looked_at]))
