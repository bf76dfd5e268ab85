"""BLIPs of the hub, fetched from a server on this machine that answers as the hub does."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from cirbench.backbones import load_backbone
from cirbench.backbones.blip import find_blip
from cirbench.errors import MissingData
from tests.tiny_blip import write_blip

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "blip-itm-base-coco"


@contextlib.contextmanager
def hub(folder: Path) -> Iterator[str]:
    """Serve the files of a folder as those of every repository; the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self.wfile.write(self._answer())

        def _answer(self) -> bytes:
            path = folder / self.path.rpartition("/")[2]
            content = path.read_bytes() if path.is_file() else b""
            self.send_response(200 if path.is_file() else 404)
            if not path.is_file():
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            return content

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A hub with one model and an empty cache; the folder that it serves."""
    folder = write_blip(tmp_path / "served")
    with hub(folder) as address:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
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
    assert find_blip(NAME).default_weights().name == "pytorch_model.bin"


def test_without_a_network_the_message_says_what_to_fetch_and_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingData, match=r"config\.json of Salesforce/blip-itm-base-coco is not cached") as caught:
        load_backbone(NAME, device="cpu")
    assert "fetch https://huggingface.co/Salesforce/blip-itm-base-coco elsewhere" in str(caught.value.hint)
    assert "--backbone FOLDER" in str(caught.value.hint)
