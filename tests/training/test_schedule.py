"""Learning rates by step."""

from __future__ import annotations

import pytest

from cirbench.training.interface import TrainingParameters
from cirbench.training.loop import learning_rate
from cirbench_methods.pli import PliTraining


def rates(parameters: TrainingParameters, steps: int, per_epoch: int = 1) -> list[float]:
    return [learning_rate(i, steps=steps, steps_per_epoch=per_epoch, parameters=parameters) for i in range(steps)]


def test_epochs_of_pli_warm_up_as_in_the_public_code() -> None:
    first = rates(PliTraining(), steps=7)
    assert first == pytest.approx([1e-8, 2.08e-7, 4.06e-7, 6.04e-7, 8.02e-7, 1e-6, 1e-6])


def test_a_rate_that_counts_epochs_is_constant_within_one_and_drops_at_milestones() -> None:
    parameters = TrainingParameters(lr=1.0, schedule="epochs", milestones=(1, 2))
    assert rates(parameters, steps=6, per_epoch=2) == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_a_constant_rate_is_constant_after_its_warm_up() -> None:
    assert rates(TrainingParameters(lr=1.0, warmup=2), steps=4) == [0.5, 1.0, 1.0, 1.0]


def test_a_cosine_falls_from_the_height_of_the_warm_up_towards_zero() -> None:
    found = rates(TrainingParameters(lr=1.0, schedule="cosine", warmup=2), steps=6)
    assert found[:3] == [0.5, 1.0, 1.0]
    assert found[2:] == sorted(found[2:], reverse=True)
    assert found[4] == pytest.approx(0.5)
    assert 0 < found[5] < 0.2
