"""Two hosts, each a network namespace of its own: one that vanishes is noticed, one that is busy is waited for."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from safetensors.torch import load_file

from cirbench.training.checkpoint import CARD
from cirbench.training.contrastive import write_random_model
from cirbench.training.state import STATE
from tests.side_by_side import environment
from tests.tiny_clip import write_design

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = pytest.mark.slow

SCRIPT = str(Path(__file__).with_name("processes_at_work.py"))
LIMIT = 300
"""Seconds after which a process of these tests is ended, whatever it waits for."""


class Hosts:
    """Two hosts and the cable between them; nothing of it reaches any other network."""

    def __init__(self) -> None:
        self.names = [f"cirbench-{os.getpid()}-{rank}" for rank in range(2)]
        self.processes: list[subprocess.Popen[str]] = []

    def set_up(self) -> None:
        """Make them."""
        first, second = self.names
        for name in self.names:
            ip("netns", "add", name)
        ip("link", "add", "cable", "netns", first, "type", "veth", "peer", "name", "cable", "netns", second)
        for rank, name in enumerate(self.names):
            ip("-n", name, "addr", "add", f"10.77.0.{rank + 1}/24", "dev", "cable")
            for device in ("lo", "cable"):
                ip("-n", name, "link", "set", device, "up")

    def start(self, command: Sequence[str]) -> list[subprocess.Popen[str]]:
        """Start a process of a run on each."""
        meeting = {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "10.77.0.1", "MASTER_PORT": "29500"}
        self.processes = [
            subprocess.Popen(
                ["ip", "netns", "exec", name, "timeout", "--signal=KILL", str(LIMIT), *command],
                env={**environment(), **meeting, "RANK": str(rank), "GLOO_SOCKET_IFNAME": "cable"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank, name in enumerate(self.names)
        ]
        return self.processes

    def cut(self) -> None:
        """Let the second host vanish: no packet comes from it any more, not even a last one."""
        ip("-n", self.names[1], "link", "set", "cable", "down")

    def pids_on_second(self) -> list[int]:
        """The processes on the second host."""
        return [int(pid) for pid in ip("netns", "pids", self.names[1]).split()]

    def tear_down(self) -> None:
        """Remove them and whatever still runs there."""
        for process in self.processes:
            process.kill()
            process.communicate()
        for name in self.names:
            with contextlib.suppress(subprocess.CalledProcessError):
                for pid in ip("netns", "pids", name).split():
                    os.kill(int(pid), signal.SIGKILL)
                ip("netns", "delete", name)


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    if not sys.platform.startswith("linux") or shutil.which("ip") is None:
        pytest.skip("network namespaces need Linux and the command ip")
    both = Hosts()
    try:
        both.set_up()
    except subprocess.CalledProcessError as error:
        both.tear_down()
        pytest.skip(f"network namespaces cannot be made here: {error.stderr.strip()}")
    try:
        yield both
    finally:
        both.tear_down()


def wait_for(path: Path) -> None:
    end = time.monotonic() + LIMIT / 2
    while not path.exists():
        assert time.monotonic() < end, f"{path.name} has not come"
        time.sleep(0.1)


def test_a_training_whose_other_host_vanishes_says_so_within_90_seconds_and_keeps_its_state(
    hosts: Hosts, tmp_path: Path
) -> None:
    model = write_design(tmp_path / "model")
    write_random_model(model, model, seed=0)
    output = tmp_path / "checkpoint"
    command = [sys.executable, "-m", "cirbench", "train", "pli", "--backbone", str(model), "--data", "scenes:64"]
    command += ["--set", "batch_size=16", "--set", "steps=1000000", "--keep-epochs", "--output", str(output)]
    first, _ = hosts.start(command)
    wait_for(output / STATE)
    hosts.cut()
    since = time.monotonic()
    _, said = first.communicate(timeout=LIMIT)
    assert time.monotonic() - since < 90
    assert first.returncode == 1
    assert "error: The host of another process of this run has not answered for 60 seconds, so this one stops" in said
    assert "Traceback" not in said
    assert not (output / CARD).exists()
    assert len(load_file(output / STATE)["losses"]) >= 4


def test_a_process_that_does_nothing_for_long_is_waited_for_while_its_host_lives(hosts: Hosts, tmp_path: Path) -> None:
    processes = hosts.start([sys.executable, SCRIPT, "meets", str(tmp_path), "6"])  # vanished after 6 seconds
    for rank in range(2):
        wait_for(tmp_path / f"begun-{rank}")
    stopped = hosts.pids_on_second()
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(20)
    assert [process.poll() for process in processes] == [None, None]
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    (tmp_path / "enough").touch()
    for process in processes:
        _, said = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, said
    assert (tmp_path / "done-0").exists()
    assert (tmp_path / "done-1").exists()
