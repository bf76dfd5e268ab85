"""What a change is: a wording, the facts that a scene must hold to satisfy it, and an edit that makes it so.

The edit only helps to fill the gallery: what is relevant is decided by the facts alone, on every gallery image.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from cirbench.datasets.scenes.dice import Dice
    from cirbench.datasets.scenes.edits import Edit
    from cirbench.datasets.scenes.facts import Fact
    from cirbench.datasets.scenes.world import Scene

ASPECTS = (
    "cardinality",
    "addition",
    "negation",
    "direct_addressing",
    "compare_change",
    "comparative_statement",
    "statement_with_conjunction",
    "spatial_relations_background",
    "viewpoint",
    "attribute",
    "removal",
)
"""The nine semantic aspects of CIRCO in its order, and two of our own."""


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """One modification of a reference.

    Attributes:
        topics: The parts of the scene it is about; two changes with a topic in common never go together.
        aspects: The semantic aspects of the wording.
        statements: Ways to say what the target shows: ``"there are three stars"``.
        orders: Ways to ask for it: ``"show three stars"``; an order carries the aspect ``direct_addressing``.
        facts: What must hold of a relevant scene.
        edit: Makes a scene satisfy the facts where that is possible.
        loosens_colour: Whether the shared concept keeps only the shape of the main thing, because the change is about
            its colour.
    """

    topics: frozenset[str]
    aspects: tuple[str, ...]
    statements: tuple[str, ...]
    orders: tuple[str, ...]
    facts: tuple[Fact, ...]
    edit: Edit
    loosens_colour: bool = False


Maker: TypeAlias = Callable[["Scene", "Dice"], "Change | None"]
"""Makes a change that does not yet hold of the reference, or ``None`` where the reference does not lend itself."""


def joined(first: Change, second: Change) -> Change:
    """Ask for two changes at once."""

    def edit(scene: Scene, dice: Dice) -> Scene:
        return second.edit(first.edit(scene, dice), dice)

    aspects = {*first.aspects, *second.aspects, "statement_with_conjunction"}
    return Change(
        first.topics | second.topics,
        tuple(aspect for aspect in ASPECTS if aspect in aspects),
        tuple(f"{a} and {b}" for a in first.statements for b in second.statements),
        tuple(f"{a} and {b}" for a in first.orders for b in second.orders),
        (*first.facts, *second.facts),
        edit,
        first.loosens_colour or second.loosens_colour,
    )
