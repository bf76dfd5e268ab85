"""What everything else is read against: the image alone, the text alone, and their sum."""

from __future__ import annotations

from typing import Literal

from cirbench.methods.interface import MethodSpec, Parameters


class TextParameters(Parameters, frozen=True):
    """How the relative caption becomes a sentence.

    Attributes:
        prompt: The sentence around the caption, which replaces {}.
    """

    prompt: str = "{}"


class SumParameters(TextParameters, frozen=True):
    """How image and text are added.

    Attributes:
        weight: The weight of the image, beside the text's 1.
        sum: The sum of unit vectors (normalised) or of the towers' own, whose lengths weight the two sides (raw).
        strip: Characters taken, with blanks, off both ends of each caption where a query has several; null for what the
            public code of the sum does: ".?," with raw (CLIP4Cir), nothing with normalised (Pic2Word).
    """

    weight: float = 1.0
    sum: Literal["normalised", "raw"] = "normalised"
    strip: str | None = None


IMAGE_ONLY = MethodSpec(
    name="image-only",
    title="Image only: the reference image as it is",
    implementation="cirbench_methods.baselines.method:ImageOnly",
    baseline="image",
)
TEXT_ONLY = MethodSpec(
    name="text-only",
    title="Text only: the relative caption as it is",
    implementation="cirbench_methods.baselines.method:TextOnly",
    baseline="text",
    parameters=TextParameters,
)
IMAGE_TEXT = MethodSpec(
    name="image-text",
    title="Image + text: the sum of both features",
    implementation="cirbench_methods.baselines.method:ImageText",
    baseline="image+text",
    parameters=SumParameters,
)
