"""The fusions: Slerp, the weighted mean of WeiMoCIR, and the product of similarities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cirbench.methods.interface import STRIPPED, sentences
from cirbench.ranking import unit_rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cirbench.backbones.encoder import Encoder
    from cirbench.protocol import Item, Query
    from cirbench_methods.baselines import TextParameters
    from cirbench_methods.fusion import SlerpParameters, WeiMoCirParameters

_STRAIGHT = 1e-6
"""Sines below this are those of rows that are parallel but for rounding."""


def slerp(starts_QD: NDArray[np.float32], ends_QD: NDArray[np.float32], alpha: float) -> NDArray[np.float32]:
    """Interpolate unit rows on the sphere (Shoemake, SIGGRAPH 1985).

    sin((1 - a) x) / sin x * start + sin(a x) / sin x * end, where x is the angle between them; where that is 0 or pi,
    so that no great circle or every one leads from one to the other, the point on the straight line.

    Returns:
        (Q, D); of unit length unless the rows of a pair point in opposite directions.
    """
    starts, ends = starts_QD.astype(np.float64), ends_QD.astype(np.float64)
    angles = np.arccos(np.clip(np.add.reduce(starts * ends, axis=1, keepdims=True), -1, 1))
    sines = np.sin(angles)
    straight = sines < _STRAIGHT
    sines[straight] = 1
    first = np.where(straight, 1 - alpha, np.sin((1 - alpha) * angles) / sines)
    second = np.where(straight, alpha, np.sin(alpha * angles) / sines)
    return (first * starts + second * ends).astype(np.float32)


class _Fusion:
    strip = ""

    def __init__(self, encoder: Encoder, parameters: TextParameters, checkpoint: Path | None = None) -> None:
        self.encoder = encoder
        self.prompt = parameters.prompt

    def encode_gallery(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """The image features."""
        return self.encoder.images(items)

    def _images(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        return self.encoder.images([query.reference for query in queries])

    def _texts(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        return self.encoder.texts(sentences(queries, self.prompt, self.strip))

    def _units(self, queries: Sequence[Query]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Both features of each query, at unit length."""
        return (
            unit_rows(self._images(queries), [f"reference {query.reference.id}" for query in queries]),
            unit_rows(self._texts(queries), [f"caption of query {query.id}" for query in queries]),
        )


class Slerp(_Fusion):
    """slerp(n(v), n(t); a)."""

    def __init__(self, encoder: Encoder, parameters: SlerpParameters, checkpoint: Path | None = None) -> None:
        super().__init__(encoder, parameters)
        self.alpha = parameters.alpha

    def encode_queries(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """The points between the references and the captions."""
        return slerp(*self._units(queries), self.alpha)


class WeiMoCir(_Fusion):
    """n((1 - a) v + a t)."""

    strip = STRIPPED

    def __init__(self, encoder: Encoder, parameters: WeiMoCirParameters, checkpoint: Path | None = None) -> None:
        super().__init__(encoder, parameters)
        self.alpha = parameters.alpha

    def encode_queries(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """The weighted means."""
        return (1 - self.alpha) * self._images(queries) + self.alpha * self._texts(queries)


class Product(_Fusion):
    """(n(v) . g) (n(t) . g) for a gallery item g."""

    def encode_queries(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """Both features of each query side by side, (Q, 2 D)."""
        return np.hstack(self._units(queries))

    def score(self, queries_QD: NDArray[np.float32], gallery_ND: NDArray[np.float32]) -> NDArray[np.float32]:
        """Multiply the similarities, (Q, N)."""
        images_QD, texts_QD = np.hsplit(queries_QD, 2)  # at half their squared length: the rows came at unit length
        scores_QN: NDArray[np.float32] = 2 * (images_QD @ gallery_ND.T) * (texts_QD @ gallery_ND.T)
        return scores_QN
