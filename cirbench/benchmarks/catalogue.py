"""What can be evaluated: one entry per data set, readable without loading anything.

A new data set is one module with a loader, and one entry here.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from cirbench.benchmarks.entry import DatasetEntry, ProtocolEntry
from cirbench.errors import UnknownName, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cirbench.protocol import EvaluationProtocol

T = TypeVar("T")


_DATASETS = (
    DatasetEntry(
        "scenes",
        "Rendered scenes with complete ground truth; ships with cirbench",
        "MIT",
        "cirbench.benchmarks.scenes:scenes_protocol",
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
        "cirbench.benchmarks.circo:circo_protocol",
        (
            ProtocolEntry("circo/val", "CIRCO val, reference kept", "val", 220, 123_403),
            ProtocolEntry("circo/val-drop-reference", "CIRCO val, reference removed", "val", 220, 123_403),
            ProtocolEntry("circo/val-concept", "CIRCO val, reference kept, shared concept given", "val", 220, 123_403),
            ProtocolEntry("circo/test", "CIRCO test, reference kept", "test", 800, 123_403, labelled=False),
        ),
        default_backbone="ViT-L-14/openai",
        needs="circo/annotations/{val,test}.json; the gallery from circo/annotations/image_info_unlabeled2017.json",
    ),
    DatasetEntry(
        "cirr",
        "CIRR: everyday photographs of NLVR2, each query in a group of six similar ones",
        "MIT",
        "cirbench.benchmarks.cirr:cirr_protocol",
        (
            ProtocolEntry("cirr/val", "CIRR val, reference removed", "val", 4181, 2297),
            ProtocolEntry("cirr/val-soft", "CIRR val by soft labels, reference removed", "val", 4181, 2297),
            ProtocolEntry(
                "cirr/val-soft-subset",
                "CIRR val by soft labels, inside the group, reference removed",
                "val",
                4181,
                2297,
            ),
            ProtocolEntry("cirr/test1", "CIRR test1, reference removed", "test1", 4148, 2315, labelled=False),
        ),
        default_backbone="ViT-L-14/openai",
        needs="cirr/captions/cap.rc2.{val,test1}.json, cirr/image_splits/split.rc2.{val,test1}.json",
    ),
    DatasetEntry(
        "fashioniq",
        "FashionIQ: dresses, shirts and tops, two captions per query",
        "CDLA-Permissive",
        "cirbench.benchmarks.fashioniq:fashioniq_protocol",
        (
            ProtocolEntry("fashioniq/val", "FashionIQ val, split galleries 3817/6346/5373", "val", 6016, 15_415),
            ProtocolEntry(
                "fashioniq/val-drop-reference", "FashionIQ val, split galleries, reference removed", "val", 6016, 15_415
            ),
            ProtocolEntry("fashioniq/val-union", "FashionIQ val, union galleries 2628/3089/2902", "val", 6016, 8582),
            ProtocolEntry(
                "fashioniq/val-union-drop-reference",
                "FashionIQ val, union galleries, reference removed",
                "val",
                6016,
                8582,
            ),
            ProtocolEntry(
                "fashioniq/val-pli", "FashionIQ val as PLI's code, pair list from your file", "val", 11_380, None
            ),
        ),
        default_backbone="ViT-L-14/openai",
        needs="fashioniq/{captions,image_splits}/; for val-pli also the user's fashioniq/captions_pairs/",
    ),
    DatasetEntry(
        "genecis",
        "GeneCIS: the same or another object or attribute, few candidates per query",
        "CC BY-NC 4.0",
        "cirbench.benchmarks.genecis:genecis_protocol",
        (
            ProtocolEntry("genecis/all", "GeneCIS, four tasks and their mean", "val", None, None),
            ProtocolEntry("genecis/focus-object", "GeneCIS focus object, 15 candidates per query", "val", 1960, 2192),
            ProtocolEntry("genecis/change-object", "GeneCIS change object, 15 candidates per query", "val", 1960, 2734),
            ProtocolEntry("genecis/focus-attribute", "GeneCIS focus attribute, object crops", "val", None, None),
            ProtocolEntry("genecis/change-attribute", "GeneCIS change attribute, object crops", "val", None, None),
        ),
        default_backbone="ViT-L-14/openai",
        needs="genecis/{focus,change}_{object,attribute}.json",
    ),
    DatasetEntry(
        "imagenet-r",
        "ImageNet-R domain conversion: a photograph's class as a cartoon, origami, toy or sculpture",
        "Apache-2.0",
        "cirbench.benchmarks.imagenet_r:imagenet_r_protocol",
        (
            ProtocolEntry(
                "imagenet-r/domain-conversion",
                "Domain conversion, share of the relevant images found",
                "val",
                40_000,
                16_983,
            ),
            ProtocolEntry(
                "imagenet-r/domain-conversion-hit", "Domain conversion, any relevant image found", "val", 40_000, 16_983
            ),
        ),
        default_backbone="ViT-L-14/openai",
        needs="imagenet-r/imgnet_real_query.txt, imagenet-r/imgnet_targets.txt",
    ),
    DatasetEntry(
        "coco",
        "COCO object composition: a photograph from one of its objects and the classes of all",
        "CC BY 4.0",
        "cirbench.benchmarks.coco_composition:coco_protocol",
        (
            ProtocolEntry(
                "coco/object-composition", "COCO object composition, objects drawn by a fixed rule", "val", None, None
            ),
        ),
        default_backbone="ViT-L-14/openai",
        needs="coco/annotations/instances_val2017.json",
    ),
)


def datasets() -> dict[str, DatasetEntry]:
    """Return every data set by its name."""
    return {entry.name: entry for entry in _DATASETS}


def protocols() -> dict[str, ProtocolEntry]:
    """Return every protocol by its id."""
    return {protocol.id: protocol for entry in _DATASETS for protocol in entry.protocols}


def is_folder(name: str) -> bool:
    """Say whether a name that was typed is the path of a folder."""
    try:
        return Path(name).is_dir()
    except OSError:  # no path at all: it is too long, or may not be looked at
        return False


def find_dataset(name: str) -> DatasetEntry:
    """Return the data set of a name, or else the one that is made of the folder at this path.

    Raises:
        UnknownName: There is neither; the hint names the nearest data sets.
        MissingData: The folder holds no table of queries.
        CorruptFile: The folder's table breaks a rule; the message names the line.
    """
    if name not in datasets() and is_folder(name):
        from cirbench.benchmarks.folder import folder_entry

        return folder_entry(Path(name))
    if name not in datasets() and "/" in name:
        raise UnknownName("data set", name, datasets(), hint="Nor is there a folder at that path.")
    return _lookup("data set", name, datasets())


def choose_protocol(dataset: str, *, split: str | None = None, protocol: str | None = None) -> ProtocolEntry:
    """Return the protocol that a user means by ``--dataset``, ``--split`` and ``--protocol``.

    Raises:
        UnknownName: There is no such data set, split or protocol; the hint names the nearest ones.
        UsageError: The protocol is not one of the data set, or not one of the split.
        MissingData: The data set is a folder that `find_dataset` cannot read.
    """
    entry = find_dataset(dataset)
    if split is not None and split not in entry.splits:
        raise UnknownName(f"split of {dataset}", split, entry.splits)
    if protocol is None:
        wanted = split or entry.default_split
        return next(candidate for candidate in entry.protocols if candidate.split == wanted)
    chosen = _lookup("protocol", protocol, {each.id: each for each in entry.protocols} | protocols())
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
    """Load a protocol by its id, or your own data by the path of its folder.

    Args:
        id: For instance ``"circo/val"``.
        data_root: The folder that holds the data sets; the one that ``CIRBENCH_DATA`` names where it is ``None``.

    Raises:
        UnknownName: There is no such protocol; the hint names the nearest ones.
        MissingData: Its files are not there, or not whole.
    """
    if id not in protocols() and is_folder(id):
        from cirbench.benchmarks.folder import folder_protocol

        return folder_protocol(Path(id))
    chosen = _lookup("protocol", id, protocols())
    entry = datasets()[chosen.dataset]
    module, _, name = entry.loader.partition(":")
    load = cast("Callable[..., EvaluationProtocol]", getattr(importlib.import_module(module), name))
    if entry.needs is None:
        return load(chosen.variant)
    from cirbench.benchmarks import annotation_files

    return load(chosen.variant, annotation_files.data_root(data_root))


def _lookup(kind: str, name: str, known: dict[str, T]) -> T:
    if name not in known:
        raise UnknownName(kind, name, known)
    return known[name]
