"""Early fusion: BLIP's text tower reads the change in the light of the reference; images stay as they are."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from cirbench.methods.interface import MethodSpec
from cirbench.training.interface import (
    CaptionForm,
    CaptionPolicy,
    Duplicates,
    Positive,
    Rate,
    Schedule,
    TripletImageTraining,
)
from cirbench_methods.composition import CompositionParameters

Temperature = Annotated[float, msgspec.Meta(gt=0)]


class EarlyFusionTraining(TripletImageTraining, frozen=True):
    """How the text tower is tuned; the defaults are those of candidate re-ranking's first stage on FashionIQ.

    Attributes:
        loss: The cross-entropy from each query to its target (one-way); or, from queries to targets and back, one in
            which hard negatives have more weight (hn-nce, CoVR's).
        temperature: What similarities are divided by, at the start.
        learn_temperature: Train the temperature too; CoVR's is constant.
        alpha: The weight of the target in hn-nce.
        beta: How much harder negatives outweigh the others in hn-nce; 0 weights them alike.
    """

    epochs: Positive = 20
    batch_size: Positive = 512
    lr: Rate = 2e-5
    weight_decay: Rate = 0.05
    schedule: Schedule = "cosine"
    captions: CaptionPolicy = "four-ways"
    caption_form: CaptionForm = "sentence"
    duplicates: Duplicates = "keep"
    loss: Literal["one-way", "hn-nce"] = "one-way"
    temperature: Temperature = 0.07
    learn_temperature: bool = True
    alpha: Rate = 1.0
    beta: Rate = 0.5


_COVR = (
    "get a checkpoint of CoVR (BLIP, not BLIP-2) from lucas-ventura/CoVR on the hub, then: "
    "cirbench convert early-fusion FILE.ckpt --backbone {backbone} --output CHECKPOINT"
)

SPEC = MethodSpec(
    name="early-fusion",
    title="Early fusion: BLIP's text tower reads the change in the light of the reference",
    implementation="cirbench_methods.early_fusion.method:EarlyFusion",
    parameters=CompositionParameters,
    paper="arXiv:2305.16304",
    supervision="triplets",
    trainer="cirbench_methods.early_fusion.train:FusionTuning",
    training=EarlyFusionTraining,
    trains_on="triplets",
    converter="cirbench_methods.early_fusion.published:covr",
    checkpoints={
        "blip-itm-large-coco": _COVR,
        "*": "train it on a BLIP: cirbench train early-fusion --backbone {backbone} --data fashioniq:train, or "
        "cirr:train{training} --output CHECKPOINT",
    },
    uses_triplets="yes",
)
