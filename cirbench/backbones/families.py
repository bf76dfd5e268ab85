"""The families of backbones: each knows which names are its own and how to load them; named by entry points."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cirbench.backbones.catalogue import BackboneEntry, known_backbones
from cirbench.support.plugins import Plugins, load_object

if TYPE_CHECKING:
    from collections.abc import Callable

    from cirbench.backbones.interface import Backbone


@dataclasses.dataclass(frozen=True, slots=True)
class BackboneFamily:
    """Backbones that are loaded in one way; light, so that it can be listed.

    Attributes:
        name: Of the family: ``--backbone NAME`` and ``--backbone NAME:VARIANT`` are its own.
        title: One line for people.
        loader: ``"module:function"``, which takes what `cirbench.backbones.load_backbone` takes.
        listed: The names that suffice; the family's own where there are none.
        owns: Whether a further form of name is its own; for those that come with cirbench.
    """

    name: str
    title: str
    loader: str
    listed: tuple[BackboneEntry, ...] = ()
    owns: Callable[[str], bool] | None = None

    @property
    def entries(self) -> tuple[BackboneEntry, ...]:
        """What `cirbench list backbones` shows of it."""
        return self.listed or (BackboneEntry(self.name, self.title),)

    def load(self) -> Callable[..., Backbone]:
        """Import the function that loads.

        Raises:
            PluginFailed: It cannot be imported.
        """
        loaded: Callable[..., Backbone] = load_object(self.loader, owner=f"the backbone {self.name}")
        return loaded


BACKBONES = Plugins("backbone", "cirbench.backbones", BackboneFamily, "docs/adding-a-plugin.md")


def family_of(name: str) -> BackboneFamily:
    """Return the family whose a name is: a plug-in's by its prefix, or else one that comes along by the name's form.

    Raises:
        PluginFailed: The plug-in cannot be imported.
    """
    prefix, shipped = name.partition(":")[0], BACKBONES.shipped()
    if prefix in BACKBONES.names() and prefix not in shipped:
        return BACKBONES.find(prefix)
    families = [BACKBONES.find(each) for each in shipped]
    return next((family for family in families if family.owns is not None and family.owns(name)), OPEN_CLIP)


def list_backbones() -> tuple[BackboneEntry, ...]:
    """Name the bundled models, the usual ones of the field, and those of plug-ins."""
    shipped = BACKBONES.shipped()
    others = [entry for name, family in BACKBONES.all()[0].items() if name not in shipped for entry in family.entries]
    return (*known_backbones(), *others)


def _is_blip(name: str) -> bool:
    from cirbench.backbones import blip

    return blip.is_blip(name)


def _is_sentence_transformers(name: str) -> bool:
    from cirbench.backbones import sentence

    return sentence.is_sentence_transformers(name)


def _is_transformers(name: str) -> bool:
    from cirbench.backbones import hf, source

    others = _is_blip(name) or _is_sentence_transformers(name)
    return not others and hf.is_transformers(name) and not source.names_architecture(name)


OPEN_CLIP = BackboneFamily(
    "open-clip", "Models of open_clip, and folders as it saves them", "cirbench.backbones.openclip:load"
)
BLIP = BackboneFamily(
    "blip", "BLIP's towers that end in one space, through transformers", "cirbench.backbones.blip:load", owns=_is_blip
)
SENTENCE_TRANSFORMERS = BackboneFamily(
    "sentence-transformers",
    "Models of sentence-transformers, with two towers or of image and text together",
    "cirbench.backbones.sentence:load",
    owns=_is_sentence_transformers,
)
TRANSFORMERS = BackboneFamily(
    "transformers",
    "Models of transformers with two towers, of the hub or a folder",
    "cirbench.backbones.hf:load",
    owns=_is_transformers,
)
