"""LinCIR: a network that turns a feature into a word, trained on texts alone."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from cirbench.methods.interface import MethodSpec
from cirbench.training.interface import Positive, Rate, TrainingParameters
from cirbench_methods.inversion import InversionParameters


class LinCirTraining(TrainingParameters, frozen=True):
    """How phi is trained; the defaults are those of the paper and the public code.

    Attributes:
        keywords: How the words of a caption that are replaced are found: spacy (runs of nouns, adjectives and
            determiners, as tagged by a pipeline), or rules (runs of words that are not function words of English).
        pipeline: The pipeline of spaCy: the name of an installed one, or a folder.
        noise: Times u * eps is added to a text's feature, where u is uniform in [0, 1] and eps normal.
        dropout: The dropout in phi.
    """

    ONLY_WITH: ClassVar[dict[str, tuple[str, str]]] = {"pipeline": ("keywords", "spacy")}

    steps: Positive | None = 20_000
    batch_size: Positive = 512
    lr: Rate = 1e-4
    weight_decay: Rate = 0.01
    keywords: Literal["spacy", "rules"] = "spacy"
    pipeline: str = "en_core_web_sm"
    noise: Rate = 1.0
    dropout: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.5


SPEC = MethodSpec(
    name="lincir",
    title="LinCIR: a word for each image, learnt from texts alone",
    implementation="cirbench_methods.lincir.method:LinCIR",
    parameters=InversionParameters,
    paper="arXiv:2312.01998",
    supervision="text-only",
    trainer="cirbench_methods.lincir.train:SelfMasking",
    training=LinCirTraining,
    trains_on="texts",
    converter="cirbench_methods.inversion.published:lincir",
    checkpoints={
        "*": "Get phi_best.pt from navervision/lincir, and convert it:\n"
        "cirbench convert lincir phi_best.pt --backbone {backbone} --output CHECKPOINT",
    },
    training_presets={
        # Chosen on scenes of their own, as the README says; the defaults are meant for millions of captions.
        "scenes-vit": LinCirTraining(
            steps=1000, batch_size=64, lr=2e-3, schedule="cosine", keywords="rules", dropout=0.1
        )
    },
)
