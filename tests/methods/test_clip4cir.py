"""CLIP4Cir: both stages against the formulas of the paper, their way from triplets to rows, and published files."""

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
from cirbench.errors import CorruptFile, UsageError
from cirbench.methods.loading import build, parse_parameters
from cirbench.methods.training import convert, train_method, training_parameters
from cirbench.training.checkpoint import WEIGHTS, open_checkpoint, read_card
from cirbench.training.data import Batches
from cirbench_methods.clip4cir import CLIP4CIR, COMBINER, TOWERS
from cirbench_methods.clip4cir.combiner import Combiner
from cirbench_methods.clip4cir.train import TowerTuning
from tests.method_rules import broken_rules, broken_rules_of_spec
from tests.tiny_clip import some_triplets, tiny_backbone

QUICK = {"steps": "6", "batch_size": "8", "lr": "1e-3"}
SMALL = {**QUICK, "projection": "8", "hidden": "12"}


@cache
def tuned() -> Path:
    parameters = training_parameters(CLIP4CIR, "", QUICK)
    return train_method(CLIP4CIR, tiny_backbone(), some_triplets(), parameters, output=Path(mkdtemp()) / "clip4cir")


@cache
def combined(towers: str | None = None) -> Path:
    parameters = training_parameters(COMBINER, "", SMALL | ({"towers": towers} if towers else {}))
    return train_method(COMBINER, tiny_backbone(), some_triplets(), parameters, output=Path(mkdtemp()) / "combiner")


def encoder() -> Encoder:
    return Encoder(tiny_backbone(), None, batch_size=8)


def rows(spec: Any, checkpoint: Path) -> tuple[Any, Any]:
    method = build(spec, encoder(), parse_parameters(spec, {}), checkpoint)
    protocol = scenes_protocol("tiny")
    assert protocol.gallery is not None
    return method.encode_gallery(protocol.gallery.items[:5]), method.encode_queries(protocol.queries[:5])


@pytest.mark.parametrize("spec", [CLIP4CIR, COMBINER], ids=lambda spec: spec.name)
def test_the_specs_keep_the_rules(spec: Any) -> None:
    name = "CLIP4CIR" if spec is CLIP4CIR else "COMBINER"
    assert broken_rules_of_spec(spec, f"cirbench_methods.clip4cir:{name}") == []


@pytest.mark.slow
@pytest.mark.parametrize("spec", [CLIP4CIR, COMBINER], ids=lambda spec: spec.name)
def test_the_methods_keep_the_rules(spec: Any) -> None:
    folder = tuned() if spec is CLIP4CIR else combined()
    assert broken_rules(lambda: build(spec, encoder(), parse_parameters(spec, {}), folder)) == []


def naive_combiner(weights: dict[str, Any], image: Any, text: Any) -> Any:
    """The Combiner of one pair, in float64 and from the formula alone."""

    def linear(name: str, row: Any) -> Any:
        return weights[f"{name}.weight"] @ row + weights[f"{name}.bias"]

    both = np.concatenate([np.maximum(linear("text_projection_layer", text), 0),
                           np.maximum(linear("image_projection_layer", image), 0)])  # fmt: skip
    hidden = np.maximum(linear("dynamic_scalar.0", both), 0)
    share = 1 / (1 + np.exp(-linear("dynamic_scalar.3", hidden)))
    out = linear("output_layer", np.maximum(linear("combiner_layer", both), 0)) + share * text + (1 - share) * image
    return out / np.linalg.norm(out)


def test_the_combiner_is_the_formula_of_the_paper() -> None:
    torch.manual_seed(0)
    network = Combiner(6, 10, 14).eval()
    images, texts = torch.randn(4, 6), torch.randn(4, 6)
    with torch.no_grad():
        found = network(images, texts).numpy()
    weights = {name: tensor.double().numpy() for name, tensor in network.state_dict().items()}
    for row in range(4):
        expected = naive_combiner(weights, images[row].double().numpy(), texts[row].double().numpy())
        np.testing.assert_allclose(found[row], expected, atol=1e-5)


def test_the_loss_of_tuning_is_the_cross_entropy_of_the_sums_against_the_targets() -> None:
    backbone = copy.deepcopy(tiny_backbone())
    parameters: Any = training_parameters(CLIP4CIR, "", {"scale": "100"})
    batch = Batches(some_triplets(), backbone, 8, 0, "triplets", view=parameters)[0]
    loss = TowerTuning(backbone, parameters).loss(batch)
    assert batch.target_pixels_B3SS is not None
    with torch.no_grad():
        references, targets = map(backbone.encode_images, (batch.pixels_B3SS, batch.target_pixels_B3SS))
        texts = backbone.encode_tokens(backbone.tokenize(batch.captions))
        logits = 100 * functional.normalize(references + texts) @ functional.normalize(targets).T
    expected = sum(logits[row].logsumexp(0) - logits[row, row] for row in range(8)) / 8
    assert loss.item() == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.parametrize(("encoder", "moves"), [("both", "it"), ("image", "i"), ("text", "t")])
def test_only_the_towers_that_are_asked_for_learn(encoder: str, moves: str) -> None:
    backbone = copy.deepcopy(tiny_backbone())
    parameters: Any = training_parameters(CLIP4CIR, "", {"encoder": encoder})
    objective = TowerTuning(backbone, parameters)
    objective.loss(Batches(some_triplets(), backbone, 8, 0, "triplets", view=parameters)[0]).backward()  # type: ignore[no-untyped-call]
    moved = {
        "i" if name.startswith("visual") else "t" for name, p in backbone.model.named_parameters() if p.grad is not None
    }
    assert moved == set(moves)
    assert not backbone.model.training


@pytest.mark.slow
def test_a_tuned_clip_adds_raw_features_of_its_own_towers() -> None:
    gallery, queries = rows(CLIP4CIR, tuned())
    own = encoder().with_weights(tuned() / WEIGHTS)
    protocol = scenes_protocol("tiny")
    assert protocol.gallery is not None
    np.testing.assert_array_equal(gallery, own.images(protocol.gallery.items[:5]))
    expected = own.images([query.reference for query in protocol.queries[:5]])
    expected += own.texts([query.captions[0] for query in protocol.queries[:5]])
    np.testing.assert_allclose(queries, expected, atol=1e-6)


@pytest.mark.slow
def test_a_combiner_on_tuned_towers_carries_them_with_it() -> None:
    folder = combined(str(tuned()))
    card = read_card(folder)
    assert card.carried[TOWERS] == read_card(tuned()).weights
    gallery, queries = rows(COMBINER, folder)
    np.testing.assert_array_equal(gallery, rows(CLIP4CIR, tuned())[0])
    assert not np.allclose(queries, rows(COMBINER, combined())[1], atol=1e-3)
    (folder / TOWERS).write_bytes(b"torn")
    with pytest.raises(CorruptFile, match=r"towers.safetensors is damaged"):
        open_checkpoint(folder, method="combiner", backbone=tiny_backbone().identity)
    (folder / TOWERS).write_bytes((tuned() / WEIGHTS).read_bytes())


@pytest.mark.slow
def test_towers_of_another_method_are_refused() -> None:
    with pytest.raises(UsageError, match="is of the method combiner, not of clip4cir"):
        combined(str(combined()))


@pytest.mark.slow
def test_published_files_become_checkpoints_that_run(tmp_path: Path) -> None:
    """Laid out as the public code saves them: the epoch beside a state dict under the name of the class."""
    weights = {name: tensor.half() for name, tensor in read_tensors(tuned() / WEIGHTS).items()}
    torch.save({"epoch": 7, "CLIP": weights}, tmp_path / "tuned_clip_best.pt")
    towers = convert(CLIP4CIR, tmp_path / "tuned_clip_best.pt", tiny_backbone(), training_parameters(CLIP4CIR, "", {}),
                     output=tmp_path / "towers")  # fmt: skip
    torch.manual_seed(1)
    network = Combiner(tiny_backbone().dim, 8, 12).eval()
    torch.save({"epoch": 7, "Combiner": network.state_dict()}, tmp_path / "combiner.pt")
    parameters = training_parameters(COMBINER, "", {"towers": str(towers)})
    folder = convert(COMBINER, tmp_path / "combiner.pt", tiny_backbone(), parameters, output=tmp_path / "combiner")
    gallery, queries = rows(COMBINER, folder)
    np.testing.assert_array_equal(gallery, rows(CLIP4CIR, towers)[0])
    own = encoder().with_weights(towers / WEIGHTS)
    some = scenes_protocol("tiny").queries[:5]
    images = torch.from_numpy(own.images([query.reference for query in some]))
    texts = torch.from_numpy(own.texts([query.captions[0] for query in some]))
    with torch.no_grad():
        np.testing.assert_allclose(queries, network(images, texts).numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "content", "problem"),
    [
        (CLIP4CIR, {"CLIP": {"weight": torch.zeros(2)}}, "holds no tuned CLIP: token_embedding.weight is missing"),
        (COMBINER, {"Combiner": {"weight": torch.zeros(2)}}, "does not hold a Combiner: its tensor"),
        (COMBINER, {"Combiner": Combiner(640, 4, 4).state_dict()}, "is for features of 640 numbers"),
        (COMBINER, {"epoch": 3}, "holds no state dict"),
    ],
)
def test_other_files_are_refused(spec: Any, content: Any, problem: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "file.pt")
    with pytest.raises(UsageError, match=problem):
        convert(spec, tmp_path / "file.pt", tiny_backbone(), training_parameters(spec, "", {}), output=tmp_path / "out")


def test_towers_tuned_from_other_weights_are_refused(tmp_path: Path) -> None:
    torch.manual_seed(5)
    other = {name: torch.randn_like(tensor) for name, tensor in tiny_backbone().model.state_dict().items()}
    torch.save({"CLIP": other}, tmp_path / "file.pt")
    with pytest.raises(UsageError, match=r"was not tuned from .*: token_embedding.weight is another one"):
        convert(
            CLIP4CIR,
            tmp_path / "file.pt",
            tiny_backbone(),
            training_parameters(CLIP4CIR, "", {}),
            output=tmp_path / "out",
        )
