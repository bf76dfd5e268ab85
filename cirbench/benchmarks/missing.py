"""What is lost of a protocol where some of its images cannot be used, and what is left of it."""

from __future__ import annotations

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING

from cirbench.errors import MissingData
from cirbench.protocol import EvaluationProtocol, Gallery

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from cirbench.protocol import Item

SMALL_POOL = 100
"""Where a query ranks so few candidates of its own, losing one of them moves its chance."""


@dataclasses.dataclass(frozen=True)
class Lost:
    """Images that cannot be used, and what goes with them.

    A query is lost where its reference, one of its ground truths, a member of its group or one of at most `SMALL_POOL`
    candidates of its own is.

    Attributes:
        protocol: The whole.
        images: Ids of the items whose image is absent or cannot be decoded.
    """

    protocol: EvaluationProtocol
    images: frozenset[str]

    @cached_property
    def queries(self) -> tuple[int, ...]:
        """The positions of the lost queries."""
        lost_pools = {
            nth
            for nth, pool in enumerate(self.protocol.pools or ())
            if len(pool) <= SMALL_POOL and not self.images.isdisjoint(pool)
        }
        return tuple(
            place
            for place, query in enumerate(self.protocol.queries)
            if query.reference.id in self.images
            or (self.protocol.labels is not None and not self.images.isdisjoint(self.protocol.labels.relevant[place]))
            or (self.protocol.groups is not None and not self.images.isdisjoint(self.protocol.groups[place]))
            or (self.protocol.pool_of_query is not None and self.protocol.pool_of_query[place] in lost_pools)
        )

    @cached_property
    def kept_queries(self) -> tuple[int, ...]:
        """The positions of the other queries."""
        return tuple(sorted(set(range(len(self.protocol.queries))).difference(self.queries)))

    @cached_property
    def kept_items(self) -> tuple[int, ...]:
        """The gallery positions of the images that can be used."""
        ids = () if self.protocol.gallery is None else self.protocol.gallery.ids
        return tuple(place for place, name in enumerate(ids) if name not in self.images)

    @cached_property
    def available(self) -> EvaluationProtocol:
        """The protocol without lost images and lost queries.

        Raises:
            MissingData: Nothing is left.
        """
        if not self.images:
            return self.protocol
        if not self.kept_queries:
            raise MissingData(
                f"Without its {len(self.images)} missing images, {self.protocol.name} has no query left.",
                hint="Get at least the images of some queries.",
            )
        gallery, pools = self.protocol.gallery, self.protocol.pools
        assert gallery is not None
        assert gallery.images is not None
        return dataclasses.replace(
            self.protocol.only(self.kept_queries),
            gallery=Gallery(
                tuple(gallery.ids[place] for place in self.kept_items),
                [gallery.images[place] for place in self.kept_items],
            ),
            pools=pools and tuple(tuple(name for name in pool if name not in self.images) for pool in pools),
        )


def find_lost(
    protocol: EvaluationProtocol, display: Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
) -> Lost:
    """Decode every image of a protocol, to see which cannot be used.

    Args:
        protocol: With its gallery's images.
        display: Shows the progress.

    Raises:
        MissingData: The gallery is not available.
    """
    gallery = [] if protocol.gallery is None else protocol.gallery.items
    items = {item.id: item for item in [*gallery, *(query.reference for query in protocol.queries)]}
    lost = set()
    # Threads do: Pillow lets go of the interpreter while it decodes.
    with ThreadPoolExecutor(os.cpu_count()) as pool, display("Looking for images", len(items)) as advance:
        for name, usable in zip(items, pool.map(_usable, items.values()), strict=True):
            if not usable:
                lost.add(name)
            advance(1)
    return Lost(protocol, frozenset(lost))


def _usable(item: Item) -> bool:
    try:
        item.image.open()
    except MissingData:
        return False
    return True
