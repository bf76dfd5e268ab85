"""ARTEMIS, TIRG, MAAF and CIRPLANT as heads on any backbone: their formulas, and the way from triplets to rows."""

from __future__ import annotations

import copy
import dataclasses
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
from cirbench.benchmarks.scenes import scenes_protocol
from cirbench.errors import MissingData, UsageError
from cirbench.methods.loading import build, parse_parameters
from cirbench.methods.training import train_method, training_parameters
from cirbench.protocol import Triplet
from cirbench.support.console import silent
from cirbench.training.interface import Batch
from cirbench_methods.composition import CompositionParameters
from cirbench_methods.heads import ARTEMIS, CIRPLANT, MAAF, TIRG
from cirbench_methods.heads.artemis import ArtemisNetwork, scores
from cirbench_methods.heads.cirplant import Cirplant, CirplantHead, CirplantNetwork, Size, Tokens, margins, read_bert
from cirbench_methods.heads.maaf import HEADS, MaafNetwork
from cirbench_methods.heads.tirg import TirgNetwork
from tests.method_rules import broken_rules, broken_rules_of_spec
from tests.tiny_clip import some_triplets, tiny_backbone

SPECS = {"artemis": ARTEMIS, "tirg": TIRG, "maaf": MAAF, "cirplant": CIRPLANT}


@cache
def trained(name: str) -> Path:
    settings = {"steps": "6", "batch_size": "8", "lr": "1e-3", **({"width": "64"} if name == "cirplant" else {})}
    parameters = training_parameters(SPECS[name], "", settings)
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


def naive_bert(network: CirplantNetwork, image: Any, tokens: Any) -> Any:
    """The last state of the image's token after the words of one text, in float64 and one head after the other."""
    weights = {name: tensor.double().numpy() for name, tensor in network.state_dict().items()}

    def linear(name: str, rows: Any) -> Any:
        return rows @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(name: str, rows: Any) -> Any:
        centred = rows - rows.mean(1, keepdims=True)
        scaled = centred / np.sqrt(rows.var(1, keepdims=True) + 1e-12)
        return weights[f"{name}.weight"] * scaled + weights[f"{name}.bias"]

    words = weights["words.weight"][tokens] + weights["places.weight"][: len(tokens)] + weights["types.weight"][0]
    rows = np.concatenate([norm("norm", words), linear("image", image.double().numpy()[None])])
    for layer in range(len(network.layers)):
        name, seen = f"layers.{layer}", []
        for part in np.split(np.arange(rows.shape[1]), rows.shape[1] // 64):
            asked, keys, values = (linear(f"{name}.{side}", rows)[:, part] for side in ("query", "key", "value"))
            logits = asked @ keys.T / 8
            shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            seen.append(shares @ values)
        rows = norm(f"{name}.attended_norm", rows + linear(f"{name}.attended", np.concatenate(seen, axis=1)))
        hidden = linear(f"{name}.into", rows)
        hidden = hidden * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2))) / 2
        rows = norm(f"{name}.out_norm", rows + linear(f"{name}.out", hidden))
    return rows[-1]


def test_cirplant_is_a_bert_over_the_words_and_one_token_of_the_image() -> None:
    torch.manual_seed(0)
    network = CirplantNetwork(10, Size(words=30, places=7, width=128, hidden=20, layers=2))
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    images, tokens, lengths = torch.randn(3, 10), torch.randint(30, (3, 7)), torch.tensor([7, 4, 2])
    with torch.no_grad():
        found = network(images, tokens, lengths).numpy()
    for row, length in enumerate(lengths):
        expected = naive_bert(network, images[row], tokens[row, :length].numpy())
        np.testing.assert_allclose(found[row], expected, atol=1e-5)


def test_margins_of_cirplant_are_differences_of_squared_distances() -> None:
    torch.manual_seed(0)
    queries, targets, negatives = torch.randn(3, 8), torch.randn(3, 8), torch.randn(3, 2, 8)
    found = margins(queries, targets, negatives, torch.tensor(3.0), torch.arange(3))
    queries, targets, negatives = (3 * functional.normalize(rows, dim=-1) for rows in (queries, targets, negatives))
    for row in range(3):
        others = torch.cat([targets, negatives[row]])
        expected = ((queries[row] - targets[row]) ** 2).sum() - ((queries[row] - others) ** 2).sum(dim=1)
        np.testing.assert_allclose(found[row].numpy(), expected.numpy(), atol=1e-4)


def cirplant_training(**settings: str) -> Any:
    return training_parameters(CIRPLANT, "", {"width": "64", "layers": "1", **settings})


def test_the_loss_of_cirplant_is_a_soft_triplet_loss_over_the_other_targets() -> None:
    torch.manual_seed(0)
    source = some_triplets()
    head = CirplantHead(copy.deepcopy(tiny_backbone()), cirplant_training())
    head.prepare(source, silent)
    triplets = [
        dataclasses.replace(sample, negatives=()) for sample in source.samples[:8] if isinstance(sample, Triplet)
    ]
    triplets = [*triplets, triplets[0]]  # its target is asked for twice, and is no wrong answer
    captions = tuple(triplet.captions[0] for triplet in triplets)
    positions = np.arange(len(triplets))
    batch = Batch(torch.zeros(0), captions, positions, 0, len(triplets), triplets=tuple(triplets))
    with torch.no_grad():
        found = float(head.loss(batch))
        queries = head.module(head.features.references(batch), *head.tokens(captions))
        targets = head.module.image(head.features.targets(batch))
    queries, targets = (4 * functional.normalize(rows.double(), dim=-1) for rows in (queries, targets))
    losses = []
    for row, triplet in enumerate(triplets):
        distances = ((queries[row] - targets) ** 2).sum(dim=1)
        others = [column for column, other in enumerate(triplets) if other.target.id != triplet.target.id]
        losses.append(np.mean([float(functional.softplus(distances[row] - distances[k])) for k in others]))
    np.testing.assert_allclose(found, np.mean(losses), rtol=1e-5)


VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "circle", "##s", "is", "the")


@cache
def some_bert() -> Any:
    """A small BERT of transformers, with random weights."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
    }
    return BertModel(BertConfig(vocab_size=len(VOCABULARY), **sizes)).train(False)


def write_bert(folder: Path, weights: dict[str, Any] | None = None) -> Path:
    from safetensors.torch import save_file

    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    save_file(weights or some_bert().state_dict(), folder / "model.safetensors")
    return folder


def test_cirplant_starts_from_a_bert_and_reads_its_words(tmp_path: Path) -> None:
    from transformers import BertTokenizer

    folder = write_bert(tmp_path / "bert")
    network = CirplantHead(copy.deepcopy(tiny_backbone()), cirplant_training(initial=str(folder))).module
    tokens_BL, lengths_B = Tokens(network, tiny_backbone())(["Red circles", "is the circle red?"])
    assert tokens_BL[0, :5].tolist() == [2, 5, 6, 7, 3]
    assert lengths_B.tolist() == [5, 7]
    reference = BertTokenizer(vocab=dict(zip(VOCABULARY, range(len(VOCABULARY)), strict=True)))
    assert tokens_BL[1, :7].tolist() == reference("is the circle red?")["input_ids"]
    places_L = torch.arange(5)
    with torch.no_grad():
        states = network.norm(network.words(tokens_BL[:1, :5]) + network.places(places_L) + network.types.weight[0])
        for layer in network.layers:
            states = layer(states, torch.ones(1, 1, 1, 5, dtype=torch.bool))
        expected = some_bert()(input_ids=tokens_BL[:1, :5]).last_hidden_state
    np.testing.assert_allclose(states.numpy(), expected.numpy(), atol=1e-5)


def test_texts_that_are_cut_are_counted_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoder = Encoder(tiny_backbone(), None, batch_size=8)
    texts = ["red " * 100, "red " * 100, "red circles"]
    folder = write_bert(tmp_path / "bert")
    network = CirplantHead(copy.deepcopy(tiny_backbone()), cirplant_training(initial=str(folder))).module
    Tokens(network, tiny_backbone()).say_cut(texts, encoder)
    assert "cirplant: 1 different texts are longer than 40 word pieces" in capsys.readouterr().err
    assert encoder.truncated_texts == 0
    Tokens(CirplantHead(copy.deepcopy(tiny_backbone()), cirplant_training()).module, tiny_backbone()).say_cut(
        texts, encoder
    )
    assert encoder.truncated_texts == 1


def test_names_of_older_berts_are_understood(tmp_path: Path) -> None:
    def older(name: str) -> str:
        return "bert." + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")

    new = write_bert(tmp_path / "new")
    old = write_bert(tmp_path / "old", {older(name): tensor for name, tensor in some_bert().state_dict().items()})
    (first, _), (second, _) = read_bert(new), read_bert(old)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("folder", r"bert have no model.safetensors and no pytorch_model.bin"),
        ("vocabulary", r"bert have no vocab.txt"),
        ("no BERT", r"holds no transformer in BERT's form.*it holds .*conv1"),
        ("shape", r"layers.1.query.weight is \(64, 128\) in the file and \(128, 128\)"),
        ("missing", r"expected and not found: .*layers.1.query.weight"),
        ("words", r"vocab.txt has 11 words, and .*model.safetensors has 10 rows"),
        ("heads", r"config.json parts states of 128 dimensions into .?4.? heads"),
        ("config", r"config.json is no JSON object"),
        ("special", r"vocab.txt is not a vocabulary of WordPiece: it lacks .*\[CLS\]"),
    ],
)
def test_initial_weights_that_are_no_berts_are_refused(tmp_path: Path, damage: str, message: str) -> None:
    weights = dict(some_bert().state_dict())
    query = "encoder.layer.1.attention.self.query.weight"
    if damage == "no BERT":
        weights = {"conv1.weight": torch.zeros(3)}
    elif damage == "shape":
        weights[query] = torch.zeros(64, 128)
    elif damage == "missing":
        del weights[query]
    folder = write_bert(tmp_path / "bert", weights)
    vocabulary = folder / "vocab.txt"
    if damage == "folder":
        (folder / "model.safetensors").unlink()
    elif damage == "vocabulary":
        vocabulary.unlink()
    elif damage == "words":
        vocabulary.write_text(vocabulary.read_text() + "blue\n")
    elif damage == "heads":
        (folder / "config.json").write_text('{"num_attention_heads": 4}')
    elif damage == "config":
        (folder / "config.json").write_text("[]")
    elif damage == "special":
        vocabulary.write_text(vocabulary.read_text().replace("[CLS]", "cls"))
    with pytest.raises(MissingData, match=message):
        CirplantHead(copy.deepcopy(tiny_backbone()), cirplant_training(initial=str(folder)))


def test_a_width_that_does_not_part_into_heads_is_refused() -> None:
    with pytest.raises(UsageError, match="width=100 does not part into heads of 64"):
        CirplantHead(copy.deepcopy(tiny_backbone()), cirplant_training(width="100"))


@pytest.mark.slow
def test_a_trained_cirplant_keeps_the_words_of_its_bert(tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "bert")
    parameters = training_parameters(CIRPLANT, "", {"steps": "2", "batch_size": "8", "initial": str(folder)})
    trained_on_bert = train_method(CIRPLANT, tiny_backbone(), some_triplets(), parameters, output=tmp_path / "trained")
    for file in folder.iterdir():
        file.unlink()
    encoder = Encoder(tiny_backbone(), None, batch_size=8)
    method = Cirplant(encoder, CompositionParameters(), trained_on_bert)
    assert method.tokens(["Red circles"])[0][0, :5].tolist() == [2, 5, 6, 7, 3]
