"""The words of images by OTI, and the concepts that an image shows: made in batches, and made once."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from cirbench.backbones.encoder import Encoder
from cirbench.backbones.store import OwnSpace
from cirbench.backbones.text import PLACEHOLDER, PseudoWords
from cirbench.ranking import unit_rows
from cirbench.support.files import digest
from cirbench_methods.inversion.templates import TEMPLATES
from cirbench_methods.searle.oti import Draws, Texts, draw, invert
from cirbench_methods.searle.phrases import Phrases, open_phrases, replaced

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from cirbench.protocol import Item
    from cirbench_methods.searle import SearleOtiParameters


_TOGETHER = 256
_BLOCK = 1024


def concept_features(encoder: Encoder, concepts: Sequence[str], templates: Sequence[str]) -> NDArray[np.float32]:
    """Encode each concept in all templates, (C, D): the mean of the unit rows, of unit length. They are kept."""

    def make(contents: list[str], advance: Callable[[int], None]) -> NDArray[np.float32]:
        names = [names_of[content] for content in contents]
        # An encoder without a store: 24 texts a concept are not worth keeping, and would take 24 times the place.
        fresh = Encoder(encoder.backbone, None, batch_size=encoder.batch_size)
        texts = [template.format(name) for name in names for template in templates]
        units_CTD = unit_rows(fresh.texts(texts), texts).reshape(len(names), len(templates), -1)
        advance(len(names))
        return unit_rows(units_CTD.mean(axis=1), names)

    names_of = {hashlib.sha256(concept.encode()).hexdigest(): concept for concept in concepts}
    space = OwnSpace(encoder.backbone.identity, "Encoding concepts", digest(templates), encoder.backbone.dim)
    return encoder.own(space, list(names_of), make, shard=_TOGETHER)


def near(
    encoder: Encoder, concepts: Sequence[str], templates: Sequence[str], items: Sequence[Item], count: int
) -> NDArray[np.int32]:
    """The concepts that each image shows most, the first the nearest, (N, min(count, C))."""
    return nearest(encoder.images(items), concept_features(encoder, concepts, templates), count)


def nearest(images_ND: NDArray[np.float32], concepts_CD: NDArray[np.float32], count: int) -> NDArray[np.int32]:
    """The concepts most similar to each image, the nearest first, (N, min(count, C)).

    In float64, in which no two concepts are as close as what rounding makes of an image in other company.
    """
    found = np.empty((len(images_ND), min(count, len(concepts_CD))), dtype=np.int32)
    concepts_DC = concepts_CD.T.astype(np.float64)
    for start in range(0, len(images_ND), _BLOCK):
        similar_BC = images_ND[start : start + _BLOCK].astype(np.float64) @ concepts_DC
        found[start : start + _BLOCK] = np.argsort(-similar_BC, axis=1, kind="stable")[:, : found.shape[1]]
    return found


SCHEMA = 1
_PASSES = 8
"""Batches that are made before they are kept, so that every core has something to do."""
_DECIDING = ("steps", "lr", "weight_decay", "ema", "init", "regularisation", "concepts", "seed")


class OtiInverter:
    """Optimises a word for each image; see `cirbench_methods.searle.oti`.

    Raises:
        UsageError: The backbone cannot read pseudo-words; phrases are needed and not given.
        MissingData: The file of phrases does not exist.
        CorruptFile: The file of phrases cannot be read.
    """

    def __init__(self, encoder: Encoder, parameters: SearleOtiParameters) -> None:
        self.encoder = encoder
        self.parameters = parameters
        self.tower = PseudoWords(encoder.backbone)
        self.templates = TEMPLATES[parameters.templates]
        self.phrases: Phrases | None = None
        if parameters.regularisation:
            self.phrases = open_phrases(parameters.phrases)

    def __call__(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """Make the words of images, (N, E), or find those that were made before.

        Raises:
            MissingData: An image is absent or cannot be decoded.
            CirbenchError: New words cannot be kept.
        """
        different = list({item.image.content: item for item in items}.values())
        # Before anything is made: several processes share what is to be encoded, and so have to ask for it together.
        features_ND, near_Nk = self.encoder.images(different), self._near(different)
        places = {item.image.content: place for place, item in enumerate(different)}

        def make(contents: list[str], advance: Callable[[int], None]) -> NDArray[np.float32]:
            at = [places[content] for content in contents]
            return self._make(contents, features_ND[at], near_Nk[at], advance)

        shard = _PASSES * self.encoder.batch_size
        return self.encoder.own(self.space, [item.image.content for item in items], make, shard=shard)

    @cached_property
    def space(self) -> OwnSpace:
        """Everything but the image that decides a word."""
        recipe = {name: getattr(self.parameters, name) for name in _DECIDING}
        phrases = None if self.phrases is None else self.phrases.digest
        decided = digest({"schema": SCHEMA, "templates": self.templates, "phrases": phrases, **recipe})
        return OwnSpace(self.encoder.backbone.identity, "Inverting images", decided, self.tower.width)

    def _near(self, items: Sequence[Item]) -> NDArray[np.int32]:
        if self.phrases is None:
            return np.empty((len(items), 0), dtype=np.int32)
        return near(self.encoder, self.phrases.concepts, self.templates, items, self.parameters.concepts)

    def _make(
        self,
        contents: Sequence[str],
        features_ND: NDArray[np.float32],
        near_Nk: NDArray[np.int32],
        advance: Callable[[int], None],
    ) -> NDArray[np.float32]:
        sentences = () if self.phrases is None else self.phrases.sentences
        draws = [
            draw(content, self.tower.width, len(self.templates), near_k.tolist(), sentences, self.parameters)
            for content, near_k in zip(contents, near_Nk, strict=True)
        ]
        device = self.encoder.backbone.device
        images = torch.from_numpy(features_ND).to(device)
        starts = torch.from_numpy(np.stack([each.start_E for each in draws])).to(device)
        templates = self._templates(draws)
        phrases, plain_PD = self._phrases(draws)

        def compute(rows: NDArray[np.intp]) -> torch.Tensor:
            spoken = None if phrases is None else phrases.of(rows)
            return invert(self.tower, starts[rows], images[rows], templates.of(rows), spoken, plain_PD, self.parameters)

        # An image's phrases are padded to its own longest one, never to that of an image beside it.
        shapes_N = templates.lengths_B if phrases is None else phrases.lengths_B
        return self.encoder.rowwise(compute, shapes_N, advance)

    def _templates(self, draws: Sequence[Draws]) -> Texts:
        tokens_TL = self.tower.tokenize([template.format(PLACEHOLDER) for template in self.templates])
        chosen_NS = np.stack([each.templates_S for each in draws])
        longest = self.tower.lengths(tokens_TL).max()
        return Texts(tokens_TL.to(self.encoder.backbone.device), chosen_NS, np.full(len(draws), longest))

    def _phrases(self, draws: Sequence[Draws]) -> tuple[Texts | None, torch.Tensor | None]:
        """The phrases of all steps, each once, with their features as they are."""
        if self.phrases is None:
            return None, None
        used = sorted({phrase for each in draws for phrase in each.phrases_S})
        rows = {phrase: row for row, phrase in enumerate(used)}
        chosen_NS = np.array([[rows[phrase] for phrase in each.phrases_S] for each in draws])
        spoken = [(self.phrases.sentences[concept][number], self.phrases.concepts[concept]) for concept, number in used]
        tokens_PL = self.tower.tokenize([replaced(sentence, concept, "first") for sentence, concept in spoken])
        lengths_N = self.tower.lengths(tokens_PL)[chosen_NS].max(axis=1)
        backbone = self.encoder.backbone
        # Of the millions of phrases that a language model writes, few are ever met again: nothing is kept.
        plain = Encoder(backbone, None, batch_size=self.encoder.batch_size).texts([sentence for sentence, _ in spoken])
        texts = Texts(tokens_PL.to(backbone.device), chosen_NS, lengths_N)
        return texts, torch.from_numpy(plain).to(backbone.device)
