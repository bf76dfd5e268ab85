"""What `make gpu` runs works: a rehearsal on the CPU, and one line where there is no GPU."""

from __future__ import annotations

import re

import pytest
import torch

from tests.gpu import measure
from tests.gpu.measure import main


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch's compiler ignores it itself
def test_a_rehearsal_measures_every_section_and_names_the_card_in_each_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rehearse"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert all(line.startswith("CPU, rehearsal: ") for line in said)
    lines = [line.removeprefix("CPU, rehearsal: ") for line in said]
    encoding = r"encoding from files, batch \d+, fp32, 8 decoding threads: \d+ images/s, \d\.\d\d of the forward pass"
    assert sum(bool(re.match(encoding, line)) for line in lines) == 1
    steps = [line.partition(":")[0] for line in lines if "of a peak of" in line]
    assert steps == [
        "pli, batch 4, bf16",
        "pli, batch 8, bf16",
        "pic2word, batch 8, bf16",
        "lincir, batch 8, bf16",
        "pli, batch 8, bf16, compiled",
    ]
    assert sum(bool(re.match(r"pli, batch 8, bf16, from files, .* pairs/s, \d", line)) for line in lines) == 1
    goals = [line.removeprefix("goal on an H100: ") for line in lines if line.startswith("goal")]
    assert [goal.rpartition(":")[0].partition(",")[0] for goal in goals] == [
        "encoding",
        "PLI at 8 against the plain loop",
        "PLI at 8",
        "scaling over 2 processes",
    ]
    assert all(re.search(r": \d+\.\d\d of (0\.8|3|0\.4|0\.9), (reached|missed)$", goal) for goal in goals)


def test_a_section_that_fails_is_named_and_the_others_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(bench: measure.Bench) -> None:
        raise RuntimeError("no compiler\nand more")

    monkeypatch.setattr(measure, "SECTIONS", {"first": broken, "second": lambda bench: bench.say("done")})
    assert main(["--rehearse"]) == 1
    assert capsys.readouterr().out.splitlines()[1:] == [
        "CPU, rehearsal: first failed: RuntimeError: no compiler",
        "CPU, rehearsal: done",
    ]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_one_line_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out == "There is no GPU that torch can use: nothing was measured.\n"
