"""Every kind of change, and how one is drawn.

Aspects are those of CIRCO (Baldrati et al., ICCV 2023), with attribute change and removal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench.datasets.scenes.sampling import is_sound
from cirbench.datasets.scenes.setting_changes import (
    not_this_ground,
    other_distance,
    other_ground,
    other_side,
    other_style,
    other_viewpoint,
)
from cirbench.datasets.scenes.thing_changes import (
    absence,
    addition,
    cardinality,
    more_or_fewer,
    recolouring,
    removal,
    resizing,
    retexturing,
    untexturing,
)

if TYPE_CHECKING:
    from cirbench.datasets.scenes.change import Change, Maker
    from cirbench.datasets.scenes.dice import Dice
    from cirbench.datasets.scenes.world import Scene

MAKERS: tuple[tuple[Maker, int], ...] = (
    (cardinality, 5),
    (more_or_fewer, 2),
    (resizing, 2),
    (addition, 5),
    (absence, 3),
    (removal, 4),
    (recolouring, 3),
    (retexturing, 3),
    (untexturing, 3),
    (other_ground, 5),
    (not_this_ground, 1),
    (other_side, 3),
    (other_viewpoint, 3),
    (other_distance, 2),
    (other_style, 3),
)
"""Every kind of change and how often it is tried."""


def change(reference: Scene, dice: Dice, *, unlike: frozenset[str] = frozenset()) -> Change:
    """Draw a change that does not hold of the reference and shares no topic with ``unlike``."""
    for _ in range(200):
        made = dice.weighted(MAKERS)(reference, dice)
        if made is None or made.topics & unlike or any(fact.holds(reference) for fact in made.facts):
            continue
        if is_sound(made.edit(reference, dice)):
            return made
    raise AssertionError(f"no change was found for {reference.structure}")
