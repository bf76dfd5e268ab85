"""PALAVRA: both networks and both losses against the published formulas, and the way from pairs to rows."""

from __future__ import annotations

import copy
import dataclasses
import math
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch.nn import functional

from cirbench.backbones.encoder import Encoder
from cirbench.backbones.store import FeatureStore
from cirbench.backbones.text import PseudoWords
from cirbench.benchmarks.scenes import scenes_protocol
from cirbench.errors import CorruptFile, MissingData, UsageError
from cirbench.methods.loading import build, parse_parameters
from cirbench.methods.training import train_method, training_parameters
from cirbench.protocol import ImageTextPair
from cirbench.support.console import silent
from cirbench.training.contrastive import nt_xent
from cirbench.training.data import Batches, Source
from cirbench.training.loop import optimizer_for
from cirbench_methods.inversion.templates import TEMPLATES
from cirbench_methods.palavra import SPEC, PalavraParameters, PalavraTraining
from cirbench_methods.palavra.method import PalavraInverter, improve, word_losses
from cirbench_methods.palavra.networks import PalavraNetworks
from cirbench_methods.palavra.train import WordProposal
from tests.method_rules import broken_rules, broken_rules_of_spec
from tests.tiny_clip import coloured_pairs, some_triplets, tiny_backbone
from tests.toy_protocols import NoImage

QUICK = PalavraTraining(steps=20, batch_size=8, lr=1e-3, hidden=16)


@cache
def trained() -> Path:
    return train_method(SPEC, tiny_backbone(), coloured_pairs(), QUICK, output=Path(mkdtemp()) / "palavra")


def encoder(store: FeatureStore | None = None) -> Encoder:
    return Encoder(tiny_backbone(), store, batch_size=8)


def objective(**changes: Any) -> WordProposal:
    torch.manual_seed(0)
    made = WordProposal(copy.deepcopy(tiny_backbone()), msgspec.structs.replace(QUICK, **changes))
    made.prepare(coloured_pairs(), silent)
    return made


def batch(count: int = 6) -> Any:
    return Batches(coloured_pairs(), tiny_backbone(), count, 0, "pair-features")[0]


def naive_word(weights: dict[str, Any], rows: Any) -> Any:
    """The set encoder on one set, in float64: three layers Γx - Λ(mean of the set) and ELU, the mean, two layers."""

    def elu(values: Any) -> Any:
        return np.where(values > 0, values, np.exp(np.minimum(values, 0)) - 1)

    for layer in ("rows.0", "rows.2", "rows.4"):
        mean = rows.mean(axis=0)
        gamma, bias, lamda = (
            weights[f"encoder.{layer}.{name}"] for name in ("gamma.weight", "gamma.bias", "lamda.weight")
        )
        rows = elu(np.stack([gamma @ row + bias - lamda @ mean for row in rows]))
    pooled = rows.mean(axis=0)
    pooled = elu(weights["encoder.pooled.1.weight"] @ pooled + weights["encoder.pooled.1.bias"])
    return weights["encoder.pooled.4.weight"] @ pooled + weights["encoder.pooled.4.bias"]


@pytest.mark.parametrize("size", [1, 3])
def test_the_networks_are_the_formulas_of_the_paper(size: int) -> None:
    torch.manual_seed(0)
    networks = PalavraNetworks(6, 10, 7, 0.5).eval()
    sets, texts = torch.randn(4, size, 6), functional.normalize(torch.randn(4, 6), dim=-1)
    with torch.no_grad():
        words, mapped = networks.encoder(sets).numpy(), networks.map(texts).numpy()
        turned = networks.encoder(sets.flip(1)).numpy()
    weights = {name: tensor.double().numpy() for name, tensor in networks.state_dict().items()}
    for row in range(4):
        np.testing.assert_allclose(words[row], naive_word(weights, sets[row].double().numpy()), atol=1e-5)
        text = texts[row].double().numpy()
        expected = weights["map.linear.weight"] @ text + weights["map.linear.bias"] + text
        np.testing.assert_allclose(mapped[row], expected / np.linalg.norm(expected), atol=1e-5)
    np.testing.assert_allclose(turned, words, atol=1e-6)  # whatever the order of a set


def naive_nt_xent(ones: Any, others: Any, temperature: float) -> float:
    """Each of the rows of both kinds must find its partner among all but itself, in loops and float64."""
    stack = [row / np.linalg.norm(row) for row in (*ones, *others)]
    total = 0.0
    for place, row in enumerate(stack):
        exponentials = [math.exp(float(row @ other) / temperature) for other in stack]
        partner = exponentials[(place + len(ones)) % len(stack)]
        total -= math.log(partner / (sum(exponentials) - exponentials[place]))
    return total / len(stack)


@pytest.mark.parametrize("mapped", [0.0, 1.0])
def test_the_training_compares_captions_with_words_in_a_template_and_images_with_mapped_captions(mapped: float) -> None:
    ours, drawn = objective(mapped=mapped, dropout=0.0), batch()
    torch.manual_seed(3)
    torch.rand(6, 1)
    template = TEMPLATES["palavra"][int(torch.randint(24, ()))]
    torch.manual_seed(3)
    loss = ours.loss(drawn).item()
    pairs = [coloured_pairs().samples[place] for place in drawn.positions_B]
    texts = torch.from_numpy(encoder().texts([str(pair.caption) for pair in pairs]))
    images = functional.normalize(torch.stack([ours.images[place] for place in drawn.positions_B]), dim=-1)
    with torch.no_grad():
        found = ours.module.map(functional.normalize(texts, dim=-1))
        words = ours.module.encoder((found if mapped else images)[:, None])
        spoken = ours.tower(ours.tower.tokenize([template.format("$")] * 6), words)
    expected = naive_nt_xent(texts.double().numpy(), spoken.double().numpy(), 0.25)
    expected += float(((found - images).double() ** 2).mean())
    assert loss == pytest.approx(expected, abs=1e-5)


def test_the_map_learns_from_its_own_loss_and_the_towers_learn_nothing() -> None:
    ours = objective(mapped=1.0, dropout=0.0)
    torch.autograd.backward(ours.loss(batch()))
    weights = ours.module.map.linear.weight
    assert weights.grad is not None
    found = weights.grad.clone()
    weights.grad = None
    images, texts = ours.images[batch().positions_B], ours.texts[batch().positions_B]
    torch.autograd.backward(functional.mse_loss(ours.module.map(texts), images))
    torch.testing.assert_close(found, weights.grad)
    assert all(weights.grad is not None for weights in ours.module.encoder.parameters())
    assert all(weights.grad is None for weights in ours.backbone.model.parameters())


def test_the_loss_of_a_word_is_that_of_two_pairs_alone() -> None:
    torch.manual_seed(0)
    spoken, images, coarse = torch.randn(3, 8), torch.randn(3, 8), functional.normalize(torch.randn(8), dim=0)
    images = functional.normalize(images, dim=-1)
    found = word_losses(spoken, images, coarse, 0.25)
    for row in range(3):
        ones, others = torch.stack([images[row], coarse]), torch.stack([spoken[row], coarse])
        expected = naive_nt_xent(ones.double().numpy(), others.double().numpy(), 0.25)
        assert found[row].item() == pytest.approx(expected, abs=1e-5)
        assert nt_xent(ones, others, 0.25).item() == pytest.approx(expected, abs=1e-5)


def test_words_are_improved_by_adam_each_by_itself() -> None:
    tower, parameters = PseudoWords(tiny_backbone()), PalavraParameters(steps=3)
    generator = torch.Generator().manual_seed(0)
    starts = 0.1 * torch.randn(4, tower.width, generator=generator)
    images = functional.normalize(torch.randn(4, tiny_backbone().dim, generator=generator), dim=-1)
    coarse, alone = functional.normalize(torch.ones(tiny_backbone().dim), dim=0), tower.tokenize(["$"])
    found = improve(tower, alone, starts, images, coarse, parameters)
    for row in range(4):
        word, first, second = starts[row].clone(), torch.zeros(tower.width), torch.zeros(tower.width)
        for step in range(1, 4):
            free = word.clone().requires_grad_()
            loss = word_losses(tower(alone, free[None]), images[row : row + 1], coarse, 0.25).sum()
            (gradient,) = torch.autograd.grad(loss, free)
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            word = word - 0.01 * first / (1 - 0.9**step) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        torch.testing.assert_close(found[row], word, atol=1e-4, rtol=1e-3)


@pytest.mark.slow
def test_a_word_depends_on_its_image_alone_to_the_last_bit_and_is_made_once(tmp_path: Path) -> None:
    protocol = scenes_protocol("tiny")
    assert protocol.gallery is not None
    items, parameters = protocol.gallery.items[:20], PalavraParameters(steps=2)
    words = PalavraInverter(encoder(FeatureStore(tmp_path)), parameters, trained())(items)
    assert len(np.unique(words, axis=0)) == 20
    for part in ([7], [19, 3, 7, 3], list(range(20))[::-1]):
        again = PalavraInverter(encoder(), parameters, trained())([items[place] for place in part])
        np.testing.assert_array_equal(again, words[part])
    kept = {path: path.read_bytes() for path in tmp_path.glob("*/*.safetensors")}
    np.testing.assert_array_equal(PalavraInverter(encoder(FeatureStore(tmp_path)), parameters, trained())(items), words)
    assert {path: path.read_bytes() for path in tmp_path.glob("*/*.safetensors")} == kept


@pytest.mark.slow
def test_whatever_decides_a_word_makes_other_words() -> None:
    changes: list[dict[str, Any]] = [{}, {"steps": 3}, {"lr": 0.02}, {"temperature": 0.1}, {"coarse": "thing"}]
    other = train_method(SPEC, tiny_backbone(), coloured_pairs(), msgspec.structs.replace(QUICK, seed=1))
    spaces = {PalavraInverter(encoder(), PalavraParameters(**change), trained()).space.digest for change in changes}
    spaces.add(PalavraInverter(encoder(), PalavraParameters(), other).space.digest)
    assert len(spaces) == 6


@pytest.mark.slow
def test_steps_bring_what_the_words_say_nearer_to_their_images() -> None:
    protocol = scenes_protocol("tiny")
    assert protocol.gallery is not None
    items, ours = protocol.gallery.items[:12], encoder()
    images, likeness = torch.from_numpy(ours.images(items)), []
    for steps in (0, 30):
        words = PalavraInverter(ours, PalavraParameters(steps=steps), trained())(items)
        likeness.append(functional.cosine_similarity(torch.from_numpy(ours.composed(["$"] * 12, words)), images))
    assert float((likeness[1] - likeness[0]).min()) > 0.02


@pytest.mark.slow
def test_it_keeps_the_rules_of_the_interface() -> None:
    assert broken_rules_of_spec(SPEC, "cirbench_methods.palavra:SPEC") == []
    parameters = parse_parameters(SPEC, {"steps": "2"})
    assert broken_rules(lambda: build(SPEC, encoder(), parameters, trained())) == []


@pytest.mark.slow
def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"fc.weight": torch.zeros(2)}, tmp_path / "weights.safetensors")
    with pytest.raises(CorruptFile, match="PALAVRA's networks for"):
        PalavraInverter(encoder(), PalavraParameters(), tmp_path)


@dataclasses.dataclass(frozen=True)
class ImageAlone:
    image: NoImage
    caption: None = None


def of_samples(*samples: ImageTextPair | ImageAlone) -> Source:
    return Source("mine", samples, "0" * 64)


def test_a_step_opens_no_image() -> None:
    source = of_samples(*[ImageTextPair(NoImage(str(number)), "a dog") for number in range(4)])
    assert Batches(source, tiny_backbone(), 2, 0, SPEC.trains_on)[0].pixels_B3SS.shape == (0, 3, 32, 32)


def test_data_that_are_no_pairs_are_refused_before_the_first_step() -> None:
    with pytest.raises(UsageError, match="palavra is trained on images with captions, and scenes:triplets"):
        some_triplets().require(SPEC.trains_on, owner="palavra")
    image = NoImage("one")
    with pytest.raises(UsageError, match="palavra is trained on images with captions, and mine holds no captions"):
        of_samples(ImageAlone(image)).require(SPEC.trains_on, owner="palavra")
    with pytest.raises(MissingData, match="Sample 2 of mine cannot be used: it has no caption"):
        WordProposal(copy.deepcopy(tiny_backbone()), QUICK).prepare(
            of_samples(ImageTextPair(image, "a dog"), ImageAlone(image)), silent
        )


def test_defaults_are_those_of_the_public_code_and_the_small_backbone_has_a_recipe() -> None:
    defaults: Any = training_parameters(SPEC, "ViT-B-32/openai", {})
    assert (defaults.lr, defaults.batch_size, defaults.epochs, defaults.weight_decay) == (1e-4, 256, 300, 0.0)
    assert (defaults.temperature, defaults.hidden, defaults.dropout) == (0.25, 4096, 0.25)
    assert type(optimizer_for(torch.nn.Linear(1, 1), defaults)).__name__ == "AdamW"  # without decay it is Adam
    use: Any = parse_parameters(SPEC, {})
    assert (use.steps, use.lr, use.temperature, use.coarse) == (30, 0.01, 0.25, "item")
    assert (use.prompt, use.order) == ("that", "both")
    assert training_parameters(SPEC, "scenes-vit", {}) == SPEC.training_presets["scenes-vit"]
