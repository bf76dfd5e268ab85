"""Pic2Word: a network that turns an image feature into a word, trained on images alone."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from cirbench.methods.interface import MethodSpec
from cirbench.training.interface import Natural, Positive, Rate, Schedule, TrainingParameters
from cirbench_methods.inversion import InversionParameters

Share = Annotated[float, msgspec.Meta(gt=0, le=1)]


class Pic2WordParameters(InversionParameters, frozen=True):
    """How the word of an image is used; the defaults are those of the public code for CIRR and FashionIQ."""

    prompt: str = "comma"
    order: Literal["given", "reversed", "both"] = "reversed"
    strip: str = ""


class Pic2WordTraining(TrainingParameters, frozen=True):
    """How the mapping network is trained; the defaults are those of the paper and the public code.

    Attributes:
        crop: The smallest share of an image's area that a random crop keeps; 1 leaves images whole.
        dropout: The dropout in the mapping network.
    """

    epochs: Positive = 30
    batch_size: Positive = 1024
    lr: Rate = 1e-4
    weight_decay: Rate = 0.1
    beta2: Rate = 0.98
    epsilon: Rate = 1e-6
    decay: Literal["all", "matrices"] = "matrices"
    schedule: Schedule = "cosine"
    warmup: Natural = 10_000
    crop: Share = 0.9
    dropout: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.1


SPEC = MethodSpec(
    name="pic2word",
    title="Pic2Word: a word for each image, learnt from images alone",
    implementation="cirbench_methods.pic2word.method:Pic2Word",
    parameters=Pic2WordParameters,
    paper="arXiv:2302.03084",
    supervision="image-only",
    trainer="cirbench_methods.pic2word.train:WordContrast",
    training=Pic2WordTraining,
    trains_on="images",
    converter="cirbench_methods.inversion.published:pic2word",
    checkpoints={
        "ViT-L-14/openai": "Get pic2word_model.pt from google-research/composed_image_retrieval, and convert it:\n"
        "cirbench convert pic2word pic2word_model.pt --backbone {backbone} --output CHECKPOINT",
        "*": "Its authors published none for this backbone; train one by itself:\n"
        "cirbench train pic2word --backbone {backbone} --data images/{training} --output CHECKPOINT",
    },
    training_presets={
        # Chosen on scenes of their own, as the README says; the defaults are meant for millions of photographs.
        "scenes-vit": Pic2WordTraining(steps=600, batch_size=64, lr=6e-3, warmup=10)
    },
)
