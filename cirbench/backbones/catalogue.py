"""The backbones that a name suffices for; nothing heavy is imported."""

from __future__ import annotations

import dataclasses
from pathlib import Path

BUNDLED = Path(__file__).parent / "bundled"
CONFIG_FILE = "open_clip_config.json"
BLIP_OWNER = "Salesforce"
BLIP_NAMES = ("blip-itm-base-coco", "blip-itm-base-flickr", "blip-itm-large-coco", "blip-itm-large-flickr")
"""The BLIPs whose towers end in one space, as their owner calls them on the hub."""

SENTENCE_OWNER = "sentence-transformers"
SENTENCE_NAMES = ("clip-ViT-B-32", "clip-ViT-B-16", "clip-ViT-L-14", "clip-ViT-B-32-multilingual-v1")
"""The CLIPs of sentence-transformers, as its users call them; the last one reads texts only."""

JOINT_NAMES = ("Qwen/Qwen3-VL-Embedding-2B", "Qwen/Qwen3-VL-Embedding-8B")
"""Models of image and text together that sentence-transformers loads from their owners' repositories."""


@dataclasses.dataclass(frozen=True, slots=True)
class BackboneEntry:
    """A backbone as `list_backbones` shows it.

    Attributes:
        name: What is typed after ``--backbone``.
        note: One line: where its weights come from.
    """

    name: str
    note: str


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


def weights_bytes(name: str) -> int | None:
    """Return how large the weights of a tag are in the form that is fetched, fp32; ``None`` where that is not known."""
    parameters = _PARAMETERS.get(name.partition("/")[0])
    return None if parameters is None else 4 * parameters


def known_backbones() -> tuple[BackboneEntry, ...]:
    """Name the bundled models and the usual ones of the field; any ``architecture/tag`` of open_clip works too."""
    bundled = [BackboneEntry(name, _BUNDLED.get(name, "bundled, needs no download")) for name in bundled_names()]
    return (*bundled, *(BackboneEntry(name, f"{note}, downloaded on first use") for name, note in _FIELD.items()))


def bundled_names() -> list[str]:
    """The model folders that ship with cirbench."""
    return sorted(config.parent.name for config in BUNDLED.glob(f"*/{CONFIG_FILE}"))
