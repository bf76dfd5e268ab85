"""The families of backbones, named by entry points: whose a name is, how it is loaded, and where its weights are.

Beside them the names that suffice by themselves. Nothing is loaded here, and no network is asked.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from cirbench.backbones.blip import BLIP_NAMES, BLIP_OWNER, is_blip
from cirbench.backbones.hf import is_transformers
from cirbench.backbones.hub import OPEN_CLIP_WEIGHTS, WEIGHTS_FILES, is_hub_id
from cirbench.backbones.openclip import (
    HUB,
    QUICK_GELU_SUFFIX,
    WEIGHTS_FILE,
    bundled_names,
    names_architecture,
    resolve,
    weights_on_hub,
)
from cirbench.backbones.sentence import halves, is_sentence_transformers
from cirbench.support.console import typed
from cirbench.support.plugins import Plugins, load_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cirbench.backbones.interface import Backbone


_FIELD = {
    "ViT-B-32/openai": "CLIP B/32 (OpenAI)",
    "ViT-B-16/openai": "CLIP B/16 (OpenAI)",
    "ViT-L-14/openai": "CLIP L/14 (OpenAI), the usual one in zero-shot CIR",
    "ViT-L-14-336/openai": "CLIP L/14 at 336 pixels (OpenAI)",
    "RN50x4/openai": "CLIP RN50x4 (OpenAI), of CLIP4CIR and Combiner",
    "ViT-B-32/laion2b_s34b_b79k": "OpenCLIP B/32 (LAION-2B)",
    "ViT-L-14/laion2b_s32b_b82k": "OpenCLIP L/14 (LAION-2B)",
    "ViT-H-14/laion2b_s32b_b79k": "OpenCLIP H/14 (LAION-2B)",
    "ViT-bigG-14/laion2b_s39b_b160k": "OpenCLIP bigG/14 (LAION-2B), of LinCIR and CIReVL",
    "ViT-SO400M-14-SigLIP-384/webli": "SigLIP SO400M/14 at 384 pixels (WebLI)",
    "blip-itm-base-coco": "BLIP B/16 at 384 pixels, tuned on COCO (Salesforce); pip install 'cirbench[transformers]'",
    "blip-itm-large-coco": "BLIP L/16 at 384 pixels, tuned on COCO (Salesforce); pip install 'cirbench[transformers]'",
    "clip-ViT-B-32+clip-ViT-B-32-multilingual-v1": "CLIP B/32 beside a tower of texts in over 50 languages; "
    "pip install 'cirbench[sentence-transformers]'",
    "Qwen/Qwen3-VL-Embedding-2B": "reads image and text together; pip install 'cirbench[sentence-transformers]'",
}

_BUNDLED = {"scenes-vit-captions": "bundled, the scenes-vit of cirbench 0.1, which has read plain captions alone"}

_PARAMETERS = {
    "ViT-B-32": 151_277_313,
    "ViT-B-16": 149_620_737,
    "ViT-L-14": 427_616_513,
    "ViT-L-14-336": 427_944_193,
    "RN50x4": 178_300_601,
    "ViT-H-14": 986_109_441,
    "ViT-bigG-14": 2_539_567_105,
    "ViT-SO400M-14-SigLIP-384": 877_960_498,
}
"""How many numbers the models of open_clip have."""


@dataclasses.dataclass(frozen=True, slots=True)
class BackboneEntry:
    """A backbone as `list_backbones` shows it.

    Attributes:
        name: What is typed after ``--backbone``.
        note: One line: where its weights come from.
    """

    name: str
    note: str


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


def _is_transformers(name: str) -> bool:
    others = is_blip(name) or is_sentence_transformers(name)
    return not others and is_transformers(name) and not names_architecture(name)


OPEN_CLIP = BackboneFamily(
    "open-clip", "Models of open_clip, and folders as it saves them", "cirbench.backbones.openclip:load"
)
BLIP = BackboneFamily(
    "blip", "BLIP's towers that end in one space, through transformers", "cirbench.backbones.blip:load", owns=is_blip
)
SENTENCE_TRANSFORMERS = BackboneFamily(
    "sentence-transformers",
    "Models of sentence-transformers, with two towers or of image and text together",
    "cirbench.backbones.sentence:load",
    owns=is_sentence_transformers,
)
TRANSFORMERS = BackboneFamily(
    "transformers",
    "Models of transformers with two towers, of the hub or a folder",
    "cirbench.backbones.hf:load",
    owns=_is_transformers,
)

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
    return (*_known(), *others)


def _known() -> tuple[BackboneEntry, ...]:
    """Name the bundled models and the usual ones of the field; any ``architecture/tag`` of open_clip works too."""
    bundled = [BackboneEntry(name, _BUNDLED.get(name, "bundled, needs no download")) for name in bundled_names()]
    return (*bundled, *(BackboneEntry(name, f"{note}, downloaded on first use") for name, note in _FIELD.items()))


@dataclasses.dataclass(frozen=True, slots=True)
class LocatedWeights:
    """The weights of a backbone.

    Attributes:
        there: Whether they are on this machine.
        fetched: Whether loading the backbone fetches them, where a network is.
        size: Bytes to fetch, where known.
        command: What fetches them by itself; ``None`` where that is up to the user.
    """

    there: bool
    fetched: bool = False
    size: int | None = None
    command: str | None = None


def locate_weights(name: str, weights: Path | None = None) -> LocatedWeights:
    """Look for the weights that a backbone's name stands for.

    Args:
        name: As `cirbench.backbones.load_backbone` takes it.
        weights: A file in place of the model's own.

    Raises:
        UnknownName: The name stands for nothing.
        UsageError: It is an architecture, and no weights are named.
    """
    if weights is not None:
        return LocatedWeights(weights.is_file())
    if name.partition(":")[0] in BACKBONES.names() and family_of(name).name not in BACKBONES.shipped():
        return LocatedWeights(True)  # the plug-in says what is missing, when it is loaded
    if name in bundled_names():
        return LocatedWeights(True)
    if Path(name).is_dir():
        return LocatedWeights(any(_weights_below(Path(name))))
    if name.startswith(HUB):
        return _on_hub(name, name.removeprefix(HUB), OPEN_CLIP_WEIGHTS)
    plain = name.removeprefix(f"{BLIP_OWNER}/")
    if plain in BLIP_NAMES:
        return _on_hub(plain, f"{BLIP_OWNER}/{plain}", WEIGHTS_FILES)
    if is_sentence_transformers(name):
        towers = [_on_hub(half, half, WEIGHTS_FILES) for half in halves(name)]
        return next((tower for tower in towers if not tower.there), towers[0])
    if is_hub_id(name) and not names_architecture(name):
        return _on_hub(name, name, WEIGHTS_FILES)
    return _of_tag(name)


def _weights_below(folder: Path) -> Iterable[bool]:
    names = (WEIGHTS_FILE, *WEIGHTS_FILES, *OPEN_CLIP_WEIGHTS)
    return ((place / file).is_file() for place in (folder, folder / "0_CLIPModel") for file in names)


def _on_hub(name: str, repository: str, files: tuple[str, ...], *, alone: str | None = None) -> LocatedWeights:
    """Look into the cache of the hub; ``alone`` is the one file that is needed, where no others are."""
    from huggingface_hub import try_to_load_from_cache

    repository, _, revision = repository.partition("@")
    for file in (*files, *(f"0_CLIPModel/{file}" for file in files)):
        if isinstance(try_to_load_from_cache(repository, file, revision=revision or None), str):
            return LocatedWeights(True)
    wanted = " ".join(filter(None, (typed(repository), alone, revision and f"--revision {typed(revision)}")))
    return LocatedWeights(False, True, _weights_bytes(name), f"hf download {wanted}")


def _of_tag(name: str) -> LocatedWeights:
    source = resolve(name)
    if source.tag is None:
        source.default_weights()  # says that a tag is missing
    import open_clip

    plain = source.spec.removesuffix(QUICK_GELU_SUFFIX)
    config = open_clip.get_pretrained_cfg(plain, source.tag)
    if on_hub := weights_on_hub(config):
        repository, files = on_hub
        return _on_hub(name, repository, files, alone=files[0])
    url = config["url"]
    place = Path("~/.cache/clip").expanduser() / url.rpartition("/")[2]  # where open_clip keeps it
    command = f"curl -L --create-dirs -o {typed(place)} {typed(url)}"
    return LocatedWeights(place.is_file(), True, _weights_bytes(name), command)


def _weights_bytes(name: str) -> int | None:
    """Return how large the weights of a tag are in the form that is fetched, fp32; ``None`` where that is not known."""
    parameters = _PARAMETERS.get(name.partition("/")[0])
    return None if parameters is None else 4 * parameters
