"""The published rows that are shipped, held against themselves."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cirbench.benchmarks.catalogue import datasets, protocols
from cirbench.comparison.published import SHIPPED, count_published, load_published, problems_of
from cirbench.errors import CorruptFile, UnknownName
from cirbench.leaderboard.check import check_contributed

PUBLISHED = load_published()
AVERAGED = [row for row in PUBLISHED.rows if any("[mean over" in label for label in row.metrics)]
ROOT = Path(__file__).parent.parent.parent


def test_the_rows_are_of_the_benchmarks_here_and_of_those_that_are_awaited() -> None:
    assert count_published() == len(PUBLISHED.rows) > 700
    awaited = {id.partition("/")[0] for id in PUBLISHED.awaited}
    assert {row.benchmark for row in PUBLISHED.rows} == set(PUBLISHED.benchmarks)
    assert set(PUBLISHED.benchmarks) <= {*datasets(), *awaited} - {"scenes"}


@pytest.mark.parametrize("page", ["README.md", "docs/leaderboard.md"])
def test_pages_say_how_many_rows_there_are(page: str) -> None:
    assert f"holds {count_published()} published rows" in (ROOT / page).read_text()


def test_the_folder_of_leaderboards_shows_the_same_file() -> None:
    assert (ROOT / "leaderboards" / "published.json").resolve() == SHIPPED.resolve()


def test_a_row_has_a_protocol_of_its_benchmark_or_says_why_it_has_none() -> None:
    for row in PUBLISHED.rows:
        if row.protocol is None:
            assert row.not_comparable is not None
        else:
            assert row.protocol.partition("/")[0] == row.benchmark
            assert row.protocol in protocols() or row.protocol in PUBLISHED.awaited


def test_no_row_says_more_than_its_source() -> None:
    for row in PUBLISHED.rows:
        assert row.source.title and row.source.id and row.source.table
        told = re.match(r"arXiv:(\d\d)\d\d\.", row.source.id)
        assert row.source.year == (2000 + int(told[1]) if told else None)
        if row.source.how == "secondary transcription":
            assert {"transcription", "results-page"} & {*row.caveats}


def test_a_row_that_was_not_read_in_its_own_paper_or_a_copy_of_it_is_not_ranked() -> None:
    for row in PUBLISHED.rows:
        if row.protocol is not None and row.provenance in ("rerun", "aggregator"):
            assert row.unranked is not None


def test_a_row_whose_backbone_is_not_told_is_not_ranked() -> None:
    for row in PUBLISHED.rows:
        assert row.backbone in PUBLISHED.backbones or row.protocol not in protocols() or row.unranked is not None


def test_pli_on_fashioniq_stands_under_the_protocol_of_its_own_code() -> None:
    own = [row for row in PUBLISHED.rows if row.benchmark == "fashioniq" and row.method.startswith("PLI")]
    assert {row.protocol for row in own} == {"fashioniq/val-pli"}


def test_the_share_of_searle_in_the_ground_truths_of_circo_is_told_with_each_of_its_rows() -> None:
    family = [row for row in PUBLISHED.rows if row.benchmark == "circo" and "SEARLE" in row.method]
    assert len(family) > 9
    assert all("searle-family" in row.caveats for row in family)


def test_the_numbers_of_every_row_are_possible() -> None:
    assert [(row.id, problem) for row in PUBLISHED.rows for problem in problems_of(row, PUBLISHED)] == []


def test_some_averages_are_off_so_that_the_rule_above_is_one() -> None:
    off = [row for row in PUBLISHED.rows if "average-off" in row.caveats]
    assert len(off) > 7
    for row in off:
        silent = msgspec.structs.replace(row, caveats=())
        assert any("the mean of its parts" in problem for problem in problems_of(silent, PUBLISHED))


def test_every_label_is_one_that_the_protocol_reports() -> None:
    allowed = {
        "circo": r"mAP@(5|10|25|50)",
        "cirr": r"Recall(_soft)?@(1|5|10|50)|Recall_subset@(1|2|3)|\(R@5\+Rs@1\)/2",
        "fashioniq": r"Recall@(1|5|10|50)\[(mean over category|category=(dress|shirt|toptee))\]",
        "genecis": r"Recall@(1|2|3)\[(mean over task|task=(focus|change)-(object|attribute))\]",
        "patterncom": r"mAP_full\[(mean over attribute|attribute=(color|context|density|existence|quantity|shape))\]",
        "mmeb": r"Recall@1",
        "icir": r"mAP_trapezoidal\[mean over instance\]",
        "imagenet-r": r"(Recall_fractional@(10|50)|mAP_trapezoidal_all)"
        r"\[(mean over domain|domain=(cartoon|origami|photo|toy|sculpture))\]",
    }
    rows = [row for row in PUBLISHED.rows if row.protocol in protocols()]
    whole = r"mAP_trapezoidal_all\[(mean over domain|domain=\w+)\]"  # of FREEDOM's other sets
    odd = [
        (row.id, label)
        for row in rows
        for label in row.metrics
        if not re.fullmatch(allowed.get(row.protocol or "", allowed.get(row.benchmark, whole)), label)
    ]
    assert odd == []


def test_an_id_that_does_not_exist_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="no published row called") as caught:
        PUBLISHED.find("circo-test/searle-xl/vit-l-14/own")
    assert "circo-test/searle-xl/vit-l-14/quoted" in str(caught.value.hint)


def changed(tmp_path: Path, row: dict[str, Any] | None = None, **top: Any) -> Path:
    values = json.loads(SHIPPED.read_text())
    values["rows"][0] |= row or {}
    path = tmp_path / "published.json"
    path.write_text(json.dumps(values | top))
    return path


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"protocol": "circo/none"}, "names the protocol 'circo/none', which does not exist"),
        ({"protocol": None}, "needs either a protocol or a reason"),
        ({"not_comparable": "why"}, "needs either a protocol or a reason"),
        ({"id": "cirr-test1/pli/vit-l-14/own"}, 'the id "cirr-test1/pli/vit-l-14/own" occurs twice'),
        ({"caveats": ["none"]}, "has the caveat 'none', which is not explained"),
        ({"benchmark": "none"}, "is of the benchmark 'none', which is not described"),
        ({"metrics": {}}, "has no number"),
        ({"metrics": {"Recall@1": 101}}, "damaged: Expected `float` <= 100"),
        ({"metrics": {"Recall@1": -1}}, "damaged: Expected `float` >= 0"),
        ({"provenance": "mine"}, "damaged: Invalid enum value 'mine'"),
        ({"surprise": 1}, "unknown field `surprise`"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(row: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(CorruptFile) as caught:
        load_published(changed(tmp_path, row))
    assert told in caught.value.message


def test_a_file_of_a_later_version_asks_for_an_upgrade(tmp_path: Path) -> None:
    with pytest.raises(CorruptFile, match="schema version 2"):
        load_published(changed(tmp_path, schema_version=2))


def test_the_page_about_mteb_says_what_its_scores_are() -> None:
    page = " ".join((ROOT / "docs" / "mteb.md").read_text().split())
    cirr, fashioniq = (
        [row.metrics for row in PUBLISHED.rows if row.protocol == f"{name}/mteb"] for name in ("cirr", "fashioniq")
    )
    first = [metrics["Recall@1"] for metrics in cirr]
    assert f"scores of {len(cirr)} and {len(fashioniq)} models" in page
    assert f"below 1 % for {sum(value < 1 for value in first)} of the {len(cirr)} models" in page
    assert f"its median is {statistics.median(first):.2f} %, and the best model has {max(first):.2f} %" in page
    assert f"below 1 % for {sum(metrics['Recall@1'] < 1 for metrics in fashioniq)} of {len(fashioniq)}." in page
    for method, official in {
        "openai/clip-vit-base-patch32": "cirr-test1/image-text-baseline/vit-b-32/quoted",
        "openai/clip-vit-large-patch14": "cirr-test1/image-text-baseline/vit-l-14/quoted",
        "royokong/e5-v": "cirr-test1/e5-v/llava-next-8b/own",
    }.items():
        (row,) = [row for row in PUBLISHED.rows if row.protocol == "cirr/mteb" and row.method == method]
        mteb = [f"{row.metrics[label]:.2f}" for label in ("Recall@1", "Recall@5", "Recall@10", "nDCG@10")]
        papers = [f"{PUBLISHED.find(official).metrics[f'Recall@{k}']:.2f}" for k in (1, 5, 10)]
        assert f"| {' / '.join(mteb)} | {' / '.join(papers)} |" in page


ROW = """
protocol = "circo/test"
method = "Mine"
backbone = "CLIP ViT-L/14"
supervision = "training-free"
provenance = "own"
code = "https://github.com/somebody/mine"
bibtex = "@misc{mine, title={Mine}}"

[source]
title = "Mine: a method"
id = "arXiv:2611.00001"
table = "Table 2"
how = "paper"
year = 2026

[metrics]
"mAP@5" = 31.2
"mAP@10" = 32.0
"""


def contributed(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(text)
    return folder


def test_a_row_of_ones_own_is_a_file_and_stands_among_the_others(tmp_path: Path) -> None:
    again = ROW.replace('"own"', '"rerun"').replace("31.2", "30.2").replace("Mine: a", "Yours: a")
    found = load_published(contributed=contributed(tmp_path, mine=ROW, yours=again))
    mine, yours = found.choose("circo/test:Mine")[0], found.find("circo-test/mine/vit-l-14/rerun")
    assert (mine.id, mine.unranked, mine.metrics["mAP@5"]) == ("circo-test/mine/vit-l-14/own", None, 31.2)
    assert yours.unranked == "It is a re-run of another paper, shown beside the published rows."
    assert found.spread(mine) == "Sources differ at mAP@5 by 1.00: 31.2 here, 30.2 (run again by Yours)."
    assert found.first_hand(yours) == mine
    reference = found.reference_of(mine)
    assert reference is not None and reference.code == "https://github.com/somebody/mine"
    assert len(found.rows) == len(PUBLISHED.rows) + 2
    assert [verdict.ok for verdict in check_contributed(tmp_path)] == [True, True]


def test_rows_of_two_sources_that_would_have_one_id_get_two(tmp_path: Path) -> None:
    found = load_published(contributed=contributed(tmp_path, a=ROW, b=ROW.replace("31.2", "30.9")))
    assert [row.id for row in found.rows[-2:]] == [f"circo-test/mine/vit-l-14/own{end}" for end in ("", "-2")]


def test_contributed_rows_that_come_along_are_valid() -> None:
    assert [verdict for verdict in check_contributed() if not verdict.ok] == []


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("circo/test", "circo/tset", "names the protocol 'circo/tset', which does not exist"),
        ("31.2", "131.2", "Expected `float` <= 100"),
        ('"mAP@5" = 31.2', '"mAP@6" = 31.2', "mAP@6 is not among the numbers of circo/test: mAP@5, "),
        (
            "arXiv:2611.00001",
            "my thesis",
            "source.id 'my thesis' leads nowhere: give arXiv:NUMBER, a DOI or an address",
        ),
        ('"own"', '"mine"', "Invalid enum value 'mine'"),
        ("method = ", "methods = ", "unknown field `methods`"),
        ("[metrics]", "[metrics", "is not a row"),
        ('protocol = "circo/test"', 'benchmark = "circo"', "needs either a protocol or a reason"),
        ('"mAP@5" = 31.2\n"mAP@10" = 32.0', "", "has no number"),
    ],
)
def test_what_is_wrong_with_a_contributed_row_is_said(old: str, new: str, told: str, tmp_path: Path) -> None:
    assert old in ROW
    (verdict,) = check_contributed(contributed(tmp_path, mine=ROW.replace(old, new)))
    assert any(told in problem for problem in verdict.problems), verdict.problems


def test_recall_that_falls_averages_that_are_none_and_rows_that_are_there_are_found(tmp_path: Path) -> None:
    fashioniq = (
        ROW.replace("circo/test", "fashioniq/val").partition("[metrics]")[0]
        + """[metrics]
"Recall@10[category=shirt]" = 20.0
"Recall@50[category=shirt]" = 19.0
"Recall@10[mean over category]" = 25.0
"""
    )
    problems = {
        each.name: each.problems for each in check_contributed(contributed(tmp_path, a=fashioniq, b=ROW, c=ROW))
    }
    assert any("recall cannot fall with K: 20 at 10, 19 at 50" in problem for problem in problems["a.toml"])
    assert any("is 25, and the mean of its parts is 20.00: correct it" in problem for problem in problems["a.toml"])
    assert problems["b.toml"] == ()
    assert problems["c.toml"] == ("the row is there already: circo-test/mine/vit-l-14/own",)


def test_a_damaged_contribution_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorruptFile, match=r"mine\.toml is not a row"):
        load_published(contributed=contributed(tmp_path, mine="method = 3"))


def test_what_to_cite_is_a_bibtex_entry_and_belongs_to_one_paper() -> None:
    cited = [method for reference in PUBLISHED.references.values() for method in reference.methods]
    assert len(cited) == len(set(cited))
    assert set(cited) <= {row.method for row in PUBLISHED.rows}
    for name, reference in PUBLISHED.references.items():
        assert reference.bibtex or reference.code, name
        assert not reference.code or re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", reference.code)
        if reference.bibtex:
            assert re.match(r"@(article|inproceedings|misc)\{[\w-]+,\n", reference.bibtex), name
            assert reference.bibtex.count("{") == reference.bibtex.count("}"), name
            assert {"title", "author", "year"} <= set(re.findall(r"^  (\w+) = \{", reference.bibtex, re.M)), name
    (row,) = [row for row in PUBLISHED.rows if row.id == "circo-test/searle/vit-b-32/quoted"]
    found = PUBLISHED.reference_of(row)
    assert found is not None and found.code == "https://github.com/miccunifi/SEARLE"
