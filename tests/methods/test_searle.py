"""The distillation: its loss against its definition, planted words that the network learns, a golden trace, its use."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from cirbench.backbones.encoder import Encoder
from cirbench.errors import UsageError
from cirbench.methods.loading import build, checked, parse_parameters
from cirbench.methods.training import train_method, training_parameters
from cirbench.protocol import ImageTextPair, Item
from cirbench.support.console import progress
from cirbench.training.checkpoint import read_card
from cirbench.training.contrastive import nt_xent
from cirbench.training.data import Batches, Source
from cirbench.training.interface import Batch
from cirbench_methods.searle import SEARLE, SEARLE_OTI, SearleTraining
from cirbench_methods.searle.train import Distillation, teacher
from cirbench_methods.searle.words import OtiInverter
from tests.method_rules import broken_rules
from tests.tiny_clip import COLOURS, coloured_pairs, tiny_backbone
from tests.toy_protocols import NoImage

# fmt: off
GOLDEN = [
    3.6337, 3.8224, 3.5636, 3.4018, 3.7753, 3.4087, 2.9891, 3.1281, 3.4365, 3.2195,
    2.9157, 2.9197, 3.2406, 3.513, 3.075, 3.1521, 2.7615, 3.274, 2.9306, 3.4933,
]
# fmt: on


@cache
def coloured_phrases() -> str:
    path = Path(mkdtemp()) / "phrases.json"
    said = {colour: [f"a {colour} half", f"one {colour} side, seen from afar"] for colour in COLOURS}
    path.write_text(json.dumps(said))
    return str(path)


@cache
def quick() -> SearleTraining:
    oti: dict[str, Any] = {"oti_steps": 4, "oti_concepts": 3, "oti_templates": "palavra"}
    return SearleTraining(steps=20, batch_size=8, lr=1e-3, phrases=coloured_phrases(), **oti)


@cache
def quick_checkpoint() -> Path:
    return train_method(SEARLE, tiny_backbone(), coloured_pairs(), quick(), output=Path(mkdtemp()) / "searle")


def naive_loss(words: list[list[float]], predicted: list[list[float]], temperature: float) -> float:
    """Every word must find its counterpart among all others, in loops."""
    stack = [[value / math.hypot(*word) for value in word] for word in (*words, *predicted)]
    count, total = len(words), 0.0
    for place, word in enumerate(stack):
        similar = [sum(a * b for a, b in zip(word, other, strict=True)) / temperature for other in stack]
        counterpart = (place + count) % len(stack)
        others = [math.exp(value) for other, value in enumerate(similar) if other != place]
        total += math.log(sum(others)) - similar[counterpart]
    return total / len(stack)


def test_the_loss_and_its_gradient_are_those_of_the_definition() -> None:
    rng = np.random.default_rng(0)
    words, predicted = (torch.tensor(rng.normal(size=(5, 4)), requires_grad=True) for _ in range(2))
    expected = naive_loss(words.tolist(), predicted.tolist(), 0.25)
    assert nt_xent(words, predicted, 0.25).item() == pytest.approx(expected, abs=1e-12)
    assert torch.autograd.gradcheck(lambda w, p: nt_xent(w, p, 0.25), (words, predicted))


def batch(positions: list[int]) -> Batch:
    return Batch(torch.empty(0, 3, 32, 32), (), np.array(positions), 0, len(positions))


def test_planted_words_are_learnt_from_their_features() -> None:
    parameters = msgspec.structs.replace(quick(), regularisation=0.0, dropout=0.0)
    objective = Distillation(tiny_backbone_copy(), parameters)
    generator = torch.Generator().manual_seed(0)
    objective.features = torch.randn(40, 16, generator=generator)
    objective.words = objective.features @ torch.randn(16, 32, generator=generator)
    optimizer = torch.optim.AdamW(objective.module.parameters(), lr=2e-3)
    for step in range(60):
        optimizer.zero_grad()
        objective.loss(batch([(8 * step + row) % 40 for row in range(8)])).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        predicted = torch.nn.functional.normalize(objective.module(objective.features))
        nearest = (predicted @ torch.nn.functional.normalize(objective.words).T).argmax(dim=1)
    assert nearest.tolist() == list(range(40))


def tiny_backbone_copy() -> Any:
    """The objective freezes the backbone that it is given, which is its own in a training."""
    return copy.deepcopy(tiny_backbone())


def test_what_the_words_say_in_phrases_has_a_part_in_the_loss_and_none_in_the_towers() -> None:
    losses = {}
    for weight in (0.0, 0.75):
        torch.manual_seed(0)  # the same network both times
        objective = Distillation(tiny_backbone_copy(), msgspec.structs.replace(quick(), regularisation=weight))
        objective.prepare(coloured_pairs(), progress)
        objective.module.eval()
        loss = objective.loss(batch([3, 1, 4]))
        loss.backward()  # type: ignore[no-untyped-call]
        losses[weight] = loss.item()
        assert all(weights.grad is not None for weights in objective.module.parameters())
        assert all(weights.grad is None for weights in objective.backbone.model.parameters())
    assert 0 < losses[0.75] - losses[0.0] < 0.75 * 2


def test_the_teacher_is_the_method_that_optimises_each_word() -> None:
    objective = Distillation(tiny_backbone_copy(), quick())
    objective.prepare(coloured_pairs(), progress)
    items = [Item(str(place), pair.image) for place, pair in enumerate(coloured_pairs().pairs) if pair.image]
    words = OtiInverter(Encoder(tiny_backbone(), None), teacher(quick()))(items)
    np.testing.assert_array_equal(objective.words.numpy(), words)


def test_twenty_steps_follow_the_golden_trace() -> None:
    # Other processors and versions of torch round differently; the steps amplify that, to far less than this.
    assert read_card(quick_checkpoint()).losses == pytest.approx(GOLDEN, abs=2e-2)


def test_the_method_keeps_the_rules_of_the_interface() -> None:
    def make() -> Any:
        encoder = Encoder(tiny_backbone(), None, batch_size=8)
        return checked(build(SEARLE, encoder, parse_parameters(SEARLE, {}), quick_checkpoint()), "searle")

    assert broken_rules(make) == []


def test_a_step_opens_no_image() -> None:
    source = Source("closed", [ImageTextPair(NoImage(str(number)), "a dog") for number in range(4)], "0" * 64)
    batch = Batches(source, tiny_backbone(), 2, 0, SEARLE.trains_on)[0]
    assert batch.pixels_B3SS.shape == (0, 3, 32, 32)
    assert batch.captions == ()
    assert len(batch.positions_B) == 2
    texts = Source("texts", [TextOnly("a dog")], "0" * 64)
    with pytest.raises(UsageError, match="searle is trained on images, and texts holds no images"):
        texts.require(SEARLE.trains_on, owner="searle")


@dataclasses.dataclass(frozen=True)
class TextOnly:
    caption: str
    image: None = None


def test_the_small_backbone_has_a_recipe_and_settings_that_the_user_can_change() -> None:
    assert training_parameters(SEARLE, "scenes-vit", {}) == SEARLE.training_presets["scenes-vit"]
    settings = SEARLE_OTI.inference_presets["scenes-vit"]
    assert parse_parameters(SEARLE_OTI, {"seed": "3"}, "scenes-vit") == msgspec.structs.replace(settings, seed=3)
    assert parse_parameters(SEARLE_OTI, {}, "ViT-L-14/openai") == SEARLE_OTI.parameters()


def test_missing_phrases_are_said_before_the_training_begins() -> None:
    parameters = msgspec.structs.replace(quick(), phrases=None)
    with pytest.raises(UsageError, match="needs phrases about concepts"):
        train_method(SEARLE, tiny_backbone(), coloured_pairs(), parameters, output=Path(mkdtemp()) / "searle")


def test_the_defaults_are_those_of_the_public_code() -> None:
    defaults = SearleTraining()
    assert (defaults.lr, defaults.weight_decay, defaults.batch_size, defaults.epochs) == (1e-4, 0.01, 256, 100)
    assert (defaults.temperature, defaults.regularisation, defaults.concepts) == (0.25, 0.75, 150)
    assert (defaults.dropout, defaults.schedule, defaults.warmup) == (0.5, "constant", 0)
    inversion = teacher(defaults)
    assert (inversion.steps, inversion.lr, inversion.ema, inversion.regularisation) == (350, 0.02, 0.99, 0.5)
