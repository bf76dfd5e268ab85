"""PALAVRA: a word for an image that a set encoder proposes and a few steps of optimisation improve."""

from __future__ import annotations

from typing import Annotated

import msgspec

from cirbench.methods.interface import MethodSpec
from cirbench.training.interface import Natural, Positive, Rate, TrainingParameters
from cirbench_methods.inversion import InversionParameters

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Temperature = Annotated[float, msgspec.Meta(gt=0)]


class PalavraParameters(InversionParameters, frozen=True):
    """How the word of an image is improved, and how it is used; the numbers are those of the public code.

    Attributes:
        steps: Optimiser steps for a word; with 0 it stays as the set encoder proposes it.
        lr: The learning rate of Adam.
        temperature: The divisor of the similarities.
        coarse: What the image shows in general, which the word must not say.
    """

    steps: Natural = 30
    lr: Rate = 0.01
    temperature: Temperature = 0.25
    coarse: str = "item"


class PalavraTraining(TrainingParameters, frozen=True):
    """How the set encoder and the map are trained; the numbers are those of the public code.

    Attributes:
        temperature: The divisor of the similarities.
        mapped: The share of the samples whose word is made from the mapped caption instead of the image.
        hidden: The width of the set encoder.
        dropout: The dropout in it.
    """

    epochs: Positive = 300
    batch_size: Positive = 256
    lr: Rate = 1e-4
    temperature: Temperature = 0.25
    mapped: Share = 0.5
    hidden: Positive = 4096
    dropout: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.25


SPEC = MethodSpec(
    name="palavra",
    title="PALAVRA: a word that a set encoder proposes and optimisation improves, adapted to one image",
    implementation="cirbench_methods.palavra.method:Palavra",
    parameters=PalavraParameters,
    paper="arXiv:2204.01694",
    supervision="image-text pairs",
    trainer="cirbench_methods.palavra.train:WordProposal",
    training=PalavraTraining,
    trains_on="pair-features",
    checkpoints={
        "*": "Its authors published none; train one by itself, on images with captions:\n"
        "cirbench train palavra --backbone {backbone} --data coco:train2017{training} --output CHECKPOINT",
    },
    training_presets={
        # Chosen on scenes of their own, as the README says; the defaults are meant for CLIP and photographs.
        "scenes-vit": PalavraTraining(steps=600, batch_size=128, lr=1e-3, schedule="cosine", mapped=0.75, hidden=1024),
    },
    inference_presets={"scenes-vit": PalavraParameters(lr=0.003)},
)
