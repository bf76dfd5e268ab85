"""Retrieval by what a language model says the target looks like: CIReVL, LDRE, SEIZE, OSrCIR and SDR-CIR.

f(x) is the feature of a text, n(x) is x at unit length, v the feature of the reference, g a unit gallery item.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cirbench.methods.interface import sentences
from cirbench.ranking import unit_rows
from cirbench_methods.language.answers import open_answers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cirbench.backbones.encoder import Encoder
    from cirbench.protocol import Item, Query
    from cirbench_methods.language import AnswersParameters, LdreParameters, SdrParameters, SeizeParameters

_BLOCK = 64
"""Queries whose similarities to the whole gallery are held at once."""


class _OnAnswers:
    """What all of them do with texts."""

    def __init__(self, encoder: Encoder, parameters: AnswersParameters, checkpoint: Path | None = None) -> None:
        self.encoder = encoder
        self.texts, self.artefacts = open_answers(parameters)

    def encode_gallery(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """The image features."""
        return self.encoder.images(items)

    def _features(self, queries: Sequence[Query], field: str, samples: int) -> NDArray[np.float32]:
        """The features of what was answered, (Q, S, D), at their own lengths."""
        texts = [text for answered in self.texts(queries, field, samples) for text in answered]
        return self.encoder.texts(texts).reshape(len(queries), samples, -1)

    def _mean(self, queries: Sequence[Query], field: str, samples: int) -> NDArray[np.float32]:
        """The direction of the mean of several features, (Q, D)."""
        mean_QD = np.add.reduce(self._features(queries, field, samples).astype(np.float64), axis=1) / samples
        return unit_rows(mean_QD, [f"the texts of query {query.id}" for query in queries])


class Cirevl(_OnAnswers):
    """g . n(f(edited))."""

    def encode_queries(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """The features of the edited captions."""
        return self._mean(queries, "edited", 1)

    def encode_unmodified(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """The features of the captions of the references."""
        return self._mean(queries, "caption", 1)


class Osrcir(_OnAnswers):
    """g . n(f(target)), where one call that sees the image describes the target."""

    def encode_queries(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """The features of the descriptions of the targets."""
        return self._mean(queries, "target", 1)

    def encode_unmodified(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """The features of the descriptions of the references."""
        return self._mean(queries, "caption", 1)


class Ldre(_OnAnswers):
    """g . sum of w_i f(edited_i): the same weights for all, or those of the public code."""

    def __init__(self, encoder: Encoder, parameters: LdreParameters, checkpoint: Path | None = None) -> None:
        super().__init__(encoder, parameters)
        self.parameters = parameters
        self.gallery_ND: NDArray[np.float32] | None = None

    def fit_gallery(self, items: Sequence[Item]) -> None:
        """Take the features that the published weights are read off."""
        self.gallery_ND = unit_rows(self.encoder.images(items), [f"gallery item {item.id}" for item in items])

    def encode_queries(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """The means of the edited captions; with published weights those of all ``queries`` together."""
        samples = self.parameters.samples
        if self.parameters.weighting == "mean":
            return self._mean(queries, "edited", samples)
        assert self.gallery_ND is not None  # the SPEC says that these parameters are transductive
        after_SQD, before_SQD = (self._slots(queries, field) for field in ("edited", "caption"))
        losses_S = [
            lost_similarity(after_QD, before_QD, self.gallery_ND, self.parameters.most)
            for after_QD, before_QD in zip(after_SQD, before_SQD, strict=True)
        ]
        weights_S = slot_weights(np.array(losses_S), self.parameters.temperature)
        weighted_QD: NDArray[np.float32] = np.tensordot(weights_S, after_SQD, axes=1).astype(np.float32)
        return weighted_QD

    def encode_unmodified(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """The means of the captions of the references."""
        return self._mean(queries, "caption", self.parameters.samples)

    def _slots(self, queries: Sequence[Query], field: str) -> NDArray[np.float32]:
        """The unit features of the first texts of all queries, of their second texts, and so on, (S, Q, D)."""
        features_QSD = self._features(queries, field, self.parameters.samples)
        names = [f"the texts of query {query.id}" for query in queries]
        return np.stack([unit_rows(features_QSD[:, slot], names) for slot in range(features_QSD.shape[1])])


def lost_similarity(
    after_QD: NDArray[np.float32], before_QD: NDArray[np.float32], gallery_ND: NDArray[np.float32], most: int
) -> float:
    """Add up, over all queries, how much less similar the items that lose most by an edit have become.

    Args:
        after_QD: Unit features of one edited caption of each query.
        before_QD: Those of the captions before the edit.
        gallery_ND: Unit features of the gallery.
        most: How many items of each query count.
    """
    total = 0.0
    for start in range(0, len(after_QD), _BLOCK):
        block = slice(start, start + _BLOCK)
        lost_BN = np.maximum((before_QD[block] - after_QD[block]) @ gallery_ND.T, 0)
        if lost_BN.shape[1] > most:
            lost_BN = np.partition(lost_BN, -most, axis=1)[:, -most:]
        total += float(lost_BN.sum(dtype=np.float64))
    return total


def slot_weights(losses_S: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Softmax of what each slot loses, as a part of the greatest loss; equal weights where none loses anything."""
    scaled_S = losses_S / (losses_S.max() or 1) / temperature
    powers_S = np.exp(scaled_S - scaled_S.max())
    weights_S: NDArray[np.float64] = powers_S / powers_S.sum()
    return weights_S


class Seize(_OnAnswers):
    """a + neg min(a - b, 0) + pos max(a - b, 0), where a = g . n(mean f(edited_i)) and b = g . n(mean f(caption_i))."""

    def __init__(self, encoder: Encoder, parameters: SeizeParameters, checkpoint: Path | None = None) -> None:
        super().__init__(encoder, parameters)
        self.parameters = parameters

    def encode_queries(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """The mean of the edited captions and that of the captions side by side, (Q, 2 D)."""
        samples = self.parameters.samples
        return np.hstack([self._mean(queries, field, samples) for field in ("edited", "caption")])

    def score(self, queries_QD: NDArray[np.float32], gallery_ND: NDArray[np.float32]) -> NDArray[np.float32]:
        """Add to the similarity, in parts, what the edit has changed of it, (Q, N)."""
        after_QN, before_QN = (half_QD @ gallery_ND.T for half_QD in np.hsplit(np.sqrt(np.float32(2)) * queries_QD, 2))
        increment_QN = after_QN - before_QN
        scores_QN: NDArray[np.float32] = (
            after_QN
            + np.float32(self.parameters.neg) * np.minimum(increment_QN, 0)
            + np.float32(self.parameters.pos) * np.maximum(increment_QN, 0)
        )
        return scores_QN


class Sdr(_OnAnswers):
    """(1 + b) S_q - b (S_d - S_m): the part of the reference in the target's text is taken off.

    S_d is the similarity to the text of the target, S_m that to the relative caption, and S_q that to the text with the
    reference, (1 - a) n(f(target)) + a n(v). All are linear, so one query vector has their sum.
    """

    def __init__(self, encoder: Encoder, parameters: SdrParameters, checkpoint: Path | None = None) -> None:
        super().__init__(encoder, parameters)
        self.alpha, self.beta = parameters.alpha, parameters.beta

    def encode_queries(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """The sums of target, reference and relative caption."""
        names = [f"query {query.id}" for query in queries]
        targets_QD = self._mean(queries, "target", 1)
        changes_QD = unit_rows(self.encoder.texts(sentences(queries)), names)
        images_QD = unit_rows(self.encoder.images([query.reference for query in queries]), names)
        fused_QD = (1 - self.alpha) * targets_QD + self.alpha * images_QD
        return (1 + self.beta) * fused_QD - self.beta * (targets_QD - changes_QD)
