"""CLIP4Cir: towers tuned on the sum of image and text, and the Combiner on top of them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from cirbench.methods.interface import MethodSpec
from cirbench.training.interface import (
    CaptionForm,
    CaptionPolicy,
    Duplicates,
    Positive,
    Rate,
    TripletImageTraining,
    TripletTraining,
)
from cirbench_methods.composition import CompositionParameters

Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]

TOWERS = "towers.safetensors"
"""The file of a Combiner's checkpoint that holds tuned towers."""


class Clip4CirTraining(TripletImageTraining, frozen=True):
    """How the towers are tuned; the defaults are those of the public code.

    Attributes:
        encoder: Which towers are tuned; the other one stays as it is.
        scale: The factor of the cosines in the loss.
    """

    epochs: Positive = 100
    batch_size: Positive = 128
    lr: Rate = 2e-6
    weight_decay: Rate = 0.01
    epsilon: Rate = 1e-7
    captions: CaptionPolicy = "four-ways"
    caption_form: CaptionForm = "sentence"
    duplicates: Duplicates = "keep"
    encoder: Literal["both", "text", "image"] = "both"
    scale: Rate = 100.0


class CombinerTraining(TripletTraining, frozen=True):
    """How the Combiner is trained; the defaults are those of the public code for RN50x4.

    Attributes:
        towers: The folder of a checkpoint of clip4cir or blip4cir, whose towers it is trained on; null for those of the
            backbone.
        projection: The width to which each feature is projected.
        hidden: The width of the hidden layers.
        dropout: The dropout in the network.
        scale: The factor of the cosines in the loss.
    """

    CARRIED: ClassVar[dict[str, str]] = {"towers": TOWERS}

    epochs: Positive = 300
    batch_size: Positive = 4096
    lr: Rate = 2e-5
    captions: CaptionPolicy = "four-ways"
    caption_form: CaptionForm = "sentence"
    duplicates: Duplicates = "keep"
    towers: str | None = None
    projection: Positive = 2560
    hidden: Positive = 5120
    dropout: Share = 0.5
    scale: Rate = 100.0


CLIP4CIR = MethodSpec(
    name="clip4cir",
    title="CLIP4Cir: the sum of image and text on towers tuned by triplets",
    implementation="cirbench_methods.clip4cir.method:Clip4Cir",
    parameters=CompositionParameters,
    paper="arXiv:2308.11485",
    supervision="triplets",
    trainer="cirbench_methods.clip4cir.train:TowerTuning",
    training=Clip4CirTraining,
    trains_on="triplets",
    converter="cirbench_methods.clip4cir.published:towers",
    checkpoints={
        "RN50x4/openai": "Get tuned_clip_best.pt (FashionIQ) or tuned_clip_arithmetic.pt (CIRR) from "
        "ABaldrati/CLIP4Cir, and convert it:\n"
        "cirbench convert clip4cir FILE.pt --backbone {backbone} --output CHECKPOINT",
        "*": "Train it by itself, on fashioniq:train or cirr:train:\n"
        "cirbench train clip4cir --backbone {backbone} --data fashioniq:train{training} --output CHECKPOINT",
    },
    training_presets={
        # Chosen on scenes of their own, as the README says; the defaults are meant for models of CLIP's size.
        "scenes-vit": Clip4CirTraining(
            steps=200, batch_size=64, lr=1e-3, schedule="cosine", warmup=20, scale=20.0, duplicates="mask"
        )
    },
    uses_triplets="yes",
)
COMBINER = MethodSpec(
    name="combiner",
    title="Combiner: a network that mixes the features of image and text, of CLIP4Cir",
    implementation="cirbench_methods.clip4cir.method:Combined",
    parameters=CompositionParameters,
    paper="arXiv:2308.11485",
    supervision="triplets",
    trainer="cirbench_methods.clip4cir.train:CombinerHead",
    training=CombinerTraining,
    trains_on="triplet-features",
    converter="cirbench_methods.clip4cir.published:combiner",
    checkpoints={
        "RN50x4/openai": "Get combiner.pt (FashionIQ) or combiner_arithmetic.pt (CIRR) and its tuned towers from "
        "ABaldrati/CLIP4Cir, convert the towers (see clip4cir), then:\n"
        "cirbench convert combiner FILE.pt --backbone {backbone} --set towers=TOWERS --output CHECKPOINT",
        "*": "Train it by itself, on fashioniq:train or cirr:train, best on tuned towers (--set towers=CHECKPOINT of "
        "clip4cir):\n"
        "cirbench train combiner --backbone {backbone} --data fashioniq:train{training} --output CHECKPOINT",
    },
    training_presets={
        "scenes-vit": CombinerTraining(
            steps=1200,
            batch_size=512,
            lr=1e-3,
            schedule="cosine",
            projection=512,
            hidden=1024,
            scale=20.0,
            duplicates="mask",
        )
    },
    uses_triplets="yes",
)
