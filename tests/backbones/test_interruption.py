"""Killing an encoding process at any moment loses at most the shard in flight, and changes no byte of the result."""

from __future__ import annotations

import hashlib
import multiprocessing
import random
import shutil
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.backbones.encoding_process import IMAGES, SHARD, encode
from tests.backbones.small import write_folder

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess
    from pathlib import Path

pytestmark = pytest.mark.slow

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["open_clip", "safetensors.torch"])  # importing them takes seconds
KILLS = 10


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "model")


def begin(model: Path, store: Path) -> BaseProcess:
    begun = PROCESSES.Event()
    process = PROCESSES.Process(target=encode, args=(str(model), str(store), begun))
    process.start()
    assert begun.wait(300)
    return process


def finish(process: BaseProcess) -> None:
    process.join(300)
    assert process.exitcode == 0


def shards(store: Path) -> dict[str, str]:
    """Every shard by name, with the sha256 of its bytes."""
    paths = sorted(store.rglob("*.safetensors"))
    return {str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_ten_kills_and_a_re_run_leave_the_bytes_of_an_uninterrupted_run(model: Path, tmp_path: Path) -> None:
    process = begin(model, tmp_path / "whole")
    start = time.monotonic()
    finish(process)
    seconds = time.monotonic() - start
    whole = shards(tmp_path / "whole")
    assert all(path.split("/")[1].startswith(digest) for path, digest in whole.items())

    store, moments = tmp_path / "killed", random.Random(0)
    killed = 0
    while killed < KILLS:
        process = begin(model, store)
        time.sleep(moments.uniform(0, seconds / KILLS))
        process.kill()
        process.join()
        assert shards(store).items() <= whole.items()
        if process.exitcode == -signal.SIGKILL:
            killed += 1
        else:  # it was faster than the first one, so nothing is left to interrupt
            shutil.rmtree(store)
            seconds /= 2
    finish(begin(model, store))
    assert shards(store) == whole


def test_two_processes_share_a_store(model: Path, tmp_path: Path) -> None:
    finish(begin(model, tmp_path / "one"))
    pair = [begin(model, tmp_path / "shared") for _ in range(2)]
    for process in pair:
        finish(process)
    one, shared = shards(tmp_path / "one"), shards(tmp_path / "shared")
    assert all(path.split("/")[1].startswith(digest) for path, digest in shared.items())
    assert one.items() <= shared.items()
    assert len(one) >= IMAGES / SHARD
