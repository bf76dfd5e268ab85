"""Which concepts an image shows, by the backbone itself: the text features of a concept's name against the image's."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from cirbench.backbones.features.encoder import Encoder
from cirbench.backbones.features.space import OwnSpace
from cirbench.ranking.units import unit_rows
from cirbench.support.files import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from cirbench.protocol import Item


def _templates(*illustration: str) -> tuple[str, ...]:
    return (
        *("This is a photo of a {}", "This photo contains a {}", "A photo of a {}"),
        *illustration,
        *("This is a sketch of a {}", "This sketch contains a {}", "A sketch of a {}"),
        *("This is a diagram of a {}", "This diagram contains a {}", "A diagram of a {}"),
        *("A {}", "We see a {}", "{}"),
        *("We see a {} in this photo", "We see a {} in this image", "We see a {} in this illustration"),
        *("We see a {} photo", "We see a {} image", "We see a {} illustration"),
        *("{} photo", "{} image", "{} illustration"),
    )


TEMPLATES = {
    "searle": _templates(
        "This is an illustration of a {}", "This illustration contains a {}", "An illustrations of a {}"
    ),
    "palavra": _templates(
        "This is an illustrations of a {}", "This illustrations contains a {}", "An illustrations of a {}"
    ),
}
"""The 24 of PALAVRA (arXiv:2204.01694, appendix A), spelling included, and as SEARLE's public code writes them."""

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
