"""MulVec's score: soft late interaction of probes with regions, by role."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cirbench.artefacts import Artefact
from cirbench.errors import UsageError
from cirbench.ranking.vectors import similarities
from cirbench_methods.corpora import unit_texts
from cirbench_methods.mulvec.probes import most_probes, probes_of
from cirbench_methods.mulvec.regions import Regions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cirbench.backbones.encoder import Encoder
    from cirbench.protocol import Item, Query
    from cirbench.ranking.vectors import VectorRows
    from cirbench_methods.mulvec import MulVecParameters
    from cirbench_methods.mulvec.probes import Probes

__all__ = ["MulVec", "soft_maximum"]


def soft_maximum(similar: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Average similarities over the last axis with the weights softmax(similarity / temperature)."""
    weights = np.exp((similar - similar.max(axis=-1, keepdims=True)) / temperature)
    return np.asarray((weights * similar).sum(axis=-1) / weights.sum(axis=-1))


class MulVec:
    """A query is W vectors with a weight each, and whether they ask for the whole image or for regions: (Q, W, D + 2).

    An item is its whole and its regions, (N, 1 + R, D).
    """

    def __init__(self, encoder: Encoder, parameters: MulVecParameters, checkpoint: Path | None = None) -> None:
        self.encoder = encoder
        self.parameters = parameters
        if parameters.answers is None:
            raise UsageError(
                "MulVec needs the target of each query in words, and nothing says where they come from.",
                hint="Give --set answers=FILE.jsonl, an artefact with the field whole, and where the model was asked "
                "for them, desired, preserved and forbidden (`cirbench answers`).",
            )
        self._artefact = Artefact(Path(parameters.answers))
        self.regions = Regions(encoder, parameters.regions)

    @property
    def artefacts(self) -> list[Artefact]:
        """Where its texts are recorded."""
        return [self._artefact]

    def encode_gallery(self, items: Sequence[Item]) -> VectorRows:
        """The whole and the regions of each image, on disk."""
        return self.regions(items)

    def encode_queries(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """The vectors of each query: texts by role, and the regions of the reference beside what must stay."""
        said = probes_of(queries, self._artefact)
        different = tuple(dict.fromkeys(text for each in said for text in each.texts))
        rows_TD = unit_texts(self.encoder, different).astype(np.float32)
        text = dict(zip(different, rows_TD, strict=True))
        references = self.regions([query.reference for query in queries])
        dim, own = self.encoder.backbone.dim, references.shape[1] - 1
        # As many whichever queries are asked for together.
        most = most_probes(self._artefact) + own
        encoded_QWE = np.zeros((len(queries), most, dim + 2), dtype=np.float32)
        for number, (each, vectors_WE) in enumerate(zip(said, encoded_QWE, strict=True)):
            reference_RD = np.asarray(references[number : number + 1], dtype=np.float32)[0, 1:]
            for place, (vector_D, weight, whole) in enumerate(self._vectors(each, text, reference_RD)):
                vectors_WE[place] = [*vector_D, weight, whole]
        return encoded_QWE

    def _vectors(
        self, said: Probes, text: dict[str, NDArray[np.float32]], reference_RD: NDArray[np.float32]
    ) -> list[tuple[NDArray[np.float32], float, bool]]:
        """The vectors of a query, each with its weight and whether it asks for the whole; empty roles are left out."""
        asked = self.parameters
        weights = {
            "whole": asked.whole,
            "desired": asked.desired * bool(said.desired),
            "preserved": asked.preserved * bool(said.preserved),
            "forbidden": asked.forbidden * bool(said.forbidden),
        }
        total = sum(weights.values()) or 1.0
        share = {role: weight / total for role, weight in weights.items()}
        found = [(text[said.whole], share["whole"], True)]
        found += [(text[probe], share["desired"] / len(said.desired), False) for probe in said.desired]
        found += [(text[probe], share["preserved"] / 2 / len(said.preserved), False) for probe in said.preserved]
        if said.preserved:
            found += [(region_D, share["preserved"] / 2 / len(reference_RD), False) for region_D in reference_RD]
        found += [(text[probe], -share["forbidden"] / len(said.forbidden), False) for probe in said.forbidden]
        return found

    def score(self, queries_QWE: NDArray[np.float32], gallery_NVD: NDArray[np.float32]) -> NDArray[np.float32]:
        """Add up the weighted similarities to the whole and to the regions, in float64, rounded to float32."""
        found_QWNV = similarities(queries_QWE[..., :-2], gallery_NVD)
        local_QWN = soft_maximum(found_QWNV[..., 1:], self.parameters.temperature)
        whole_QW1 = queries_QWE[..., -1:] > 0
        similar_QWN = np.where(whole_QW1, found_QWNV[..., 0], local_QWN)
        weights_QW = queries_QWE[..., -2].astype(np.float64)
        scores_QN: NDArray[np.float64] = np.einsum("qw,qwn->qn", weights_QW, similar_QWN)
        return scores_QN.astype(np.float32)
