"""Which images a training on triplets looked at, so that an evaluation on one of them never passes unsaid.

They are kept beside the weights, by content, since a checkpoint is evaluated where its training data are not.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING

import numpy as np

from cirbench.errors import CheckFailed, MissingData, some
from cirbench.support.files import write_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cirbench.protocol import EvaluationProtocol, Item
    from cirbench.training.data import Source

SEEN = "images.u64"
"""The file: the first eight bytes of the digest of each image, as numbers, ascending."""


def contents_of(source: Source) -> Iterator[str]:
    """Yield the digest of every image that triplets show, but for those that cannot be read."""
    seen: set[str] = set()
    for place, triplet in enumerate(source.triplets):
        if place not in source.unusable:
            for item in (triplet.reference, triplet.target, *triplet.negatives):
                if item.id not in seen:
                    seen.add(item.id)
                    if (content := _content(item)) is not None:
                        yield content


def seen_of(source: Source) -> bytes:
    """Return the content of `SEEN` for triplets."""
    return np.unique(np.array([_number(digest) for digest in contents_of(source)], dtype="<u8")).tobytes()


def write_seen(seen: bytes, folder: Path) -> dict[str, str]:
    """Keep which images triplets show in the folder of a checkpoint; return the checksum by file."""
    write_bytes(folder / SEEN, seen)
    return {SEEN: hashlib.sha256(seen).hexdigest()}


def read_seen(folder: Path) -> Callable[[str], bool] | None:
    """Return what says whether a checkpoint was trained on an image, by its digest; ``None`` where it does not say."""
    if not (folder / SEEN).is_file():
        return None
    seen = frozenset(np.fromfile(folder / SEEN, dtype="<u8").tolist())
    return lambda digest: _number(digest) in seen


def count_overlap(
    is_trained: Callable[[str], bool], protocol: EvaluationProtocol, *, allowed: bool, trained: str, hint: str
) -> int:
    """Count the images of a protocol that were trained on.

    Args:
        is_trained: Says so of the digest of an image.
        protocol: Its gallery and references are looked at, as far as they are there.
        allowed: Whether there may be any.
        trained: What was trained on, for the message.
        hint: What to do instead.

    Raises:
        CheckFailed: There are such images, and they are not allowed.
    """
    items = [] if protocol.gallery is None or protocol.gallery.images is None else protocol.gallery.items
    shared = sorted({
        item.id
        for item in (*items, *(query.reference for query in protocol.queries))
        if (content := _content(item)) is not None and is_trained(content)
    })  # fmt: skip
    if shared and not allowed:
        raise CheckFailed(
            f"{len(shared)} images of {protocol.name} are among {trained}: {some(shared)}.",
            hint=f"{hint}; or give --allow-overlap: it is recorded, and said below each table.",
        )
    return len(shared)


def _content(item: Item) -> str | None:
    with contextlib.suppress(MissingData):  # who needs it says so
        return item.image.content
    return None


def _number(digest: str) -> int:
    """The first eight bytes of a digest; of any other name of a content those of its sha256."""
    try:
        return int(digest[:16], 16)
    except ValueError:
        return int(hashlib.sha256(digest.encode()).hexdigest()[:16], 16)
