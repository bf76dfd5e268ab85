"""Every training still takes the twenty steps that it took when its golden trace was kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cirbench.training.checkpoint import read_card
from cirbench.training.train import train
from tests.training import golden
from tests.training.quick import quick_request, trained

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

TOLERANCE = 1e-4
"""Other processors, threads and versions of torch round differently, and the steps amplify that. Between AVX-512, AVX2
and no vectors at all, on one thread and on two, the largest difference of these traces was 2e-6."""


@pytest.mark.parametrize("name", trained())
def test_twenty_steps_follow_the_golden_trace(name: str, tmp_path: Path) -> None:
    card = read_card(train(quick_request(name), folder=tmp_path))
    assert card.losses == pytest.approx(golden.read(name), abs=TOLERANCE)


def test_every_golden_trace_belongs_to_something_that_can_be_trained() -> None:
    assert {path.stem for path in golden.FOLDER.glob("*.json")} == set(trained())
