"""Captioning: words for the reference image from a file, a captioner or the nearest text, then the relative caption."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np

from cirbench.artefacts import describe, kept_captions
from cirbench.benchmarks.images import COCO_DIGITS
from cirbench.errors import CorruptFile, MissingData, UsageError
from cirbench.methods.interface import sentences
from cirbench.protocol import Item
from cirbench.ranking import unit_rows
from cirbench.support import console
from cirbench.training.data import open_source
from cirbench.training.data.listed import read_list

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from cirbench.backbones.encoder import Encoder
    from cirbench.protocol import Query
    from cirbench_methods.captioning import CaptioningParameters

Describer = Callable[[Sequence[Item]], list[str]]
"""Finds words for images; those of an image depend on it alone."""

NEAREST = "nearest"
_SHOWN = 10


def choose(encoder: Encoder, parameters: CaptioningParameters) -> Describer:
    """Open what the parameters name.

    Raises:
        UsageError: They name nothing that images could be described by.
        MissingData: A file is absent, or a captioner is not available.
        CorruptFile: A file or a captioner is damaged.
    """
    if parameters.captions is not None:
        return Written(Path(parameters.captions))
    if parameters.captioner != NEAREST:
        return Generated(parameters.captioner, str(encoder.backbone.device))
    if parameters.texts is None:
        raise UsageError(
            "Captioning needs words for the reference images, and nothing says where they come from.",
            hint="Give --set captions=FILE.jsonl (`cirbench caption` writes one), --set captioner=MODEL for a BLIP or "
            "BLIP-2, or --set texts=FILE.txt to choose the most similar of these texts for each image.",
        )
    return Nearest(encoder, parameters.texts)


class Written:
    """Captions from a file."""

    def __init__(self, path: Path) -> None:
        if path.suffix not in (".csv", ".jsonl"):
            raise UsageError(f"{path} holds no captions of images.", hint="Give a .jsonl or .csv file.")
        listed = read_list(path, path.parent)
        if listed.images is None or listed.captions is None:
            raise CorruptFile(f"{path} holds no captions of images: it needs image and caption in each row.")
        self.path = path
        self.captions: dict[str, set[str]] = {}
        for image, caption in zip(listed.images, listed.captions, strict=True):
            for name in {image, PurePath(image).name, PurePath(image).stem}:
                self.captions.setdefault(name, set()).add(caption)

    def __call__(self, items: Sequence[Item]) -> list[str]:
        """Look images up by id, then by path, then by the name of the file.

        Raises:
            MissingData: Some have no caption; the message lists them.
            CorruptFile: One has several.
        """
        found = {item.id: self._of(item) for item in items}
        missing = [name for name, captions in found.items() if not captions]
        if missing:
            shown = ", ".join(missing[:_SHOWN]) + (f" and {len(missing) - _SHOWN} more" if missing[_SHOWN:] else "")
            raise MissingData(
                f"{self.path} has no caption of {len(missing)} of {len(found)} reference images: {shown}.",
                hint="Images are found by id, path or file name, with or without suffix.",
            )
        several = next((name for name, captions in found.items() if len(captions) > 1), None)
        if several is not None:
            raise CorruptFile(f"{self.path} has several captions of {several}.", hint="Leave one for each image.")
        return [next(iter(found[item.id])) for item in items]

    def _of(self, item: Item) -> set[str]:
        written = str(item.image)
        padded = item.id.zfill(COCO_DIGITS) if item.id.isdecimal() else item.id
        names = (item.id, padded, written, PurePath(written).name, PurePath(written).stem)
        return next((self.captions[name] for name in names if name in self.captions), set())


class Generated:
    """Captions that a captioner writes, each image's once."""

    def __init__(self, model: str, device: str) -> None:
        from cirbench.artefacts.captions import load_captioner

        self.captioner = load_captioner(model, device=device)
        self.kept = kept_captions(self.captioner.maker)

    def __call__(self, items: Sequence[Item]) -> list[str]:
        """Describe images, or look up what was said of them before.

        Raises:
            MissingData: An image cannot be decoded, or the captioner said nothing of it.
        """
        captions = describe([item.image for item in items], self.captioner, self.kept, console.progress)
        for item, caption in zip(items, captions, strict=True):
            if not caption:
                raise MissingData(f"The captioner {self.captioner.name} said nothing of {item.id}.")
        return captions


@dataclasses.dataclass(frozen=True)
class Nearest:
    """The text, of a list, whose feature is most similar to the image's: zero-shot retrieval in place of a captioner.

    Attributes:
        encoder: Encodes both.
        texts: As after ``--data``; images in it are not looked at.
    """

    encoder: Encoder
    texts: str

    @cached_property
    def captions(self) -> tuple[str, ...]:
        """The different texts, in order."""
        source = open_source(self.texts, say=console.say)
        source.require("texts", owner="captioning")
        return tuple(dict.fromkeys(sample.caption for sample in source.pairs if sample.caption))

    @cached_property
    def features_ND(self) -> NDArray[np.float64]:
        """Their unit features, in float64: then which is the nearest does not hang on the rounding of a product."""
        return unit_rows(self.encoder.texts(self.captions), self.captions).astype(np.float64)

    def __call__(self, items: Sequence[Item]) -> list[str]:
        """Choose a text for each image; of equally similar ones the first."""
        images: Mapping[str, Item] = {item.image.content: item for item in items}
        features = self.encoder.images([*images.values()])
        nearest = {
            content: self.captions[int(np.argmax(self.features_ND @ image_D.astype(np.float64)))]
            for content, image_D in zip(images, features, strict=True)
        }
        return [nearest[item.image.content] for item in items]


_PLACES = ("{caption}", "{relative}")


class Captioning:
    """n(t) against n(v), where t is a text with the words for the reference and the relative caption."""

    def __init__(self, encoder: Encoder, parameters: CaptioningParameters, checkpoint: Path | None = None) -> None:
        for place in _PLACES:
            if place not in parameters.prompt:
                raise UsageError(f"The prompt {parameters.prompt!r} has no place for {place}.")
        self.encoder = encoder
        self.prompt = parameters.prompt
        self.describe = choose(encoder, parameters)

    def encode_gallery(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """The image features."""
        return self.encoder.images(items)

    def encode_queries(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """The features of the texts."""
        captions = self.describe([query.reference for query in queries])
        return self.encoder.texts(
            [
                self.prompt.replace("{caption}", caption).replace("{relative}", relative)
                for caption, relative in zip(captions, sentences(queries), strict=True)
            ]
        )

    def encode_unmodified(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """The features of ``a photo of {caption}``."""
        captions = self.describe([query.reference for query in queries])
        return self.encoder.texts([f"a photo of {caption}" for caption in captions])
