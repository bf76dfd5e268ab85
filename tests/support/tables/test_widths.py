"""A table on a terminal is as wide as that at most, whole in its borders and words, and says what it leaves out."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from cirbench.support.console import print_table
from cirbench.support.tables import Column, Number, Table
from cirbench.support.tables.terminal import to_text
from tests.support.tables.test_render import tables

WIDTHS = (80, 100, 120)
VALUE, DIFFERENCE = Number(12.34, 11.11, 13.57), Number(-12.4, -13.95, -10.9, signed=True, note="p=0.0006")
COMPARED = Table(
    "scenes/val@1 (9bdd7ccd) · scenes-vit · queries 1000/1000, gallery 10000/10000",
    (
        Column("run", "run"),
        Column("rank", "rank"),
        Column("value", "mAP@5"),
        Column("difference", "against image-text"),
        *(Column(name, name, optional=3) for name in ("wins", "ties", "losses")),
        Column("folder", "folder", optional=4),
    ),
    (
        (
            "lincir data=coco_captions.txt",
            "10-11",
            VALUE,
            DIFFERENCE,
            "49",
            "576",
            "375",
            "runs/lincir-0123abcd",
        ),
        ("pli", "1", VALUE, None, "", "", "", "runs/pli-89abcdef"),
    ),
    "A caption of some length. " * 6,
)


def check(text: str, width: int) -> list[str]:
    """Look at the printed lines: none too wide, and every line of the box as wide as its border."""
    lines = text.splitlines()
    assert max(map(cell_len, lines)) <= width
    box = [line for line in lines if line[:1] in tuple("┏┃┣┡│├└")]
    assert {cell_len(line) for line in box} == {cell_len(box[0])}
    assert box[0][-1] == "┓" and box[-1][0] + box[-1][-1] == "└┘"
    assert all(line[-1] in "┓┃┫┩│┤┘" for line in box)
    return box


@pytest.mark.parametrize("width", WIDTHS)
def test_columns_go_in_the_declared_order_and_what_went_is_said(width: int) -> None:
    text = to_text(COMPARED, width)
    check(text, width)
    said = " ".join(text.split())
    shown = [column.key for column in COMPARED.columns if re.search(rf" {column.heading.split()[-1]} +┃", text)]
    gone = {80: ["wins", "ties", "losses", "folder"], 100: ["wins", "ties", "losses", "folder"], 120: ["folder"]}[width]
    assert shown == [column.key for column in COMPARED.columns if column.key not in gone]
    assert f"Left out for the width: {', '.join(gone)}" in said and "--wide shows all." in said
    assert "data=coco_captions.txt" in text and "12.34 [11.11, 13.57]" in text


def test_without_a_terminal_nothing_is_left_out() -> None:
    text = to_text(COMPARED)
    assert "runs/lincir-0123abcd" in text and "Left out" not in text
    assert "lincir data=coco_captions.txt" in text


def test_intervals_are_left_out_before_the_columns_that_matter() -> None:
    text = to_text(COMPARED, 80)
    said = " ".join(text.split())
    assert "the interval of against image-text" in said and "-12.40 p=0.0006" in text and "-13.95" not in text
    check(to_text(COMPARED, 50), 50)


def test_printing_follows_columns_and_wide_shows_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_table(COMPARED)
    check(capsys.readouterr().out, 80)
    print_table(COMPARED, wide=True)
    assert "runs/lincir-0123abcd" in capsys.readouterr().out
    monkeypatch.delenv("COLUMNS")
    print_table(COMPARED)
    assert "runs/lincir-0123abcd" in capsys.readouterr().out


def test_headings_over_groups_span_their_columns() -> None:
    recall = (Column("a", "R@1", group="cirr/val"), Column("b", "R@5", group="cirr/val"))
    columns = (Column("m", "method"), *recall, Column("c", "mAP@5", group="circo/val-drop-reference"))
    box = check(to_text(Table("", columns, (("pli", Number(1), Number(2), Number(3)),)), 60), 60)
    assert box[:4] == [
        "┏━━━━━━━━┳━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━━━━━━━━┓",
        "┃        ┃  cirr/val   ┃ circo/val-drop-reference ┃",
        "┃        ┣━━━━━━┳━━━━━━╋━━━━━━━━━━━━━━━━━━━━━━━━━━┫",
        "┃ method ┃  R@1 ┃  R@5 ┃                    mAP@5 ┃",
    ]


def test_sections_are_ruled_and_say_their_name_once() -> None:
    columns = (Column("backbone", "backbone"), Column("method", "method"))
    rows = (("B/32", "a"), ("B/32", "b"), ("L/14", "c"))
    box = check(to_text(Table("", columns, rows, sections="backbone"), 60), 60)
    assert [line[2:6] for line in box[3:-1]] == ["B/32", "    ", "────", "L/14"]


def test_a_path_is_broken_nowhere() -> None:
    path = "runs/scenes/" + "a-long-name-" * 6 + "0123abcd"
    columns = (Column("name", "name"), Column("path", "path"))
    text = to_text(Table("", columns, (("x", path),), f"Run {path}."), 80)
    assert f"Run\n{path}.\n" in text  # below the table it stays whole
    assert f"│ {path[:20]}" in text and "…" in text  # in a cell that cannot hold it, it ends in an ellipsis


@pytest.mark.slow
@settings(max_examples=200)
@given(table=tables(), width=st.sampled_from((60, *WIDTHS)))
def test_no_table_breaks_its_borders(table: Table, width: int) -> None:
    """Numbers of up to four wide columns fit into 60 columns in some way."""
    text = to_text(Table(table.title[:9], table.columns, table.rows, foot=table.foot, sections=table.sections), width)
    box = [line for line in text.splitlines() if line[:1] in tuple("┏┃┣┡│├└")]
    assert {cell_len(line) for line in box} == {cell_len(box[0])} and cell_len(box[0]) <= width
