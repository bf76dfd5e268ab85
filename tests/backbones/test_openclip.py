"""Backbones load by name, by file and by folder, know who they are, and run with their weights' own activation."""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import logging
import shutil
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.profiler import ProfilerActivity, profile

from cirbench.backbones import list_backbones, load_backbone
from cirbench.backbones.interface import settle_precision
from cirbench.backbones.openclip import QUICK_GELU_SUFFIX, QUICK_GELU_TAGS, model_preprocessing, of_tag, resolve
from cirbench.backbones.weights import recorded_beside, resolve_activation
from cirbench.errors import CorruptFile, MissingData, UnknownName, UsageError
from cirbench.support.device import may_have_gpu
from tests.backbones.small import CONFIG, model, state, write_folder, write_merges
from tests.tiny_clip import tiny_backbone

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cirbench.backbones import Activation, Backbone


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "small")


@pytest.fixture
def architecture(tmp_path: Path) -> Iterator[str]:
    """A small architecture that open_clip knows by name, as it knows ViT-L-14."""
    from open_clip import factory

    (tmp_path / "Small-8.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(tmp_path / "Small-8.json")
    yield "Small-8"
    factory._MODEL_CONFIG_PATHS.remove(tmp_path / "Small-8.json")
    del factory._MODEL_CONFIGS["Small-8"]


@pytest.fixture
def tag(architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A pretrained tag of that architecture, trained with QuickGELU like OpenAI's, with its file available."""
    save_file(state(model()), tmp_path / "pretrained.safetensors")
    entry = {"openai": {"file": str(tmp_path / "pretrained.safetensors"), "quick_gelu": True, "mean": 0.5, "std": 0.25}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, architecture, entry)
    return f"{architecture}/openai"


def weights(path: Path, seed: int = 0) -> Path:
    save_file(state(model(seed)), path)
    return path


def pixels(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def features(backbone: Backbone) -> torch.Tensor:
    with torch.inference_mode():
        images = backbone.encode_images(pixels())
        texts = backbone.encode_tokens(backbone.tokenize(["make it red", "two dogs"]))
    return torch.cat([images, texts])


def expected(*, quick_gelu: bool, seed: int = 0) -> torch.Tensor:
    clip = model(seed, quick_gelu=quick_gelu)
    with torch.inference_mode():
        return torch.cat(
            [clip.encode_image(pixels()), clip.encode_text(open_clip.tokenize(["make it red", "two dogs"]))]
        )


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_a_model_folder_loads_with_the_activation_it_records(tmp_path: Path, activation: str) -> None:
    backbone = load_backbone(str(write_folder(tmp_path / "model", activation=activation)), device="cpu")
    torch.testing.assert_close(features(backbone), expected(quick_gelu=activation == "quick_gelu"))
    assert backbone.identity.activation == activation
    assert (backbone.dim, backbone.image_size, backbone.context_length) == (24, 32, 77)
    assert not backbone.model.training


def test_the_wrong_activation_loads_as_well_and_only_gives_other_features() -> None:
    apart = (expected(quick_gelu=True) - expected(quick_gelu=False)).abs().amax(dim=-1)
    assert (apart > 1e-3).all()
    assert (apart < 1e-1).all()


def test_a_tag_is_built_with_the_activation_it_was_trained_with(tag: str) -> None:
    """open_clip itself builds GELU here and warns."""
    backbone = load_backbone(tag, device="cpu")
    torch.testing.assert_close(features(backbone), expected(quick_gelu=True))
    assert backbone.identity.activation == "quick_gelu"
    assert "mean=0.5/0.5/0.5, std=0.25/0.25/0.25" in backbone.identity.preprocessing
    with pytest.warns(UserWarning, match="QuickGELU mismatch"):
        open_clip.create_model(*tag.split("/"))


def test_another_activation_than_the_tags_is_refused(tag: str) -> None:
    with pytest.raises(UsageError, match="the option says gelu, the tag says quick_gelu"):
        load_backbone(tag, activation="gelu", device="cpu")


def test_a_weights_file_needs_its_activation_stated(architecture: str, tmp_path: Path) -> None:
    path = weights(tmp_path / "weights.safetensors")
    with pytest.raises(UsageError, match="neither stated nor recorded"):
        load_backbone(architecture, weights=path, device="cpu")
    backbone = load_backbone(architecture, weights=path, activation="quick_gelu", device="cpu")
    torch.testing.assert_close(features(backbone), expected(quick_gelu=True))


def test_a_weights_file_takes_the_activation_of_its_card(architecture: str, tmp_path: Path) -> None:
    path = weights(tmp_path / "weights.safetensors")
    (tmp_path / "card.json").write_text('{"activation": "quick_gelu"}')
    assert load_backbone(architecture, weights=path, device="cpu").identity.activation == "quick_gelu"
    with pytest.raises(UsageError, match="contradictory"):
        load_backbone(architecture, weights=path, activation="gelu", device="cpu")


def test_weights_tuned_from_a_tag_have_its_activation(tag: str, tmp_path: Path) -> None:
    backbone = load_backbone(tag, weights=weights(tmp_path / "tuned.safetensors", seed=5), device="cpu")
    torch.testing.assert_close(features(backbone), expected(quick_gelu=True, seed=5))


@pytest.mark.slow
def test_averaged_weights_of_a_file_are_taken_with_ema_and_are_another_backbone(
    architecture: str, tmp_path: Path
) -> None:
    plain, averaged = state(model()), state(model(seed=5))
    torch.save({"model": plain, "model_ema": averaged}, tmp_path / "both.pt")
    torch.save({"epoch": 3, "ema": averaged}, tmp_path / "alone.pt")
    load = functools.partial(load_backbone, architecture, activation="quick_gelu", device="cpu")
    unasked, asked = load(weights=tmp_path / "both.pt"), load(weights=tmp_path / "both.pt", ema=True)
    torch.testing.assert_close(features(unasked), expected(quick_gelu=True))
    torch.testing.assert_close(features(asked), expected(quick_gelu=True, seed=5))
    assert unasked.identity.weights == hashlib.sha256((tmp_path / "both.pt").read_bytes()).hexdigest()
    assert asked.identity.weights != unasked.identity.weights
    assert load(weights=tmp_path / "alone.pt", ema=True).identity == asked.identity
    with pytest.raises(CorruptFile, match="Give --ema to take them"):
        load(weights=tmp_path / "alone.pt")


def test_ema_is_refused_where_there_is_nothing_to_choose(architecture: str, tag: str, tmp_path: Path) -> None:
    path = weights(tmp_path / "plain.safetensors")
    with pytest.raises(UsageError, match=r"plain.safetensors holds no averaged weights \(EMA\)"):
        load_backbone(architecture, weights=path, ema=True, activation="quick_gelu", device="cpu")
    with pytest.raises(UsageError, match="no --weights are given"):
        load_backbone(tag, ema=True, device="cpu")


def test_an_image_tower_of_timm_cannot_run_with_quick_gelu(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(UsageError, match="timm, which cannot run with quick_gelu"):
        load_backbone(
            "ViT-B-16-SigLIP", weights=tmp_path / "weights.safetensors", activation="quick_gelu", device="cpu"
        )


@pytest.mark.slow
def test_the_identity_names_everything_that_fixes_features(folder: Path, tmp_path: Path) -> None:
    base = load_backbone(str(folder), device="cpu").identity
    assert base.weights == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    other = weights(tmp_path / "other.safetensors", seed=1)
    quick = write_folder(tmp_path / "quick", activation="quick_gelu")
    different = [
        load_backbone(str(folder), weights=other, device="cpu").identity,
        load_backbone(str(quick), device="cpu").identity,
        load_backbone(str(folder), preprocessing="targetpad(1.25)", device="cpu").identity,
        load_backbone(str(folder), preprocessing="clip(fast)", device="cpu").identity,
        load_backbone(str(folder), precision="bf16", device="cpu").identity,
    ]
    assert len({base.digest, *(identity.digest for identity in different)}) == 1 + len(different)


def test_the_same_files_elsewhere_are_the_same_backbone(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    first = load_backbone(str(folder), device="cpu").identity
    second = load_backbone(str(tmp_path / "copy"), device="cpu").identity
    assert first.name != second.name
    assert first.digest == second.digest


def test_bf16_converts_the_weights_and_returns_float32(folder: Path) -> None:
    backbone = load_backbone(str(folder), precision="bf16", device="cpu")
    clip: Any = backbone.model
    assert clip.visual.conv1.weight.dtype == torch.bfloat16
    assert features(backbone).dtype == torch.float32
    assert torch.cosine_similarity(features(backbone), expected(quick_gelu=False)).min() > 0.99


def test_preprocessing_is_the_models_unless_declared(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", preprocess={"resize_mode": "squash", "mean": [0.5] * 3, "std": [0.5] * 3})
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8))
    own = load_backbone(str(folder), device="cpu")
    assert own.identity.preprocessing == "squash(32, bicubic, mean=0.5/0.5/0.5, std=0.5/0.5/0.5)"
    declared = load_backbone(str(folder), preprocessing="clip", device="cpu")
    assert declared.identity.preprocessing == "clip(32, bicubic, mean=0.5/0.5/0.5, std=0.5/0.5/0.5)"
    theirs = open_clip.image_transform(32, is_train=False, mean=[0.5] * 3, std=[0.5] * 3)
    assert torch.equal(declared.preprocess(image), theirs(image))
    assert own.preprocess(image).shape == (3, 32, 32)


def test_a_preprocessing_of_another_size_than_the_tower_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="reads 32 pixels a side, not 224"):
        load_backbone(str(folder), preprocessing="clip(224)", device="cpu")


def test_other_weights_keep_every_setting(folder: Path, tmp_path: Path) -> None:
    backbone = load_backbone(str(folder), preprocessing="targetpad(1.5)", precision="bf16", device="cpu")
    tuned = backbone.with_weights(weights(tmp_path / "tuned.safetensors", seed=3))
    assert tuned.identity.weights != backbone.identity.weights
    for field in ("name", "architecture", "activation", "preprocessing", "precision"):
        assert getattr(tuned.identity, field) == getattr(backbone.identity, field)
    (tmp_path / "card.json").write_text('{"activation": "quick_gelu"}')
    with pytest.raises(UsageError, match="contradictory"):
        backbone.with_weights(tmp_path / "tuned.safetensors")


def test_overlong_texts_are_cut_behind_their_end_token_and_found(folder: Path) -> None:
    backbone = load_backbone(str(folder), device="cpu")
    texts = ["a", "a " * 75, "a " * 76, "a " * 300]
    assert backbone.overlong(texts).tolist() == [False, False, True, True]
    assert backbone.overlong([]).tolist() == []
    tokens = backbone.tokenize(texts)
    assert tokens.shape == (4, 77)
    assert tokens[2:, -1].tolist() == [49407, 49407]


def test_lengths_are_what_a_text_needs_on_its_own(folder: Path, tmp_path: Path) -> None:
    backbone = load_backbone(str(folder), device="cpu")
    assert backbone.token_lengths(backbone.tokenize(["a", "a " * 20])).tolist() == [8, 24]
    config = {**CONFIG, "custom_text": True, "text_cfg": {**CONFIG["text_cfg"], "no_causal_mask": True}}
    other = tmp_path / "both"
    other.mkdir()
    (other / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "activation": "gelu"}))
    plain = {name: value for name, value in config.items() if name != "custom_text"}
    save_file(state(open_clip.CustomTextCLIP(**plain)), other / "model.safetensors")
    both = load_backbone(str(other), device="cpu")
    assert both.token_lengths(both.tokenize(["a", "a " * 20])).tolist() == [77, 77]
    assert both.encode_tokens(both.tokenize(["a"])).shape == (1, 24)


def test_a_folder_may_bring_a_tokenizer_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    size = write_merges(folder / "merges.txt.gz", 300)
    config = {**CONFIG, "text_cfg": {**CONFIG["text_cfg"], "vocab_size": size, "context_length": 32}}
    backbone = load_backbone(str(write_folder(folder, config=config)), device="cpu")
    assert backbone.context_length == 32
    tokens = backbone.tokenize(["make it red"])
    assert tokens.shape == (1, 32)
    assert tokens.max() == size - 1
    write_merges(folder / "merges.txt.gz", 301)
    with pytest.raises(CorruptFile, match=f"a vocabulary of {size + 1} tokens, and the text tower knows {size}"):
        load_backbone(str(folder), device="cpu")


def test_weights_are_never_random(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(MissingData, match=r"model\.safetensors does not exist"):
        load_backbone(str(folder), device="cpu")


def test_a_configuration_that_open_clip_cannot_build_is_named(folder: Path) -> None:
    config = {**CONFIG, "vision_cfg": {"wings": 2}}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "activation": "gelu"}))
    with pytest.raises(CorruptFile, match=r"cannot build the model that .*open_clip_config\.json describes"):
        load_backbone(str(folder), device="cpu")


def test_an_unknown_device_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="no device called 'gpu'"):
        load_backbone(str(folder), device="gpu")
    with pytest.raises(UsageError, match="no device cuda:99 that torch can use"):
        load_backbone(str(folder), device="cuda:99")


def test_loading_says_nothing_and_leaves_logging_as_it_was(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    handlers, disabled = list(logging.getLogger().handlers), logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_backbone(str(folder), device="cpu")
    assert logging.getLogger().handlers == handlers
    assert logging.root.manager.disable == disabled
    assert capfd.readouterr() == ("", "")


def test_reference_precision_is_on_after_loading(folder: Path) -> None:
    load_backbone(str(folder), device="cpu")
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32


def test_listing_backbones_imports_neither_torch_nor_open_clip() -> None:
    code = (
        "import sys; from cirbench.backbones import list_backbones; list_backbones(); "
        "sys.exit(bool({'torch', 'open_clip'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(may_have_gpu(), reason="there is a driver of GPUs, which torch has to be asked about")
def test_without_a_gpu_an_open_precision_is_settled_without_torch() -> None:
    code = (
        "import sys; from cirbench.backbones.interface import settle_precision; "
        "sys.exit(settle_precision('auto', 'auto') != 'fp32' or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_an_open_precision_is_autocast_on_a_gpu_that_has_bf16() -> None:
    has_it = torch.cuda.get_device_capability() >= (8, 0)
    assert settle_precision("auto", "cuda") == ("bf16-autocast" if has_it else "fp32")


def test_an_open_precision_of_an_unknown_device_is_refused() -> None:
    with pytest.raises(UsageError, match="no device cuda:99 that torch can use"):
        settle_precision("auto", "cuda:99")


def test_every_listed_backbone_resolves() -> None:
    from cirbench.backbones.families import family_of
    from cirbench.backbones.openclip import resolve

    for entry in list_backbones():
        family = family_of(entry.name)
        assert family.name != "open-clip" or resolve(entry.name).name == entry.name


PAIRS = [f"{name}/{tag}" for tag, names in QUICK_GELU_TAGS.items() for name in sorted(names)]


def stated(name: str) -> str:
    return resolve_activation(name, resolve(name).activation)


@pytest.mark.parametrize("name", PAIRS)
def test_a_plain_name_with_a_tag_trained_with_quick_gelu_is_corrected(name: str) -> None:
    assert stated(name) == "quick_gelu"


def test_the_reverse_case_is_corrected_as_well() -> None:
    """open_clip builds this one with QuickGELU, and its weights were trained with GELU."""
    assert stated("roberta-ViT-B-32/laion2b_s12b_b32k") == "gelu"


@pytest.mark.parametrize("name", ["ViT-L-14/laion2b_s32b_b82k", "ViT-B-32/datacomp_xl_s13b_b90k"])
def test_tags_trained_with_gelu_stay_gelu(name: str) -> None:
    assert stated(name) == "gelu"


def test_the_quickgelu_name_of_a_tag_trained_with_gelu_is_refused() -> None:
    with pytest.raises(UsageError, match="the name says quick_gelu, the tag says gelu"):
        stated("ViT-L-14-quickgelu/laion400m_e32")


def test_both_spellings_of_one_model_are_one_architecture() -> None:
    assert resolve("ViT-L-14/openai").architecture == resolve("ViT-L-14-quickgelu/openai").architecture
    assert resolve("ViT-L-14/openai").architecture != resolve("ViT-L-14-336/openai").architecture


def test_the_preprocessing_of_a_tag_is_its_own() -> None:
    siglip = model_preprocessing(resolve("ViT-B-16-SigLIP/webli").preprocess, (224, 224), "siglip")
    assert str(siglip) == "squash(224, bicubic, mean=0.5/0.5/0.5, std=0.5/0.5/0.5)"
    assert model_preprocessing({}, 224, "clip").shape == "clip"


@pytest.mark.parametrize(("config", "size"), [({"resize_mode": "longest"}, 224), ({}, (224, 336))])
def test_a_preprocessing_that_does_not_exist_here_is_refused(config: dict[str, Any], size: Any) -> None:
    with pytest.raises(UsageError, match="wants a preprocessing that does not exist here"):
        model_preprocessing(config, size, "odd")


def test_an_unknown_architecture_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match="There is no backbone called 'ViT-L14'") as caught:
        resolve("ViT-L14/openai")
    assert "ViT-L-14" in str(caught.value)


def test_an_unknown_tag_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match="There is no pretrained tag of ViT-L-14 called 'opanai'") as caught:
        resolve("ViT-L-14/opanai")
    assert "openai" in str(caught.value)


def test_an_architecture_without_weights_asks_for_a_tag_or_a_file() -> None:
    with pytest.raises(UsageError, match="architecture without weights") as caught:
        resolve("ViT-L-14").default_weights()
    assert "--weights FILE" in str(caught.value.hint)


def test_weights_that_cannot_be_downloaded_are_missing_and_the_hint_says_what_to_type(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # spares the retries
    with pytest.raises(MissingData, match="ViT-B-32/openai are not cached, and could not be downloaded") as caught:
        resolve("ViT-B-32/openai").default_weights()
    assert "--backbone ViT-B-32/openai --weights FILE" in str(caught.value.hint)


def test_a_model_folder_is_the_same_architecture_wherever_it_lies(tmp_path: Path) -> None:
    first = write_folder(tmp_path / "first")
    shutil.copytree(first, tmp_path / "second")
    assert resolve(str(first)).architecture == resolve(str(tmp_path / "second")).architecture
    assert resolve(str(first)).default_weights() == first / "model.safetensors"


def test_a_tokenizer_of_its_own_makes_another_architecture(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model")
    plain = resolve(str(folder)).architecture
    write_merges(folder / "merges.txt.gz", 100)
    hundred = resolve(str(folder)).architecture
    write_merges(folder / "merges.txt.gz", 200)
    assert len({plain, hundred, resolve(str(folder)).architecture}) == 3


def test_a_folder_without_a_configuration_is_no_model_folder(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"is not a model folder: it has no open_clip_config\.json"):
        resolve(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"model_cfg": {"embed_dim": 4}}', "describes no model"),
        ('{"model_cfg": {}, "activation": "relu"}', "relu"),
    ],
)
def test_a_configuration_that_cannot_be_understood_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "open_clip_config.json").write_text(content)
    with pytest.raises(CorruptFile, match=message) as caught:
        resolve(str(tmp_path))
    assert str(tmp_path / "open_clip_config.json") in str(caught.value)


def test_a_configuration_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", activation="gelu", config={**CONFIG, "quick_gelu": True})
    with pytest.raises(UsageError, match="contradictory"):
        stated(str(folder))


@pytest.mark.parametrize(
    "card",
    [
        {"activation": "quick_gelu"},
        {"backbone": {"name": "ViT-L-14/openai", "activation": "quick_gelu"}},
        {"activation": "quick_gelu", "backbone": "ViT-L-14/openai"},
    ],
)
def test_a_card_beside_the_weights_records_their_activation(tmp_path: Path, card: dict[str, Any]) -> None:
    (tmp_path / "card.json").write_text(json.dumps(card))
    assert resolve_activation("tuned", recorded_beside(tmp_path / "weights.safetensors")) == "quick_gelu"


def test_without_a_card_nothing_is_recorded(tmp_path: Path) -> None:
    assert recorded_beside(tmp_path / "weights.safetensors") == {}


TAGS = [(name, tag) for name, tag in open_clip.list_pretrained() if not name.endswith(QUICK_GELU_SUFFIX)]


def trained_quick(name: str, tag: str) -> bool:
    return bool(open_clip.get_pretrained_cfg(name, tag).get("quick_gelu", False))


def test_the_table_holds_exactly_the_pairs_that_open_clip_builds_with_the_wrong_activation() -> None:
    built_quick = {name: bool(open_clip.get_model_config(name).get("quick_gelu", False)) for name, _ in TAGS}
    wrong = {(name, tag) for name, tag in TAGS if trained_quick(name, tag) and not built_quick[name]}
    assert {(name, tag) for tag, names in QUICK_GELU_TAGS.items() for name in names} == wrong
    assert len(wrong) == 27


@pytest.mark.parametrize(("name", "tag"), TAGS)
def test_every_tag_of_open_clip_gets_the_activation_it_was_trained_with(name: str, tag: str) -> None:
    expected: Activation = "quick_gelu" if trained_quick(name, tag) else "gelu"
    assert of_tag(name, tag, expected) == expected
    assert of_tag(name + QUICK_GELU_SUFFIX, tag, expected) == expected


def test_the_table_wins_over_a_library_that_forgets() -> None:
    assert of_tag("ViT-L-14", "openai", "gelu") == "quick_gelu"
    assert of_tag("ViT-L-14", "laion400m_e32", "gelu") == "gelu"


def test_silence_about_the_activation_is_an_error_that_says_what_to_type() -> None:
    with pytest.raises(UsageError, match="neither stated nor recorded") as caught:
        resolve_activation("ViT-L-14", {"the option": None, "the name": None})
    assert "--activation quick_gelu" in str(caught.value.hint)


def test_statements_that_contradict_each_other_are_an_error_that_names_them() -> None:
    with pytest.raises(UsageError, match=r"the option says gelu, card\.json says quick_gelu"):
        resolve_activation("ViT-L-14", {"the option": "gelu", "the name": None, "card.json": "quick_gelu"})


def test_statements_that_agree_decide() -> None:
    assert resolve_activation("ViT-L-14", {"the option": "gelu", "the name": None, "card.json": "gelu"}) == "gelu"


@pytest.mark.parametrize("precision", ["fp32", "bf16-autocast"])
@pytest.mark.parametrize("training", [True, False])
def test_attention_is_computed_by_fused_kernels(precision: Any, training: bool) -> None:
    """By torch's own choice of them; asked for weights of attention, it could use none."""
    backbone = copy.deepcopy(tiny_backbone())
    backbone.model.train(training)
    pixels_B3SS, tokens_BL = torch.zeros(2, 3, 32, 32), backbone.tokenize(["a red circle", "two dogs"])
    with (
        torch.set_grad_enabled(training),
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision != "fp32"),
        profile(activities=[ProfilerActivity.CPU]) as profiler,
    ):
        backbone.encode_images(pixels_B3SS)
        backbone.encode_tokens(tokens_BL)
    calls = {event.key: event.count for event in profiler.key_averages()}
    fused = ("aten::_scaled_dot_product_flash_attention_for_cpu", "aten::_native_multi_head_attention")
    assert sum(calls.get(kernel, 0) for kernel in fused) == 3  # two layers of the image tower, one of the text tower
