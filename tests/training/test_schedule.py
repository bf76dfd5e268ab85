"""Learning rates by step."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from cirbench.errors import CirbenchError, UsageError
from cirbench.support.parameters import parse
from cirbench.training.interface import ParameterGroup, TrainingParameters
from cirbench.training.loop import FACTOR_OF_RATE, learning_rate, optimizer_for
from cirbench_methods.pli import PliTraining


def rates(parameters: TrainingParameters, steps: int, per_epoch: int = 1) -> list[float]:
    return [learning_rate(i, steps=steps, steps_per_epoch=per_epoch, parameters=parameters) for i in range(steps)]


def test_epochs_of_pli_warm_up_as_in_the_public_code() -> None:
    first = rates(PliTraining(), steps=7)
    assert first == pytest.approx([1e-8, 2.08e-7, 4.06e-7, 6.04e-7, 8.02e-7, 1e-6, 1e-6])


def test_a_rate_that_counts_epochs_is_constant_within_one_and_drops_at_milestones() -> None:
    parameters = TrainingParameters(lr=1.0, schedule="epochs", milestones=(1, 2))
    assert rates(parameters, steps=6, per_epoch=2) == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_gamma_is_what_a_milestone_multiplies_the_rate_by() -> None:
    parameters = TrainingParameters(lr=1.0, schedule="epochs", milestones=(1, 2), gamma=0.5)
    assert rates(parameters, steps=3) == [1, 0.5, 0.25]


def test_a_constant_rate_is_constant_after_its_warm_up() -> None:
    assert rates(TrainingParameters(lr=1.0, warmup=2), steps=4) == [0.5, 1.0, 1.0, 1.0]


def test_a_linear_schedule_falls_evenly_to_the_least_rate() -> None:
    parameters = TrainingParameters(lr=1.0, schedule="linear", warmup=2, min_lr=0.2)
    assert rates(parameters, steps=6) == pytest.approx([0.5, 1.0, 1.0, 0.8, 0.6, 0.4])


def test_a_cosine_ends_at_the_least_rate() -> None:
    parameters = TrainingParameters(lr=1.0, schedule="cosine", min_lr=0.5)
    assert rates(parameters, steps=1000)[-1] == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "one-cycle"])
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


def test_a_cosine_with_a_period_rises_again_after_it() -> None:
    found = rates(TrainingParameters(lr=1.0, schedule="cosine", period=4), steps=9)
    assert found == pytest.approx([1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5, 0, 0.5 - 0.5**1.5, 0.5, 0.5 + 0.5**1.5, 1])


@given(steps=some.integers(3, 60), warmup=some.integers(2, 60))
def test_one_cycle_is_that_of_torch(steps: int, warmup: int) -> None:
    warmup = min(warmup, steps - 1)
    parameters = TrainingParameters(
        lr=1.0, schedule="one-cycle", warmup=warmup, start_lr=0.25, min_lr=0.0625, weight_decay=0.0
    )
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it wants a step of the optimiser before its own
        theirs = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, 1.0, total_steps=steps, pct_start=warmup / steps, div_factor=4, final_div_factor=4
        )
        expected = []
        for step in range(steps):
            expected.append(theirs.get_last_lr()[0])
            if step + 1 < steps:
                theirs.step()
    assert rates(parameters, steps=steps) == pytest.approx(expected, abs=1e-9)


def test_a_group_of_weights_has_its_own_rate_and_decay_and_the_first_pattern_counts() -> None:
    module = torch.nn.ModuleDict({"tower": torch.nn.Linear(2, 2), "head": torch.nn.Linear(2, 2)})
    module["tower"].bias.requires_grad_(False)
    groups = {"*.bias": ParameterGroup(weight_decay=0.0), "head.*": ParameterGroup(rate=10.0)}
    optimizer = optimizer_for(module, TrainingParameters(weight_decay=0.5), groups)
    found = {
        name: (group[FACTOR_OF_RATE], group["weight_decay"])
        for group in optimizer.param_groups
        for name, weights in module.named_parameters()
        if any(weights is one for one in group["params"])
    }
    assert found == {"tower.weight": (1.0, 0.5), "head.weight": (10.0, 0.5), "head.bias": (1.0, 0.0)}


def test_weights_that_do_not_decay_take_the_step_of_adam_without_decay() -> None:
    torch.manual_seed(0)
    ours = torch.nn.Linear(3, 2)
    theirs = copy.deepcopy(ours)
    decaying = TrainingParameters(lr=0.1, weight_decay=0.5)
    steps = (
        optimizer_for(ours, decaying, {"*": ParameterGroup(weight_decay=0.0)}),
        torch.optim.Adam(theirs.parameters(), lr=0.1),
    )
    for module, optimizer in zip((ours, theirs), steps, strict=True):
        module(torch.ones(4, 3)).square().sum().backward()
        optimizer.step()
    torch.testing.assert_close(ours.weight, theirs.weight)


def test_a_pattern_that_matches_no_weight_is_an_error() -> None:
    with pytest.raises(CirbenchError, match=r"No weight that is trained has a name like haed\.\*"):
        optimizer_for(torch.nn.Linear(1, 1), TrainingParameters(), {"haed.*": ParameterGroup()})
