"""What can be evaluated: one entry per data set, readable without loading anything.

A new data set is one module with a loader, and one entry here.
"""

from __future__ import annotations

import dataclasses
import importlib
from typing import TYPE_CHECKING, TypeVar, cast

from cirbench.errors import UnknownName, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cirbench.datasets.protocol import EvaluationProtocol

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class ProtocolEntry:
    """One protocol of a data set.

    Attributes:
        id: ``dataset/variant``.
        title: One line for people.
        split: The split whose queries it uses.
        queries: How many there are.
        gallery: How many images are ranked.
        labelled: Whether the ground truths are public; a test server keeps them otherwise.
    """

    id: str
    title: str
    split: str
    queries: int
    gallery: int
    labelled: bool = True

    @property
    def dataset(self) -> str:
        """The name of the data set."""
        return self.id.partition("/")[0]

    @property
    def variant(self) -> str:
        """What tells this protocol from the others of its data set; the loader is called with it."""
        return self.id.partition("/")[2]


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
        default_backbone: What encodes images and texts when no backbone is asked for.
        needs: What must be present under the data root, or ``None`` where nothing must be.
        default_split: What is evaluated when no split is asked for.
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


_DATASETS = (
    DatasetEntry(
        "scenes",
        "Rendered scenes with complete ground truth; ships with cirbench",
        "MIT",
        "cirbench.datasets.scenes:scenes_protocol",
        (
            ProtocolEntry("scenes/val", "Scenes, validation: complete ground truth", "val", 1000, 10000),
            ProtocolEntry("scenes/tiny", "Scenes, a small part that runs in seconds", "tiny", 60, 600),
        ),
        default_backbone="scenes-vit",
    ),
    DatasetEntry(
        "circo",
        "CIRCO: open-domain photographs of COCO with several ground truths per query",
        "CC BY-NC 4.0",
        "cirbench.datasets.circo:circo_protocol",
        (
            ProtocolEntry("circo/val", "CIRCO validation, reference kept", "val", 220, 123_403),
            ProtocolEntry("circo/test", "CIRCO test, reference kept", "test", 800, 123_403, labelled=False),
        ),
        default_backbone="ViT-L-14/openai",
        needs="circo/annotations/{val,test}.json; the gallery from circo/annotations/image_info_unlabeled2017.json",
    ),
)


def datasets() -> dict[str, DatasetEntry]:
    """Return every data set by its name."""
    return {entry.name: entry for entry in _DATASETS}


def protocols() -> dict[str, ProtocolEntry]:
    """Return every protocol by its id."""
    return {protocol.id: protocol for entry in _DATASETS for protocol in entry.protocols}


def choose_protocol(dataset: str, *, split: str | None = None, protocol: str | None = None) -> ProtocolEntry:
    """Return the protocol that a user means by ``--dataset``, ``--split`` and ``--protocol``.

    Raises:
        UnknownName: There is no such data set, split or protocol; the hint names the nearest ones.
        UsageError: The protocol is not one of the data set, or not one of the split.
    """
    entry = _lookup("data set", dataset, datasets())
    if split is not None and split not in entry.splits:
        raise UnknownName(f"split of {dataset}", split, entry.splits)
    if protocol is None:
        wanted = split or entry.default_split
        return next(candidate for candidate in entry.protocols if candidate.split == wanted)
    chosen = _lookup("protocol", protocol, protocols())
    if chosen not in entry.protocols:
        raise UsageError(
            f"The protocol {protocol} is not one of the data set {dataset}.",
            hint=f"Its protocols are {', '.join(candidate.id for candidate in entry.protocols)}.",
        )
    if split is not None and chosen.split != split:
        raise UsageError(
            f"The protocol {protocol} uses the split {chosen.split}, and --split says {split}.",
            hint="Leave --split out.",
        )
    return chosen


def load_protocol(id: str, data_root: Path | None = None) -> EvaluationProtocol:
    """Load a protocol by its id.

    Args:
        id: For instance ``"circo/val"``.
        data_root: The folder that holds the data sets; the one that ``CIRBENCH_DATA`` names where it is ``None``.

    Raises:
        UnknownName: There is no such protocol; the hint names the nearest ones.
        MissingData: Its files are not there, or not whole.
    """
    chosen = _lookup("protocol", id, protocols())
    entry = datasets()[chosen.dataset]
    module, _, name = entry.loader.partition(":")
    load = cast("Callable[..., EvaluationProtocol]", getattr(importlib.import_module(module), name))
    if entry.needs is None:
        return load(chosen.variant)
    from cirbench.datasets import locate

    return load(chosen.variant, locate.data_root(data_root))


def _lookup(kind: str, name: str, known: dict[str, T]) -> T:
    if name not in known:
        raise UnknownName(kind, name, known)
    return known[name]
