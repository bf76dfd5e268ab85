"""Captioning: the reference image in words, and the relative caption behind them, as one text."""

from __future__ import annotations

from typing import Any, ClassVar

from cirbench.methods.interface import MethodSpec, Parameters


class CaptioningParameters(Parameters, frozen=True):
    """Where the words for the reference come from, and how they become a text.

    Attributes:
        prompt: The sentence around the description of the reference, {caption}, and the relative caption, {relative}.
        captions: FILE.jsonl or FILE.csv with image and caption; images are found by id, path or file name.
        captioner: Who describes references where no file is given: a BLIP or BLIP-2 captioner, by name or folder, or
            nearest, which takes the text that is most similar to the image on the backbone itself.
        texts: The texts that nearest chooses from, in any form that cirbench train --data takes.
    """

    EXCLUSIVE: ClassVar[tuple[tuple[str, ...], ...]] = (("captions", "texts"),)
    ONLY_WITH: ClassVar[dict[str, tuple[str, Any]]] = {
        "captioner": ("captions", None),
        "texts": ("captioner", "nearest"),
    }

    prompt: str = "a photo of {caption} that {relative}"
    captions: str | None = None
    captioner: str = "nearest"
    texts: str | None = None


SPEC = MethodSpec(
    name="captioning",
    title="Captioning: the reference described in words, then the relative caption",
    implementation="cirbench_methods.captioning.method:Captioning",
    parameters=CaptioningParameters,
    inference_presets={"scenes-vit": CaptioningParameters(texts="scenes")},  # what that backbone was trained on
    paper="arXiv:2303.15247",
    uses_llm="unknown",
)
