"""Edits that fill the gallery: those that carry out a change, and those that let the context drift.

An edit may return a scene that breaks the rules (two blue things, ten objects); whoever calls it looks and throws
again. No edit decides what is relevant.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from cirbench.benchmarks.scenes.sampling import Dice, arranged, new_thing, recounted
from cirbench.benchmarks.scenes.world import (
    COLOURS,
    GROUNDS,
    MOST_OF_A_KIND,
    SHAPES,
    SIZES,
    STYLES,
    TEXTURES,
    VIEWPOINTS,
    Scene,
    Thing,
)

if TYPE_CHECKING:
    from cirbench.benchmarks.scenes.world import Fact

Edit = Callable[[Scene, Dice], Scene]

_ARRANGEMENTS = 60


def set_main(*, colour: str | None = None, size: str | None = None, texture: str | None = None) -> Edit:
    """Give the main thing other attributes."""

    def edit(scene: Scene, dice: Dice) -> Scene:
        main = scene.things[0]
        return _with_thing(
            scene,
            0,
            dataclasses.replace(
                main, colour=colour or main.colour, size=size or main.size, texture=texture or main.texture
            ),
        )

    return edit


def set_main_count(count: int) -> Edit:
    """Give the main thing another number of objects."""
    return lambda scene, dice: _with_thing(scene, 0, recounted(scene.things[0], count))


def set_setting(*, ground: str | None = None, viewpoint: str | None = None, style: str | None = None) -> Edit:
    """Change where things are, or how they are seen."""
    return lambda scene, dice: dataclasses.replace(
        scene, ground=ground or scene.ground, viewpoint=viewpoint or scene.viewpoint, style=style or scene.style
    )


def add_thing(thing: Thing) -> Edit:
    """Add a thing."""
    return lambda scene, dice: dataclasses.replace(scene, things=(*scene.things, thing))


def drop_thing(shape: str) -> Edit:
    """Leave out what has a certain shape."""
    return lambda scene, dice: dataclasses.replace(
        scene, things=tuple(thing for thing in scene.things if thing.shape != shape)
    )


def rearrange_until(fact: Fact) -> Edit:
    """Throw the places of all objects again until a fact holds, or give up."""

    def edit(scene: Scene, dice: Dice) -> Scene:
        for _ in range(_ARRANGEMENTS):
            scene = arranged(scene, dice)
            if fact.holds(scene):
                break
        return scene

    return edit


def drifted(scene: Scene, dice: Dice, *, steps: int, fixed: Collection[str] = ()) -> Scene:
    """Change that many parts of the context at random, none of the topics in ``fixed``, and never the concept."""
    parts = dice.shuffled([part for part in _DRIFTS if part not in fixed])
    for part in parts[:steps]:
        scene = _DRIFTS[part](scene, dice)
    return scene


def swapped(scene: Scene, dice: Dice) -> Scene:
    """Lose the concept: another ground, or another shape or colour of the main thing or of its companion."""
    part = dice.below(3)
    if part == 2:
        return set_setting(ground=dice.pick_other(GROUNDS, [scene.ground]))(scene, dice)
    old = scene.things[part]
    if dice.chance(0.5):
        shape = dice.pick_other(SHAPES, [other.shape for other in scene.things])
        return _with_thing(scene, part, dataclasses.replace(old, shape=shape))
    colour = dice.pick_other(COLOURS, [other.colour for other in scene.things])
    return _with_thing(scene, part, dataclasses.replace(old, colour=colour))


def _with_thing(scene: Scene, position: int, thing: Thing) -> Scene:
    return dataclasses.replace(scene, things=(*scene.things[:position], thing, *scene.things[position + 1 :]))


def _drift_extra(scene: Scene, dice: Dice) -> Scene:
    """Take away what is neither main thing nor companion, if there is something; and put another thing there."""
    kept = scene.things[:2]
    if len(scene.things) > 2 and dice.chance(0.4):
        return dataclasses.replace(scene, things=kept)
    extra = new_thing(dice, kept)
    return dataclasses.replace(scene, things=kept if extra is None else (*kept, extra))


def _drift_companion(scene: Scene, dice: Dice) -> Scene:
    """Change the number, size or texture of the companion."""
    companion = scene.things[1]
    attribute = dice.below(3)
    if attribute == 0:
        companion = recounted(companion, dice.pick_other(range(1, MOST_OF_A_KIND + 1), [companion.count]))
    elif attribute == 1:
        companion = dataclasses.replace(companion, size=dice.pick_other(SIZES, [companion.size]))
    else:
        companion = dataclasses.replace(companion, texture=dice.pick_other(TEXTURES, [companion.texture]))
    return _with_thing(scene, 1, companion)


_DRIFTS: dict[str, Edit] = {
    "ground": lambda scene, dice: set_setting(ground=dice.pick_other(GROUNDS, [scene.ground]))(scene, dice),
    "viewpoint": lambda scene, dice: set_setting(viewpoint=dice.pick_other(VIEWPOINTS, [scene.viewpoint]))(scene, dice),
    "style": lambda scene, dice: set_setting(style=dice.pick_other(STYLES, [scene.style]))(scene, dice),
    "extra": _drift_extra,
    "companion": _drift_companion,
    "count": lambda scene, dice: set_main_count(dice.pick_other(range(1, MOST_OF_A_KIND + 1), [scene.things[0].count]))(
        scene, dice
    ),
    "size": lambda scene, dice: set_main(size=dice.pick_other(SIZES, [scene.things[0].size]))(scene, dice),
    "texture": lambda scene, dice: set_main(texture=dice.pick_other(TEXTURES, [scene.things[0].texture]))(scene, dice),
    "places": arranged,
}
"""By topic, the parts of a scene that may differ between the reference and a ground truth."""
