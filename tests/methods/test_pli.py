"""Masked tuning: the loss against its definition, a golden trace, and the way from pairs to rows."""

from __future__ import annotations

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

from cirbench.backbones.encoder import Encoder
from cirbench.benchmarks.scenes import scenes_protocol
from cirbench.errors import UnknownName, UsageError
from cirbench.methods.interface import find_method
from cirbench.methods.loading import build, parse_parameters
from cirbench.methods.training import train_method, training_parameters
from cirbench.support.parameters import parse
from cirbench.training.checkpoint import WEIGHTS, read_card
from cirbench.training.data import Batches
from cirbench_methods.pli import SPEC, PliTraining
from cirbench_methods.pli.train import MaskedTuning, masked_tuning_loss
from tests.tiny_blip import tiny_blip
from tests.tiny_clip import coloured_pairs, tiny_backbone

QUICK = PliTraining(steps=20, batch_size=8, lr=1e-3, schedule="constant", warmup=0)
# fmt: off
GOLDEN = [
    3.943, 1.764, 2.7334, 2.0816, 0.9576, 1.8506, 0.7724, 0.922, 1.1599, 1.173,
    0.8131, 0.7711, 0.7061, 0.5482, 0.5285, 0.7305, 1.188, 0.9332, 0.4356, 0.697,
]
# fmt: on


@cache
def quick_checkpoint() -> Path:
    return train_method(SPEC, tiny_backbone(), coloured_pairs(), QUICK, output=Path(mkdtemp()) / "pli")


def naive_loss(sides: list[list[list[float]]], variant: str, temperature: float) -> float:
    """From the queries to their images, in float64 and loops."""
    masked, texts, targets = sides
    total, count = 0.0, len(masked)
    queries = [[a + b for a, b in zip(m, t, strict=True)] for m, t in zip(masked, texts, strict=True)]
    for own in range(count):
        logits = []
        for other in range(count):
            product = sum(a * b for a, b in zip(queries[own], targets[other], strict=True))
            if variant == "paper":
                product /= math.dist(queries[own], [0] * len(queries[own]))
            if variant in ("paper", "code-blip"):
                product /= math.dist(targets[other], [0] * len(targets[other]))
            logits.append(product / temperature)
        total += math.log(sum(map(math.exp, logits))) - logits[own]
    return total / count


@pytest.mark.parametrize("variant", ["code", "code-blip", "paper"])
def test_the_loss_and_its_gradient_are_those_of_the_definition(variant: Any) -> None:
    rng = np.random.default_rng(0)
    sides = [torch.tensor(rng.normal(size=(5, 4)), requires_grad=True) for _ in range(3)]
    parameters = PliTraining(variant=variant, temperature=0.7)
    found = masked_tuning_loss(sides[0], sides[1], sides[2], parameters)
    expected = naive_loss([side.detach().numpy().tolist() for side in sides], variant, 0.7)
    assert found.item() == pytest.approx(expected, abs=1e-12)
    assert torch.autograd.gradcheck(lambda m, t, v: masked_tuning_loss(m, t, v, parameters), sides)


def test_gradients_flow_through_the_masked_image_the_text_and_the_whole_image(monkeypatch: pytest.MonkeyPatch) -> None:
    sides: list[torch.Tensor] = []

    def watched(*arguments: Any) -> torch.Tensor:
        sides.extend(arguments[:3])
        return masked_tuning_loss(*arguments)

    monkeypatch.setattr("cirbench_methods.pli.train.masked_tuning_loss", watched)
    loss = MaskedTuning(tiny_backbone(), QUICK).loss(Batches(coloured_pairs(), tiny_backbone(), 8, 0)[0])
    gradients = torch.autograd.grad(loss, sides)
    assert len(gradients) == 3
    assert all(float(gradient.abs().max()) > 0 for gradient in gradients)


@pytest.mark.parametrize(
    ("marks", "text"),
    [("kept", "it is red. no? a*b & c "), ("words", "it is reddotmark noquestionmark astarmarkb andmark c")],
)
def test_marks_are_written_as_words_where_that_is_asked_for(marks: str, text: str) -> None:
    encoder = Encoder(tiny_backbone(), None)
    first = dataclasses.replace(scenes_protocol("tiny").queries[0], captions=("it is red. no? a*b & c ",))
    written = dataclasses.replace(first, captions=(text,))
    asked = build(SPEC, encoder, parse_parameters(SPEC, {"marks": marks}), quick_checkpoint())
    plain = build(SPEC, encoder, parse_parameters(SPEC, {}), quick_checkpoint())
    np.testing.assert_array_equal(asked.encode_queries([first]), plain.encode_queries([written]))


def test_twenty_steps_follow_the_golden_trace() -> None:
    # Other processors and versions of torch round differently; the steps amplify that, to far less than this.
    assert read_card(quick_checkpoint()).losses == pytest.approx(GOLDEN, abs=2e-3)


def test_both_towers_are_tuned_and_the_temperature_of_clip_is_not() -> None:
    from safetensors.torch import load_file

    before, after = tiny_backbone().model.state_dict(), load_file(quick_checkpoint() / WEIGHTS)
    unchanged = [name for name in before if torch.equal(before[name], after[name])]
    assert unchanged == ["logit_scale"]


def test_a_query_is_the_weighted_sum_of_unit_rows_of_the_tuned_towers() -> None:
    queries = scenes_protocol("tiny").queries[:5]
    encoder = Encoder(tiny_backbone(), None, batch_size=8)
    tuned = encoder.with_weights(quick_checkpoint() / WEIGHTS)
    images = tuned.images([query.reference for query in queries])
    texts = tuned.texts([query.captions[0] for query in queries])
    unit_images, unit_texts = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (images, texts))
    expected = {
        "": 0.25 * unit_images + unit_texts,  # one minus the mask ratio of the training
        "weight=0.6": 0.6 * unit_images + unit_texts,
        "sum=raw": 0.25 * images + texts,
    }
    for setting, rows in expected.items():
        values = dict([setting.split("=")]) if setting else {}
        method = build(SPEC, encoder, parse_parameters(SPEC, values), quick_checkpoint())
        np.testing.assert_allclose(method.encode_queries(queries), rows, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(
            method.encode_gallery([query.reference for query in queries]), tuned.images([q.reference for q in queries])
        )


@pytest.mark.slow
def test_blip_is_tuned_and_run_like_clip(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    recipe = msgspec.structs.replace(QUICK, mask_ratio=0.5, variant="code-blip", steps=40, lr=3e-3)
    folder = train_method(SPEC, tiny_blip(), coloured_pairs(), recipe, output=tmp_path / "pli")
    losses = read_card(folder).losses
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])
    before, after = tiny_blip().model.state_dict(), load_file(folder / WEIGHTS)
    unchanged = [name for name in before if torch.equal(before[name], after[name])]
    assert all("crossattention" in name or "itm_head" in name for name in unchanged)
    encoder = Encoder(tiny_blip(), None, batch_size=8)
    queries = scenes_protocol("tiny").queries[:3]
    tuned = encoder.with_weights(folder / WEIGHTS)
    images = tuned.images([query.reference for query in queries])
    texts = tuned.texts([query.captions[0] for query in queries])
    unit_images, unit_texts = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (images, texts))
    method = build(SPEC, encoder, parse_parameters(SPEC, {}), folder)
    np.testing.assert_allclose(method.encode_queries(queries), 0.5 * unit_images + unit_texts, rtol=1e-4, atol=1e-5)


def test_blip_learns_the_same_when_activations_are_computed_again_and_nearly_the_same_in_bf16(tmp_path: Path) -> None:
    found = {}
    ways: dict[str, dict[str, Any]] = {
        "plain": {},
        "again": {"activation_checkpointing": True},
        "half": {"precision": "bf16"},
    }
    for name, changes in ways.items():
        values = {"variant": "code-blip", "lr": 1e-3, "steps": 4, "batch_size": 4, **changes}
        recipe = parse(PliTraining, values, owner="PLI")
        folder = train_method(SPEC, tiny_blip(), coloured_pairs(), recipe, output=tmp_path / name)
        found[name] = read_card(folder).losses
    assert found["again"] == pytest.approx(found["plain"], rel=1e-5)
    assert found["half"] == pytest.approx(found["plain"], rel=0.2)
    assert found["half"] != found["plain"]


def test_a_checkpoint_of_another_backbone_is_refused() -> None:
    encoder = Encoder(tiny_backbone(seed=1), None)
    with pytest.raises(UsageError, match=r"was trained on .*/tiny, and the backbone here is .*: weights"):
        build(SPEC, encoder, parse_parameters(SPEC, {}), quick_checkpoint())


def test_defaults_are_those_of_the_public_code_and_blip_and_the_small_backbone_have_recipes() -> None:
    defaults = training_parameters(SPEC, "ViT-L-14/openai", {})
    assert isinstance(defaults, PliTraining)
    assert (defaults.lr, defaults.weight_decay, defaults.batch_size) == (1e-6, 5e-5, 64)
    assert (defaults.mask_ratio, defaults.variant, defaults.schedule) == (0.75, "code", "epochs")
    of_blip = training_parameters(SPEC, "blip-itm-base-coco", {})
    assert of_blip == PliTraining(mask_ratio=0.5, variant="code-blip")
    recipe = training_parameters(SPEC, "scenes-vit", {"seed": "3"})
    assert recipe == msgspec.structs.replace(SPEC.training_presets["scenes-vit"], seed=3)
    assert recipe.steps is not None


def test_wrong_training_parameters_are_said() -> None:
    with pytest.raises(UnknownName, match=r"called 'mask_ration'\.\nNearest: mask_ratio"):
        training_parameters(SPEC, "scenes-vit", {"mask_ration": "0.5"})
    with pytest.raises(UsageError, match=r"mask_ratio of pli's training cannot be '1': Expected `float` < 1"):
        training_parameters(SPEC, "scenes-vit", {"mask_ratio": "1"})
    with pytest.raises(UsageError, match="The method image-only is not trained"):
        training_parameters(find_method("image-only"), "scenes-vit", {})
