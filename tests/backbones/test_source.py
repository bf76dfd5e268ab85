"""What the name of a backbone stands for."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from cirbench.backbones.openclip import QUICK_GELU_TAGS, model_preprocessing, resolve
from cirbench.backbones.weights import recorded_beside, resolve_activation
from cirbench.errors import CorruptFile, MissingData, UnknownName, UsageError
from tests.backbones.small import CONFIG, write_folder, write_merges

if TYPE_CHECKING:
    from pathlib import Path

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
