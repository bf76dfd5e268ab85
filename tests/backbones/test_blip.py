"""BLIP is a backbone like the others: its towers, its texts, its identity, and what is said when something is wrong."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from cirbench.backbones import load_backbone
from cirbench.backbones.encoder import Encoder
from cirbench.backbones.text import PseudoWords
from cirbench.errors import CorruptFile, MissingData, UsageError
from cirbench.protocol import Item
from tests.tiny_blip import TEXT, VISION, VOCABULARY, blip_model, tiny_blip, write_blip
from tests.tiny_clip import TwoColours

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = ["red dog", "two dogs left of a green dog", "blue"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_blip(tmp_path / "blip")


def some_pixels(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_unit_features_are_what_transformers_compares_images_and_texts_by() -> None:
    backbone, model = tiny_blip(), blip_model()
    tokens = backbone.tokenize(TEXTS)
    with torch.inference_mode():
        whole = model(
            input_ids=tokens, pixel_values=some_pixels(), attention_mask=(tokens != 0).long(), use_itm_head=False
        )
        images = torch.nn.functional.normalize(backbone.encode_images(some_pixels()), dim=-1)
        texts = torch.nn.functional.normalize(backbone.encode_tokens(tokens), dim=-1)
    torch.testing.assert_close(images @ texts.T, whole.itm_score, atol=1e-5, rtol=1e-5)


def test_a_text_reads_an_image_as_in_transformers() -> None:
    backbone, model = tiny_blip(), blip_model()
    tokens = backbone.tokenize(TEXTS)
    with torch.inference_mode():
        seen = backbone.image_tokens(some_pixels())
        fused = backbone.fuse(tokens, seen)
        tokens[:, 0] = len(VOCABULARY) + 1  # [ENC], behind [DEC] at the end of the vocabulary
        whole = model(input_ids=tokens, pixel_values=some_pixels(), attention_mask=(tokens != 0).long())
        torch.testing.assert_close(seen, whole.last_hidden_state, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(fused, whole.question_embeds[:, : fused.shape[1]], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(model.itm_head(fused[:, 0]), whole.itm_score, atol=1e-5, rtol=1e-5)
        projected = torch.nn.functional.linear(seen[:, 0], backbone.model.vision_proj.weight)
        projected += backbone.model.vision_proj.bias
        torch.testing.assert_close(projected, backbone.encode_images(some_pixels()), atol=1e-5, rtol=1e-5)


def test_a_text_tower_of_its_own_reads_in_place_of_the_backbones() -> None:
    backbone, other = tiny_blip(), blip_model(seed=4)
    tokens, seen = backbone.tokenize(TEXTS), backbone.image_tokens(some_pixels())
    with torch.inference_mode():
        found = backbone.fuse(tokens, seen, other.text_encoder)
        assert not torch.allclose(found, backbone.fuse(tokens, seen), atol=1e-3)
        torch.testing.assert_close(backbone.text_tokens(tokens)[:, 0] @ backbone.model.text_proj.weight.T
                                   + backbone.model.text_proj.bias, backbone.encode_tokens(tokens))  # fmt: skip


def test_padding_is_not_attended_to() -> None:
    backbone = tiny_blip()
    tokens = backbone.tokenize(TEXTS)
    with torch.inference_mode():
        together = backbone.encode_tokens(tokens)
        for row, tokens_L in enumerate(tokens):
            bare = tokens_L[tokens_L != 0][None]
            first = backbone.model.text_encoder(input_ids=bare).last_hidden_state[:, 0]
            torch.testing.assert_close(together[row], backbone.model.text_proj(first)[0], atol=1e-5, rtol=1e-5)


def test_texts_are_lower_cased_and_framed_and_padded_to_the_context() -> None:
    backbone = tiny_blip()
    tokens = backbone.tokenize(["Red DOG", "red dog"])
    assert tokens.shape == (2, 40)
    assert tokens.dtype == torch.int64
    assert torch.equal(tokens[0], tokens[1])
    words = backbone._tokenizer.convert_ids_to_tokens(tokens[0, :5].tolist())
    assert words == ["[CLS]", "red", "dog", "[SEP]", "[PAD]"]


def test_overlong_texts_are_cut_before_their_end_token_and_found() -> None:
    backbone = tiny_blip()
    texts = ["dog", "dog " * 38, "dog " * 39, "dog " * 300]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert backbone.overlong(texts).tolist() == [False, False, True, True]
        assert backbone.overlong([]).tolist() == []
        tokens = backbone.tokenize(texts)
    separator = backbone._tokenizer.sep_token_id
    assert (tokens == separator).sum(dim=1).tolist() == [1, 1, 1, 1]
    assert tokens[2:, -1].tolist() == [separator, separator]


def test_lengths_are_what_a_text_needs_on_its_own() -> None:
    backbone = tiny_blip()
    assert backbone.token_lengths(backbone.tokenize(["dog", "dog " * 10, "dog " * 50])).tolist() == [8, 16, 40]


def test_preprocessing_is_that_of_transformers(folder: Path) -> None:
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8))
    backbone = load_backbone(str(folder), device="cpu")
    theirs = BlipImageProcessorPil.from_pretrained(folder)(image, return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(backbone.preprocess(image), theirs, atol=1e-6, rtol=0)
    assert backbone.identity.preprocessing.startswith("squash(32, bicubic, mean=0.48145466/")


def test_another_preprocessing_may_be_declared_but_not_another_size(folder: Path) -> None:
    backbone = load_backbone(str(folder), preprocessing="targetpad(1.25)", device="cpu")
    assert backbone.identity.preprocessing.startswith("targetpad(1.25, 32, bicubic")
    with pytest.raises(UsageError, match="reads 32 pixels a side, not 224"):
        load_backbone(str(folder), preprocessing="squash(224)", device="cpu")


def test_the_same_files_elsewhere_are_the_same_backbone_and_others_are_not(folder: Path, tmp_path: Path) -> None:
    base = load_backbone(str(folder), device="cpu").identity
    shutil.copytree(folder, tmp_path / "copy")
    assert load_backbone(str(tmp_path / "copy"), device="cpu").identity.digest == base.digest
    words = (folder / "vocab.txt").read_text().splitlines()
    (tmp_path / "copy" / "vocab.txt").write_text("\n".join([*words[:-2], words[-1], words[-2]]))
    different = [
        load_backbone(str(tmp_path / "copy"), device="cpu").identity,
        load_backbone(str(write_blip(tmp_path / "seed", seed=1)), device="cpu").identity,
        load_backbone(str(folder), precision="bf16", device="cpu").identity,
    ]
    assert len({base.digest, *(identity.digest for identity in different)}) == 4


def test_older_weights_files_load_too(folder: Path, tmp_path: Path) -> None:
    """Positions were stored as a tensor once, and weights as a pickle of tensors."""
    expected = load_backbone(str(folder), device="cpu").encode_images(some_pixels())
    tensors = load_file(folder / "model.safetensors")
    tensors["text_encoder.embeddings.position_ids"] = torch.arange(40)[None]
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    found = load_backbone(str(folder), device="cpu").encode_images(some_pixels())
    assert torch.equal(found, expected)


def by_blips_own_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a model as BLIP's own code names and saves them in its pre-training."""
    names = {
        "vision_model.embeddings.class_embedding": "visual_encoder.cls_token",
        "vision_model.embeddings.position_embedding": "visual_encoder.pos_embed",
        "vision_model.embeddings.patch_embedding": "visual_encoder.patch_embed.proj",
        "vision_model.post_layernorm": "visual_encoder.norm",
        "vision_model.encoder.layers": "visual_encoder.blocks",
        "self_attn.projection": "attn.proj",
        "self_attn.qkv": "attn.qkv",
        "layer_norm": "norm",
    }
    own = {}
    for name, tensor in state.items():
        for theirs, published in names.items():
            name = name.replace(theirs, published)
        own[name] = tensor
    return own | {"visual_encoder_m.norm.bias": torch.zeros(32), "temp": torch.tensor(0.07)}


def test_files_of_blips_own_code_are_read(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": by_blips_own_names(blip_model(3).state_dict()), "epoch": 9}, tmp_path / "model_base.pth")
    backbone = load_backbone(str(folder), weights=tmp_path / "model_base.pth", device="cpu")
    tokens, expected = backbone.tokenize(TEXTS), tiny_blip(3)
    with torch.inference_mode():
        assert torch.equal(backbone.encode_images(some_pixels()), expected.encode_images(some_pixels()))
        assert torch.equal(backbone.encode_tokens(tokens), expected.encode_tokens(tokens))
    assert "not used: visual_encoder_m.norm.bias, temp" in capsys.readouterr().err


def test_positions_of_smaller_images_are_interpolated(folder: Path, tmp_path: Path) -> None:
    from transformers import BlipConfig, BlipForImageTextRetrieval

    config = BlipConfig(vision_config={**VISION, "image_size": 16}, text_config=TEXT, image_text_hidden_size=16)
    small: Any = BlipForImageTextRetrieval(config)
    small.eval()
    torch.save({"model": by_blips_own_names(small.state_dict())}, tmp_path / "model_base.pth")
    backbone: Any = load_backbone(str(folder), weights=tmp_path / "model_base.pth", device="cpu")
    with torch.inference_mode():
        states = small.vision_model(pixel_values=some_pixels(), interpolate_pos_encoding=True).last_hidden_state
        torch.testing.assert_close(backbone.image_tokens(some_pixels()), states, atol=1e-5, rtol=1e-5)


def test_other_weights_keep_every_setting(folder: Path, tmp_path: Path) -> None:
    backbone: Any = load_backbone(str(folder), preprocessing="clip", device="cpu")
    (tmp_path / "other").mkdir()
    path = tmp_path / "other" / "weights.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in blip_model(3).state_dict().items()}, path)
    tuned = backbone.with_weights(path)
    assert not torch.equal(tuned.encode_images(some_pixels()), backbone.encode_images(some_pixels()))
    assert tuned.identity.weights != backbone.identity.weights
    for field in ("name", "architecture", "activation", "preprocessing", "precision"):
        assert getattr(tuned.identity, field) == getattr(backbone.identity, field)
    (tmp_path / "other" / "card.json").write_text('{"activation": "quick_gelu"}')
    with pytest.raises(UsageError, match="contradictory"):
        backbone.with_weights(path)


def test_bf16_converts_the_weights_and_returns_float32(folder: Path) -> None:
    half = load_backbone(str(folder), precision="bf16", device="cpu")
    whole = tiny_blip()
    with torch.inference_mode():
        for of_half, of_whole in (
            (half.encode_images(some_pixels()), whole.encode_images(some_pixels())),
            (half.encode_tokens(half.tokenize(TEXTS)), whole.encode_tokens(whole.tokenize(TEXTS))),
        ):
            assert of_half.dtype == torch.float32
            assert torch.cosine_similarity(of_half, of_whole).min() > 0.99


def test_only_what_the_towers_read_wants_gradients() -> None:
    backbone: Any = load_backbone(tiny_blip().identity.name, device="cpu")
    (backbone.encode_images(some_pixels()).sum() + backbone.encode_tokens(backbone.tokenize(TEXTS)).sum()).backward()
    wanting = {name for name, tensor in backbone.model.named_parameters() if tensor.requires_grad}
    assert wanting == {name for name, tensor in backbone.model.named_parameters() if tensor.grad is not None}
    assert not any("crossattention" in name or "itm_head" in name for name in wanting)


def test_an_encoder_encodes_with_it() -> None:
    backbone = tiny_blip()
    encoder = Encoder(backbone, None, batch_size=2)
    rows = encoder.texts(TEXTS)
    torch.testing.assert_close(torch.from_numpy(rows), backbone.encode_tokens(backbone.tokenize(TEXTS)).detach())
    items = [Item(str(image), image) for image in (TwoColours("red", "blue"), TwoColours("blue", "red"))]
    pixels = torch.stack([backbone.preprocess(item.image.open()) for item in items])
    torch.testing.assert_close(torch.from_numpy(encoder.images(items)), backbone.encode_images(pixels).detach())


def test_pseudo_words_say_that_its_text_tower_cannot_read_them() -> None:
    with pytest.raises(UsageError, match="cannot read pseudo-words: that takes a causal text tower of open_clip"):
        PseudoWords(tiny_blip())


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"architectures": ["BlipForConditionalGeneration"]}, UsageError, "is a BlipForConditionalGeneration, whose"),
        ({"architectures": 3}, CorruptFile, r"config\.json cannot be read: Expected `array \| null`, got `int`"),
        ({"vision_config": {"hidden_act": "relu"}}, CorruptFile, "has the activation 'relu', not gelu or quick_gelu"),
        ({"vision_config": {"hidden_act": "quick_gelu"}}, UsageError, "is contradictory"),
        ({"vision_config": {"hidden_size": 33}}, CorruptFile, "transformers cannot build the model"),
        ({"image_text_hidden_size": 24}, CorruptFile, r"vision_proj.weight is \(16, 32\) in the file and \(24, 32\)"),
    ],
)
def test_a_wrong_configuration_is_refused_with_its_reason(
    tmp_path: Path, changes: dict[str, Any], kind: type[Exception], message: str
) -> None:
    config = json.loads((write_blip(tmp_path / "blip") / "config.json").read_text())
    for name, value in changes.items():
        config[name] = config[name] | value if isinstance(value, dict) else value
    (tmp_path / "blip" / "config.json").write_text(json.dumps(config))
    with pytest.raises(kind, match=message):
        load_backbone(str(tmp_path / "blip"), device="cpu")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("model.safetensors", r"has no weights: none of model\.safetensors"),
        ("vocab.txt", r"has no tokenizer: none of tokenizer\.json"),
    ],
)
def test_a_missing_file_is_named(folder: Path, file: str, message: str) -> None:
    (folder / file).unlink()
    with pytest.raises(MissingData, match=message):
        load_backbone(str(folder), device="cpu")


def test_a_vocabulary_larger_than_the_tower_knows_is_refused(folder: Path) -> None:
    with (folder / "vocab.txt").open("a") as file:
        file.write("\none\ntwo-two\nthree")
    with pytest.raises(CorruptFile, match="makes a vocabulary of 90 tokens, and the text tower knows 89"):
        load_backbone(str(folder), device="cpu")


def test_a_damaged_tokenizer_is_said(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(MissingData, match=r"The tokenizer of .*blip' cannot be built"):
        load_backbone(str(folder), device="cpu")


def test_an_interpolation_that_does_not_exist_here_is_refused(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text('{"resample": 1}')
    with pytest.raises(UsageError, match="wants Pillow's resampling 1, which does not exist here"):
        load_backbone(str(folder), device="cpu")


def test_without_transformers_the_command_that_installs_it_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingData, match="BLIP needs the package transformers, which is not installed") as caught:
        load_backbone(str(folder), device="cpu")
    assert caught.value.hint == "pip install 'cirbench[transformers]'"
