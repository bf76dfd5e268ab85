"""What each benchmark is made of: files at pinned addresses, sets of images, licences, and what has to be asked for.

Annotations come from their authors' repositories; their sha256 and size were taken from the files at these commits. A
``?`` or ``None`` was not known when this was written: it is recorded at the first download, and said.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cirbench.benchmarks.entry import ProtocolEntry


@dataclasses.dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file that can be fetched.

    Attributes:
        url: Where from.
        path: Where to, relative to the data root.
        size: Bytes, where known.
        sha256: Of its content, where known.
        variants: Patterns of the protocol variants that need it.
    """

    url: str
    path: str
    size: int | None
    sha256: str | None
    variants: tuple[str, ...] = ("*",)


@dataclasses.dataclass(frozen=True, slots=True)
class Archive(RemoteFile):
    """An archive that is unpacked and then deleted.

    Attributes:
        into: The folder that it is unpacked in, relative to the data root.
        yields: A file or folder that is there afterwards, relative to the data root.
        only: The members that are wanted; all, if empty.
        unpacked: Bytes on the disk afterwards, where known; as many as the archive has, otherwise.
    """

    into: str = ""
    yields: str = ""
    only: tuple[str, ...] = ()
    unpacked: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ImageSet:
    """Images that protocols need and where they come from.

    Attributes:
        title: What they are.
        collection: Their key in `cirbench.benchmarks.images.FOLDERS`.
        count: How many are needed for all of ``variants`` together, where known beforehand.
        licence: What is known of it.
        archives: Where they can be fetched from; none where they must be asked for.
        by_hand: What to do where they cannot be fetched.
        folder: Where to put them, relative to the data root.
        names: A pattern of their names in the collection.
        variants: Patterns of the protocol variants that need them.
    """

    title: str
    collection: str
    count: int | None
    licence: str
    folder: str
    archives: tuple[Archive, ...] = ()
    by_hand: str | None = None
    names: str = "*"
    variants: tuple[str, ...] = ("*",)


@dataclasses.dataclass(frozen=True, slots=True)
class DatasetFiles:
    """Everything that a data set, or a part of it, is made of.

    Attributes:
        dataset: Its name.
        annotations: Files to fetch.
        images: Sets of images.
        by_hand: Annotations that nobody may hand on: what to do.
    """

    dataset: str
    annotations: tuple[RemoteFile, ...] = ()
    images: tuple[ImageSet, ...] = ()
    by_hand: str | None = None

    def needed_by(self, wanted: Iterable[ProtocolEntry]) -> DatasetFiles:
        """Return the part that these protocols need."""
        variants = [entry.variant for entry in wanted]

        def needed(part: RemoteFile | ImageSet) -> bool:
            return any(fnmatch.fnmatch(variant, pattern) for variant in variants for pattern in part.variants)

        return dataclasses.replace(
            self, annotations=tuple(filter(needed, self.annotations)), images=tuple(filter(needed, self.images))
        )


_RAW = "https://raw.githubusercontent.com"
# images.cocodataset.org has no certificate of its own name; this is the same bucket, encrypted.
_COCO = "https://s3.amazonaws.com/images.cocodataset.org"
_COCO_LICENCE = "the photographers' own, mostly Creative Commons: https://cocodataset.org/#termsofuse"


def _listed(base: str, folder: str, table: str) -> tuple[RemoteFile, ...]:
    """Read rows of sha256, bytes, path and, parted by commas, the variants that need the file."""
    rows = [line.split() for line in table.split("\n") if line.strip()]
    return tuple(
        RemoteFile(
            f"{base}/{path}",
            f"{folder}/{path}",
            None if size == "?" else int(size),
            None if sha256 == "?" else sha256,
            tuple(variants.split(",")),
        )
        for sha256, size, path, variants in rows
    )


_CIRCO = _listed(
    f"{_RAW}/miccunifi/CIRCO/267b5c9087d856ce1b41d2daf8f385ae5b629a3b",
    "circo",
    """
    6b31a1dbc3c85627501d9a250f87708f24a27d74d6a65360b6ddd2537a154d04    111978 annotations/val.json val*
    2f7c37e89220c990b6b0525d6f3ed63d3fc02e03ce336aa42a3b822841b14886    167660 annotations/test.json test*
    """,
)
_CIRR = _listed(
    f"{_RAW}/Cuberick-Orion/CIRR/2276fba2d2c53862c8ae79ea18e1f1ae03719f56",
    "cirr",
    """
    a85c3a1aa464f1af7229918e8018d08b8b20ce5dab479ffdf39d61113140f919   1609916 captions/cap.rc2.val.json val*
    de36f7a7219c8bb06347a67748cfc68405be7dad62853a1e31846c98e491235b    105568 image_splits/split.rc2.val.json val*
    26a2b2e7a5c96c903491aefc7d5f237f03d3cca97712e1b6bb3b231db5ff8001   1254129 captions/cap.rc2.test1.json test1*
    bf2bb9ed0659c4aae35de72350652b9ab75d36a060211f826bec15c58ec12566    120364 image_splits/split.rc2.test1.json test1*
    """,
)
_FASHIONIQ = _listed(
    f"{_RAW}/XiaoxiaoGuo/fashion-iq/f71b16c3b09ef03b02c0fed160fa072fb3b8aa16",
    "fashioniq",
    """
    5e5117d45695df9c3ca91fac3e0bc49e6422ae9c8b3793f0ac9b3ab83adb7de9    397427 captions/cap.dress.val.json *
    7b7ca3797b85dddfd83e74cdb4454cb63e3e7c09acef2590155efbacea6d7feb    398072 captions/cap.shirt.val.json *
    b4e09f428e6c255cc4b4ec46e77908305ab83075d82840c960be81af15cdc5eb    391897 captions/cap.toptee.val.json *
    21ff91d53c23859da91bfd49f3acc139b7f3a3dc944fc4e4a80194468cf14bab     68708 image_splits/split.dress.val.json *
    b82effbf7352a6f828b38c45eb32e53d726bd4d6fd81d6290c81eeb2c68e3234    114230 image_splits/split.shirt.val.json *
    ee42b2505275dd7a19b11ddb88c9264aab2d77f4e59b075fb1c7c3095d02f412     96716 image_splits/split.toptee.val.json *
    """,
)
_GENECIS = _listed(
    f"{_RAW}/facebookresearch/genecis/0c5c968c01b8ccffcc0990af2b430d21d7a12f49/genecis",
    "genecis",
    """
    ee6de86ffb78ad989986b65f7e74e5627a90c1395a8cdc4aed8da3d92f4c016c   2270369 focus_object.json all,focus-object
    0a5145984f7d8594c457a3609288ae2acfcdb6b72bd0309220e616300c9beac8   2270031 change_object.json all,change-object
    ?         ? focus_attribute.json all,focus-attribute
    ?         ? change_attribute.json all,change-attribute
    """,
)
_PIC2WORD = _listed(
    f"{_RAW}/google-research/composed_image_retrieval/8c053297c2fae9cd17ddcded48445a4f47208dbd/data/imgnet",
    "imagenet-r",
    """
    cd19c2d76f7fee0c47afba6dfc182c3fd5dbf800c0a80149feca6e0547936d1e    558850 imgnet_real_query.txt *
    4cc6b22d493b783f2f7fce356276096c0d5ec38be95bd3a3349c8458b8a4a311    900843 imgnet_targets.txt *
    """,
)

_IMAGE_INFO = Archive(
    f"{_COCO}/annotations/image_info_unlabeled2017.zip",
    "circo/image_info_unlabeled2017.zip",
    None,
    None,
    into="circo",
    yields="circo/annotations/image_info_unlabeled2017.json",
    only=("annotations/image_info_unlabeled2017.json",),
)
_UNLABELED = Archive(
    f"{_COCO}/zips/unlabeled2017.zip",
    "circo/unlabeled2017.zip",
    20_126_613_414,
    None,
    into="circo",
    yields="circo/unlabeled2017",
)
_INSTANCES = Archive(
    f"{_COCO}/annotations/annotations_trainval2017.zip",
    "coco/annotations_trainval2017.zip",
    252_907_541,
    "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
    into="coco",
    yields="coco/annotations/instances_val2017.json",
    only=("annotations/instances_val2017.json",),
    unpacked=20_000_000,
)
_VAL2017 = Archive(
    f"{_COCO}/zips/val2017.zip",
    "coco/val2017.zip",
    815_585_330,
    "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
    into="coco",
    yields="coco/val2017",
)
_VISUAL_GENOME = tuple(
    Archive(
        f"https://cs.stanford.edu/people/rak248/VG_100K_2/{name}.zip",
        f"visual-genome/{name}.zip",
        size,
        None,
        into="visual-genome",
        yields=f"visual-genome/{folder}",
    )
    for name, folder, size in (("images", "VG_100K", 9_731_705_982), ("images2", "VG_100K_2", 5_471_658_058))
)
_IMAGENET_R = Archive(
    "https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar",
    "imagenet-r/imagenet-r.tar",
    2_191_079_936,
    "18c6bf493b39a0d975d48e587437f562caab9c52ae6327dcfa9dd8eb54aa1b52",
    into="imagenet-r",
    yields="imagenet-r/imagenet-r",
)

DATASET_FILES = {
    "circo": DatasetFiles(
        "circo",
        (*_CIRCO, _IMAGE_INFO),
        (ImageSet("COCO 2017 unlabeled", "circo", 123_403, _COCO_LICENCE, "circo/unlabeled2017", (_UNLABELED,)),),
    ),
    "cirr": DatasetFiles(
        "cirr",
        _CIRR,
        tuple(
            ImageSet(
                f"NLVR2 {folder}",
                "cirr",
                count,
                "the terms of use of NLVR2; the photographs are their owners'",
                f"cirr/{folder}",
                by_hand="Ask for the NLVR2 images with the form that https://github.com/lil-lab/nlvr/tree/master/nlvr2 "
                "(direct image download) links; without an answer, ask the authors of CIRR "
                "(https://github.com/Cuberick-Orion/CIRR). NLVR2's list of URLs does not help: many are dead.",
                names=f"{folder}-*",
                variants=variants,
            )
            for folder, count, variants in (("dev", 2297, ("val*",)), ("test1", 2315, ("test1",)))
        ),
    ),
    "fashioniq": DatasetFiles(
        "fashioniq",
        _FASHIONIQ,
        (
            ImageSet(
                "FashionIQ's product photographs",
                "fashioniq",
                15_415,
                "the shops' own; the licence of FashionIQ covers the annotations only",
                "fashioniq/images",
                by_hand="The original URLs are listed at https://github.com/hongwang600/fashion-iq-metadata, and many "
                "are dead. Ask the authors of FashionIQ (https://github.com/XiaoxiaoGuo/fashion-iq), or a group "
                "that has the images. Any file names ID.jpg or ID.png in any folders will do.",
            ),
        ),
        by_hand="fashioniq/val-pli also needs PLI's pair lists, fashioniq/captions_pairs/fashion_iq-val-cap-*.txt, "
        "which come with the public code of PLI and may not be handed on here.",
    ),
    "genecis": DatasetFiles(
        "genecis",
        _GENECIS,
        (
            ImageSet(
                "COCO 2017 val",
                "coco-val2017",
                3033,
                _COCO_LICENCE,
                "coco/val2017",
                (_VAL2017,),
                variants=("all", "*-object"),
            ),
            ImageSet(
                "Visual Genome 1.2",
                "visual-genome",
                None,
                "CC BY 4.0 (annotations); the photographs are their owners'",
                "visual-genome",
                _VISUAL_GENOME,
                variants=("all", "*-attribute"),
            ),
        ),
    ),
    "imagenet-r": DatasetFiles(
        "imagenet-r",
        _PIC2WORD,
        (
            ImageSet(
                "ImageNet-R",
                "imagenet-r",
                6983,
                "MIT (the collection); the pictures are their owners'",
                "imagenet-r/imagenet-r",
                (_IMAGENET_R,),
                names="n*",
            ),
            ImageSet(
                "ILSVRC 2012 validation",
                "imagenet-r",
                10_000,
                "the terms of access of ImageNet",
                "imagenet-r/real",
                by_hand="Register at https://image-net.org and fetch ILSVRC2012_img_val.tar; unpack it in any folders.",
                names="*ILSVRC2012_val_*",
            ),
        ),
    ),
    "coco": DatasetFiles(
        "coco",
        (_INSTANCES,),
        (ImageSet("COCO 2017 val", "coco-val2017", None, _COCO_LICENCE, "coco/val2017", (_VAL2017,)),),
    ),
}
"""By the name of the data set."""
