"""The self-test gives the golden numbers here, and says of numbers that are others by how much they are."""

from __future__ import annotations

import json

import msgspec
import pytest

from cirbench import cli
from cirbench.runs import selftest
from cirbench.runs.selftest import FILE, VERSION, Golden, deviations
from cirbench.support.files import read_versioned


@pytest.fixture(scope="module")
def golden() -> Golden:
    return read_versioned(FILE, Golden, version=VERSION)


@pytest.mark.slow
def test_this_machine_computes_the_golden_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.execute(["doctor", "--selftest", "--device", "cpu", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["ok"] for each in found] == [True] * 5


def test_equal_numbers_do_not_deviate(golden: Golden) -> None:
    assert [each.largest for each in deviations(golden)] == [0] * 5


def test_what_deviates_is_named_with_its_size_and_nothing_else(
    golden: Golden, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    losses = [*golden.losses[:-1], golden.losses[-1] + 0.25]
    ranks = [golden.ranks[0] + 1, *golden.ranks[1:]]
    monkeypatch.setattr(selftest, "compute", lambda _: msgspec.structs.replace(golden, losses=losses, ranks=ranks))
    assert cli.execute(["doctor", "--selftest", "--device", "cpu"]) == 4
    said = capsys.readouterr()
    wrong = [line for line in said.out.splitlines() if line.startswith("DEVIATES")]
    assert wrong == [
        f"DEVIATES  exact ranks ({len(ranks)}): how many differ: 1 (exactly equal)",
        "DEVIATES  losses of 5 training steps: 0.25 (at most 0.0001)",
    ]
    assert "2 of 5 kinds of numbers deviate on this machine" in said.err


def test_numbers_that_are_none_deviate(golden: Golden) -> None:
    lost = msgspec.structs.replace(golden, losses=[float("nan")] * len(golden.losses))
    assert not deviations(lost)[-1].is_within


def test_a_device_without_a_self_test_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.execute(["doctor", "--device", "cpu"]) == 2
    assert "--device would have no effect" in capsys.readouterr().err
