"""What every test relies on: no network, caches of its own, and no limit on time."""

from __future__ import annotations

import gc
import multiprocessing.util
import os
import signal
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything reads it
os.environ.pop("COLUMNS", None)  # what is printed is as wide as it needs, whatever terminal the tests run in

# A busy machine is no reason to fail. Examples that share a test's temporary folder make names of their own in it.
settings.register_profile(
    "cirbench",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("quick", settings.get_profile("cirbench"), max_examples=25)
settings.load_profile("cirbench")

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def pytest_collection_finish() -> None:
    """Leave the libraries and the tests out of garbage collections, each of which takes half a second with them."""
    gc.collect()
    gc.freeze()


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
def own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the cache of the tests away from the user's, and remove every temporary file, those of torchrun included."""
    os.environ["CIRBENCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    multiprocessing.util.get_temp_dir()  # made now and elsewhere, since it is removed when the process ends
    with tempfile.TemporaryDirectory(prefix="cirbench-", ignore_cleanup_errors=True) as folder:
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        yield


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let Ctrl-C and a hang-up reach the processes that a test starts.

    A script's background jobs ignore SIGINT, nohup ignores SIGHUP, and every process below inherits that. A signal with
    a handler here has its default disposition there.
    """
    before = {name: signal.signal(name, signal.default_int_handler) for name in (signal.SIGINT, signal.SIGHUP)}
    yield
    for name, handler in before.items():
        signal.signal(name, handler)


@pytest.fixture
def annotation_root() -> Path:
    """The folder of real annotation files, where the environment names one."""
    root = os.environ.get("CIRBENCH_DATA")
    if root is None:
        pytest.skip("CIRBENCH_DATA is not set, so there are no real annotation files to test on")
    return Path(root)
