"""PLI in use: image + text on tuned towers, with the weight of the image that the training was made for."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cirbench.benchmarks.fashioniq import MARKS
from cirbench.training.checkpoint import WEIGHTS, read_card
from cirbench_methods.baselines import SumParameters
from cirbench_methods.baselines.method import ImageText

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from cirbench.backbones.encoder import Encoder
    from cirbench.protocol import Query
    from cirbench_methods.pli import PliParameters


class PLI(ImageText):
    """n(w n(v) + n(t)) on the tuned towers, with w as set here or in the training, or else 1 - mask ratio."""

    def __init__(self, encoder: Encoder, parameters: PliParameters, checkpoint: Path) -> None:
        training = read_card(checkpoint).training
        chosen = [parameters.weight, training["weight"], 1 - float(training["mask_ratio"])]
        weight: float = next(weight for weight in chosen if weight is not None)
        summing = SumParameters(prompt=parameters.prompt, weight=weight, sum=parameters.sum, strip="")
        super().__init__(encoder.with_weights(checkpoint / WEIGHTS), summing)
        self.marks = parameters.marks

    def encode_queries(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """The weighted sums."""
        return super().encode_queries([self._rewritten(query) for query in queries])

    def _rewritten(self, query: Query) -> Query:
        if self.marks == "kept":
            return query
        captions = tuple(caption.strip().translate(MARKS) for caption in query.captions)
        return dataclasses.replace(query, captions=captions)
