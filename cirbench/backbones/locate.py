"""Where the weights of a backbone are, or where they would come from; nothing is loaded and no network is asked."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from cirbench.backbones import sentence
from cirbench.backbones.catalogue import BLIP_NAMES, BLIP_OWNER, bundled_names, weights_bytes
from cirbench.backbones.families import BACKBONES, family_of
from cirbench.backbones.hub import OPEN_CLIP_WEIGHTS, WEIGHTS_FILES, is_hub_id
from cirbench.backbones.source import HUB, QUICK_GELU_SUFFIX, WEIGHTS_FILE, names_architecture, resolve, weights_on_hub
from cirbench.support.console import typed

if TYPE_CHECKING:
    from collections.abc import Iterable


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
    if sentence.is_sentence_transformers(name):
        towers = [_on_hub(half, half, WEIGHTS_FILES) for half in sentence.halves(name)]
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
    return LocatedWeights(False, True, weights_bytes(name), f"hf download {wanted}")


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
    return LocatedWeights(place.is_file(), True, weights_bytes(name), command)
