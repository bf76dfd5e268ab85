"""PLI: masked tuning, which trains retrieval by composition from plain image-caption pairs."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from cirbench.methods.interface import MethodSpec, Parameters
from cirbench.training.interface import Positive, Rate, Schedule, TrainingParameters

Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]


class PliParameters(Parameters, frozen=True):
    """How the tuned towers are used.

    Attributes:
        weight: The weight of the image, beside the text's 1; null for the one that the training was made for.
        prompt: The sentence around the caption, which replaces {}.
        sum: The sum of unit vectors (normalised: the public code) or of the towers' own (raw: the paper's formula).
        marks: Whether . ? & * in captions stay (kept) or are written dotmark, questionmark, andmark, starmark (words):
            the public code writes words on FashionIQ and CIRR, and keeps the marks on CIRCO.
    """

    weight: float | None = None
    prompt: str = "{}"
    sum: Literal["normalised", "raw"] = "normalised"
    marks: Literal["kept", "words"] = "kept"


class PliTraining(TrainingParameters, frozen=True):
    """How the towers are tuned; the defaults are those of the public code for CLIP.

    Attributes:
        mask_ratio: The share of the image's patches that is dropped.
        variant: code (dot products of raw features, the sum of both sides), code-blip (the same against targets of
            unit length, as the public code has it for BLIP) or paper (cosines, the average of both sides).
        temperature: The divisor of the similarities.
        weight: The weight of the image in use, unless it is set there; null for one minus the mask ratio.
    """

    epochs: Positive = 10
    lr: Rate = 1e-6
    weight_decay: Rate = 5e-5
    schedule: Schedule = "epochs"
    warmup: int = 5
    milestones: tuple[Positive, ...] = (35, 45)
    mask_ratio: Share = 0.75
    variant: Literal["code", "code-blip", "paper"] = "code"
    temperature: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    weight: Rate | None = None


SPEC = MethodSpec(
    name="pli",
    title="PLI: masked tuning of both towers on image-caption pairs",
    implementation="cirbench_methods.pli.method:PLI",
    parameters=PliParameters,
    paper="arXiv:2311.07622",
    supervision="image-text pairs",
    trainer="cirbench_methods.pli.train:MaskedTuning",
    training=PliTraining,
    converter="cirbench_methods.pli.published:clip",
    checkpoints={
        "*": "Train it as its authors did, on the 100,000 test images of ImageNet with captions by BLIP-2:\n"
        "cirbench train pli --backbone {backbone} --data imagenet:test{training} --output CHECKPOINT\n"
        "Or convert one of theirs:\n"
        "cirbench convert pli FILE.pth --backbone {backbone} --output CHECKPOINT",
    },
    training_presets={
        # Chosen on scenes of their own, as the README says; the defaults are meant for models of CLIP's size.
        "scenes-vit": PliTraining(
            steps=100,
            lr=3e-5,
            schedule="cosine",
            warmup=10,
            mask_ratio=0.1,
            variant="paper",
            temperature=0.05,
            weight=1.0,
        ),
        "blip-itm-base-coco": PliTraining(mask_ratio=0.5, variant="code-blip"),  # as paper and public code
    },
)
