"""What every test relies on: no network, and caches of its own."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything reads it

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection that leaves this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and address[0] not in LOOPBACK:
            raise OSError(f"a test tried to reach {address[0]}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep features and checkpoints of the tests away from the user's."""
    os.environ["CIRBENCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def annotation_root() -> Path:
    """The folder of real annotation files, where the environment names one."""
    root = os.environ.get("CIRBENCH_DATA")
    if root is None:
        pytest.skip("CIRBENCH_DATA is not set, so there are no real annotation files to test on")
    return Path(root)
