"""Cards, headings and drawings: what a reader sees of them, and what no text in them can do."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cirbench.leaderboard.board import REPRODUCED, distinct
from cirbench.leaderboard.site.figures import Dot, Line, chosen, rows_figure, swept
from cirbench.leaderboard.site.frame import headings, long_label, ordinal, to_html
from cirbench.metrics.table import short_label
from cirbench.support.files import slug
from cirbench.support.tables import Number
from tests.shown import METRICS, board, row

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=40)
PERCENT = st.floats(0, 100)


def test_a_card_keeps_its_tables_lists_and_code_and_leaves_its_title_to_the_page() -> None:
    html = to_html(
        "# Name\n\nSome *words*.\n\n## Use\n\n    cirbench run\n\n| a | b |\n|---|---|\n| 1 | `x` |\n\n- one\n"
    )
    assert "Name" not in html
    assert "<h3>Use</h3>" in html
    assert "<em>words</em>" in html
    assert '<pre tabindex="0"><code>cirbench run' in html
    assert "<td><code>x</code></td>" in html
    assert "<li>one</li>" in html


@pytest.mark.parametrize(
    "source",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[click](javascript:alert(1))",
        "[click](  JaVaScRiPt:alert(1))",
        "![x](https://example.org/pixel.png)",
        '<https://example.org/"onmouseover=alert(1)>',
        "\u202eabc\x1b[31m",
        '[a]: javascript:alert(1) "x"\n\n[a]',
        '``` "><script>\nx\n```',
    ],
)
def test_nothing_in_a_card_acts(source: str) -> None:
    html = to_html(source)
    for part in ("<script", "<img", 'href="javascript', 'href="JaVa', "\u202e", "\x1b", '"onmouseover'):
        assert part not in html


def test_a_card_links_to_the_web_and_to_none_of_its_neighbours() -> None:
    html = to_html("[paper](https://arxiv.org/abs/2311.07622) and [code](train.py) and [up](../../secrets)")
    assert '<a href="https://arxiv.org/abs/2311.07622">paper</a>' in html
    assert "train.py" not in html
    assert "secrets" not in html
    assert "code" in html


def test_headings_are_short_and_say_at_length_what_they_are() -> None:
    assert short_label("Recall_subset@2") == "Rs@2"
    assert short_label("Recall@10[category=shirt]") == "R@10 shirt"
    assert short_label("Recall@10[mean over category]") == "R@10 mean"
    assert short_label("mAP[mean over domain]") == "mAP mean"
    assert "mean over each category" in long_label("Recall@10[mean over category]")


def test_a_wide_board_shows_two_cutoffs_of_each_metric_and_its_other_columns_on_demand() -> None:
    labels = ["mAP@5", "mAP@10", "mAP@25", "mAP@50", "Recall@1", "Recall@5", "Recall@10"]
    labels += [f"mAP@10[aspect={letter}]" for letter in "abcdef"]
    shown = [heading.label for heading in headings(labels) if heading.shown]
    assert shown == ["mAP@5", "mAP@10", "Recall@1", "Recall@5"]
    assert all(heading.shown for heading in headings(labels[:8]))


@pytest.mark.slow
@given(st.lists(st.tuples(TEXT, PERCENT), min_size=1, max_size=8), TEXT)
def test_a_picture_of_rows_is_well_formed_and_says_every_number(rows: list[tuple[str, float]], title: str) -> None:
    lines = [Line(name, (Dot(Number(value, max(0.0, value - 1), value + 1)),), "rank 1") for name, value in rows]
    drawing = ET.fromstring(rows_figure(lines, ("",), title=title, unit="Percent", text="").drawing)
    description = drawing.findtext("desc")
    assert description is not None
    for _, value in rows:
        assert f"{value:.2f} [" in description
    assert len(drawing.findall(".//circle")) == len(rows)


def test_long_names_of_series_take_another_line_and_stay_inside_the_picture() -> None:
    names = [f"a method with a long name, number {number}" for number in range(4)]
    dots = tuple(Dot(Number(10.0 + series), series) for series in range(len(names)))
    drawing = ET.fromstring(rows_figure([Line("a slice", dots)], names, title="t", unit="Percent", text="").drawing)
    keys = {text.text: text for text in drawing.findall("text") if text.text in names}
    assert [*keys] == names
    assert all(float(key.get("x", 0)) + 6 * len(name) < float(drawing.get("width", 0)) for name, key in keys.items())
    assert len({key.get("y") for key in keys.values()}) == 2


@given(TEXT)
def test_a_name_becomes_a_plain_file_name(name: str) -> None:
    assert slug(name)
    assert set(slug(name)) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_ordinals() -> None:
    assert [ordinal(count) for count in (1, 2, 3, 4, 11, 12, 13, 21, 112)] == [
        "1st",
        "2nd",
        "3rd",
        "4th",
        "11th",
        "12th",
        "13th",
        "21st",
        "112th",
    ]


def test_rows_made_here_are_told_apart_by_what_differs_and_printed_ones_keep_their_names() -> None:
    rows = [
        row(number, badge=REPRODUCED, method="pli", title="PLI", settings={"weight": 1.0, "mask_ratio": ratio})
        for number, ratio in enumerate((0.25, 0.5))
    ]
    shown = distinct([*rows, row(7, method="pli", title="PLI (as printed)")])
    titles = [each.title for each in shown]
    assert titles == ["pli mask_ratio=0.25", "pli mask_ratio=0.5", "PLI (as printed)"]


def test_rows_made_here_with_the_same_settings_are_told_apart_by_their_runs() -> None:
    rows = [
        row(0, id=f"cirr-test1--pli--{run}", badge=REPRODUCED, method="pli", settings={"data": "pairs.csv"})
        for run in ("1a", "2b")
    ]
    assert [each.title for each in distinct(rows)] == ["pli (1a)", "pli (2b)"]


def test_a_sweep_is_rows_that_differ_in_one_number_alone() -> None:
    values = [(0.25, 1.0), (0.5, 1.0), (0.75, 1.0), (0.5, 2.0)]
    rows = [
        row(
            number,
            badge=REPRODUCED,
            method="pli",
            backbone="b",
            settings={"mask_ratio": ratio, "weight": weight, "seed": 0},
        )
        for number, (ratio, weight) in enumerate(values)
    ]
    one = board(rows)
    found = swept([(one, each) for each in rows])
    masks = found["cirr/test1", "mask_ratio"]["pli on b"]
    assert [value for value, _ in masks] == [0.25, 0.5, 0.75]
    assert [value for value, _ in found["cirr/test1", "weight"]["pli on b"]] == [1.0, 2.0]


def test_pictures_compare_the_best_run_of_each_method() -> None:
    measured_here = {label: Number(30.0, 29.0, 31.0) for label in METRICS}
    rows = [
        row(number, badge=REPRODUCED, method=method, backbone="b", metrics=measured_here)
        for number, method in enumerate(("good", "good", "other"))
    ]
    assert [each.id for each in chosen(board(rows))] == [rows[0].id, rows[2].id]
    published = [row(number) for number in range(10)]
    assert [each.backbone for each in chosen(board(published))] == [f"backbone {number}" for number in range(5)]
