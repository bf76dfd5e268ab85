"""Early fusion: its losses against their formulas, its way from triplets to rows, and CoVR's files."""

from __future__ import annotations

import copy
import math
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from cirbench.backbones.encoder import Encoder
from cirbench.backbones.weights import read_tensors
from cirbench.benchmarks.scenes import scenes_protocol
from cirbench.errors import UsageError
from cirbench.methods.loading import build, parse_parameters
from cirbench.methods.training import convert, train_method, training_parameters
from cirbench.training.checkpoint import WEIGHTS
from cirbench.training.data import Batches
from cirbench_methods.early_fusion import SPEC
from cirbench_methods.early_fusion.train import FusionTuning, hard_negative_loss
from tests.method_rules import broken_rules, broken_rules_of_spec
from tests.tiny_blip import blip_model, tiny_blip
from tests.tiny_clip import some_triplets, tiny_backbone

QUICK = {"steps": "6", "batch_size": "8", "lr": "1e-3"}


@cache
def trained() -> Path:
    parameters = training_parameters(SPEC, "", QUICK)
    return train_method(SPEC, tiny_blip(), some_triplets(), parameters, output=Path(mkdtemp()) / "fused")


def encoder() -> Encoder:
    return Encoder(tiny_blip(), None, batch_size=8)


def a_batch(parameters: Any, size: int = 8) -> Any:
    return Batches(some_triplets(), tiny_blip(), size, 0, "triplets", view=parameters)[0]


def rows(folder: Path) -> tuple[Any, Any]:
    method = build(SPEC, encoder(), parse_parameters(SPEC, {}), folder)
    protocol = scenes_protocol("tiny")
    assert protocol.gallery is not None
    return method.encode_gallery(protocol.gallery.items[:5]), method.encode_queries(protocol.queries[:5])


def by_transformers(model: Any, texts: list[str], pixels: torch.Tensor) -> torch.Tensor:
    """What the text tower of a model makes of texts and images, one pair at a time, by transformers alone."""
    found = []
    for text, pixels_3SS in zip(texts, pixels, strict=True):
        tokens = tiny_blip().tokenize([text])
        tokens = tokens[:, : int((tokens != 0).sum())].clone()
        tokens[:, 0] = model.config.text_config.vocab_size - 1
        states = model.vision_model(pixel_values=pixels_3SS[None]).last_hidden_state
        read = model.text_encoder(input_ids=tokens, encoder_hidden_states=states).last_hidden_state
        found.append(model.text_proj(read[:, 0])[0])
    return torch.stack(found)


def test_the_spec_keeps_the_rules() -> None:
    assert broken_rules_of_spec(SPEC, "cirbench_methods.early_fusion:SPEC") == []


@pytest.mark.slow
def test_the_method_keeps_the_rules() -> None:
    assert broken_rules(lambda: build(SPEC, encoder(), parse_parameters(SPEC, {}), trained())) == []


def test_the_loss_is_the_cross_entropy_of_fused_queries_against_untouched_images() -> None:
    parameters: Any = training_parameters(SPEC, "", {"temperature": "0.05"})
    batch = a_batch(parameters)
    loss = FusionTuning(copy.deepcopy(tiny_blip()), parameters).loss(batch)
    assert batch.target_pixels_B3SS is not None
    with torch.no_grad():
        queries = functional.normalize(by_transformers(blip_model(), list(batch.captions), batch.pixels_B3SS))
        targets = functional.normalize(tiny_blip().encode_images(batch.target_pixels_B3SS))
        logits = queries @ targets.T / 0.05
    expected = sum(logits[row].logsumexp(0) - logits[row, row] for row in range(8)) / 8
    assert loss.item() == pytest.approx(float(expected), abs=1e-4)


def naive_hard_negative_loss(scores: Any, alpha: float, beta: float) -> float:
    """HN-NCE of a square of scaled similarities, in float64 and from the formula alone."""
    size, total = len(scores), 0.0
    for square in (scores, scores.T):
        for row in range(size):
            others = [column for column in range(size) if column != row]
            spread = sum(math.exp(beta * square[row, column]) for column in others)
            inside = alpha * math.exp(square[row, row])
            for column in others:
                weight = (size - 1) * math.exp(beta * square[row, column]) / spread
                inside += weight * math.exp(square[row, column])
            total += (math.log(inside) - square[row, row]) / size
    return total


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.5), (1.0, 0.0), (0.3, 1.2), (0.0, 0.5)])
def test_hard_negatives_weigh_as_the_formula_says(alpha: float, beta: float) -> None:
    torch.manual_seed(0)
    queries, targets = torch.randn(6, 5), torch.randn(6, 5)
    found = hard_negative_loss(queries, targets, torch.tensor(7.0), 0, alpha, beta)
    scores = 7 * functional.normalize(queries.double()) @ functional.normalize(targets.double()).T
    assert found.item() == pytest.approx(naive_hard_negative_loss(scores.numpy(), alpha, beta), abs=1e-5)


def test_without_sharpness_hard_negatives_are_the_two_way_cross_entropy() -> None:
    torch.manual_seed(1)
    queries, targets = functional.normalize(torch.randn(6, 5)), functional.normalize(torch.randn(6, 5))
    found = hard_negative_loss(queries, targets, torch.tensor(10.0), 0, 1.0, 0.0)
    scores, own = 10 * queries @ targets.T, torch.arange(6)
    torch.testing.assert_close(found, functional.cross_entropy(scores, own) + functional.cross_entropy(scores.T, own))


@pytest.mark.parametrize(("learnt", "loss"), [(True, "one-way"), (False, "hn-nce")])
def test_the_text_tower_learns_with_its_cross_attention_and_nothing_else_does(learnt: bool, loss: str) -> None:
    parameters: Any = training_parameters(SPEC, "", {"learn_temperature": str(learnt).lower(), "loss": loss})
    backbone = copy.deepcopy(tiny_blip())
    objective = FusionTuning(backbone, parameters)
    objective.loss(a_batch(parameters)).backward()  # type: ignore[no-untyped-call]
    moved = {name for name, weights in objective.module.named_parameters() if weights.grad is not None}
    assert moved == {name for name, _ in objective.module.named_parameters() if learnt or name != "temperature"}
    assert any("crossattention" in name for name in moved)
    assert all(weights.grad is None for weights in backbone.model.parameters())


def test_hard_negatives_of_a_triplets_own_are_refused() -> None:
    with pytest.raises(UsageError, match="no negatives beside them"):
        FusionTuning(tiny_blip(), training_parameters(SPEC, "", {"loss": "hn-nce", "negatives": "1"}))  # type: ignore[arg-type]


def test_other_backbones_are_refused_in_one_sentence() -> None:
    with pytest.raises(UsageError, match="cannot read a text in the light of an image"):
        FusionTuning(tiny_backbone(), training_parameters(SPEC, "", {}))  # type: ignore[arg-type]


@pytest.mark.slow
def test_queries_are_of_the_tuned_tower_and_the_gallery_is_that_of_the_backbone() -> None:
    gallery, queries = rows(trained())
    protocol = scenes_protocol("tiny")
    assert protocol.gallery is not None
    np.testing.assert_array_equal(gallery, encoder().images(protocol.gallery.items[:5]))
    model, tuned = blip_model(), read_tensors(trained() / WEIGHTS)
    model.load_state_dict({name: tensor for name, tensor in tuned.items() if name != "temperature"}, strict=False)
    some = protocol.queries[:5]
    pixels = torch.stack([tiny_blip().preprocess(query.reference.image.open()) for query in some])
    with torch.no_grad():
        expected = by_transformers(model, [query.captions[0] for query in some], pixels)
    np.testing.assert_allclose(queries, expected.numpy(), atol=1e-5)
    assert not np.allclose(queries, rows(converted_start())[1], atol=1e-3)


@cache
def converted_start() -> Path:
    """The tower as it was before any training, as CoVR's code saves it."""
    folder = Path(mkdtemp())
    torch.save({"model": in_the_form_of_covr(blip_model().state_dict()), "epoch": 5}, folder / "ckpt_5.ckpt")
    return convert(SPEC, folder / "ckpt_5.ckpt", tiny_blip(), training_parameters(SPEC, "", {}), output=folder / "out")


def in_the_form_of_covr(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Both towers and both projections by the names of BLIP's own code; the matching head is left out."""
    kept = {name: tensor for name, tensor in state.items() if name.startswith(("text_", "vision_proj"))}
    kept["text_encoder.embeddings.position_ids"] = torch.arange(40)[None]
    kept["visual_encoder.cls_token"] = state["vision_model.embeddings.class_embedding"]
    return kept


def test_a_published_file_becomes_the_tower_that_it_holds() -> None:
    _, queries = rows(converted_start())
    some = scenes_protocol("tiny").queries[:5]
    pixels = torch.stack([tiny_blip().preprocess(query.reference.image.open()) for query in some])
    with torch.no_grad():
        expected = by_transformers(blip_model(), [query.captions[0] for query in some], pixels)
    np.testing.assert_allclose(queries, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"text_proj.bias": None}, r"does not hold a tuned text tower of BLIP: 'text_proj\.bias' is missing"),
        ({"Qformer.bert.weight": torch.zeros(2)}, r"'Qformer\.bert\.weight' is not part of it"),
        ({"text_proj.bias": torch.zeros(7)}, r"for a BLIP of another size than .*: text_proj\.bias is \(7,\)"),
        (
            {"vision_proj.bias": torch.ones(16)},
            r"tuned beside other images than those of .*: vision_proj\.bias differs",
        ),
    ],
)
def test_other_files_are_refused(changes: dict[str, Any], problem: str, tmp_path: Path) -> None:
    tensors = in_the_form_of_covr(blip_model().state_dict()) | changes
    tensors = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    torch.save({"model": tensors}, tmp_path / "file.ckpt")
    with pytest.raises(UsageError, match=problem):
        convert(SPEC, tmp_path / "file.ckpt", tiny_blip(), training_parameters(SPEC, "", {}), output=tmp_path / "out")
