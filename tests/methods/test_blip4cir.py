"""BLIP4CIR in one and in two directions: losses against their formulas, rows, rates, and published files."""

from __future__ import annotations

import copy
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
from cirbench.training.loop import FACTOR_OF_RATE, optimizer_for
from cirbench_methods.blip4cir import BI_BLIP4CIR, BLIP4CIR
from cirbench_methods.blip4cir.train import TextTuning, backward_logits, directed
from cirbench_methods.clip4cir import COMBINER
from cirbench_methods.clip4cir.combiner import Combiner
from cirbench_methods.clip4cir.train import CombinerHead
from tests.method_rules import broken_rules, broken_rules_of_spec
from tests.tiny_blip import blip_model, tiny_blip
from tests.tiny_clip import some_triplets, tiny_backbone

QUICK = {"steps": "6", "batch_size": "8", "lr": "1e-3", "projection_rate": "2"}
BOTH = pytest.mark.parametrize("spec", [BLIP4CIR, BI_BLIP4CIR], ids=lambda spec: spec.name)


@cache
def trained(name: str) -> Path:
    spec = BLIP4CIR if name == "blip4cir" else BI_BLIP4CIR
    parameters = training_parameters(spec, "", QUICK)
    return train_method(spec, tiny_blip(), some_triplets(), parameters, output=Path(mkdtemp()) / name)


def encoder() -> Encoder:
    return Encoder(tiny_blip(), None, batch_size=8)


def rows(spec: Any, folder: Path) -> tuple[Any, Any]:
    method = build(spec, encoder(), parse_parameters(spec, {}), folder)
    protocol = scenes_protocol("tiny")
    assert protocol.gallery is not None
    return method.encode_gallery(protocol.gallery.items[:5]), method.encode_queries(protocol.queries[:5])


@BOTH
def test_the_specs_keep_the_rules(spec: Any) -> None:
    name = "BLIP4CIR" if spec is BLIP4CIR else "BI_BLIP4CIR"
    assert broken_rules_of_spec(spec, f"cirbench_methods.blip4cir:{name}") == []


@pytest.mark.slow
@BOTH
def test_the_methods_keep_the_rules(spec: Any) -> None:
    assert broken_rules(lambda: build(spec, encoder(), parse_parameters(spec, {}), trained(spec.name))) == []


def naive_backward_logits(references: Any, targets: Any, texts: Any) -> Any:
    """Each reference against the sum of each target and the reference's own text, one by one in float64."""

    def unit(row: Any) -> Any:
        return row / np.linalg.norm(row)

    return np.array(
        [
            [100 * unit(reference) @ unit(unit(target) + text) for target in targets]
            for reference, text in zip(references, texts, strict=True)
        ]
    )


def test_backward_logits_are_those_of_all_sums_one_by_one() -> None:
    torch.manual_seed(0)
    references, targets, texts = (scale * torch.randn(7, 5) for scale in (3.0, 0.5, 2.0))
    found = backward_logits(references, targets, texts, 100.0)
    expected = naive_backward_logits(*(rows.double().numpy() for rows in (references, targets, texts)))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)  # of numbers up to 100


@BOTH
def test_the_loss_is_that_of_the_public_code(spec: Any) -> None:
    parameters: Any = training_parameters(spec, "", {})
    backbone = copy.deepcopy(tiny_blip())
    batch = Batches(some_triplets(), backbone, 8, 0, "triplets", view=parameters)[0]
    loss = TextTuning(backbone, parameters).loss(batch)
    assert batch.target_pixels_B3SS is not None
    with torch.no_grad():
        references, targets = map(backbone.encode_images, (batch.pixels_B3SS, batch.target_pixels_B3SS))
        words = {"there": "[FORWARD] ", "back": "[BACKWARD] "} if parameters.backward else {"there": "", "back": ""}
        there, back = (
            backbone.encode_tokens(
                backbone.tokenize([words[way] + text.replace(" and ", f" and {words[way]}") for text in batch.captions])
            )
            for way in ("there", "back")
        )
        logits = 100 * functional.normalize(references + there) @ functional.normalize(targets).T
        expected = functional.cross_entropy(logits, torch.arange(8))
        if parameters.backward:
            reversed_logits = naive_backward_logits(references.numpy(), targets.numpy(), back.numpy())
            expected += 0.4 * functional.cross_entropy(torch.from_numpy(reversed_logits).float(), torch.arange(8))
    assert loss.item() == pytest.approx(float(expected), rel=1e-5)


def test_a_direction_stands_before_each_caption_and_not_inside_words() -> None:
    assert directed("Has a brand and is red", "[FORWARD]") == "[FORWARD] Has a brand and [FORWARD] is red"
    assert directed("is red and long", "") == "is red and long"


def test_the_text_tower_alone_learns_and_its_projection_faster() -> None:
    parameters: Any = training_parameters(BI_BLIP4CIR, "", {})
    backbone = copy.deepcopy(tiny_blip())
    objective = TextTuning(backbone, parameters)
    objective.loss(Batches(some_triplets(), backbone, 8, 0, "triplets", view=parameters)[0]).backward()  # type: ignore[no-untyped-call]
    moved = {name for name, weights in backbone.model.named_parameters() if weights.grad is not None}
    assert {name.partition(".")[0] for name in moved} == {"text_encoder", "text_proj"}
    assert not any("crossattention" in name for name in moved)
    fast = [weights for name, weights in backbone.model.named_parameters() if name.startswith("text_proj")]
    for group in optimizer_for(backbone.model, parameters, objective.parameter_groups).param_groups:
        is_fast = {any(weights is one for one in fast) for weights in group["params"]}
        assert is_fast == {group[FACTOR_OF_RATE] == 100.0}


@pytest.mark.slow
@BOTH
def test_queries_are_sums_of_untouched_images_and_tuned_texts(spec: Any) -> None:
    gallery, queries = rows(spec, trained(spec.name))
    protocol = scenes_protocol("tiny")
    assert protocol.gallery is not None
    np.testing.assert_array_equal(gallery, encoder().images(protocol.gallery.items[:5]))
    some = protocol.queries[:5]
    word = "[FORWARD] " if spec is BI_BLIP4CIR else ""
    texts = encoder().with_weights(trained(spec.name) / WEIGHTS).texts([word + query.captions[0] for query in some])
    expected = encoder().images([query.reference for query in some]) + texts
    np.testing.assert_allclose(queries, expected, atol=1e-6)
    assert not np.allclose(texts, encoder().texts([word + query.captions[0] for query in some]), atol=1e-3)


def published(seed: int = 3) -> dict[str, torch.Tensor]:
    """A text tower as the public code saves it."""
    tower = {name: each for name, each in blip_model(seed).state_dict().items() if name.startswith("text_")}
    return tower | {"text_encoder.embeddings.position_ids": torch.arange(40)[None]}


def test_a_published_file_is_the_text_tower_beside_the_backbones_images(tmp_path: Path) -> None:
    torch.save({"epoch": 4, "BLIPTextEncoder": published()}, tmp_path / "tuned_blip_best.pt")
    parameters = training_parameters(BI_BLIP4CIR, "", {})
    folder = convert(BI_BLIP4CIR, tmp_path / "tuned_blip_best.pt", tiny_blip(), parameters, output=tmp_path / "out")
    gallery, queries = rows(BI_BLIP4CIR, folder)
    some = scenes_protocol("tiny").queries[:5]
    texts = Encoder(tiny_blip(3), None, batch_size=8).texts([f"[FORWARD] {query.captions[0]}" for query in some])
    np.testing.assert_allclose(queries, encoder().images([query.reference for query in some]) + texts, atol=1e-5)
    assert gallery.shape[1] == tiny_blip().dim


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"text_proj.bias": None}, r"does not hold a text tower of BLIP: 'text_proj\.bias' is missing"),
        ({"visual.weight": torch.zeros(2)}, r"'visual\.weight' is not part of it"),
        ({"text_proj.bias": torch.zeros(7)}, r"for a BLIP of another size than .*: text_proj\.bias differs"),
    ],
)
def test_other_files_are_refused(changes: dict[str, Any], problem: str, tmp_path: Path) -> None:
    tensors = {name: tensor for name, tensor in (published() | changes).items() if tensor is not None}
    torch.save({"BLIPTextEncoder": tensors}, tmp_path / "file.pt")
    parameters = training_parameters(BLIP4CIR, "", {})
    with pytest.raises(UsageError, match=problem):
        convert(BLIP4CIR, tmp_path / "file.pt", tiny_blip(), parameters, output=tmp_path / "out")
    with pytest.raises(UsageError, match=r"is for BLIP, and .* is none"):
        convert(BLIP4CIR, tmp_path / "file.pt", tiny_backbone(), parameters, output=tmp_path / "other")


@pytest.mark.slow
def test_the_second_stage_is_a_combiner_on_the_tuned_text_tower(tmp_path: Path) -> None:
    small = {"steps": "4", "batch_size": "8", "projection": "8", "hidden": "12", "towers": str(trained("blip4cir"))}
    folder = train_method(
        COMBINER, tiny_blip(), some_triplets(), training_parameters(COMBINER, "", small), output=tmp_path / "combiner"
    )
    gallery, queries = rows(COMBINER, folder)
    protocol = scenes_protocol("tiny")
    assert protocol.gallery is not None
    np.testing.assert_array_equal(gallery, encoder().images(protocol.gallery.items[:5]))
    some, tuned = protocol.queries[:5], encoder().with_weights(trained("blip4cir") / WEIGHTS)
    network = Combiner.for_tensors(read_tensors(folder / WEIGHTS))
    network.load_state_dict(read_tensors(folder / WEIGHTS))
    images = torch.from_numpy(encoder().images([query.reference for query in some]))
    texts = torch.from_numpy(tuned.texts([query.captions[0] for query in some]))
    with torch.no_grad():
        np.testing.assert_allclose(queries, network.eval()(images, texts).numpy(), atol=1e-6)


@pytest.mark.slow
def test_a_combiner_refuses_towers_that_read_words_for_directions() -> None:
    parameters: Any = training_parameters(COMBINER, "", {"towers": str(trained("bi-blip4cir"))})
    with pytest.raises(UsageError, match="read words for directions, which a Combiner is not given here"):
        CombinerHead(copy.deepcopy(tiny_blip()), parameters)
