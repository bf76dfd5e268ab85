"""ARTEMIS and TIRG as heads on any backbone: the formulas of their papers, and the way from triplets to rows."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from cirbench.backbones.features.encoder import Encoder
from cirbench.benchmarks.scenes import scenes_protocol
from cirbench.methods.loading import build, parse_parameters
from cirbench.methods.training import train_method, training_parameters
from cirbench_methods.heads import ARTEMIS, MAAF, TIRG
from cirbench_methods.heads.artemis import ArtemisNetwork, scores
from cirbench_methods.heads.maaf import HEADS, MaafNetwork
from cirbench_methods.heads.tirg import TirgNetwork
from tests.method_rules import broken_rules, broken_rules_of_spec
from tests.tiny_clip import some_triplets, tiny_backbone

SPECS = {"artemis": ARTEMIS, "tirg": TIRG, "maaf": MAAF}


@cache
def trained(name: str) -> Path:
    parameters = training_parameters(SPECS[name], "", {"steps": "6", "batch_size": "8", "lr": "1e-3"})
    return train_method(SPECS[name], tiny_backbone(), some_triplets(), parameters, output=Path(mkdtemp()) / name)


def built(name: str) -> Any:
    spec = SPECS[name]
    return build(spec, Encoder(tiny_backbone(), None, batch_size=8), parse_parameters(spec, {}), trained(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
def test_they_keep_the_rules(name: str) -> None:
    assert broken_rules_of_spec(SPECS[name], f"cirbench_methods.heads:{name.upper()}") == []
    assert broken_rules(lambda: built(name)) == []


def naive_artemis(network: ArtemisNetwork, image: Any, text: Any, target: Any) -> float:
    """The score of one pair: u . n(a y) + n(b r) . n(b y)."""
    image, text, target = (functional.normalize(row, dim=0) for row in (image, text, target))
    a, b = (functional.softmax(part[:3](text), dim=0) for part in (network.explicit, network.implicit))
    explicit = functional.normalize(network.transform(text), dim=0) @ functional.normalize(a * target, dim=0)
    implicit = functional.normalize(b * image, dim=0) @ functional.normalize(b * target, dim=0)
    return float(explicit + implicit)


def test_four_products_give_the_score_of_artemis() -> None:
    torch.manual_seed(0)
    network = ArtemisNetwork(10)
    images, texts, targets = torch.randn(4, 10), torch.randn(4, 10), torch.randn(6, 10)
    with torch.no_grad():
        sides = network(images, texts)
        found = scores(sides, functional.normalize(targets, dim=-1))
        expected = [[naive_artemis(network, images[q], texts[q], targets[n]) for n in range(6)] for q in range(4)]
        own = scores(sides, functional.normalize(targets[:4, None].expand(4, 2, 10), dim=-1))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(own.numpy(), np.repeat(np.diag(found.numpy()[:, :4])[:, None], 2, axis=1), atol=1e-5)


def naive_tirg(network: TirgNetwork, image: Any, text: Any) -> Any:
    """w1 sigmoid(F1) v + w2 F2 of one pair, with the statistics that BatchNorm has gathered, in float64."""
    weights = {name: tensor.double() for name, tensor in network.state_dict().items()}
    both = torch.cat([image, text]).double()

    def normed(part: str) -> Any:
        mean, var = weights[f"{part}.0.running_mean"], weights[f"{part}.0.running_var"]
        scaled = (both - mean) / (var + 1e-5).sqrt() * weights[f"{part}.0.weight"] + weights[f"{part}.0.bias"]
        return scaled.clamp_min(0)

    def linear(name: str, row: Any) -> Any:
        return weights[f"{name}.weight"] @ row + weights[f"{name}.bias"]

    gate = torch.sigmoid(linear("gate.2", normed("gate")))
    residual = linear("residual.4", linear("residual.2", normed("residual")).clamp_min(0))
    return weights["shares"][0] * gate * image.double() + weights["shares"][1] * residual


def test_tirg_is_a_gated_image_and_a_residual() -> None:
    torch.manual_seed(0)
    network = TirgNetwork(6)
    with torch.no_grad():
        network(torch.randn(20, 6) + 1, torch.randn(20, 6))  # statistics other than those of the start
        network.eval()
        images, texts = torch.randn(4, 6), torch.randn(4, 6)
        found = network(images, texts)
        expected = torch.stack([naive_tirg(network, images[row], texts[row]) for row in range(4)])
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-5)


def naive_maaf(network: MaafNetwork, *tokens: Any) -> Any:
    """Two blocks over some tokens and a norm, in float64 and one head after the other; the mean of the tokens."""
    weights = {name: tensor.double().numpy() for name, tensor in network.state_dict().items()}
    rows = np.stack([token.double().numpy() for token in tokens])

    def norm(name: str, rows: Any) -> Any:
        centred = rows - rows.mean(1, keepdims=True)
        return weights[f"{name}.gain"] * centred / (rows.std(1, ddof=1, keepdims=True) + 1e-6) + weights[f"{name}.bias"]

    def linear(name: str, rows: Any) -> Any:
        return rows @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    for block in ("blocks.0", "blocks.1"):
        asked, keys, values = np.split(linear(f"{block}.into", norm(f"{block}.norms.0", rows)), 3, axis=1)
        seen = []
        for part in np.split(np.arange(rows.shape[1]), HEADS):
            logits = asked[:, part] @ keys[:, part].T / np.sqrt(len(part))
            shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            seen.append(shares @ values[:, part])
        rows = rows + linear(f"{block}.out", np.concatenate(seen, axis=1))
        hidden = np.maximum(linear(f"{block}.forward_layers.0", norm(f"{block}.norms.1", rows)), 0)
        rows = rows + linear(f"{block}.forward_layers.2", hidden)
    return norm("norm", rows).mean(0)


def test_maaf_attends_over_both_features_and_over_one_for_a_target() -> None:
    torch.manual_seed(0)
    network = MaafNetwork(16)
    images, texts = torch.randn(3, 16), torch.randn(3, 16)
    with torch.no_grad():
        queries, targets = network(images, texts).numpy(), network(images).numpy()
    for row in range(3):
        np.testing.assert_allclose(queries[row], naive_maaf(network, images[row], texts[row]), atol=1e-5)
        np.testing.assert_allclose(targets[row], naive_maaf(network, images[row]), atol=1e-5)


@pytest.mark.slow
def test_artemis_ranks_by_its_own_score() -> None:
    method, protocol = built("artemis"), scenes_protocol("tiny")
    assert protocol.gallery is not None
    gallery = method.encode_gallery(protocol.gallery.items[:5])
    queries = method.encode_queries(protocol.queries[:3])
    assert queries.shape == (3, 4 * gallery.shape[1])
    network = ArtemisNetwork(tiny_backbone().dim)
    from safetensors.torch import load_file

    network.load_state_dict(load_file(trained("artemis") / "weights.safetensors"))
    encoder = Encoder(tiny_backbone(), None, batch_size=8)
    images = torch.from_numpy(encoder.images([query.reference for query in protocol.queries[:3]]))
    texts = torch.from_numpy(encoder.texts([query.captions[0] for query in protocol.queries[:3]]))
    with torch.no_grad():
        expected = [
            [naive_artemis(network, images[q], texts[q], torch.from_numpy(gallery[n])) for n in range(5)]
            for q in range(3)
        ]
    np.testing.assert_allclose(method.score(queries, gallery), expected, atol=1e-5)
