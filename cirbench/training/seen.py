"""Which images a training on triplets looked at, so that an evaluation on one of them never passes unsaid.

They are kept beside the weights, by content, since a checkpoint is evaluated where its training data are not.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING

import numpy as np

from cirbench.errors import CheckFailed, MissingData, some
from cirbench.protocol import Triplet
from cirbench.support.files import write_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from cirbench.protocol import EvaluationProtocol, Item
    from cirbench.training.data import Source

SEEN = "images.u64"
"""The file: the first eight bytes of the digest of each image, as numbers, ascending."""
_NUMBERS = "<u8"


def _contents(source: Source) -> Iterator[str]:
    """Yield the digest of every image that triplets show, but for those that cannot be read."""
    seen: set[str] = set()
    for place, triplet in enumerate(source.triplets):
        if place not in source.unusable:
            for item in (triplet.reference, triplet.target, *triplet.negatives):
                if item.id not in seen:
                    seen.add(item.id)
                    if (content := _content(item)) is not None:
                        yield content


def seen_by(source: Source | None, stages: Iterable[Path] = ()) -> bytes | None:
    """Return the content of `SEEN`: the images of a source, and those that earlier stages were trained on.

    Args:
        source: What is trained on; ``None`` where it is not known.
        stages: The checkpoints that it rests on.

    Returns:
        The content; ``None`` where neither is of triplets, or none is known.
    """
    known = [content for stage in stages if (content := _content_of(stage)) is not None]
    if source is not None and isinstance(source.samples[0], Triplet):
        known.append(np.array([_number(digest) for digest in _contents(source)], dtype=_NUMBERS).tobytes())
    return np.unique(np.frombuffer(b"".join(known), dtype=_NUMBERS)).tobytes() if known else None


def write_seen(seen: bytes, folder: Path) -> dict[str, str]:
    """Keep which images triplets show in the folder of a checkpoint; return the checksum by file."""
    write_bytes(folder / SEEN, seen)
    return {SEEN: hashlib.sha256(seen).hexdigest()}


def read_seen(folder: Path) -> Callable[[str], bool] | None:
    """Return what says whether a checkpoint was trained on an image, by its digest; ``None`` where it does not say."""
    content = _content_of(folder)
    return None if content is None else among(content)


def among(seen: bytes) -> Callable[[str], bool]:
    """Return what says whether an image is one of those that were seen, by its digest."""
    numbers = frozenset(np.frombuffer(seen, dtype=_NUMBERS).tolist())
    return lambda digest: _number(digest) in numbers


def _content_of(folder: Path) -> bytes | None:
    return (folder / SEEN).read_bytes() if (folder / SEEN).is_file() else None


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
