"""FREEDOM: textual inversion by a memory of words, over the neighbours of the reference."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from cirbench.errors import UsageError
from cirbench.methods.interface import sentences
from cirbench_methods.corpora import SCENES_SUBJECTS, Gallery, nearest, read_words, unit_images, unit_texts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cirbench.backbones.encoder import Encoder
    from cirbench.protocol import Item, Query
    from cirbench_methods.freedom import FreedomParameters

ITSELF = 0.98
"""From this similarity on, the nearest image of the gallery is the reference itself."""
_PLACES = ("{name}", "{relative}")


class Freedom:
    """Σ weight(w) n(t(w, caption)) over the words w that name the reference and its neighbours most often."""

    def __init__(self, encoder: Encoder, parameters: FreedomParameters, checkpoint: Path | None = None) -> None:
        for place in _PLACES:
            if place not in parameters.text:
                raise UsageError(f"The text {parameters.text!r} has no place for {place}.")
        self.encoder = encoder
        self.parameters = parameters
        self.words = read_words(
            parameters.memory, SCENES_SUBJECTS, option="memory", purpose="to name what is on an image"
        )
        self._gallery: Gallery | None = None

    def fit_gallery(self, items: Sequence[Item]) -> None:
        """Remember the gallery, among which the neighbours of references are."""
        self._gallery = Gallery.of_images(self.encoder, items)

    @cached_property
    def _memory_WD(self) -> NDArray[np.float32]:
        return unit_texts(self.encoder, self.words).astype(np.float32)

    def encode_gallery(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """The image features."""
        return self.encoder.images(items)

    def encode_queries(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """The weighted sums of texts."""
        different = {query.reference.image.content: query.reference for query in queries}
        named = dict(zip(different, self._named(list(different.values())), strict=True))
        found = [named[query.reference.image.content] for query in queries]
        texts = [
            self.parameters.text.replace("{name}", self.words[word]).replace("{relative}", relative)
            for weights, relative in zip(found, sentences(queries), strict=True)
            for word in weights
        ]
        rows_TD = unit_texts(self.encoder, texts)
        weights_T1 = np.array([weight for weights in found for weight in weights.values()])[:, None]
        starts = np.cumsum([0, *map(len, found[:-1])])
        return np.add.reduceat(weights_T1 * rows_TD, starts).astype(np.float32)

    def _named(self, items: Sequence[Item]) -> list[dict[int, float]]:
        """The words of each image by their weight: how often they name it and its neighbours, the most frequent 1."""
        images_ID = unit_images(self.encoder, items)
        own_IN, _ = nearest(images_ID, self._memory_WD, self.parameters.names)
        if self._gallery is None or self.parameters.proxies == 1:
            return [weighted([words], self.parameters.kept) for words in own_IN.tolist()]
        proxies_IK, similar_IK = self._gallery.nearest(images_ID, self.parameters.proxies)
        different, at = np.unique(proxies_IK, return_inverse=True)
        others_PD = np.asarray(self._gallery.rows_ND[different], dtype=np.float32)
        words_IKN = nearest(others_PD, self._memory_WD, self.parameters.names)[0][at.reshape(proxies_IK.shape)]
        found = []
        for own, others, similar in zip(own_IN.tolist(), words_IKN.tolist(), similar_IK[:, 0], strict=True):
            among = similar >= ITSELF  # the reference is in the gallery, and is the first of its neighbours
            proxies = others if among else [own, *others][: self.parameters.proxies]
            found.append(weighted(proxies, self.parameters.kept))
        return found


def weighted(proxies: Sequence[Sequence[int]], kept: int) -> dict[int, float]:
    """Count words, keep the most frequent, of equally frequent ones the first, and divide by the largest count."""
    counts = Counter(word for words in proxies for word in words).most_common(kept)
    return {word: count / counts[0][1] for word, count in counts}
