"""The table of a paper: methods by backbone, numbers by protocol, each number tested by itself."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest

import cirbench
from cirbench.comparison.paper import Paper, compare_on_paper, paper_table
from cirbench.comparison.published import load_published
from cirbench.comparison.standings import compare_runs
from cirbench.errors import UnknownName, UsageError
from cirbench.support.tables import Number, Table
from cirbench.support.tables.formats import render
from tests.comparison.runs import run_of

GENERATOR = np.random.default_rng(11)
EASY = GENERATOR.random(200) * 0.5
HIGH, LOW = EASY + 0.2, EASY * 0.6


def circo(method: str, values: object, **more: object):  # type: ignore[no-untyped-def]
    numbers = {"mAP@5": values, "mAP@10": values, "Recall@5": values, "mAP@10[aspect=negation]": values}
    return run_of(method, numbers, protocol="circo/val@1", folder=f"circo/{method}{more}", **more)  # type: ignore[arg-type]


def cirr(method: str, values: object, **more: object):  # type: ignore[no-untyped-def]
    numbers = {"Recall@1": values, "Recall_subset@1": values}
    return run_of(method, numbers, protocol="cirr/val@1", folder=f"cirr/{method}{more}", **more)  # type: ignore[arg-type]


RUNS = [circo("image-text", LOW), circo("pli", HIGH), cirr("image-text", HIGH), cirr("pli", LOW)]


def cells(table: Table, method: str) -> dict[str, Number]:
    keys = [column.key for column in table.columns]
    (row,) = [row for row in table.rows if row[keys.index("method")] == method]
    return {key: cell for key, cell in zip(keys, row, strict=True) if isinstance(cell, Number)}


def signs(paper: Paper, key: str) -> dict[str, str]:
    table = paper_table(paper)
    return {row.name: cells(table, row.name)[key].sign for row in paper.rows}


def test_a_row_is_a_method_and_a_column_a_number_that_papers_print() -> None:
    table = paper_table(compare_on_paper(RUNS))
    assert [(column.group, column.label) for column in table.columns] == [
        ("", ""),
        ("", "method"),
        ("circo/val", "mAP@5"),
        ("circo/val", "mAP@10"),
        ("cirr/val", "R@1"),
        ("cirr/val", "Rs@1"),
    ]
    assert len(table.rows) == 2 and len(cells(table, "pli")) == 4


def test_the_highest_is_marked_in_each_column_by_itself_and_within_each_backbone() -> None:
    large = [circo("image-text", LOW + 0.3, backbone="large"), circo("pli", HIGH + 0.3, backbone="large")]
    table = paper_table(compare_on_paper([*RUNS, *large]))
    assert table.sections == "backbone"
    marks = {(row[0], row[2]): [cell.mark for cell in row if isinstance(cell, Number)] for row in table.rows}
    assert marks["tiny", "pli"] == ["best", "best", "second", "second"]
    assert marks["tiny", "image-text"] == ["second", "second", "best", "best"]
    assert marks["large", "pli"] == ["best", "best"] and marks["large", "image-text"] == ["second", "second"]


def test_without_a_baseline_letters_name_the_rows_that_a_row_is_above() -> None:
    paper = compare_on_paper(RUNS)
    assert [row.name for row in paper.rows] == ["pli", "image-text"]
    assert signs(paper, "circo/val:mAP@5") == {"pli": "ᵇ", "image-text": ""}
    assert signs(paper, "cirr/val:Recall@1") == {"pli": "", "image-text": "ᵃ"}
    assert [row[0] for row in paper_table(paper).rows] == ["a", "b"]


@pytest.mark.parametrize("against", ["all", "baseline"])
def test_with_a_baseline_a_star_says_what_differs_from_it(against: str) -> None:
    paper = compare_on_paper(RUNS, baseline=RUNS[0], against=against)  # type: ignore[arg-type]
    assert paper.reference == "image-text"
    for column in paper.columns:
        assert signs(paper, column.key) == {"pli": "*", "image-text": ""}


def test_a_baseline_is_found_where_a_number_was_added_to_the_runs() -> None:
    """MRR is no number of these protocols; it is taken from the ranks that the runs keep."""
    paper = compare_on_paper(RUNS[:2], labels=["mAP@5", "MRR"], baseline=RUNS[0], against="baseline")
    assert [column.label for column in paper.columns] == ["mAP@5", "MRR"]
    assert paper.reference == "image-text"


def test_against_the_best_a_star_says_what_is_below_it() -> None:
    paper = compare_on_paper(RUNS, against="best")
    assert signs(paper, "circo/val:mAP@5") == {"pli": "", "image-text": "*"}
    assert signs(paper, "cirr/val:Recall@1") == {"pli": "*", "image-text": ""}
    assert "differs from the highest of its column" in paper_table(paper).caption


def test_p_values_are_those_of_the_runs_alone_whatever_else_is_shown() -> None:
    noise = [circo(f"m{at}", HIGH + GENERATOR.normal(0, 0.1 * at, 200)) for at in (1, 2)]
    here = [*RUNS[:2], *noise]
    alone = compare_runs(here, label="mAP@10")
    paper = compare_on_paper([*RUNS, *noise])
    (column,) = [column for column in paper.columns if column.label == "mAP@10"]
    assert column.standings is not None
    assert [pair.corrected for pair in column.standings.pairs] == [pair.corrected for pair in alone.pairs]
    assert "after Holm's correction over all 6 pairs of these runs" in paper_table(paper).caption


def test_a_declared_baseline_has_the_smaller_family() -> None:
    others = [circo(f"m{at}", EASY + GENERATOR.normal(0.02, 0.1, 200)) for at in range(4)]
    against_all = compare_runs([RUNS[0], *others])
    declared = compare_runs([RUNS[0], *others], against="baseline")
    assert (len(against_all.pairs), len(declared.pairs)) == (10, 4)
    assert declared.family == "the 4 comparisons with image-text"
    assert all(row.place is None for row in declared.rows)
    for one, other in zip(against_all.rows[1:], declared.rows[1:], strict=True):
        assert one.against is not None and other.against is not None
        assert one.against.p_value == other.against.p_value and one.against.corrected >= other.against.corrected


def test_a_baseline_that_did_not_run_somewhere_marks_nothing_there() -> None:
    paper = compare_on_paper([*RUNS, cirr("lincir", EASY)], baseline=circo("lincir", EASY))
    assert "lincir was not run on circo/val, so nothing is marked there." in paper.remarks
    assert set(signs(compare_on_paper(RUNS[:2], baseline=RUNS[0]), "circo/val:mAP@5").values()) == {"", "*"}


def test_numbers_that_were_asked_for_stand_where_a_protocol_has_them() -> None:
    paper = compare_on_paper(RUNS, labels=["Recall@5", "Recall@1"])
    assert [column.key for column in paper.columns] == ["circo/val:Recall@5", "cirr/val:Recall@1"]
    with pytest.raises(UnknownName, match=r"no metric of these runs called 'mAQ@6'.\nNearest: mAP@5"):
        compare_on_paper(RUNS, labels=["mAQ@6"])


def test_settings_of_one_method_are_rows_of_their_own_on_every_protocol() -> None:
    runs = [
        make("pli", EASY * weight, parameters={"weight": weight}) for make in (circo, cirr) for weight in (0.5, 1.0)
    ]
    paper = compare_on_paper(runs)
    assert [(row.name, len(row.runs)) for row in paper.rows] == [("pli weight=1.0", 2), ("pli weight=0.5", 2)]


def test_rows_that_only_code_or_weights_keep_apart_are_told_apart() -> None:
    runs = [circo("pli", EASY, code=code) for code in ("one", "two")]
    assert [row.name for row in compare_on_paper(runs).rows] == [f"pli ({run.folder.name})" for run in runs]
    weights = [
        dataclasses.replace(
            run,
            result=msgspec.structs.replace(
                run.result, backbone=msgspec.structs.replace(run.result.backbone, name="tuned", digest=digest * 64)
            ),
        )
        for run, digest in zip(runs, "ab", strict=True)
    ]
    rows = compare_on_paper(weights).rows
    assert [(row.name, row.backbone) for row in rows] == [("pli", "tuned (aaaaaaaa)"), ("pli", "tuned (bbbbbbbb)")]


def test_a_run_without_the_first_number_has_a_row_with_a_gap() -> None:
    less = run_of("scored", {"mAP@10": LOW}, protocol="circo/val@1", folder="circo/scored")
    table = paper_table(compare_on_paper([*RUNS[:2], less]))
    assert [*cells(table, "scored")] == ["circo/val:mAP@10"]
    assert len(cells(table, "pli")) == 2


def test_seeds_are_one_row_with_a_deviation() -> None:
    runs = [circo("pli", EASY + seed / 50, training={"seed": seed}) for seed in (0, 1, 2)]
    table = paper_table(compare_on_paper([*RUNS[:1], *runs]))
    number = cells(table, "pli (3 seeds)")["circo/val:mAP@5"]
    assert number.sd == pytest.approx(2.0) and "±: standard deviation over seeds." in table.summary


def test_slices_that_papers_print_stand_under_their_names() -> None:
    labels = ["Recall@10[mean over category]", "Recall@10[category=dress]", "Recall@50[category=dress]"]
    runs = [run_of(name, dict.fromkeys(labels, EASY), protocol="fashioniq/val@1") for name in ("a", "b")]
    table = paper_table(compare_on_paper(runs))
    assert [(column.group, column.label) for column in table.columns[2:]] == [
        ("dress", "R@10"),
        ("dress", "R@50"),
        ("mean", "R@10"),
    ]


def test_published_rows_stand_beside_runs_marked_and_untested() -> None:
    run = circo("image-text", LOW, backbone="ViT-B-32/openai")
    paper = compare_on_paper([run], published=["circo/test:SEARLE", "circo/test:searle"])
    table = paper_table(paper)
    literature = {row.backbone: row.published for row in paper.rows if row.published is not None}
    assert sum(row.name == "SEARLE†" for row in paper.rows) == 2
    assert [*literature] == ["CLIP ViT-B/32", "CLIP ViT-G/14"]
    assert {row.backbone for row in paper.rows if row.published is None} == {"CLIP ViT-B/32"}  # in the papers' spelling
    assert literature["CLIP ViT-B/32"].metrics["mAP@5"] == 9.35
    assert "†: as published." in table.summary
    assert any(note.startswith("SEARLE† on circo/test, CLIP ViT-B/32: ") and "arXiv" in note for note in table.notes)
    source = render(table, "latex")
    assert "arXiv" not in "".join(line for line in source.splitlines() if not line.startswith("%"))


def test_one_source_is_taken_where_several_have_a_row() -> None:
    """A method's own paper before another's copy; one row for each backbone."""
    paper = compare_on_paper(RUNS, published=["cirr/test1:PLI"])
    rows = [row.published for row in paper.rows if row.published is not None]
    assert len({row.backbone for row in rows}) == len(rows) > 1
    candidates = [row for row in load_published().rows if (row.protocol, row.method) == ("cirr/test1", "PLI")]
    own = {row.backbone for row in candidates if row.provenance == "own"}
    assert {row.backbone for row in rows if row.provenance == "own"} == own and len(candidates) > len(rows)


def test_a_name_that_no_published_row_has_is_answered_with_near_ones() -> None:
    with pytest.raises(UnknownName, match=r"no published row of circo/test called 'SERLE'.\nNearest: SEARLE"):
        compare_on_paper(RUNS, published=["circo/test:SERLE"])


def test_one_run_is_no_table() -> None:
    with pytest.raises(UsageError, match="One run has nothing to be compared with"):
        compare_on_paper(RUNS[:1])


def test_python_compares_in_the_words_of_the_command_line() -> None:
    comparison = cirbench.compare(RUNS, metric=["mAP@5", "Recall@1"], baseline=RUNS[0], against="baseline")
    assert comparison.several and comparison.paper.reference == "image-text"
    assert "circo/val" in repr(comparison) and "<table>" in comparison._repr_html_()
    frame = comparison.to_frame()
    assert [*frame.index] == ["pli", "image-text"]
    assert frame.loc["pli", "circo/val:mAP@5"] == pytest.approx(100 * HIGH.mean())
    with pytest.raises(UsageError, match="Ranks and differences are those of one number") as error:
        _ = comparison.standings
    assert "--protocol circo/val --metric mAP@5" in str(error.value)
    alone = cirbench.compare(RUNS, protocol="cirr/val")
    assert not alone.several and alone.standings.label == "Recall@1" and len(alone.standings.rows) == 2
    with pytest.raises(UnknownName, match="no protocol of these runs called 'cirr/vall'"):
        cirbench.compare(RUNS, protocol="cirr/vall")
