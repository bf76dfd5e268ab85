"""The columns that papers print, for each benchmark."""

from __future__ import annotations

import pytest

from cirbench.metrics.table import printed_labels, short_label

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
