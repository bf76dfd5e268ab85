"""BLIPs of the hub, fetched from a server on this machine that answers as the hub does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cirbench.backbones import load_backbone
from cirbench.backbones.blip import find_blip
from cirbench.errors import MissingData
from tests.backbones.hub_server import online
from tests.tiny_blip import write_blip

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "blip-itm-base-coco"


@pytest.fixture(name="online")
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A hub with one model and an empty cache; the folder that it serves."""
    folder = write_blip(tmp_path / "served")
    with online(folder, tmp_path / "cache", monkeypatch):
        yield folder


def test_a_name_is_fetched_from_the_hub_once_and_is_the_model_that_lies_there(
    online: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = load_backbone(NAME, device="cpu")
    local = load_backbone(str(online), device="cpu")
    assert fetched.identity.digest == local.identity.digest
    assert fetched.identity.name == NAME
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    again = load_backbone(f"Salesforce/{NAME}", device="cpu")
    assert again.identity == fetched.identity


def test_weights_that_the_hub_has_in_the_older_form_only_are_fetched_too(online: Path) -> None:
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(online / "model.safetensors"), online / "pytorch_model.bin")
    (online / "model.safetensors").unlink()
    assert find_blip(NAME).weights()[0].name == "pytorch_model.bin"


def test_without_a_network_the_message_says_what_to_fetch_and_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingData, match=r"config\.json of Salesforce/blip-itm-base-coco is not cached") as caught:
        load_backbone(NAME, device="cpu")
    assert "fetch https://huggingface.co/Salesforce/blip-itm-base-coco elsewhere" in str(caught.value.hint)
    assert "give its folder in place of the name" in str(caught.value.hint)
