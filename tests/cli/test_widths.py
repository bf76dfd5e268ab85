"""Every table that a command prints fits the terminal: no line is too wide, no border is broken, no word is cut."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from rich.cells import cell_len

from cirbench import cli
from cirbench.benchmarks import load_protocol
from tests.comparison.folders import keep_run
from tests.support.tables.test_widths import WIDTHS, check
from tests.toy_protocols import circo_like, cirr_like

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs on two protocols and two backbones, one method in two settings, an own data set, and a sweep."""
    folder = tmp_path_factory.mktemp("tables")
    for name, protocol in (("circo", circo_like(60, 200)), ("cirr", cirr_like(40, 60))):
        for at, (method, skill) in enumerate((("image-only", 0.3), ("text-only", 0.1), ("image-text", 0.8))):
            keep_run(protocol, folder / "runs" / name, method, skill=skill, seed=at)
        for weight in (0.25, 0.5):
            settings = {"weight": weight, "data": "coco_captions_train2017.txt"}
            keep_run(protocol, folder / "runs" / name, "a-method-of-ours", skill=1 + weight, parameters=settings)
        keep_run(protocol, folder / "runs" / name, "image-text", skill=0.5, backbone="ViT-L-14/openai")
    command = ["sweep", "image-text", "--set", "weight=0.25,0.5,1", "--dataset", "scenes", "--split", "tiny"]
    assert cli.execute([*command, "--limit", "20", "--output", str(folder / "runs")]) == 0
    protocol = load_protocol("scenes/tiny")
    assert protocol.gallery is not None
    items = [item.id for item in protocol.gallery.items]
    ranked = {query.id: [id for id in items if id != query.reference.id][:50] for query in protocol.queries}
    (folder / "ranked.json").write_text(json.dumps(ranked))
    return folder


def runs(folder: Path, name: str, *methods: str) -> list[str]:
    return [str(path) for path in sorted((folder / "runs" / name).iterdir()) if path.name.startswith(methods)]


def commands(folder: Path) -> dict[str, list[str]]:
    circo, both = runs(folder, "circo", ""), [*runs(folder, "circo", ""), *runs(folder, "cirr", "")]
    ours = runs(folder, "circo", "a-method", "image-text-0")
    scenes = ["--dataset", "scenes", "--split", "tiny", "--limit", "20", "--output", str(folder / "runs")]
    return {
        "compare": ["compare", *circo],
        "compare on paper": ["compare", *both, "--published", "circo/test:SEARLE"],
        "compare against one": ["compare", *both, "--against", ours[-1]],
        "diff": ["diff", *ours[:2]],
        "run": ["run", "--method", "image-text", *scenes],
        "sweep": ["sweep", "image-text", "--set", "weight=0.25,0.5,1", *scenes],
        "leaderboard show": ["leaderboard", "show", "circo/test", "--entries", str(folder / "none")],
        "leaderboard show of many columns": ["leaderboard", "show", "genecis/all", "--entries", str(folder / "none")],
        "reproduce": ["reproduce", "--list", "circo-test"],
        "score": ["score", *scenes[:4], "--predictions", str(folder / "ranked.json")],
    }


KINDS = (
    *("compare", "compare on paper", "compare against one", "diff", "run", "sweep", "leaderboard show"),
    *("leaderboard show of many columns", "reproduce", "score"),
)


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_table_fits_the_terminal(
    kind: str, width: int, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert cli.execute(commands(folder)[kind]) == 0
    shown = capsys.readouterr().out
    printed = [line for line in shown.splitlines() if str(folder) not in line]  # a path stays whole, however long
    boxes = re.split(r"(?<=┘)\n", "\n".join(printed) + "\n")
    assert len(boxes) > 1
    for box in boxes[:-1]:
        check(box, width)
    assert max(map(cell_len, printed)) <= width
    assert "…" not in shown
    assert not re.search(r"\[[-+\d.]+, *$", shown, re.MULTILINE)  # no interval is folded


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", ["methods", "datasets", "protocols", "backbones", "metrics", "runs"])
def test_a_list_fits_the_terminal(
    kind: str, width: int, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.chdir(folder)
    assert cli.execute(["list", kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(cell_len, lines)) <= width
    assert cli.execute(["list", kind, "--json"]) == 0
    whole = " ".join(text for row in json.loads(capsys.readouterr().out) for text in (*row, *row.values()))
    said = next((at for at, line in enumerate(lines) if line.startswith("Left out")), len(lines))
    assert {word for line in lines[:said] for word in line.split()} <= {*whole.split()}
