"""What can be said about a scene and is either true or false of it.

Relevance is a conjunction of facts: those of the shared concept and those of the relative caption.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, Protocol

from cirbench.datasets.scenes.world import MOST_OBJECTS, Scene, Thing

Side = Literal["left", "right", "above", "below"]


class Fact(Protocol):
    """Something that is true or false of a scene."""

    def holds(self, scene: Scene) -> bool:
        """Say whether it is true of ``scene``."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object; ``None`` leaves a property open."""

    shape: str | None = None
    colour: str | None = None
    size: str | None = None
    texture: str | None = None

    def matches(self, thing: Thing) -> bool:
        """Say whether the objects of ``thing`` are of this kind."""
        return (
            self.shape in (None, thing.shape)
            and self.colour in (None, thing.colour)
            and self.size in (None, thing.size)
            and self.texture in (None, thing.texture)
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Count:
    """There are at least ``least`` and at most ``most`` objects of a kind."""

    kind: Kind
    least: int = 1
    most: int = MOST_OBJECTS

    def holds(self, scene: Scene) -> bool:
        """Count the objects of the kind."""
        return self.least <= sum(thing.count for thing in scene.things if self.kind.matches(thing)) <= self.most


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """The ground, viewpoint or style is (or, negated, is not) a certain one."""

    part: Literal["ground", "viewpoint", "style"]
    value: str
    negated: bool = False

    def holds(self, scene: Scene) -> bool:
        """Compare the part of the scene with the value."""
        part: str = getattr(scene, self.part)
        return (part == self.value) != self.negated


@dataclasses.dataclass(frozen=True, slots=True)
class Beside:
    """Both kinds are there, and every object of one stands in cells wholly to one side of all objects of the other."""

    kind: Kind
    side: Side
    other: Kind

    def holds(self, scene: Scene) -> bool:
        """Compare the outermost columns or rows of the two kinds."""
        across = self.side in ("left", "right")
        ours = self._lines(scene, self.kind, across)
        theirs = self._lines(scene, self.other, across)
        if not ours or not theirs:
            return False
        return max(ours) < min(theirs) if self.side in ("left", "above") else min(ours) > max(theirs)

    @staticmethod
    def _lines(scene: Scene, kind: Kind, across: bool) -> list[int]:
        things = (thing for thing in scene.things if kind.matches(thing))
        return [place.column if across else place.row for thing in things for place in thing.places]
