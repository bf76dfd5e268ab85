"""Describe images: those that are described already are looked up, the others are given to the captioner."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL import Image

    from cirbench.captions.store import CaptionStore
    from cirbench.datasets.protocol import ImageSource

Display = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Opens a progress display for a description and a total; yields a function that advances it."""

_DECODERS = 4


class Describes(Protocol):
    """Writes a caption for each image."""

    @property
    def batch_size(self) -> int:
        """How many images it is given at a time."""
        ...

    def __call__(self, images: Sequence[Image.Image]) -> list[str]:
        """Write one caption an image; it depends on its own image only."""
        ...


def describe(images: Sequence[ImageSource], captioner: Describes, store: CaptionStore, display: Display) -> list[str]:
    """Return the caption of each image; equal content is described once, ever.

    Raises:
        MissingData: An image is absent or cannot be decoded.
        CorruptFile: Kept captions are damaged.
        CirbenchError: New captions cannot be kept.
    """
    contents = [image.content for image in images]
    known = store.read()
    sources = dict(zip(contents, images, strict=True))
    wanted = [content for content in sources if content not in known]
    with ThreadPoolExecutor(_DECODERS) as pool, display("Describing images", len(wanted)) as advance:
        size = captioner.batch_size
        batches = (wanted[start : start + size] for start in range(0, len(wanted), size))
        for batch, decoded in _one_ahead(batches, lambda content: sources[content].open(), pool):
            captions = dict(zip(batch, captioner(decoded), strict=True))
            store.add(captions)
            known |= captions
            advance(len(batch))
    return [known[content] for content in contents]


def _one_ahead(
    batches: Iterator[list[str]], decode: Callable[[str], Image.Image], pool: ThreadPoolExecutor
) -> Iterator[tuple[list[str], list[Image.Image]]]:
    """Each batch with its images, while those of the next are decoded."""
    ahead = ((batch, pool.map(decode, batch)) for batch in batches)
    begun = next(ahead, None)
    while begun is not None:
        following = next(ahead, None)
        batch, images = begun
        yield batch, list(images)
        begun = following
