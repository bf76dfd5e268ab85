"""Pic2Word: its loss against the definition, its crops, a planted solution, and the way from images to rows."""

from __future__ import annotations

import copy
import math
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torchvision.transforms import RandomResizedCrop

from cirbench.backbones.encoder import Encoder
from cirbench.backbones.text import PseudoWords
from cirbench.benchmarks.scenes import scenes_protocol
from cirbench.methods.loading import build, parse_parameters
from cirbench.methods.training import train_method, training_parameters
from cirbench.training.checkpoint import WEIGHTS
from cirbench.training.data import Batches
from cirbench.training.interface import Batch
from cirbench.training.loop import learning_rate, optimizer_for
from cirbench_methods.pic2word import SPEC, Pic2WordTraining
from cirbench_methods.pic2word.train import WordContrast, crop, draw_boxes
from tests.method_rules import broken_rules, broken_rules_of_spec
from tests.tiny_clip import coloured_pairs, tiny_backbone

QUICK = Pic2WordTraining(steps=20, batch_size=8, lr=1e-3, warmup=0)


@cache
def quick_checkpoint() -> Path:
    return train_method(SPEC, tiny_backbone(), coloured_pairs(), QUICK, output=Path(mkdtemp()) / "pic2word")


def objective(backbone: Any = None, **changes: Any) -> WordContrast:
    torch.manual_seed(0)
    return WordContrast(copy.deepcopy(backbone or tiny_backbone()), msgspec.structs.replace(QUICK, **changes))


def some_batch(count: int = 6) -> Batch:
    return Batches(coloured_pairs(), tiny_backbone(), count, 0, "images")[0]


def naive_loss(images: list[list[float]], texts: list[list[float]], scale: float) -> float:
    """From images to sentences and back, in float64 and loops."""

    def unit(row: list[float]) -> list[float]:
        return [value / math.dist(row, [0] * len(row)) for value in row]

    images, texts = [unit(row) for row in images], [unit(row) for row in texts]
    total = 0.0
    for queries, targets in ((images, texts), (texts, images)):
        for own, query in enumerate(queries):
            logits = [scale * sum(a * b for a, b in zip(query, target, strict=True)) for target in targets]
            total += math.log(sum(map(math.exp, logits))) - logits[own]
    return total / (2 * len(images))


def test_the_loss_is_that_of_the_definition_at_clips_own_temperature() -> None:
    trained, batch = objective(crop=1.0, dropout=0.0), some_batch()
    backbone = tiny_backbone()
    tower = PseudoWords(backbone)
    with torch.no_grad():
        images = backbone.encode_images(batch.pixels_B3SS)
        texts = tower(tower.tokenize(["a photo of $"] * 6), trained.mapping(images))
    scale = math.exp(backbone.model.get_parameter("logit_scale").item())
    expected = naive_loss(images.double().tolist(), texts.double().tolist(), scale)
    assert trained.loss(batch).item() == pytest.approx(expected, abs=1e-5)


def test_only_the_mapping_network_gets_gradients() -> None:
    trained = objective()
    torch.autograd.backward(trained.loss(some_batch()))
    gradients = [weights.grad for weights in trained.module.parameters()]
    assert all(gradient is not None and float(gradient.abs().max()) > 0 for gradient in gradients)
    assert all(weights.grad is None for weights in trained.backbone.model.parameters())


def test_gains_and_biases_are_not_decayed_and_adam_is_the_one_of_the_public_code() -> None:
    optimizer = optimizer_for(objective().module, Pic2WordTraining())
    groups = optimizer.param_groups
    decays = [(weights.ndim, group["weight_decay"]) for group in groups for weights in group["params"]]
    assert sorted(decays) == [(1, 0.0)] * 3 + [(2, 0.1)] * 3
    assert {(group["betas"], group["eps"]) for group in groups} == {((0.9, 0.98), 1e-6)}


def test_the_rate_warms_up_over_ten_thousand_steps_and_falls_by_a_cosine() -> None:
    def rate(step: int) -> float:
        return learning_rate(step, steps=90_000, steps_per_epoch=3000, parameters=Pic2WordTraining())

    assert [rate(step) for step in (0, 4_999, 9_999, 50_000)] == pytest.approx([1e-8, 5e-5, 1e-4, 5e-5])
    assert rate(89_999) < 1e-9


def test_boxes_lie_in_the_image_and_have_the_areas_and_ratios_that_are_asked_for() -> None:
    torch.manual_seed(0)
    left, top, width, height = draw_boxes(5000, 0.9).T
    for corner, size in ((left, width), (top, height)):
        assert bool(((corner >= 0) & (corner + size <= 1 + 1e-6)).all())
    area = width * height
    assert float(area.min()) >= 0.9 - 1e-6
    assert float((area == 1).float().mean()) < 0.2  # a shape that fits is mostly among the ten
    assert float((width / height).log().mean()) == pytest.approx(0, abs=5e-3)


@pytest.mark.slow
def test_boxes_are_drawn_as_torchvision_draws_them() -> None:
    torch.manual_seed(0)
    image, size = torch.zeros(3, 1000, 1000), 1000
    theirs = [RandomResizedCrop.get_params(image, [0.5, 1.0], [3 / 4, 4 / 3]) for _ in range(3000)]
    tops, lefts, heights, widths = (torch.tensor(column) / size for column in zip(*theirs, strict=True))
    ours = draw_boxes(3000, 0.5)
    for mine, their in zip(ours.T, (lefts, tops, widths, heights), strict=True):
        quantiles = torch.linspace(0.05, 0.95, 10)
        torch.testing.assert_close(mine.quantile(quantiles), their.quantile(quantiles), atol=0.03, rtol=0)


def test_a_crop_of_the_whole_is_the_image_and_a_crop_of_a_part_is_that_part() -> None:
    side = 32
    across = torch.linspace(-1, 1, side).expand(1, 3, side, side).contiguous()
    whole = torch.tensor([[0.0, 0, 1, 1]])
    torch.testing.assert_close(crop(across, whole), across, atol=1e-5, rtol=0)
    part = crop(across, torch.tensor([[0.25, 0.0, 0.5, 1.0]]))
    centres = 0.25 + 0.5 * (torch.arange(side) + 0.5) / side  # where the new pixels lie in the old image
    expected = -1 + 2 * (centres * side - 0.5) / (side - 1)
    torch.testing.assert_close(part[0, 0, 7], expected, atol=5e-3, rtol=0)


class Planted:
    """The small CLIP, but the images are numbers, and their features those of "a photo of" and a letter."""

    letters = "bdgkmrsz"

    def __init__(self) -> None:
        own = copy.deepcopy(tiny_backbone())
        with torch.no_grad():
            own.model.get_parameter("token_embedding.weight").mul_(10)  # words that make a difference
        self.model, self.device, self.identity, self.dim = own.model, own.device, own.identity, own.dim
        self.tokenize, self.overlong, self.encode_tokens = own.tokenize, own.overlong, own.encode_tokens
        self.features = self.of("a photo of {}")

    def of(self, sentence: str) -> torch.Tensor:
        """The features of a sentence with each letter."""
        with torch.no_grad():
            return self.encode_tokens(self.tokenize([sentence.format(letter) for letter in self.letters]))

    def encode_images(self, pixels_B3SS: torch.Tensor) -> torch.Tensor:
        return self.features[pixels_B3SS[:, 0, 0, 0].long()]


@cache
def learnt() -> tuple[Any, torch.Tensor]:
    """What reads pseudo-words, and those that sixty steps on all the planted images give."""
    planted: Any = Planted()
    pixels = torch.arange(8.0)[:, None, None, None].expand(-1, 3, 1, 1)
    torch.manual_seed(0)
    trained = WordContrast(planted, msgspec.structs.replace(QUICK, crop=1.0, dropout=0.0, lr=3e-3))
    optimizer = optimizer_for(trained.module, trained.parameters)
    for _ in range(60):
        optimizer.zero_grad()
        torch.autograd.backward(trained.loss(Batch(pixels, (), np.arange(8), 0, 8)))
        optimizer.step()
    with torch.no_grad():
        return trained.tower, trained.mapping.eval()(planted.features)


@pytest.mark.parametrize(("sentence", "found"), [("a photo of {}", 8), ("a photo of {} that is red", 6)])
def test_training_finds_words_that_say_what_the_planted_words_said(sentence: str, found: int) -> None:
    tower, words = learnt()
    with torch.no_grad():
        said = tower(tower.tokenize([sentence.format("$")] * 8), words)
    likeness = torch.nn.functional.cosine_similarity(said[:, None], Planted().of(sentence)[None], dim=-1)
    assert int((likeness.argmax(dim=1) == torch.arange(8)).sum()) >= found


def test_the_checkpoint_holds_the_mapping_network_alone() -> None:
    from safetensors.torch import load_file

    names = {name.rpartition(".")[0] for name in load_file(quick_checkpoint() / WEIGHTS)}
    assert names == {"layers.0.0", "layers.1.0", "fc_out"}


def test_a_query_is_the_prompt_of_the_public_code_with_the_word_of_its_reference() -> None:
    queries = scenes_protocol("tiny").queries[:5]
    encoder = Encoder(tiny_backbone(), None, batch_size=8)
    method: Any = build(SPEC, encoder, parse_parameters(SPEC, {}), quick_checkpoint())
    words = method._method.invert([query.reference for query in queries])
    texts = encoder.composed([f"a photo of $ , {query.captions[0]}" for query in queries], words)
    np.testing.assert_allclose(
        method.encode_queries(queries), texts / np.linalg.norm(texts, axis=1, keepdims=True), atol=1e-6
    )


def test_it_keeps_the_rules_of_the_interface() -> None:
    def make() -> Any:
        return build(SPEC, Encoder(tiny_backbone(), None, batch_size=8), parse_parameters(SPEC, {}), quick_checkpoint())

    assert broken_rules_of_spec(SPEC, "cirbench_methods.pic2word:SPEC") == []
    assert broken_rules(make) == []


def test_defaults_are_those_of_the_paper_and_the_small_backbone_has_a_recipe() -> None:
    defaults = training_parameters(SPEC, "ViT-L-14/openai", {})
    assert isinstance(defaults, Pic2WordTraining)
    assert (defaults.lr, defaults.weight_decay, defaults.batch_size, defaults.epochs) == (1e-4, 0.1, 1024, 30)
    assert training_parameters(SPEC, "scenes-vit", {}) == SPEC.training_presets["scenes-vit"]
