"""Boards: what may share a column does, and what may not is shown beside it with the reason."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from cirbench.benchmarks.catalogue import load_protocol, protocols
from cirbench.benchmarks.folder import write_example
from cirbench.benchmarks.interface import ProtocolEntry
from cirbench.cli import execute
from cirbench.comparison.published import load_published
from cirbench.leaderboard.adding import add_run
from cirbench.leaderboard.board import (
    BADGES,
    Board,
    BoardRow,
    Candidate,
    board_table,
    ranked,
    read_leaderboard,
    summary_table,
)
from cirbench.support.tables import Number
from cirbench.support.tables.formats import render
from tests.leaderboard import runs
from tests.leaderboard.runs import run_of

if TYPE_CHECKING:
    from collections.abc import Sequence

NOWHERE = Path("nowhere")
PUBLISHED = load_published()


def boards(entries: Path) -> tuple[Board, ...]:
    found = read_leaderboard(entries)
    assert found.left_out == ()
    return found.boards


def by_id(found: Sequence[Board]) -> dict[str, Board]:
    return {board.id: board for board in found}


LITERATURE = by_id(boards(NOWHERE))


def test_the_literature_alone_makes_a_board_for_each_of_its_protocols() -> None:
    assert {*LITERATURE} == {row.protocol or f"{row.benchmark}/other" for row in PUBLISHED.rows}
    known = [id for id in LITERATURE if id in protocols()]
    assert known == [id for id in protocols() if id in known]
    assert sum(len(board.rows) for board in LITERATURE.values()) == len(PUBLISHED.rows)


def test_rows_of_a_protocol_that_is_awaited_are_shown_and_ranked_once_it_exists(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [
        msgspec.structs.replace(row, protocol="circo/later") for row in PUBLISHED.rows if row.protocol == "circo/test"
    ]
    known = msgspec.structs.replace(PUBLISHED, rows=tuple(rows), awaited={"circo/later": "1,883 queries."})
    (board,) = read_leaderboard(NOWHERE, known).boards
    assert (board.id, board.title) == ("circo/later", "CIRCO, under a protocol that cirbench does not have yet")
    assert not any(row.ranked for row in board.rows)
    assert "cirbench does not have this protocol yet: 1,883 queries." in board.notes[0]
    entry = ProtocolEntry("circo/later", "Later", "test", 800, 123_403)
    for module in ("comparison.published", "leaderboard.board"):
        monkeypatch.setattr(f"cirbench.{module}.protocols", lambda: {**protocols(), "circo/later": entry})
    (board,) = read_leaderboard(NOWHERE, known).boards
    assert [row.rank for row in board.rows] == [row.rank for row in LITERATURE["circo/test"].rows]
    assert any(row.ranked for row in board.rows)


def test_of_several_sources_the_first_hand_one_is_ranked_and_each_says_how_far_they_differ() -> None:
    rows = {row.id: row for row in LITERATURE["circo/test"].rows}
    first, second = (rows[f"circo-test/ldre/vit-l-14/quoted{suffix}"] for suffix in ("", "-2"))
    assert first.ranked and not second.ranked
    assert any(
        "Sources differ at mAP@5 by 1.03: 23.35 here, 23.25 (quoted in SDR-CIR)" in text for text in first.caveats
    )
    assert any("22.32 (run again by Prompt Directional Vector)" in text for text in second.caveats)


def test_rows_of_different_protocols_never_share_a_board() -> None:
    for board in LITERATURE.values():
        assert {row.protocol for row in board.rows} == {board.protocol}


def test_rows_without_a_protocol_are_shown_with_the_reason_and_not_ranked() -> None:
    for board in LITERATURE.values():
        if board.protocol is None:
            assert all(row.rank is None and row.caveats for row in board.rows)
    reasons = {row.title: row.caveats[0] for row in LITERATURE["circo/other"].rows}
    assert "removes the reference image" in reasons["PLI"]
    assert "shared concept" in reasons["MagicLens-L (original)"]


def test_every_row_says_where_it_comes_from_and_how_to_get_it_again() -> None:
    for board in LITERATURE.values():
        for row in board.rows:
            assert row.badge in BADGES
            assert row.source
            assert row.again == f"cirbench reproduce {row.id}"
            assert row.link is None or row.link.startswith("https://arxiv.org/abs/")


def test_badges_tell_ones_own_paper_from_another() -> None:
    badges = {row.id: row.badge for row in LITERATURE["circo/test"].rows}
    assert badges["circo-test/paracosm/vit-l-14/own"] == "as published"
    assert badges["circo-test/searle-xl/vit-l-14/quoted"] == "as published in another paper"


def test_rows_are_grouped_by_backbone_and_ranked_inside_the_group() -> None:
    groups = {group.backbone: group for group in LITERATURE["cirr/test1"].groups}
    titles = [(row.title, row.rank) for row in groups["CLIP ViT-B/32"].rows]
    order = [title for title, rank in titles if rank]
    assert order.index("SEARLE-OTI") < order.index("SEARLE") < order.index("Text-only")
    assert titles[0][1] == "1"
    ranked = [[row for row in group.rows if row.ranked] or group.rows for group in groups.values()]
    bests = [
        max((row.metrics["Recall@1"].value for row in rows if "Recall@1" in row.metrics), default=-1) for rows in ranked
    ]
    assert bests == sorted(bests, reverse=True)


def test_rows_trained_on_triplets_have_a_heading_of_their_own_where_a_backbone_has_others_too() -> None:
    by_backbone = {group.backbone: group for group in LITERATURE["cirr/test1"].groups}
    (first, supervised), (second, others) = by_backbone["BLIP-2 ViT-g/14"].parts
    assert (first, second) == ("BLIP-2 ViT-g/14, trained on triplets", "BLIP-2 ViT-g/14, zero-shot")
    assert all(row.supervised for row in supervised)
    assert not any(row.supervised for row in others)
    assert [title for title, _ in by_backbone["CLIP ViT-G/14"].parts] == ["CLIP ViT-G/14"]


def test_a_re_run_is_among_the_others_without_a_rank() -> None:
    groups = {group.backbone: group for group in LITERATURE["circo/test"].groups}
    rows = {row.id: row for row in groups["CLIP ViT-L/14"].rows}
    again = rows["circo-test/image-text-baseline-sum/vit-l-14/rerun"]
    assert again.rank is None
    assert "It is a re-run of another paper, shown beside the published rows." in again.caveats


def test_the_mean_over_slices_is_the_headline_and_slices_come_last() -> None:
    labels = LITERATURE["fashioniq/val"].metrics
    assert labels[0] == "Recall@10[mean over category]"
    assert all("=" in label for label in labels[2:])


# Ranks.


def row(name: str, value: float, interval: tuple[float, float] | None = None, **changes: Any) -> Candidate:
    low, high = interval or (None, None)
    made = BoardRow(
        id=name,
        method=name,
        title=name,
        backbone="B",
        supervision="zero-shot",
        year=None,
        badge=BADGES[0],
        protocol="p",
        metrics={"m": Number(value, low, high)},
        rank=None,
        partial=False,
        caveats=(),
        source="",
        link=None,
        disclosures={},
        again="",
    )
    made = dataclasses.replace(made, **{key: each for key, each in changes.items() if key != "unranked"})
    return Candidate(made, "b", bool(changes.get("unranked")))


def ranks(*candidates: Candidate) -> dict[str, str | None]:
    return {each.id: each.rank for each in ranked(candidates, "m")}


def test_printed_numbers_are_ordered_as_printed_and_equal_ones_share_a_range() -> None:
    assert ranks(row("a", 3), row("b", 2), row("c", 2), row("d", 1)) == {"a": "1", "b": "2-3", "c": "2-3", "d": "4"}


def test_overlapping_intervals_share_a_range_of_ranks() -> None:
    found = ranks(row("a", 30, (28, 32)), row("b", 29, (27, 31)), row("c", 20, (18, 22)))
    assert found == {"a": "1-2", "b": "1-2", "c": "3"}


def test_a_printed_number_inside_an_interval_is_not_told_apart_from_it() -> None:
    assert ranks(row("a", 30, (28, 32)), row("b", 29), row("c", 27)) == {"a": "1-2", "b": "1-2", "c": "3"}


def test_what_must_not_be_ranked_moves_nobody() -> None:
    found = ranks(row("a", 3, unranked=True), row("b", 2), row("c", 1), row("d", 5, metrics={}))
    assert found == {"a": None, "b": "1", "c": "2", "d": None}


def test_supervised_rows_are_ranked_among_themselves() -> None:
    found = ranks(
        row("a", 4, supervision="supervised"),
        row("b", 3),
        row("c", 2, supervision="supervised"),
        row("d", 1, supervision="training-free"),
    )
    assert found == {"a": "1", "b": "1", "c": "2", "d": "2"}


def test_one_row_alone_has_no_rank() -> None:
    assert ranks(row("a", 1)) == {"a": None}


# Entries.


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("board")
    for name, skill in (("good", 1.52), ("fair", 1.5), ("poor", 0.0)):
        run = run_of(folder / name, skill=skill, method=runs.method(name))
        add_run(run.folder, folder / "entries")
    part = run_of(folder / "part", skill=2.0, limit=20, method=runs.method("part"))
    add_run(part.folder, folder / "entries", note="only a look")
    return folder / "entries"


def test_entries_are_ranked_by_paired_tests_and_partial_ones_are_only_shown(entries: Path) -> None:
    board = by_id(boards(entries))["scenes/tiny"]
    assert {row.method: row.rank for row in board.rows} == {"part": None, "good": "1-2", "fair": "1-2", "poor": "3"}
    part = next(row for row in board.rows if row.method == "part")
    assert part.partial
    assert part.caveats == ("It covers a part of the benchmark only, so it is not ranked.", "only a look")


def test_an_entry_says_what_its_training_has_seen_of_the_protocol(tmp_path: Path) -> None:
    seen = msgspec.structs.replace(runs.method("seen"), selected_on="scenes/tiny@1", overlap=1200)
    add_run(run_of(tmp_path / "run", skill=1.0, method=seen).folder, tmp_path / "entries")
    (row,) = by_id(boards(tmp_path / "entries"))["scenes/tiny"].rows
    assert row.caveats == (
        "Its weights were chosen by their score on this protocol, so it is not a number of unseen data.",
        "It was trained on 1,200 images of this protocol.",
    )


@pytest.mark.parametrize(
    ("trained_on", "said"),
    [("scenes", "nothing, its last weights"), ("not stated; converted from best.pt", "unknown")],
)
def test_weights_that_nothing_chose_are_not_called_unknown(tmp_path: Path, trained_on: str, said: str) -> None:
    taught = runs.method(parameters={}, trained_on=trained_on, checkpoint=runs.sha("c"), training={"epochs": 3})
    add_run(run_of(tmp_path / "run", method=taught).folder, tmp_path / "entries")
    (row,) = by_id(boards(tmp_path / "entries"))["scenes/tiny"].rows
    assert row.disclosures["selected on"] == said


def test_an_entry_discloses_and_says_how_to_get_it_again(entries: Path) -> None:
    row = next(row for row in by_id(boards(entries))["scenes/tiny"].rows if row.method == "good")
    assert row.badge == "reproduced here"
    assert row.disclosures == {
        "trained on": "nothing",
        "selected on": "nothing",
        "triplets": "no",
        "language model": "no",
        "shared concept": "no",
        "transductive": "no",
    }
    assert row.again.startswith("cirbench run --method good --dataset scenes")
    assert row.ranks is not None
    assert (row.ranks / "ranks.npz").is_file()
    assert (row.year, row.metrics["mAP@5"].low is not None) == (2026, True)


def test_an_entry_stands_beside_the_literature_of_its_backbone(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", backbone=runs.backbone("ViT-L-14/openai"))
    add_run(run.folder, tmp_path / "entries")
    rows = by_id(boards(tmp_path / "entries"))["scenes/tiny"].rows
    assert [row.backbone for row in rows] == ["CLIP ViT-L/14"]


def test_backbones_of_one_name_and_other_weights_are_two_groups(tmp_path: Path) -> None:
    for weights in ("one", "two"):
        run = run_of(tmp_path / weights, backbone=runs.backbone(weights=weights))
        add_run(run.folder, tmp_path / "entries")
    groups = by_id(boards(tmp_path / "entries"))["scenes/tiny"].groups
    assert sorted(group.backbone for group in groups) == sorted(
        f"scenes-vit (weights {runs.sha(weights)[:8]})" for weights in ("one", "two")
    )
    assert {row.rank for group in groups for row in group.rows} == {None}


def test_data_of_ones_own_have_a_board_of_their_own(tmp_path: Path) -> None:
    write_example(tmp_path / "circo")
    protocol = load_protocol(str(tmp_path / "circo"))
    add_run(run_of(tmp_path / "run", protocol, dataset=str(tmp_path / "circo")).folder, tmp_path / "entries")
    found = by_id(boards(tmp_path / "entries"))
    assert (found["own/circo"].benchmark, found["own/circo"].protocol) == ("own-circo", "own/circo")
    assert len(found) == len(LITERATURE) + 1


def test_another_version_of_a_protocol_is_another_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_example(tmp_path / "mine")
    first = load_protocol(str(tmp_path / "mine"))
    second = dataclasses.replace(first, version=2)
    for name, protocol in (("one", first), ("two", second)):
        monkeypatch.setattr("cirbench.leaderboard.adding.load_protocol", lambda *_, protocol=protocol: protocol)
        run = run_of(tmp_path / name, protocol, dataset=str(tmp_path / "mine"))
        add_run(run.folder, tmp_path / "entries")
    own = [board for board in boards(tmp_path / "entries") if board.benchmark == "own-mine"]
    assert [board.id for board in own] == ["own/mine", f"own/mine@1 ({first.digest[:8]})"]
    assert [len(board.rows) for board in own] == [1, 1]


def test_an_entry_that_is_not_valid_is_left_out_and_the_others_are_shown(tmp_path: Path) -> None:
    folder = add_run(run_of(tmp_path / "run").folder, tmp_path / "entries")
    entry = msgspec.json.decode((folder / "entry.json").read_bytes())
    entry["metrics"][0]["value"] = 99.0
    (folder / "entry.json").write_bytes(msgspec.json.encode(entry))
    other = add_run(run_of(tmp_path / "other", seed=1).folder, tmp_path / "entries")
    found = read_leaderboard(tmp_path / "entries")
    assert [verdict.name for verdict in found.left_out] == [folder.name]
    assert found.left_out[0].problems[0].startswith("entry.json was changed after it was made")
    assert [row.id for row in by_id(found.boards)["scenes/tiny"].rows] == [other.name]


FORMS = ("rich", "md", "csv", "json", "latex", "html")


@pytest.fixture(scope="module")
def seen_and_plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A run of weights that their card declares to be chosen on the protocol, as a converted one does, and another."""
    folder = tmp_path_factory.mktemp("runs")
    declared = runs.method("converted", selected_on="scenes/tiny@1", overlap=1200, checkpoint=runs.sha("c"))
    seen = run_of(folder / "converted", skill=1.0, method=declared)
    plain = run_of(folder / "plain", skill=0.5, method=runs.method("plain"))
    return str(seen.folder), str(plain.folder)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("table", ["paper", "runs", "slices"])
def test_every_table_in_every_form_says_that_weights_were_chosen_on_its_protocol(
    seen_and_plain: tuple[str, str], table: str, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["compare", *seen_and_plain, "--table", table, "--format", form, *(["--wide"] if form == "rich" else [])]
    assert execute(command) == 0
    lines = capsys.readouterr().out.splitlines()
    named = [line for line in lines if "converted (chosen here, 1,200 images seen)" in line]
    assert named
    assert not any("plain (" in line for line in lines)
    if table in ("paper", "runs") and form != "csv":
        notes = [line for line in lines if not line.startswith("%")] if form == "latex" else lines
        text = " ".join(" ".join(notes).split())
        assert "Weights chosen by their score on this protocol, so not of unseen data: converted." in text
        assert "Trained on images of this protocol, whose number is in brackets: converted (1200)." in text


def test_a_board_names_a_row_whose_weights_were_chosen_on_it(seen_and_plain: tuple[str, str], tmp_path: Path) -> None:
    for folder in seen_and_plain:
        add_run(Path(folder), tmp_path / "entries")
    board = by_id(boards(tmp_path / "entries"))["scenes/tiny"]
    for form in FORMS[1:]:  # a terminal breaks the name into lines
        for shown in (board_table(board), summary_table(board)):
            assert "(chosen here, 1,200 images seen)" in " ".join(render(shown, form).split())
