"""Labels are read and written alike, and tables have the columns that papers print."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cirbench.metrics.measure import measure
from cirbench.metrics.table import CIRR_AVERAGE, METRICS, Label, measures_of, parse_label, printed_labels, short_label
from cirbench.ranking import rank
from cirbench.ranking.task import ranking_task
from tests.leaderboard.runs import tiny, unit
from tests.toy_protocols import circo_like, cirr_like, fashioniq_like, genecis_like

if TYPE_CHECKING:
    from cirbench.protocol import EvaluationProtocol


NO_LABELS = ["", "mAP", "mAP@", "mAP@x", "Accuracy@1", "mAP@5[aspect]", "mAP@5[a=b", "mAP@9999999999"]
PROTOCOLS = [circo_like(20, 90), cirr_like(20, 60), fashioniq_like(), genecis_like(20, 90), tiny()]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("mAP@5", Label("mAP", 5)),
        ("Recall_subset@1", Label("Recall_subset", 1)),
        ("mAP@10[aspect=negation]", Label("mAP", 10, "aspect", "negation")),
        ("Recall@10[mean over category]", Label("Recall", 10, "category")),
        ("Recall@1[task=a=b]", Label("Recall", 1, "task", "a=b")),
        (CIRR_AVERAGE, Label(CIRR_AVERAGE, 5)),
    ],
)
def test_a_label_says_what_was_asked_for(text: str, label: Label) -> None:
    assert parse_label(text) == label


@pytest.mark.parametrize("text", NO_LABELS)
def test_what_is_no_label_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a label of a number"):
        parse_label(text)


@given(st.text())
def test_any_text_is_a_label_of_a_known_metric_or_is_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_label(text).metric in METRICS.names()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_labels_of_a_result_tell_all_that_its_protocol_measures(protocol: EvaluationProtocol) -> None:
    assert protocol.gallery is not None
    ranking = rank(unit(len(protocol.queries), 0), unit(len(protocol.gallery), 1), ranking_task(protocol))
    labels = [each.label for each in measure(ranking, protocol)]
    assert ", ".join(map(str, measures_of(labels))) == protocol.fields["measures"]


CASES = {
    "circo": (
        ["mAP@5", "mAP@10", "mAP@25", "mAP@50", "Recall@5", "Recall@10", "mAP@10[aspect=negation]"],
        ["mAP@5", "mAP@10", "mAP@25", "mAP@50"],
    ),
    "cirr": (
        ["Recall@1", "Recall@5", "Recall_subset@1", "Recall_subset@2", "(R@5+Rs@1)/2"],
        ["R@1", "R@5", "Rs@1", "Rs@2", "(R@5+Rs@1)/2"],
    ),
    "fashioniq": (
        [
            *("Recall@10[category=dress]", "Recall@10[category=shirt]", "Recall@10[mean over category]"),
            *("Recall@50[category=dress]", "Recall@50[category=shirt]", "Recall@50[mean over category]"),
        ],
        ["R@10 dress", "R@50 dress", "R@10 shirt", "R@50 shirt", "R@10 mean", "R@50 mean"],
    ),
    "genecis": (
        [
            *("Recall@1[task=focus-attribute]", "Recall@1[task=change-object]", "Recall@1[mean over task]"),
            *("Recall@2[task=focus-attribute]", "Recall@2[task=change-object]", "Recall@2[mean over task]"),
        ],
        [
            *("R@1 focus-attribute", "R@2 focus-attribute", "R@1 change-object", "R@2 change-object"),
            *("R@1 mean", "R@2 mean"),
        ],
    ),
    "freedom": (
        ["mAP_trapezoidal_all[mean over domain]", "mAP_trapezoidal_all[domain=photo]"],
        ["mAP_trap_all photo", "mAP_trap_all mean"],
    ),
    "a published row without cut-offs": (["mAP[mean over domain]"], ["mAP mean"]),
    "nothing": ([], []),
}


@pytest.mark.parametrize("name", CASES)
def test_the_columns_are_those_of_papers(name: str) -> None:
    labels, expected = CASES[name]
    assert [short_label(label) for label in printed_labels(labels)] == expected
