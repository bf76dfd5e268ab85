"""SEARLE: words optimised for images, kept speakable by phrases of a language model, and a network that learns them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from cirbench.methods.interface import MethodSpec
from cirbench.training.interface import Positive, Rate, TrainingParameters
from cirbench_methods.inversion import InversionParameters

Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]


class SearleOtiParameters(InversionParameters, frozen=True):
    """How the word of an image is optimised, and how it is used; the defaults are those of the public code.

    Attributes:
        steps: Optimiser steps for a word.
        lr: The learning rate of AdamW.
        weight_decay: The weight decay of AdamW.
        ema: The share of the moving average that stays at each step; the average is the word.
        init: The standard deviation of the word that it starts from.
        regularisation: The weight of the phrases' loss, beside the image's 1; with 0 no phrases are needed.
        concepts: The image's nearest so many concepts are the ones that phrases are about.
        phrases: FILE.json (concept to list of phrases), FILE.jsonl, or scenes for those that come along.
        templates: The sentences in which the word and the concepts are encoded: as SEARLE's public code writes them
            (searle) or as PALAVRA's appendix does (palavra).
        seed: Decides, with the image, everything that is drawn.
    """

    steps: Positive = 350
    lr: Rate = 2e-2
    weight_decay: Rate = 0.01
    ema: Share = 0.99
    init: Rate = 0.02
    regularisation: Rate = 0.5
    concepts: Positive = 15
    phrases: str | None = None
    templates: Literal["searle", "palavra"] = "searle"
    seed: int = 0


class SearleTraining(TrainingParameters, frozen=True):
    """How the network learns the words of OTI; the defaults are those of the public code.

    Attributes:
        temperature: The divisor of the similarities of words.
        regularisation: The weight of the phrases' loss, beside the words' 1; with 0 no phrases are needed.
        concepts: The image's nearest so many concepts are the ones that phrases are about.
        occurrences: Where the word is put in a phrase that mentions its concept several times.
        phrases: FILE.json (concept to list of phrases), FILE.jsonl, or scenes for those that come along.
        dropout: The dropout in the network.
        oti_steps: Optimiser steps for each image's word.
        oti_lr: The learning rate of that optimisation.
        oti_ema: The share of its moving average that stays at each step.
        oti_regularisation: The weight of the phrases' loss in it.
        oti_concepts: The image's nearest so many concepts in it.
        oti_templates: The sentences of that optimisation and of the concepts; see the parameters of searle-oti.
    """

    epochs: Positive = 100
    batch_size: Positive = 256
    lr: Rate = 1e-4
    weight_decay: Rate = 0.01
    temperature: Annotated[float, msgspec.Meta(gt=0)] = 0.25
    regularisation: Rate = 0.75
    concepts: Positive = 150
    occurrences: Literal["first", "all"] = "all"
    phrases: str | None = None
    dropout: Share = 0.5
    oti_steps: Positive = 350
    oti_lr: Rate = 2e-2
    oti_ema: Share = 0.99
    oti_regularisation: Rate = 0.5
    oti_concepts: Positive = 15
    oti_templates: Literal["searle", "palavra"] = "searle"


# Chosen on scenes of their own, as the README says.
_SCENES = SearleOtiParameters(steps=100, lr=0.05, ema=0.95, regularisation=0.0, templates="palavra")

SEARLE = MethodSpec(
    name="searle",
    title="SEARLE: a network that has learnt optimised words",
    implementation="cirbench_methods.searle.method:Searle",
    parameters=InversionParameters,
    paper="arXiv:2303.15247",
    supervision="image-only",
    trainer="cirbench_methods.searle.train:Distillation",
    training=SearleTraining,
    trains_on="features",
    training_presets={
        "scenes-vit": SearleTraining(
            samples=2400,
            steps=1500,
            batch_size=128,
            lr=1e-3,
            schedule="cosine",
            temperature=0.02,
            regularisation=0.0,
            oti_regularisation=0.0,
            oti_steps=_SCENES.steps,
            oti_lr=_SCENES.lr,
            oti_ema=_SCENES.ema,
            oti_templates=_SCENES.templates,
        )
    },
    converter="cirbench_methods.inversion.published:searle",
    checkpoints={
        "ViT-B-32/openai": "Get SEARLE_ViT-B32.pt from miccunifi/SEARLE (its releases), and convert it:\n"
        "cirbench convert searle SEARLE_ViT-B32.pt --backbone {backbone} --output CHECKPOINT",
        "ViT-L-14/openai": "Get SEARLE_ViT-L14.pt from miccunifi/SEARLE (its releases), and convert it:\n"
        "cirbench convert searle SEARLE_ViT-L14.pt --backbone {backbone} --output CHECKPOINT",
        "*": "Its authors published none for this backbone; train one by itself:\n"
        "cirbench train searle --backbone {backbone} --data images/{training} --output CHECKPOINT",
    },
    uses_llm="yes",
)
SEARLE_OTI = MethodSpec(
    name="searle-oti",
    title="SEARLE-OTI: a word optimised for each reference image",
    implementation="cirbench_methods.searle.method:SearleOti",
    parameters=SearleOtiParameters,
    paper="arXiv:2303.15247",
    inference_presets={"scenes-vit": _SCENES},
    uses_llm="yes",
)
