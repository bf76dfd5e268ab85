"""Processes that were started together agree on values, add up numbers, and one of them says why all end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cirbench.errors import CirbenchError
from cirbench.support import distributed
from tests.side_by_side import TORCHRUN, environment, start_two

pytestmark = pytest.mark.slow

SCRIPT = str(Path(__file__).with_name("processes_at_work.py"))


def test_a_process_alone_is_the_first_of_one_and_waits_for_nobody() -> None:
    with distributed.init_distributed():
        assert distributed.get_context() == distributed.DistributedContext(rank=0, world_size=1, local_rank=0)
        assert distributed.broadcast_object("alone") == "alone"
        assert distributed.all_reduce_sum([1.0, 2.0]) == [1.0, 2.0]
        assert distributed.all_gather_union({3}) == {3}
        distributed.barrier()


def test_a_process_alone_tells_why_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    distributed.log_once("error: It is late.")
    assert capsys.readouterr().err == "error: It is late.\n"


def test_two_processes_under_torchrun_agree_add_up_and_gather_with_gradients_and_one_speaks() -> None:
    done = subprocess.run([*TORCHRUN, SCRIPT, "whole"], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)  # of one process: the other's would make two lines
    assert (found["leads"], found["agreed"], found["total"], found["union"]) == (True, "of 0", [3.0, 1.0], [0, 1, 7])
    rows, gradient = found["gathered"]
    assert rows == [0, 0, 1, 1]
    assert gradient == [1 * (1 + 2), 2 * (1 + 2)]  # each row's weight, times those of both processes
    assert found["apart"].startswith("The processes of this training see different states in absent.")
    torch.manual_seed(0)
    whole = torch.nn.Dropout(0.5)(torch.ones(8, 3))
    assert found["dropped"] == whole.flatten().tolist()


@pytest.mark.parametrize(
    ("kind", "code", "message"),
    [
        ("fails", 1, "error: The cable is out.\nPut it in.\n"),
        ("told", 143, "Stopped by SIGTERM. What was finished is kept: run the same command again to resume.\n"),
    ],
)
def test_when_one_process_ends_early_it_says_why_and_the_other_stops_in_silence(
    kind: str, code: int, message: str
) -> None:
    first, second = start_two([sys.executable, SCRIPT, kind], environment())
    _, said = second.communicate()
    shown, more = first.communicate(timeout=300)
    assert (first.returncode, second.returncode) == (1, code)
    assert said == message
    assert (shown, more) == ("", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_as_ctrl_c_does_once_and_only_while_it_is_wanted(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with distributed.stopped_by_signals():
        with pytest.raises(KeyboardInterrupt, match=f"Stopped by {number.name}") as caught:
            signal.raise_signal(number)
        signal.raise_signal(number)  # schedulers send several
    assert isinstance(caught.value, distributed.Terminated)
    assert caught.value.exit_code == 128 + number
    assert signal.getsignal(number) == before


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with distributed.stopped_by_signals():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_processes_that_cannot_meet_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(distributed, "TIMEOUT", distributed.TIMEOUT / 1800)  # a second
    with pytest.raises(CirbenchError, match="has ended or cannot be reached"), distributed.init_distributed():
        pass
