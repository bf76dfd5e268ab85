"""The first page counts what the boards hold, and names the best of each benchmark."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cirbench.leaderboard.audits import released
from cirbench.leaderboard.board import read_leaderboard
from cirbench.leaderboard.site.home import backbone_class, home
from cirbench.leaderboard.site.views import method_views, view
from cirbench.support.tables import Number
from tests.shown import METRICS, board, row

if TYPE_CHECKING:
    from pathlib import Path

    from cirbench.leaderboard.site.home import Home
    from cirbench.leaderboard.site.views import BoardView


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> list[BoardView]:
    none: Path = tmp_path_factory.mktemp("entries") / "none"
    return [view(board, none) for board in read_leaderboard(none).boards]


@pytest.fixture(scope="module")
def page(views: list[BoardView]) -> Home:
    return home(views, len(method_views(views)))


def test_it_counts_every_row_and_protocol(page: Home, views: list[BoardView]) -> None:
    counts = {what: int(number.replace(",", "")) for number, what in page.counts}
    assert counts["published rows"] == sum(len(each.board.rows) for each in views) > 250
    assert counts["runs with ranks to check"] == 0
    assert counts["audits of rows"] == len(released())
    assert counts["protocols"] == len({each.board.protocol for each in views} - {None})
    assert counts["methods"] == len({row.method for each in views for row in each.board.rows})


def test_a_bold_number_is_the_highest_of_its_kind_of_backbone_and_supervision(page: Home) -> None:
    for at, column in enumerate(page.columns):
        headline = column.view.board.metrics[0]
        for section in page.sections:
            rows = [
                row
                for row in column.view.board.rows
                if backbone_class(row.backbone) == section.title and headline in row.metrics
            ]
            for kind in (False, True):
                values = [row.metrics[headline].value for row in rows if row.supervised is kind]
                shown = [line.cells[at] for line in section.lines if line.supervised is kind]
                bold = {cell.value for cell in shown if cell and cell.best}
                assert bold == ({max(values)} if values else set())


def test_of_methods_with_as_many_numbers_the_highest_are_shown(tmp_path: Path) -> None:
    rows = [
        row(
            at,
            method=name,
            title=name,
            backbone="CLIP ViT-L/14",
            supervision="zero-shot",
            metrics={METRICS[0]: Number(10.0 + at)},
        )
        for at, name in enumerate("abcdefghij")
    ]
    (section,) = home([view(board(rows), tmp_path)], len(rows)).sections
    assert [line.title for line in section.lines] == list("jihgfedcba")[: len(section.lines)]
    assert section.left == len(rows) - len(section.lines) > 0


@pytest.mark.parametrize(
    ("backbone", "kind"),
    [
        ("CLIP ViT-L/14", "CLIP ViT-L/14"),
        ("OpenCLIP ViT-H/14", "CLIP ViT-H/14, G/14"),
        ("BLIP-2 ViT-g/14", "BLIP and BLIP-2"),
        ("LLaVA-NeXT-8B (CLIP ViT-L visual encoder)", "Multimodal language models"),
        ("ResNet-50", "Other backbones, and those that are not stated"),
    ],
)
def test_backbones_stand_with_their_like(backbone: str, kind: str) -> None:
    assert backbone_class(backbone) == kind


def test_the_newest_methods_come_first_and_progress_never_falls(page: Home) -> None:
    months = [each.when for each in page.news]
    assert months == sorted(months, reverse=True)
    assert len(months) > 5
    (figure,) = page.progress
    by_curve: dict[str, list[float]] = {}
    for name, _, value in figure.data[1:]:
        by_curve.setdefault(name, []).append(float(value))
    assert all(values == sorted(values) for values in by_curve.values())
