"""What `make gpu` runs works: a rehearsal on the CPU, and one line where there is no GPU."""

from __future__ import annotations

import re

import pytest
import torch

from tests.gpu.measure import main


@pytest.mark.slow
def test_a_rehearsal_measures_encoding_and_every_method(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--rehearse"])
    said = capsys.readouterr().out
    assert re.search(r"encoding, batch \d+, fp32: \d+ images/s, \d\.\d\d of the forward pass alone, \d+\.\dx", said)
    assert [line.split(",")[0] for line in said.splitlines() if "of a peak of" in line] == ["pli", "pic2word", "lincir"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_one_line_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    assert capsys.readouterr().out == "There is no GPU that torch can use: nothing was measured.\n"
