"""Image-caption pairs to train on, none of whose scenes occurs in the evaluation splits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from cirbench.datasets.pairs import ImageTextPair
from cirbench.datasets.scenes.dice import Dice
from cirbench.datasets.scenes.image import SceneImage
from cirbench.datasets.scenes.language import caption
from cirbench.datasets.scenes.sampling import random_scene

_THINGS = ((1, 1), (2, 5), (3, 5), (4, 1))


class TrainingPairs(Sequence[ImageTextPair]):
    """A sequence of pairs, each made when it is asked for; pair ``i`` is the same whatever the length."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> ImageTextPair: ...
    @overload
    def __getitem__(self, index: slice) -> list[ImageTextPair]: ...
    def __getitem__(self, index: int | slice) -> ImageTextPair | list[ImageTextPair]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(f"There are {self._count} training pairs; {index} is none of them.")
        return _pair(index % self._count)


def training_pairs(count: int = 60_000) -> TrainingPairs:
    """Return the first ``count`` training pairs of the endless stream of them."""
    return TrainingPairs(count)


def _pair(index: int) -> ImageTextPair:
    dice = Dice("scenes", "training", index)
    while not (scene := random_scene(dice, things=dice.weighted(_THINGS))).is_for_training:
        pass
    return ImageTextPair(SceneImage(scene), caption(scene, dice))
