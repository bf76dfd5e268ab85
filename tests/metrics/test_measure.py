"""What a protocol reports is made of per-query values that are kept."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cirbench.errors import UnknownName
from cirbench.metrics import METRICS, Measure, measure
from cirbench.ranking import UNRANKED
from cirbench.support.arrays import Ragged

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class Ranks:
    relevant_ranks: Ragged[np.int64]
    group_ranks_Q: NDArray[np.int64] | None = None


@dataclasses.dataclass(frozen=True)
class Asked:
    measures: tuple[Measure, ...]
    slices: Mapping[str, tuple[tuple[str, ...], ...]] = dataclasses.field(default_factory=dict)
    labels: None = None


RANKS = Ranks(Ragged.of([[1, 3], [4], [UNRANKED, 2], []], np.int64), np.array([1, 3, 2, UNRANKED]))


def test_recall_looks_at_the_first_ground_truth_only() -> None:
    [found] = measure(RANKS, Asked((Measure("Recall", 3),)))
    assert found.label == "Recall@3"
    assert found.values_Q[:3].tolist() == [1, 0, 0]
    assert np.isnan(found.values_Q[3])
    assert found.value == pytest.approx(1 / 3)
    assert found.count == 3


def test_recall_in_the_group_looks_at_the_rank_in_the_group() -> None:
    [found] = measure(RANKS, Asked((Measure("Recall_subset", 2),)))
    assert found.values_Q[:3].tolist() == [1, 0, 1]
    assert found.value == pytest.approx(2 / 3)


def test_measures_on_groups_are_left_out_where_groups_were_not_ranked() -> None:
    asked = Asked((Measure("Recall_subset", 1), Measure("Recall", 1)))
    assert [found.label for found in measure(Ranks(RANKS.relevant_ranks), asked)] == ["Recall@1"]


def test_slices_are_measured_alone_and_averaged_without_weights() -> None:
    slices = {"category": (("dress",), ("shirt",), ("shirt",), ("shirt",))}
    measured = measure(RANKS, Asked((Measure("Recall", 4, by="category", macro=True),), slices))
    found = {one.label: one for one in measured}
    assert {label: (one.value, one.count) for label, one in found.items()} == {
        "Recall@4[category=dress]": (1.0, 1),
        "Recall@4[category=shirt]": (0.5, 2),
        "Recall@4[mean over category]": (0.75, 3),
    }
    assert found["Recall@4[mean over category]"].mean_of == ("Recall@4[category=dress]", "Recall@4[category=shirt]")
    assert np.isnan(found["Recall@4[category=dress]"].values_Q[1:]).all()


def test_a_query_may_lie_in_several_slices_and_an_empty_slice_is_not_reported() -> None:
    slices = {"aspect": (("negation", "addition"), ("addition",), (), ("cardinality",))}
    found = measure(RANKS, Asked((Measure("mAP", 10, by="aspect"),), slices))
    assert [one.label for one in found] == ["mAP@10[aspect=addition]", "mAP@10[aspect=negation]"]
    assert found[0].value == pytest.approx(((1 + 2 / 3) / 2 + 1 / 4) / 2)


def test_slices_come_in_the_order_that_is_asked_for() -> None:
    slices = {"aspect": (("b", "a"), ("a",), ("c",), ())}
    found = measure(RANKS, Asked((Measure("mAP", 5, by="aspect", labels=("c", "a")),), slices))
    assert [one.label for one in found] == ["mAP@5[aspect=c]", "mAP@5[aspect=a]"]


def test_nothing_is_reported_where_nothing_is_labelled() -> None:
    nothing = Ranks(Ragged.of([[], []], np.int64))
    assert measure(nothing, Asked((Measure("Recall", 1), Measure("mAP", 5)))) == ()


def test_an_unknown_metric_is_refused_with_the_nearest_names() -> None:
    with pytest.raises(UnknownName, match=r"no metric called 'Recal'[\s\S]*Nearest: Recall"):
        Measure("Recal", 5)


def test_every_metric_says_what_it_is_and_where_it_comes_from() -> None:
    for name, metric in METRICS.all()[0].items():
        assert metric.name == name
        assert metric.title.endswith(".")
        assert metric.source
