"""What is known of a data set and of its protocols before anything is loaded."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class ProtocolEntry:
    """One protocol of a data set.

    Attributes:
        id: ``dataset/variant``.
        title: One line for people.
        split: The split whose queries it uses.
        queries: How many there are; ``None`` where the published file was not available to count in.
        gallery: How many images there are in all galleries together; ``None`` as above.
        labelled: Whether the ground truths are public; a test server keeps them otherwise.
        folder: Where everything is, for your own data; ``None`` for a benchmark.
    """

    id: str
    title: str
    split: str
    queries: int | None
    gallery: int | None
    labelled: bool = True
    folder: str | None = None

    @property
    def dataset(self) -> str:
        """The name of the data set."""
        return self.id.partition("/")[0]

    @property
    def variant(self) -> str:
        """The part of the id that names the protocol within its data set; the loader is called with it."""
        return self.id.partition("/")[2]

    @property
    def address(self) -> str:
        """What `load_protocol` loads it by."""
        return self.folder or self.id


@dataclasses.dataclass(frozen=True, slots=True)
class DatasetEntry:
    """A data set and its protocols.

    Attributes:
        name: As users type it.
        title: One line for people.
        licence: Of the annotations.
        loader: ``"module:function"``. The function takes a protocol's variant and, where ``needs`` says that files are
            needed, the data root; it returns the protocol.
        protocols: Its protocols; the first one of a split is that split's default.
        default_backbone: The backbone of runs that name none.
        needs: What must be present under the data root, or ``None`` where nothing must be.
        default_split: The split of runs that name none.
    """

    name: str
    title: str
    licence: str
    loader: str
    protocols: tuple[ProtocolEntry, ...]
    default_backbone: str
    needs: str | None = None
    default_split: str = "val"

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits, in order, each once."""
        return tuple(dict.fromkeys(protocol.split for protocol in self.protocols))
