"""What the site's tests show: runs, entries made of them, and boards of made-up rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench import cli
from cirbench.leaderboard.adding import add_run
from cirbench.leaderboard.board import BADGES, Board, BoardRow, Group
from cirbench.leaderboard.site.build import pages
from cirbench.leaderboard.site.cases import Thumbnails
from cirbench.support.tables import Number

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HOSTILE = "<img src=x onerror=alert(1)>\"'></script><script>alert(2)</script> \u202egnp.exe\x1b[31m {{ 7*7 }}"
METRICS = ("Recall@1", "Recall@5", "Recall@10", "Recall@50", "Recall_subset@1", "Recall_subset@2", "Recall_subset@3")


def make_tiny_runs(folder: Path) -> Path:
    """Run the untrained baselines on scenes/tiny; return where the run folders lie."""
    run = ["run", "--dataset", "scenes", "--split", "tiny", "--method", "image-text", "--output", str(folder)]
    assert cli.execute(run) == 0
    return folder / "scenes"


def make_entries(runs: Path, folder: Path) -> Path:
    """Make an entry of each run."""
    for run in sorted(path for path in runs.iterdir() if path.is_dir()):
        add_run(run, folder)
    return folder


def row(number: int, **changes: object) -> BoardRow:
    """Make up a published row."""
    values = {
        "id": f"cirr-test1/method-{number}/own",
        "method": f"method-{number}",
        "title": f"Method {number}",
        "backbone": f"backbone {number % 5}",
        "supervision": ("zero-shot", "supervised", "training-free")[number % 3],
        "year": 2020 + number % 7,
        "badge": BADGES[3 + number % 2],
        "protocol": "cirr/test1",
        "metrics": {label: Number(20 + number / 10 + place) for place, label in enumerate(METRICS)},
        "rank": str(number + 1),
        "partial": False,
        "caveats": ("Read in a transcription of the table, not in the paper itself.",),
        "source": f"A paper with a title of a usual length, number {number}, Table 3 (arXiv:2311.07622; paper)",
        "link": "https://arxiv.org/abs/2311.07622",
        "disclosures": {},
        "again": f"cirbench reproduce cirr-test1/method-{number}/own",
    }
    return BoardRow(**(values | changes))  # type: ignore[arg-type]


def board(rows: Sequence[BoardRow]) -> Board:
    """Make a board of rows, grouped by backbone."""
    by_backbone: dict[str, list[BoardRow]] = {}
    for each in rows:
        by_backbone.setdefault(each.backbone, []).append(each)
    groups = tuple(Group(name, tuple(members)) for name, members in sorted(by_backbone.items()))
    return Board("cirr/test1", "cirr", "cirr/test1", "CIRR test1", METRICS, groups, ("A note.",))


def write_pages(boards: Sequence[Board], folder: Path) -> Path:
    """Write the site of some boards."""
    for path, text in pages(boards, folder / "none", Thumbnails(folder / "thumbnails", "../thumbnails")).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def hostile_board() -> Board:
    """A board on which every text that somebody else may write tries to act."""
    link = "javascript:alert(3)"
    hostile = row(
        0, id=HOSTILE, method=HOSTILE, title=HOSTILE, backbone=HOSTILE, supervision=HOSTILE, caveats=(HOSTILE,)
    )
    linked = row(
        1, source=HOSTILE, link=link, again=HOSTILE, disclosures={HOSTILE: HOSTILE}, title=f"</title>{HOSTILE}"
    )
    return board([hostile, linked])
