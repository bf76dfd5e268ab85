"""A training of twenty steps for whatever can be trained: every method that is registered, and a CLIP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench.methods.interface import find_method, list_methods
from cirbench.methods.training import training_parameters, training_request
from cirbench.support.parameters import parse
from cirbench.training.contrastive import Contrastive
from cirbench.training.interface import CLIP, TrainingParameters
from cirbench.training.train import Request
from tests.tiny_blip import tiny_blip
from tests.tiny_clip import some_pairs, some_triplets, tiny_backbone

if TYPE_CHECKING:
    from collections.abc import Mapping

SETTINGS = {"steps": "20", "batch_size": "8", "lr": "1e-3", "schedule": "constant", "warmup": "0"}
OF_METHODS: Mapping[str, Mapping[str, str]] = {
    "cirplant": {"width": "64", "layers": "1"},
    "combiner": {"projection": "8", "hidden": "12"},
    "lincir": {"keywords": "rules"},
    "palavra": {"hidden": "16"},
    "searle": {"oti_steps": "3", "phrases": "scenes"},
}
"""What some need besides to be quick, or to run on a backbone that they know nothing of."""

ON_BLIP = ("early-fusion", "blip4cir", "bi-blip4cir")
"""What is trained on a BLIP, the only backbone for one of them."""


def trained() -> list[str]:
    """Whatever can be trained, by name."""
    return [CLIP, *(name for name in list_methods() if find_method(name).trainer is not None)]


def quick_request(name: str, **settings: str) -> Request:
    """The training of twenty steps of one of them."""
    values = {**SETTINGS, **settings}
    if name == CLIP:
        parameters = parse(TrainingParameters, values, owner="clip's training")
        return Request(CLIP, Contrastive, parameters, tiny_backbone(), some_pairs())
    spec = find_method(name)
    parameters = training_parameters(spec, "", {**values, **OF_METHODS.get(name, {})})
    source = some_triplets() if spec.needs_triplets else some_pairs()
    backbone = tiny_blip() if name in ON_BLIP else tiny_backbone()
    return training_request(spec, backbone, source, parameters)
