"""Retrieval with a word made from the reference image: images against texts that contain it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from cirbench.backbones.text import PLACEHOLDER
from cirbench.backbones.weights import place, read_tensors
from cirbench.errors import UsageError
from cirbench.methods.interface import join_captions
from cirbench.ranking import unit_rows
from cirbench.training.checkpoint import WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cirbench.backbones.encoder import Encoder
    from cirbench.protocol import Item, Query
    from cirbench_methods.inversion import InversionParameters

CAPTION = "{}"


@dataclasses.dataclass(frozen=True, slots=True)
class Prompt:
    """A sentence with a place for the word and one for the caption.

    Attributes:
        template: The sentence.
        without: What is taken off a caption that begins with it.
    """

    template: str
    without: str = ""

    def fill(self, caption: str) -> str:
        """Put a caption into its place; the word's place stays the first placeholder."""
        caption = caption.removeprefix(self.without)
        if self.template.index(CAPTION) < self.template.index(PLACEHOLDER):
            caption = caption.replace(PLACEHOLDER, "")
        return self.template.replace(CAPTION, caption)


PUBLISHED = {
    "that": Prompt("a photo of $ that {}"),
    "comma": Prompt("a photo of $ , {}"),
    "domain": Prompt("{} $"),
    "and": Prompt("a photo of $ and {}", without="a photo of "),
}
"""SEARLE and LinCIR use ``that`` on every benchmark. Pic2Word uses ``comma`` on CIRR and FashionIQ, ``domain`` on
ImageNet-R, whose captions are "a cartoon of" and the like, and ``and`` on COCO, whose captions begin with "a photo of".
"""


def find_prompt(text: str) -> Prompt:
    """Find a published prompt by name, or take a text as one.

    Raises:
        UsageError: It lacks a place for the word or the caption.
    """
    if text in PUBLISHED:
        return PUBLISHED[text]
    for sign, what in ((PLACEHOLDER, "the image's word"), (CAPTION, "the caption")):
        if sign not in text:
            raise UsageError(
                f"The prompt {text!r} has no place for {what}.",
                hint=f"Write {sign} where it belongs, or name one of {', '.join(PUBLISHED)}.",
            )
    return Prompt(text)


_STEPS = {"given": (1,), "reversed": (-1,), "both": (1, -1)}


class Inverter(Protocol):
    """Makes a word of each image."""

    def __call__(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """Make the words of images, (N, E); a word depends on its own image only."""
        ...


class Inversion:
    """n(t) against n(v), where t is a text with the caption and the word of the reference.

    Args:
        encoder: Encodes.
        parameters: How the word is used.
        invert: Makes the words.
    """

    def __init__(self, encoder: Encoder, parameters: InversionParameters, invert: Inverter) -> None:
        self.encoder = encoder
        self.prompt = find_prompt(parameters.prompt)
        self.order = parameters.order
        self.strip = parameters.strip
        self.invert = invert

    def encode_gallery(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """The image features."""
        return self.encoder.images(items)

    def encode_queries(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """The unit features of the texts, or the averages over the orders of their captions."""
        words_QE = self._words([query.reference for query in queries])
        several = any(len(query.captions) > 1 for query in queries)
        names = [f"the text of query {query.id}" for query in queries]
        rows_SQD = [
            unit_rows(self.encoder.composed(self._texts(queries, step), words_QE), names)
            for step in _STEPS[self.order][: 2 if several else 1]
        ]
        averaged_QD: NDArray[np.float32] = np.mean(rows_SQD, axis=0, dtype=np.float32)
        return averaged_QD

    def encode_unmodified(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """The unit features of ``a photo of $``."""
        words_QE = self._words([query.reference for query in queries])
        texts = [f"a photo of {PLACEHOLDER}"] * len(queries)
        return unit_rows(self.encoder.composed(texts, words_QE), [f"the text of query {query.id}" for query in queries])

    def _texts(self, queries: Sequence[Query], step: int) -> list[str]:
        return [self.prompt.fill(join_captions(query.captions[::step], self.strip)) for query in queries]

    def _words(self, references: Sequence[Item]) -> NDArray[np.float32]:
        """The word of each reference; equal images are inverted once."""
        different = {item.image.content: item for item in references}
        rows = {content: row for row, content in enumerate(different)}
        return self.invert([*different.values()])[[rows[item.image.content] for item in references]]


class NetworkInverter:
    """Makes words by a network on the image features, not normalised.

    Args:
        encoder: Encodes the images.
        network: A `Phi` or a `Mapping` of the encoder's backbone.
        checkpoint: The folder of the checkpoint that has its weights.

    Raises:
        CorruptFile: The checkpoint is damaged, or of another network.
    """

    def __init__(self, encoder: Encoder, network: torch.nn.Module, checkpoint: Path) -> None:
        path = checkpoint / WEIGHTS
        architecture = f"{type(network).__name__} for {encoder.backbone.identity.name}"
        place(network, read_tensors(path), path=path, architecture=architecture)
        self.encoder = encoder
        self.network = network.eval()

    def __call__(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """Make the words of images, (N, E)."""
        features = torch.from_numpy(self.encoder.images(items))
        device = self.encoder.backbone.device
        return self.encoder.rowwise(
            lambda rows: self.network(features[rows].to(device)), np.zeros(len(items), np.int64)
        )
