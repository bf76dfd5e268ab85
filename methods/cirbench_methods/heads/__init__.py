"""ARTEMIS, TIRG, MAAF and CIRPLANT as heads on the features of any backbone, without their own towers."""

from __future__ import annotations

from typing import Annotated

import msgspec

from cirbench.methods.interface import MethodSpec
from cirbench.training.interface import CaptionForm, CaptionPolicy, Positive, Rate, Schedule, TripletTraining
from cirbench_methods.composition import CompositionParameters


class ArtemisTraining(TripletTraining, frozen=True):
    """How ARTEMIS's head is trained; the defaults are those of the public code for its own towers.

    Attributes:
        temperature: The logarithm of the factor of the scores that the training starts from; it is learnt.
    """

    epochs: Positive = 50
    batch_size: Positive = 32
    lr: Rate = 5e-4
    weight_decay: Rate = 0.01
    captions: CaptionPolicy = "shuffled"
    caption_form: CaptionForm = "annotated"
    temperature: float = 2.65926


class TirgTraining(TripletTraining, frozen=True):
    """How TIRG's head is trained; the loss is the softmax one of the public code, its optimiser is not.

    Attributes:
        scale: The length of the unit features that the training starts from; it is learnt.
    """

    epochs: Positive = 50
    batch_size: Positive = 32
    lr: Rate = 5e-4
    captions: CaptionPolicy = "joined"
    scale: Rate = 4.0


class MaafTraining(TirgTraining, frozen=True):
    """How MAAF's head is trained; the loss is that of the public code, its optimiser is not.

    Attributes:
        scale: The length of the unit features that the training starts from; it is learnt.
    """

    captions: CaptionPolicy = "shuffled"


class CirplantTraining(TripletTraining, frozen=True):
    """How CIRPLANT's transformer is trained; its optimiser and batch are those of the public code.

    Attributes:
        initial: A folder with a BERT's weights and vocab.txt, as transformers saves them; if none, they are random.
        width: The dimensions of the states of a random transformer, a multiple of 64.
        layers: The number of its layers.
        scale: The length of the unit features that the training starts from; it is learnt.
    """

    epochs: Positive = 300
    batch_size: Positive = 32
    lr: Rate = 1e-5
    weight_decay: Rate = 0.05
    schedule: Schedule = "linear"
    grad_clip: Annotated[float, msgspec.Meta(gt=0)] | None = 1.0
    captions: CaptionPolicy = "joined"
    initial: str = ""
    width: Positive = 256
    layers: Positive = 4
    scale: Rate = 4.0


ARTEMIS = MethodSpec(
    name="artemis",
    title="ARTEMIS's head on the backbone: attention of the text over dimensions of both images",
    implementation="cirbench_methods.heads.artemis:Artemis",
    parameters=CompositionParameters,
    paper="arXiv:2203.08101",
    supervision="triplets",
    trainer="cirbench_methods.heads.artemis:ArtemisHead",
    training=ArtemisTraining,
    trains_on="triplet-features",
    checkpoints={
        "*": "train it: cirbench train artemis --backbone {backbone} --data fashioniq:train{training} "
        "--output CHECKPOINT"
    },
    training_presets={
        "scenes-vit": ArtemisTraining(steps=600, batch_size=256, lr=3e-3, schedule="cosine"),
    },
    uses_triplets="yes",
)
TIRG = MethodSpec(
    name="tirg",
    title="TIRG's head on the backbone: a gated image feature and a residual",
    implementation="cirbench_methods.heads.tirg:Tirg",
    parameters=CompositionParameters,
    paper="arXiv:1812.07119",
    supervision="triplets",
    trainer="cirbench_methods.heads.tirg:TirgHead",
    training=TirgTraining,
    trains_on="triplet-features",
    checkpoints={
        "*": "train it: cirbench train tirg --backbone {backbone} --data fashioniq:train{training} --output CHECKPOINT"
    },
    training_presets={
        "scenes-vit": TirgTraining(steps=600, batch_size=256, lr=3e-3, schedule="cosine"),
    },
    uses_triplets="yes",
)
MAAF = MethodSpec(
    name="maaf",
    title="MAAF's head on the backbone: attention over the features of image and text",
    implementation="cirbench_methods.heads.maaf:Maaf",
    parameters=CompositionParameters,
    paper="arXiv:2007.00145",
    supervision="triplets",
    trainer="cirbench_methods.heads.maaf:MaafHead",
    training=MaafTraining,
    trains_on="triplet-features",
    checkpoints={
        "*": "train it: cirbench train maaf --backbone {backbone} --data fashioniq:train{training} --output CHECKPOINT"
    },
    training_presets={
        "scenes-vit": MaafTraining(steps=600, batch_size=256, lr=3e-3, schedule="cosine"),
    },
    uses_triplets="yes",
)
CIRPLANT = MethodSpec(
    name="cirplant",
    title="CIRPLANT's head on the backbone: a transformer over the words and one token of the image",
    implementation="cirbench_methods.heads.cirplant:Cirplant",
    parameters=CompositionParameters,
    paper="arXiv:2108.04024",
    supervision="triplets",
    trainer="cirbench_methods.heads.cirplant:CirplantHead",
    training=CirplantTraining,
    trains_on="triplet-features",
    checkpoints={
        "*": "train it: cirbench train cirplant --backbone {backbone} --data cirr:train{training} --output CHECKPOINT"
    },
    training_presets={
        "scenes-vit": CirplantTraining(
            steps=600, batch_size=128, lr=1e-3, schedule="cosine", width=128, layers=2, warmup=30
        ),
    },
    uses_triplets="yes",
)
