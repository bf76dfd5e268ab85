"""An oracle in place of a judge: it says yes to what is relevant in scenes, and errs at a known rate.

It looks its answers up in the benchmark, so it is not a method: what it gives is the upper bound of a judge that
answers yes or no, and with noise that of one which errs so often. Its many ties keep the order of the first stage.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from cirbench.benchmarks.scenes import scenes_protocol
from cirbench.benchmarks.scenes.world import Dice
from cirbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cirbench.backbones.encoder import Encoder
    from cirbench.methods.interface import ComposedQuery, Picture
    from cirbench_methods.judge import OracleParameters

_SPLITS = ("tiny", "val")
"""The small one first, since to draw a split takes its time."""

Asked = tuple[str, tuple[str, ...]]


class OracleJudge:
    """1 for an image that is relevant, 0 for another one; with noise, now and then the other way round."""

    def __init__(self, encoder: Encoder | None, parameters: OracleParameters, *, device: str = "cpu") -> None:
        self._noise = parameters.noise
        self._seed = parameters.seed

    def rerank(
        self, query: ComposedQuery, items: Sequence[Picture], scores: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Say which items are relevant.

        Raises:
            UsageError: The query is not one of scenes.
        """
        asked = (query.reference.content, query.captions)
        right = next((known[asked] for split in _SPLITS if asked in (known := _relevant(split))), None)
        if right is None:
            raise UsageError("The oracle knows the answers of scenes alone, and this query is not one of its queries.")
        return np.array([self._says(asked, item.content, right) for item in items], dtype=np.float32)

    def _says(self, asked: Asked, content: str, right: frozenset[str]) -> bool:
        errs = Dice("scenes", "judge", self._seed, *map(str, asked), content).chance(self._noise)
        return (content in right) != errs


@functools.cache
def _relevant(split: str) -> dict[Asked, frozenset[str]]:
    """Per query, known by its reference and its captions, the content of every relevant image."""
    protocol = scenes_protocol(split)
    assert protocol.gallery is not None
    assert protocol.gallery.images is not None
    assert protocol.labels is not None
    content = {name: image.content for name, image in zip(protocol.gallery.ids, protocol.gallery.images, strict=True)}
    return {
        (query.reference.image.content, query.captions): frozenset(content[name] for name in relevant)
        for query, relevant in zip(protocol.queries, protocol.labels.relevant, strict=True)
    }
