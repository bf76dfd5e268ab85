"""Embedder: the reference image and the relative caption go through one model together, and so does each image."""

from __future__ import annotations

from cirbench.methods.interface import MethodSpec
from cirbench_methods.baselines import TextParameters

CONCEPT = "{concept}"
"""Where the shared concept goes in a prompt."""


class EmbedderParameters(TextParameters, frozen=True):
    """What the model is given; the image always comes before the text.

    Attributes:
        prompt: The text of a query around the caption, which replaces {}; {concept}, if any, is replaced by the shared
            concept, which only some protocols give.
        instruction: The instruction with a query, as the library's prompt; null for the model's own.
        item_prompt: The text beside each image of the gallery; empty for the image alone.
        item_instruction: The instruction with an image of the gallery; null for the model's own.
    """

    instruction: str | None = None
    item_prompt: str = ""
    item_instruction: str | None = None


_QWEN3 = EmbedderParameters(instruction="Represent the user's input.", item_instruction="Represent the user's input.")
_REPRESENT = "Represent the given image."

PRESETS = {
    "qwen3-vl-embedding": _QWEN3,
    "Qwen/Qwen3-VL-Embedding-2B": _QWEN3,
    "Qwen/Qwen3-VL-Embedding-8B": _QWEN3,
    "e5-v": EmbedderParameters(
        prompt='Modify this image with "{}", describe modified image in one word:',
        item_prompt="Describe this image in one word:",
    ),
    "mmeb-cirr": EmbedderParameters(
        prompt="Given an image, find a similar everyday image with the described changes: {}", item_prompt=_REPRESENT
    ),
    "mmeb-fashioniq": EmbedderParameters(
        prompt="Find an image to match the fashion image and style note: {}", item_prompt=_REPRESENT
    ),
    "m-beir-cirr": EmbedderParameters(
        instruction="Retrieve a day-to-day image that aligns with the modification instructions of the provided image."
    ),
    "m-beir-fashioniq": EmbedderParameters(
        instruction="Find a fashion image that aligns with the reference image and style note."
    ),
    "bge-vl-circo": EmbedderParameters(prompt="Find a picture that also {concept}, but {}"),
}
"""The instructions of those who made models or measure them; taken by the backbone's name, or by preset=NAME."""


def _reads_concept(parameters: EmbedderParameters) -> bool:
    return CONCEPT in parameters.prompt


SPEC = MethodSpec(
    name="embedder",
    title="Embedder: image and text read together by one model",
    implementation="cirbench_methods.embedder.method:Embedder",
    parameters=EmbedderParameters,
    inference_presets=PRESETS,
    needs=("images", "backbone", "joint backbone"),
    uses_shared_concept=_reads_concept,
    uses_llm="yes",
    uses_triplets="unknown",
)
