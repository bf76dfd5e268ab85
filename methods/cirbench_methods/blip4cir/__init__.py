"""BLIP4CIR: a text tower tuned beside frozen images, also with a backward query from the target to the reference."""

from __future__ import annotations

from typing import Literal

from cirbench.methods.interface import MethodSpec
from cirbench.training.interface import (
    CaptionForm,
    CaptionPolicy,
    Duplicates,
    Positive,
    Rate,
    TripletImageTraining,
)
from cirbench_methods.composition import CompositionParameters

FORWARD, BACKWARD = "[FORWARD]", "[BACKWARD]"
"""What comes before each caption, to say from which image to which other one a query leads."""


class Blip4CirTraining(TripletImageTraining, frozen=True):
    """How the text tower is tuned; the defaults are those of the public code.

    Attributes:
        projection_rate: How many times faster than the tower its projection learns.
        backward: The weight of the loss of backward queries; 0 leaves them out, and with them the words for directions.
        scale: The factor of the cosines in the loss.
    """

    epochs: Positive = 20
    batch_size: Positive = 128
    lr: Rate = 5e-5
    weight_decay: Rate = 0.05
    schedule: Literal["constant", "cosine", "epochs"] = "cosine"
    captions: CaptionPolicy = "four-ways"
    caption_form: CaptionForm = "sentence"
    duplicates: Duplicates = "keep"
    projection_rate: Rate = 100.0
    backward: Rate = 0.0
    scale: Rate = 100.0


class BiBlip4CirTraining(Blip4CirTraining, frozen=True):
    """How the text tower is tuned in both directions; the defaults are those of the public code for FashionIQ."""

    backward: Rate = 0.4


_CHECKPOINTS = {
    "*": "train it: cirbench train {method} --backbone {{backbone}} --data fashioniq:train, or cirr:train{{training}} "
    "--output CHECKPOINT; or convert a tuned_blip_*.pt of Cuberick-Orion/Bi-Blip4CIR, whose images are those of BLIP's "
    "model_base.pth: cirbench convert {method} FILE.pt --backbone {{backbone}} --weights model_base.pth "
    "--output CHECKPOINT",
}


def _spec(name: str, title: str, training: type[Blip4CirTraining], preset: Blip4CirTraining) -> MethodSpec:
    return MethodSpec(
        name=name,
        title=title,
        implementation="cirbench_methods.blip4cir.method:Blip4Cir",
        parameters=CompositionParameters,
        paper="arXiv:2303.16604",
        supervision="triplets",
        trainer="cirbench_methods.blip4cir.train:TextTuning",
        training=training,
        trains_on="triplets",
        converter="cirbench_methods.blip4cir.published:text_tower",
        checkpoints={backbone: how.format(method=name) for backbone, how in _CHECKPOINTS.items()},
        # Chosen on scenes of their own, as the README says; the defaults are meant for BLIP.
        training_presets={"scenes-vit": preset},
        uses_triplets="yes",
    )


BLIP4CIR = _spec(
    "blip4cir",
    "BLIP4CIR: the sum of image and text on a text tower tuned by triplets",
    Blip4CirTraining,
    Blip4CirTraining(steps=200, batch_size=64, lr=1e-3, warmup=20, scale=20.0, projection_rate=1.0, duplicates="mask"),
)
BI_BLIP4CIR = _spec(
    "bi-blip4cir",
    "BLIP4CIR+Bi: the same, tuned from reference to target and back",
    BiBlip4CirTraining,
    BiBlip4CirTraining(
        steps=200, batch_size=64, lr=1e-3, warmup=20, scale=20.0, projection_rate=1.0, duplicates="mask"
    ),
)
