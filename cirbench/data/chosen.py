"""What a user means by a name: protocols, and the files that they are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench.data.pinned import SOURCES
from cirbench.data.sources import Sources
from cirbench.datasets.catalogue import datasets, find_dataset, is_folder, protocols
from cirbench.errors import UnknownName

if TYPE_CHECKING:
    from cirbench.datasets.catalogue import ProtocolEntry


def choose(name: str, split: str | None = None) -> tuple[ProtocolEntry, ...]:
    """Return the protocols that a user means by ``name`` and ``--split``.

    Args:
        name: A data set, a protocol, or a folder with the user's own data.
        split: Only the protocols of this split.

    Raises:
        UnknownName: There is no such data set, protocol or split; the hint names the nearest ones.
        MissingData: The folder holds no table of queries.
    """
    if name not in datasets() and name not in protocols() and not is_folder(name):
        raise UnknownName("data set or protocol", name, [*datasets(), *protocols()])
    chosen = (protocols()[name],) if name in protocols() else find_dataset(name).protocols
    splits = tuple(dict.fromkeys(protocol.split for protocol in chosen))
    if split is not None and split not in splits:
        raise UnknownName(f"split of {name}", split, splits)
    return tuple(protocol for protocol in chosen if split in (None, protocol.split))


def sources(name: str, split: str | None = None) -> Sources:
    """Return what the data set or protocol ``name`` is made of.

    Raises:
        UnknownName: There is no such data set, protocol or split.
    """
    chosen = choose(name, split)
    return SOURCES.get(chosen[0].dataset, Sources(chosen[0].dataset)).needed_by(chosen)
