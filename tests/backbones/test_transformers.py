"""Dual encoders of transformers: small ones with random weights, in the files that transformers saves."""

from __future__ import annotations

import json
import socket
import textwrap
import time
from typing import TYPE_CHECKING, Any

import pytest
import torch
from huggingface_hub import hf_hub_download

from cirbench.backbones import load_backbone
from cirbench.backbones.encoder import Encoder
from cirbench.backbones.store import default_store
from cirbench.benchmarks.scenes import scenes_protocol
from cirbench.errors import CirbenchError, CorruptFile, MissingData, UnknownName, UsageError
from cirbench.methods.interface import find_method
from cirbench.methods.loading import build, parse_parameters
from tests.backbones import small
from tests.backbones.hub_server import online
from tests.backbones.tiny_transformers import (
    CLIP_IMAGES,
    SQUASHED,
    TEXT,
    VISION,
    align,
    altclip,
    chinese_clip,
    clip,
    picture,
    save,
    siglip,
    siglip2,
    write_bert_words,
    write_clip_words,
)
from tests.tiny_blip import VOCABULARY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TEXTS = ["a red dog", "two blue dogs left of a green one, and of a red one", "dog"]

FAMILIES: dict[str, Callable[[Path], Path]] = {
    "CLIP": clip,
    "SigLIP": siglip,
    "SigLIP 2": siglip2,
    "ALIGN": align,
    "Chinese-CLIP": chinese_clip,
    "AltCLIP": altclip,
}


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FAMILIES[request.param](tmp_path_factory.mktemp("hf") / "model")


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(96, 72), (72, 96), (20, 50), (32, 36)])
def test_every_family_prepares_images_as_its_processor_does(folder: Path, width: int, height: int) -> None:
    import transformers

    auto: Any = transformers
    image = picture(1, width, height)
    ours = load_backbone(str(folder), device="cpu").preprocess(image)
    processor = auto.AutoImageProcessor.from_pretrained(folder, backend="pil")
    torch.testing.assert_close(ours, processor(image, return_tensors="pt")["pixel_values"][0], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_every_family_gives_the_features_of_transformers_itself(folder: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    backbone = load_backbone(str(folder), device="cpu")
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    pixels = torch.stack([backbone.preprocess(picture(seed)) for seed in range(2)])
    full = "siglip" in backbone.identity.architecture
    with torch.inference_mode():
        images = model.get_image_features(pixel_values=pixels).pooler_output
        for text, row in zip(TEXTS, backbone.encode_tokens(backbone.tokenize(TEXTS)), strict=True):
            length = backbone.context_length
            given = tokenizer(
                text, return_tensors="pt", truncation=True, max_length=length, padding="max_length" if full else False
            )
            given = {"input_ids": given["input_ids"]} if full else given
            torch.testing.assert_close(row, model.get_text_features(**given).pooler_output[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(backbone.encode_images(pixels), images, rtol=1e-5, atol=1e-5)
    assert images.shape == (2, backbone.dim)


def test_a_row_depends_on_its_own_text_only(folder: Path) -> None:
    backbone = load_backbone(str(folder), device="cpu")
    with torch.inference_mode():
        together = backbone.encode_tokens(backbone.tokenize(TEXTS))
        alone = torch.cat([backbone.encode_tokens(backbone.tokenize([text])) for text in TEXTS])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_the_identity_names_the_implementation_and_changes_with_the_weights(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    backbone = load_backbone(str(folder), device="cpu")
    assert backbone.identity.architecture.startswith("transformers:")
    tensors = load_file(folder / "model.safetensors")
    save_file({name: tensor * 1.01 for name, tensor in tensors.items()}, tmp_path / "other.safetensors")
    other = load_backbone(str(folder), weights=tmp_path / "other.safetensors", device="cpu")
    assert other.identity.architecture == backbone.identity.architecture
    assert other.identity.digest != backbone.identity.digest
    assert backbone.with_weights(tmp_path / "other.safetensors").identity == other.identity
    torch.save({"ema": load_file(tmp_path / "other.safetensors")}, tmp_path / "average.pt")
    average = load_backbone(str(folder), weights=tmp_path / "average.pt", ema=True, device="cpu")
    assert average.identity.digest not in (backbone.identity.digest, other.identity.digest)
    tokens = other.tokenize(["a red ball"])
    torch.testing.assert_close(average.encode_tokens(tokens), other.encode_tokens(tokens))


def test_texts_that_are_cut_are_known(folder: Path) -> None:
    backbone = load_backbone(str(folder), device="cpu")
    assert backbone.overlong(["dog", "dog " * 100]).tolist() == [False, True]
    assert backbone.tokenize(["dog " * 100]).shape == (1, backbone.context_length)


@pytest.mark.slow
def test_the_baselines_run_on_every_family(folder: Path) -> None:
    protocol = scenes_protocol("tiny")
    encoder = Encoder(load_backbone(str(folder), device="cpu"), default_store())
    spec = find_method("image-text")
    method = build(spec, encoder, parse_parameters(spec, {}))
    assert method.encode_queries(protocol.queries[:3]).shape == (3, encoder.backbone.dim)


@pytest.mark.slow
def test_equal_weights_in_open_clips_and_in_transformers_form_give_equal_features(tmp_path: Path) -> None:
    from transformers import CLIPConfig, CLIPModel

    ours = load_backbone(str(small.write_folder(tmp_path / "ours", activation="quick_gelu")), device="cpu")
    towers: dict[str, Any] = {
        "hidden_act": "quick_gelu",
        "hidden_size": 32,
        "intermediate_size": 128,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
    }
    config = CLIPConfig(
        text_config={**towers, "vocab_size": 49408, "bos_token_id": 49406, "eos_token_id": 49407},
        vision_config={**towers, "image_size": 32, "patch_size": 8},
        projection_dim=24,
    )
    theirs: Any = CLIPModel(config)
    theirs.load_state_dict(in_transformers_form(ours.model.state_dict()))
    folder = tmp_path / "theirs"
    theirs.eval().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(CLIP_IMAGES))
    write_clip_words(folder)
    same = load_backbone(str(folder), device="cpu")
    assert same.identity.activation == "quick_gelu"
    assert same.identity.preprocessing == ours.identity.preprocessing
    pixels = ours.preprocess(picture())[None]
    assert torch.equal(pixels, same.preprocess(picture())[None])
    with torch.inference_mode():
        torch.testing.assert_close(same.encode_images(pixels), ours.encode_images(pixels), rtol=0, atol=1e-5)
        one, other = (backbone.encode_tokens(backbone.tokenize(TEXTS)) for backbone in (same, ours))
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


NAMES = {
    "logit_scale": "logit_scale",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
}
NORMS = {
    "vision_model.pre_layrnorm": "visual.ln_pre",
    "vision_model.post_layernorm": "visual.ln_post",
    "text_model.final_layer_norm": "ln_final",
}
LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def in_transformers_form(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A CLIP's tensors under the names of transformers; its matrices of projection are transposed there."""
    modules = dict(NORMS)
    given = {
        "visual_projection.weight": state["visual.proj"].T,
        "text_projection.weight": state["text_projection"].T,
    }
    for tower, blocks in (("vision_model", "visual.transformer.resblocks"), ("text_model", "transformer.resblocks")):
        for layer in range(2):
            new, old = f"{tower}.encoder.layers.{layer}", f"{blocks}.{layer}"
            modules |= {f"{new}.{name}": f"{old}.{published}" for name, published in LAYER.items()}
            for kind in ("weight", "bias"):
                for part, rows in zip("qkv", state[f"{old}.attn.in_proj_{kind}"].chunk(3), strict=True):
                    given[f"{new}.self_attn.{part}_proj.{kind}"] = rows
    given |= {f"{new}.{kind}": state[f"{old}.{kind}"] for new, old in modules.items() for kind in ("weight", "bias")}
    return given | {new: state[old] for new, old in NAMES.items()}


def bert() -> Any:
    from transformers import BertConfig, BertModel

    return BertModel(BertConfig(**TEXT))


def flava() -> Any:
    from transformers import FlavaConfig, FlavaModel

    images = {**VISION, "image_size": 32, "patch_size": 8}
    return FlavaModel(FlavaConfig(text_config=TEXT, image_config=images, multimodal_config=VISION, projection_dim=24))


def blip2() -> Any:
    from transformers import Blip2Config, Blip2Model

    words = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 32}
    config = Blip2Config(
        vision_config={**VISION, "image_size": 32, "patch_size": 8},
        qformer_config={**TEXT, "encoder_hidden_size": 32},
        text_config={
            "model_type": "opt",
            **words,
            "vocab_size": len(VOCABULARY),
            "word_embed_proj_dim": 32,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
        num_query_tokens=4,
    )
    return Blip2Model(config)


def siglip2_of_any_size() -> Any:
    from transformers import Siglip2Config, Siglip2Model

    text = {**TEXT, "max_position_embeddings": 16, "projection_size": 32, "bos_token_id": 1, "eos_token_id": 2}
    return Siglip2Model(Siglip2Config(text_config=text, vision_config={**VISION, "patch_size": 8, "num_patches": 16}))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (bert, "BertModel, which has no get_image_features and get_text_features"),
        (flava, "FlavaModel, whose configuration has no vision_config"),
        (blip2, "Blip2Model, whose get_text_features fails: its output has no pooled row"),
        (siglip2_of_any_size, "no fixed size in pixels"),
    ],
)
def test_a_model_that_is_no_dual_encoder_is_refused_in_one_sentence(
    model: Callable[[], Any], message: str, tmp_path: Path
) -> None:
    write_bert_words(save(tmp_path, model(), SQUASHED))
    with pytest.raises(UsageError, match=message):
        load_backbone(str(tmp_path), device="cpu")


def test_weights_that_do_not_fit_are_refused_and_named(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    chinese_clip(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["visual_projection.weight"]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CorruptFile, match=r"do not fit ChineseCLIPModel: visual_projection\.weight is missing"):
        load_backbone(str(tmp_path), device="cpu")


def test_a_preprocessing_that_the_image_tower_cannot_read_has_to_be_declared(tmp_path: Path) -> None:
    chinese_clip(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 64, "width": 64}}))
    with pytest.raises(UsageError, match="scales to 64 pixels and crops to 224, and the image tower reads 32"):
        load_backbone(str(tmp_path), device="cpu")


@pytest.mark.parametrize(
    "name", ["ViT-L-15/openai", "Vit-L-14", "scenes-vt", "ViT-H-14-CLIPA-335/x", "EVA02-E-14-plus-2/laion2b_s9b_b144k"]
)
def test_a_wrong_name_is_answered_by_the_nearest_ones_and_the_accepted_forms(name: str) -> None:
    with pytest.raises(UnknownName, match="There is no backbone called") as caught:
        load_backbone(name, device="cpu")
    message = str(caught.value)
    assert "Nearest: " in message
    assert "OWNER/MODEL of transformers" in message
    assert len(at_80_columns(f"error: {message}")) <= 4


def at_80_columns(message: str) -> list[str]:
    return [piece for line in message.splitlines() for piece in textwrap.wrap(line, 80)]


def test_an_id_that_the_hub_has_not_is_said_to_be_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        online(None, tmp_path, monkeypatch),
        pytest.raises(UsageError, match=r"has no repository 'openai/clip-vit-l14'") as caught,
    ):
        load_backbone("openai/clip-vit-l14", device="cpu")
    assert len(at_80_columns(str(caught.value))) <= 4


def test_a_hub_that_does_not_answer_is_given_up_within_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, online(None, tmp_path, monkeypatch):
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr("cirbench.backbones.hub._PATIENCE", 0.2)
        began = time.monotonic()
        for name in ("openai/clip-vit-base-patch32", "ViT-B-32/openai"):
            with pytest.raises(MissingData, match="does not answer"):
                load_backbone(name, device="cpu")
        assert time.monotonic() - began < 5


def test_an_id_that_is_not_cached_says_so_in_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingData, match=r"config\.json of openai/clip-vit-base-patch32 is not cached") as caught:
        load_backbone("openai/clip-vit-base-patch32", device="cpu")
    assert len(at_80_columns(str(caught.value))) <= 4


def test_an_optional_file_that_cannot_be_asked_for_is_not_taken_for_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = chinese_clip(tmp_path / "served")
    with online(folder, tmp_path / "cache", monkeypatch):
        hf_hub_download("someone/clip", "config.json")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(MissingData, match=r"preprocessor_config\.json of someone/clip is not cached"):
        load_backbone("someone/clip", device="cpu")


def test_the_images_may_be_described_in_the_file_of_version_5(tmp_path: Path) -> None:
    folder = chinese_clip(tmp_path)
    before = load_backbone(str(folder), device="cpu").identity
    stated = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": stated}))
    assert load_backbone(str(folder), device="cpu").identity == before


def test_a_folder_that_does_not_describe_its_images_wants_that_declared(tmp_path: Path) -> None:
    folder = chinese_clip(tmp_path)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(UsageError, match="nothing says how images are prepared"):
        load_backbone(str(folder), device="cpu")
    backbone = load_backbone(str(folder), preprocessing="squash", device="cpu")
    assert str(backbone.preprocessing).startswith("squash(32, bicubic, mean=0.48145466")


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"do_resize": False}, "does not scale images"),
        ({"size": {"shortest_edge": 32}, "do_center_crop": False}, "leaves images oblong"),
        ({"size": {"height": 32, "width": 48}, "do_center_crop": False}, "scales to 32, 48 pixels"),
        ({"image_processor_type": "NoSuchProcessor"}, "transformers cannot read"),
    ],
)
def test_a_preprocessing_that_cannot_be_declared_is_named(tmp_path: Path, stated: dict[str, Any], message: str) -> None:
    folder = chinese_clip(tmp_path)
    (folder / "preprocessor_config.json").write_text(json.dumps({**CLIP_IMAGES, **stated}))
    with pytest.raises(CirbenchError, match=message):
        load_backbone(str(folder), device="cpu")


def test_a_declared_shape_takes_the_rest_from_the_processor(tmp_path: Path) -> None:
    folder = chinese_clip(tmp_path)
    stated = {**CLIP_IMAGES, "size": {"shortest_edge": 40}, "do_center_crop": False, "image_mean": [0.25] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(stated))
    backbone = load_backbone(str(folder), preprocessing="squash", device="cpu")
    assert str(backbone.preprocessing).startswith("squash(32, bicubic, mean=0.25/0.25/0.25")


def test_an_id_of_the_hub_is_fetched_once_and_then_needs_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = chinese_clip(tmp_path / "served")
    local = load_backbone(str(folder), device="cpu")
    with online(folder, tmp_path / "cache", monkeypatch):
        fetched = load_backbone("someone/chinese-clip", device="cpu")
    again = load_backbone("someone/chinese-clip", device="cpu")  # the server has gone
    assert fetched.identity == again.identity
    assert fetched.identity.digest == local.identity.digest


@pytest.mark.slow
def test_a_model_of_open_clip_on_the_hub_is_the_one_in_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = small.write_folder(tmp_path / "served")
    local = load_backbone(str(folder), device="cpu")
    (folder / "model.safetensors").rename(folder / "open_clip_model.safetensors")
    with online(folder, tmp_path / "cache", monkeypatch):
        fetched = load_backbone("hf-hub:someone/clip", device="cpu")
    assert load_backbone("hf-hub:someone/clip", device="cpu").identity == fetched.identity
    assert fetched.identity.digest == local.identity.digest
