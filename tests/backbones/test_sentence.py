"""Models of sentence-transformers with random weights, in the files that the library's own have."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from cirbench.backbones import load_backbone
from cirbench.errors import MissingData, UsageError
from tests.backbones.hub_server import online
from tests.backbones.tiny_transformers import clip, picture, save, write_bert_words
from tests.tiny_blip import VOCABULARY

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = ["a red dog", "two blue dogs left of a green one, and of a red one", "dog"]
OLD = "sentence_transformers.models"


def write_modules(folder: Path, *modules: tuple[str, str]) -> Path:
    listed = [
        {"idx": at, "name": str(at), "path": path, "type": f"{OLD}.{kind}"} for at, (path, kind) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    return folder


def write_clip(folder: Path) -> Path:
    """As clip-ViT-B-32."""
    folder.mkdir()
    clip(folder / "0_CLIPModel")
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps({"__version__": {"sentence_transformers": "2.0.0", "transformers": "4.7.0", "pytorch": "1.9.0"}})
    )
    return write_modules(folder, ("0_CLIPModel", "CLIPModel"))


def write_texts(folder: Path, width: int = 24) -> Path:
    """As clip-ViT-B-32-multilingual-v1."""
    from transformers import DistilBertConfig, DistilBertModel

    words: dict[str, Any] = {"vocab_size": len(VOCABULARY), "max_position_embeddings": 64}
    config = DistilBertConfig(dim=32, hidden_dim=64, n_layers=2, n_heads=2, **words)
    write_bert_words(save(folder, DistilBertModel(config), {}))
    (folder / "preprocessor_config.json").unlink()
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 20, "do_lower_case": false}')
    for name in ("1_Pooling", "2_Dense"):
        (folder / name).mkdir()
    pooling = {"word_embedding_dimension": 32, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    activation = "torch.nn.modules.linear.Identity"
    dense = {"in_features": 32, "out_features": width, "bias": False, "activation_function": activation}
    (folder / "2_Dense" / "config.json").write_text(json.dumps(dense))
    torch.save({"linear.weight": torch.randn(width, 32)}, folder / "2_Dense" / "pytorch_model.bin")
    return write_modules(folder, ("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense"))


@pytest.fixture(scope="module", name="images")
def folder_of_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("st") / "clip")


@pytest.fixture(scope="module", name="texts")
def folder_of_texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_texts(tmp_path_factory.mktemp("st") / "texts")


def by_the_library(folder: Path, inputs: list[Any], **options: Any) -> torch.Tensor:
    from sentence_transformers import SentenceTransformer  # takes three seconds, and quick tests do without

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True, **options)
    return torch.from_numpy(np.asarray(model.encode(inputs)))


@pytest.mark.slow
def test_one_model_of_both_gives_the_rows_of_the_library(images: Path) -> None:
    backbone = load_backbone(str(images), device="cpu")
    shown = [picture(seed, 40, 52) for seed in range(3)]
    with torch.inference_mode():
        seen = backbone.encode_images(torch.stack([backbone.preprocess(image) for image in shown]))
        read = backbone.encode_tokens(backbone.tokenize(TEXTS))
    exact = by_the_library(images, shown, processor_kwargs={"backend": "pil"})
    torch.testing.assert_close(seen, exact, rtol=0, atol=1e-5)
    torch.testing.assert_close(read, by_the_library(images, TEXTS), rtol=0, atol=1e-5)
    assert backbone.identity.architecture.startswith("sentence-transformers:clip@")
    assert seen.shape == (3, backbone.dim)


@pytest.mark.slow
def test_two_models_give_the_rows_of_the_library_and_stay_apart_in_the_identity(images: Path, texts: Path) -> None:
    backbone = load_backbone(f"{images}+{texts}", device="cpu")
    alone = load_backbone(str(images), device="cpu")
    pixels = alone.preprocess(picture())[None]
    with torch.inference_mode():
        read = backbone.encode_tokens(backbone.tokenize(TEXTS))
        assert torch.equal(backbone.encode_images(pixels), alone.encode_images(pixels))
    torch.testing.assert_close(read, by_the_library(texts, TEXTS), rtol=0, atol=1e-5)
    assert backbone.identity.architecture.startswith("sentence-transformers:clip+distilbert@")
    assert backbone.identity.weights != alone.identity.weights
    assert backbone.context_length == 20
    assert backbone.overlong(["dog", "dog " * 20]).tolist() == [False, True]


@pytest.mark.slow
def test_other_weights_take_the_place_of_both_models(images: Path, texts: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    backbone = load_backbone(f"{images}+{texts}", device="cpu")
    tensors = {name: tensor * 1.5 for name, tensor in backbone.model.state_dict().items()}
    save_file(tensors, tmp_path / "tuned.safetensors")
    tuned = backbone.with_weights(tmp_path / "tuned.safetensors")
    assert tuned.identity.architecture == backbone.identity.architecture
    assert tuned.identity.weights != backbone.identity.weights
    tokens = backbone.tokenize(TEXTS)
    assert not torch.allclose(tuned.encode_tokens(tokens), backbone.encode_tokens(tokens))


def test_a_model_without_images_wants_one_beside_it(texts: Path) -> None:
    with pytest.raises(UsageError, match="reads no images") as caught:
        load_backbone(str(texts), device="cpu")
    assert "clip-ViT-B-32+clip-ViT-B-32-multilingual-v1" in str(caught.value.hint)


@pytest.mark.slow
def test_towers_of_different_widths_do_not_end_in_one_space(images: Path, tmp_path: Path) -> None:
    other = write_texts(tmp_path / "other", width=16)
    with pytest.raises(UsageError, match="an image has 24 numbers, a text 16"):
        load_backbone(f"{images}+{other}", device="cpu")


@pytest.mark.slow
def test_a_name_of_the_library_is_fetched_once_and_then_needs_no_network(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = load_backbone(str(images), device="cpu")
    with online(images, tmp_path / "cache", monkeypatch):
        fetched = load_backbone("clip-ViT-B-32", device="cpu")
    again = load_backbone("sentence-transformers/clip-ViT-B-32", device="cpu")  # the server has gone
    assert fetched.identity.digest == again.identity.digest == local.identity.digest


def test_without_the_library_the_message_says_what_to_install(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingData, match="needs the package sentence_transformers") as caught:
        load_backbone(str(images), device="cpu")
    assert caught.value.hint == "pip install 'cirbench[sentence-transformers]'"
