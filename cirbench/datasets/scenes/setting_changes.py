"""Changes of where things are and how they are seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench.datasets.scenes.change import Change
from cirbench.datasets.scenes.edits import rearrange_until, set_setting
from cirbench.datasets.scenes.facts import Beside, Kind, Setting, Side
from cirbench.datasets.scenes.language import GROUND_WORDS, SIDE_WORDS, STYLE_WORDS, VIEWPOINT_WORDS, the
from cirbench.datasets.scenes.world import GROUNDS, STYLES, VIEWPOINTS

if TYPE_CHECKING:
    from cirbench.datasets.scenes.dice import Dice
    from cirbench.datasets.scenes.world import Scene


def other_ground(reference: Scene, dice: Dice) -> Change | None:
    """Ask for another ground."""
    ground = dice.pick_other(GROUNDS, [reference.ground])
    old, new = dice.pick(GROUND_WORDS[reference.ground]), dice.pick(GROUND_WORDS[ground])
    them, are = the(reference.things[0])
    compared = dice.chance(0.35)
    tail = f"{new} instead of {old}" if compared else new
    return Change(
        frozenset({"ground"}),
        ("spatial_relations_background", "compare_change") if compared else ("spatial_relations_background",),
        (f"{them} {are} {tail}", f"it is {tail}"),
        (f"put {them} {tail}", f"show {them} {tail}"),
        (Setting("ground", ground),),
        set_setting(ground=ground),
    )


def not_this_ground(reference: Scene, dice: Dice) -> Change | None:
    """Ask for any ground but this one."""
    old = dice.pick(GROUND_WORDS[reference.ground])
    them, are = the(reference.things[0])
    return Change(
        frozenset({"ground"}),
        ("negation", "spatial_relations_background"),
        (f"{them} {are} not {old}", f"it is not {old}"),
        (f"show {them} somewhere else, not {old}",),
        (Setting("ground", reference.ground, negated=True),),
        set_setting(ground=dice.pick_other(GROUNDS, [reference.ground])),
    )


def other_side(reference: Scene, dice: Dice) -> Change | None:
    """Ask for the main thing on a certain side of its companion."""
    main, companion = reference.things[:2]
    if main.count + companion.count > 4:
        return None
    sides: tuple[Side, ...] = ("left", "right", "above", "below")
    fact = Beside(Kind(main.shape), dice.pick(sides), Kind(companion.shape))
    if fact.holds(reference):
        return None
    where = f"{dice.pick(SIDE_WORDS[fact.side])} {the(companion)[0]}"
    them, are = the(main)
    return Change(
        frozenset({"count", "places"}),
        ("spatial_relations_background",),
        (f"{them} {are} {where}",),
        (f"move {them} so that {'it is' if main.count == 1 else 'they are'} {where}", f"put {them} {where}"),
        (fact,),
        rearrange_until(fact),
    )


def other_viewpoint(reference: Scene, dice: Dice) -> Change | None:
    """Ask for another viewpoint."""
    viewpoint = dice.pick_other(VIEWPOINTS, [reference.viewpoint])
    words = dice.pick(VIEWPOINT_WORDS[viewpoint])
    return Change(
        frozenset({"viewpoint"}),
        ("viewpoint",),
        (f"it is {words}", f"it is {words} now") if words.startswith("seen") else (f"it is seen {words}",),
        (f"show it {words}", f"make it look {words}") if words.startswith("seen") else (f"show it {words}",),
        (Setting("viewpoint", viewpoint),),
        set_setting(viewpoint=viewpoint),
    )


def other_distance(reference: Scene, dice: Dice) -> Change | None:
    """Ask for more or less distance."""
    far = reference.viewpoint != "afar"
    word = "further away" if far else "closer"
    viewpoint = "afar" if far else dice.pick(("front", "above"))
    return Change(
        frozenset({"viewpoint"}),
        ("viewpoint", "comparative_statement"),
        (f"it is seen from {word}" if far else "it is seen from closer up",),
        (f"show it from {word}" if far else "show it from closer up",),
        (Setting("viewpoint", "afar", negated=not far),),
        set_setting(viewpoint=viewpoint),
    )


def other_style(reference: Scene, dice: Dice) -> Change | None:
    """Ask for another style."""
    style = dice.pick_other(STYLES, [reference.style])
    words = dice.pick(STYLE_WORDS[style])
    compared = dice.chance(0.3)
    tail = f"{words} instead of {STYLE_WORDS[reference.style][0]}" if compared else words
    return Change(
        frozenset({"style"}),
        ("viewpoint", "compare_change") if compared else ("viewpoint",),
        (f"it is {tail}",),
        (f"show it as {tail}", f"turn it into {words}"),
        (Setting("style", style),),
        set_setting(style=style),
    )
