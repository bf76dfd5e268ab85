"""BASIC: what is done to features and similarities before they are multiplied."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cirbench.backbones.encoder import Encoder
from cirbench.backbones.store import OwnSpace
from cirbench.errors import UsageError
from cirbench.methods.interface import sentences
from cirbench.ranking import unit_rows
from cirbench.ranking.vectors import similarities
from cirbench.support.files import digest
from cirbench_methods.basic import GALLERY
from cirbench_methods.corpora import (
    SCENES_STYLES,
    SCENES_SUBJECTS,
    Gallery,
    read_arrays,
    read_words,
    sample_items,
    unit_images,
    unit_texts,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cirbench.backbones.encoder import Advance
    from cirbench.protocol import Item, Query
    from cirbench_methods.basic import BasicParameters

RIDGE = 1e-5
"""Added to every entry of the matrix whose directions are kept, as the public code does."""
SHARPNESS = 0.1
"""Of the weights of neighbours: exp(0.1 · similarity)."""
_TOGETHER = 64


def projection(
    subjects_SD: NDArray[np.float64], styles_TD: NDArray[np.float64], contrast: float, components: int
) -> NDArray[np.float64]:
    """Project onto the directions in which subjects differ and styles do not (contrastive PCA), (D, D).

    Args:
        subjects_SD: Centred features of words for what images show.
        styles_TD: Features of words for how they show it, centred by the mean of the subjects.
        contrast: The weight of the styles.
        components: The directions that are kept, at most: those with the largest positive eigenvalues.
    """
    scatter_DD, other_DD = (rows.T @ rows / (len(rows) - 1) for rows in (subjects_SD, styles_TD))
    values, vectors_DD = np.linalg.eigh((1 - contrast) * scatter_DD - contrast * other_DD + RIDGE)
    kept_DC = vectors_DD[:, ::-1][:, : min(components, int(np.count_nonzero(values > 0)))]
    return np.asarray(kept_DC @ kept_DC.T)


def expanded(
    images_QD: NDArray[np.float64], neighbours_QKD: NDArray[np.float64], similar_QK: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Average images with their neighbours, weighted by exp(0.1 · similarity); that of the image itself is 1."""
    rows = np.concatenate([neighbours_QKD, images_QD[:, None]], axis=1)
    weights = np.exp(SHARPNESS * np.concatenate([similar_QK, np.ones((len(images_QD), 1))], axis=1))
    return np.asarray(np.einsum("qk,qkd->qd", weights / weights.sum(axis=1, keepdims=True), rows))


def fuse(image: NDArray[np.float64], text: NDArray[np.float64], penalty: float) -> NDArray[np.float64]:
    """Multiply similarities, and subtract a part of their squared sum (the corner measure of Harris and Stephens)."""
    image, text = np.maximum(image, 0), np.maximum(text, 0)
    fused: NDArray[np.float64] = image * text - penalty * (image + text) ** 2
    return fused


class Basic:
    """Queries are two vectors, for the image and for the text, and items are one, the centred image."""

    def __init__(self, encoder: Encoder, parameters: BasicParameters, checkpoint: Path | None = None) -> None:
        self.encoder = encoder
        self.parameters = parameters
        self.subjects = read_words(
            parameters.subjects, SCENES_SUBJECTS, option="subjects", purpose="for what images show"
        )
        self.styles = (
            read_words(parameters.styles, SCENES_STYLES, option="styles", purpose="for how images show it")
            if parameters.components
            else ()
        )
        if parameters.images is None:
            raise UsageError(
                "BASIC centres images, and nothing says by which mean.",
                hint="Give --set images=FILE.npy with it, --set images=FOLDER to encode other images, or --set "
                "images=gallery, which is transductive.",
            )
        self._gallery: Gallery | None = None
        self._gallery_mean_D: NDArray[np.float64] | None = None

    def fit_gallery(self, items: Sequence[Item]) -> None:
        """Centre the gallery, among which the neighbours of references are."""
        units_ND = unit_images(self.encoder, items)
        self._gallery_mean_D = units_ND.mean(axis=0, dtype=np.float64)
        centred_ND = (units_ND - self._image_mean_D).astype(np.float32)
        self._gallery = Gallery([item.id for item in items], centred_ND)

    def encode_gallery(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """The centred images, (N, 1, D)."""
        return (unit_images(self.encoder, items) - self._image_mean_D).astype(np.float32)[:, None]

    def encode_queries(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """The centred and projected images and the centred texts, (Q, 2, D)."""
        images_QD = unit_images(self.encoder, [query.reference for query in queries]) - self._image_mean_D
        projected_QD = images_QD @ self._projection_DD
        if self.parameters.neighbours and self._gallery is not None:
            near_QK, similar_QK = self._gallery.nearest(projected_QD.astype(np.float32), self.parameters.neighbours)
            rows_QKD = np.asarray(self._gallery.rows_ND[near_QK.ravel()], dtype=np.float64)
            rows_QKD = rows_QKD.reshape(*near_QK.shape, -1)
            projected_QD = expanded(images_QD, rows_QKD, similar_QK.astype(np.float64)) @ self._projection_DD
        texts_QD = self._texts(sentences(queries)) - self._text_mean_D
        return np.stack([projected_QD, texts_QD], axis=1).astype(np.float32)

    def score(self, queries_Q2D: NDArray[np.float32], gallery_N1D: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalise both similarities and multiply them, in float64, rounded to float32."""
        found_Q2N = similarities(queries_Q2D, gallery_N1D)[..., 0]
        (image_low, text_low), (image_unit, text_unit) = self._lows, self._units
        image_QN = (found_Q2N[:, 0] - image_low) / image_unit
        text_QN = (found_Q2N[:, 1] - text_low) / text_unit
        return fuse(image_QN, text_QN, self.parameters.penalty).astype(np.float32)

    @cached_property
    def _image_mean_D(self) -> NDArray[np.float64]:
        name = self.parameters.images
        assert name is not None
        if name == GALLERY:
            assert self._gallery_mean_D is not None
            return self._gallery_mean_D
        if Path(name).suffix == ".npy":
            (rows_ND,) = read_arrays(Path(name), ("images",), self.encoder.backbone.dim)
        else:
            items, _ = sample_items(name, owner="basic", option="images", parts=("image",))
            rows_ND = unit_images(self.encoder, items).astype(np.float64)
        return np.asarray(rows_ND.mean(axis=0))

    @cached_property
    def _subjects_SD(self) -> NDArray[np.float64]:
        return unit_texts(self.encoder, self.subjects)

    @cached_property
    def _text_mean_D(self) -> NDArray[np.float64]:
        return np.asarray(self._subjects_SD.mean(axis=0))

    @cached_property
    def _projection_DD(self) -> NDArray[np.float64]:
        if not self.parameters.components:
            return np.eye(self.encoder.backbone.dim)
        return projection(
            self._subjects_SD - self._text_mean_D,
            unit_texts(self.encoder, self.styles) - self._text_mean_D,
            self.parameters.contrast,
            self.parameters.components,
        )

    @cached_property
    def _lows(self) -> tuple[float, float]:
        """The smallest similarity of two images and of a text and an image, among other pairs."""
        name = self.parameters.pairs
        if name is None:
            return 0.0, 0.0
        if Path(name).suffix == ".npz":
            images_PD, texts_PD = read_arrays(Path(name), ("images", "texts"), self.encoder.backbone.dim)
            images_PD, texts_PD = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (images_PD, texts_PD))
        else:
            items, captions = sample_items(name, owner="basic", option="pairs", parts=("image", "caption"))
            images_PD = unit_images(self.encoder, items).astype(np.float64)
            texts_PD = unit_texts(self.encoder, captions)
        images_PD, texts_PD = images_PD - self._image_mean_D, texts_PD - self._text_mean_D
        return float((images_PD @ images_PD.T).min()), float((texts_PD @ images_PD.T).min())

    @cached_property
    def _units(self) -> tuple[float, float]:
        """What the two similarities are divided by."""
        image, text = (abs(low) or 1.0 for low in self._lows)
        return image, text if self.parameters.text_unit == "text" else image

    def _texts(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """The unit features of texts; with subjects before and after them, of the mean of these."""
        words = self.subjects[: self.parameters.context]
        if not words:
            return unit_texts(self.encoder, texts)
        text_of = {hashlib.sha256(text.encode()).hexdigest(): text for text in texts}

        def make(contents: list[str], advance: Advance) -> NDArray[np.float32]:
            asked = [text_of[content] for content in contents]
            # Without a store: 200 texts for each are not worth keeping.
            fresh = Encoder(self.encoder.backbone, None, batch_size=self.encoder.batch_size)
            written = [form for text in asked for word in words for form in (f"{word} {text}", f"{text} {word}")]
            rows_CWD = unit_texts(fresh, written).reshape(len(asked), 2 * len(words), -1)
            advance(len(asked))
            means_CD = rows_CWD.mean(axis=1)
            return unit_rows(means_CD, asked)

        space = OwnSpace(
            self.encoder.backbone.identity, "Encoding texts in context", digest(words), self.encoder.backbone.dim
        )
        contents = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
        return self.encoder.own(space, contents, make, shard=_TOGETHER).astype(np.float64)
