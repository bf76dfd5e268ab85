"""Learning rates by step."""

from __future__ import annotations

import pytest

from cirbench.errors import UsageError
from cirbench.support.parameters import parse
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


def test_a_linear_schedule_falls_evenly_to_the_least_rate() -> None:
    parameters = TrainingParameters(lr=1.0, schedule="linear", warmup=2, min_lr=0.2)
    assert rates(parameters, steps=6) == pytest.approx([0.5, 1.0, 1.0, 0.8, 0.6, 0.4])


def test_a_cosine_ends_at_the_least_rate() -> None:
    parameters = TrainingParameters(lr=1.0, schedule="cosine", min_lr=0.5)
    assert rates(parameters, steps=1000)[-1] == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_a_schedule_by_epoch_has_in_each_epoch_the_rate_that_one_by_step_has_at_its_number(schedule: str) -> None:
    values = {"lr": 1.0, "schedule": schedule, "warmup": 2}
    by_step = parse(TrainingParameters, values, owner="a test")
    by_epoch = parse(TrainingParameters, {**values, "schedule_by": "epoch"}, owner="a test")
    each = rates(by_step, steps=5)
    assert rates(by_epoch, steps=15, per_epoch=3) == [rate for rate in each for _ in range(3)]


def test_a_schedule_that_counts_epochs_anyway_refuses_to_be_told_so() -> None:
    with pytest.raises(
        UsageError, match="schedule_by of pli has an effect only with schedule=constant or schedule=lin"
    ):
        parse(PliTraining, {"schedule_by": "epoch"}, owner="pli")


def test_a_cosine_falls_from_the_height_of_the_warm_up_towards_zero() -> None:
    found = rates(TrainingParameters(lr=1.0, schedule="cosine", warmup=2), steps=6)
    assert found[:3] == [0.5, 1.0, 1.0]
    assert found[2:] == sorted(found[2:], reverse=True)
    assert found[4] == pytest.approx(0.5)
    assert 0 < found[5] < 0.2
