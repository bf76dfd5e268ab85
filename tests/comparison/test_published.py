"""The published rows that are shipped, held against themselves."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from cirbench.benchmarks.catalogue import datasets, protocols
from cirbench.comparison.published import SHIPPED, PublishedRow, load_published
from cirbench.errors import CorruptFile, UnknownName
from cirbench.metrics.table import parse_label

PUBLISHED = load_published()
AVERAGED = [row for row in PUBLISHED.rows if any("[mean over" in label for label in row.metrics)]
ROOT = Path(__file__).parent.parent.parent


def test_260_rows_of_six_benchmarks_are_shipped() -> None:
    assert len(PUBLISHED.rows) == 260
    assert {row.benchmark for row in PUBLISHED.rows} == set(PUBLISHED.benchmarks) == {*datasets()} - {"scenes"}


def test_the_folder_of_leaderboards_shows_the_same_file() -> None:
    assert (ROOT / "leaderboards" / "published.json").resolve() == SHIPPED.resolve()


def test_a_row_has_a_protocol_of_its_benchmark_or_says_why_it_has_none() -> None:
    for row in PUBLISHED.rows:
        if row.protocol is None:
            assert row.not_comparable is not None
        else:
            assert protocols()[row.protocol].dataset == row.benchmark


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
        assert row.backbone in PUBLISHED.backbones or row.protocol is None or row.unranked is not None


def test_pli_on_fashioniq_stands_under_the_protocol_of_its_own_code() -> None:
    own = [row for row in PUBLISHED.rows if row.benchmark == "fashioniq" and row.method.startswith("PLI")]
    assert {row.protocol for row in own} == {"fashioniq/val-pli"}


def test_the_share_of_searle_in_the_ground_truths_of_circo_is_told_with_each_of_its_rows() -> None:
    family = [row for row in PUBLISHED.rows if row.benchmark == "circo" and "SEARLE" in row.method]
    assert len(family) == 9
    assert all("searle-family" in row.caveats for row in family)


def ids(row: PublishedRow) -> str:
    return row.id


@pytest.mark.parametrize("row", PUBLISHED.rows, ids=ids)
def test_recall_and_hits_grow_with_k(row: PublishedRow) -> None:
    families: dict[str, list[tuple[int, float]]] = {}
    for label, value in row.metrics.items():
        if "@" in label:
            parsed = parse_label(label)
            families.setdefault(f"{parsed.metric} {parsed.by} {parsed.part}", []).append((parsed.k, value))
    for points in families.values():
        for (_, low), (_, high) in itertools.pairwise(sorted(points)):
            assert low <= high


@pytest.mark.parametrize("row", AVERAGED, ids=ids)
def test_a_printed_average_is_the_mean_of_its_parts_or_the_row_says_that_it_is_not(row: PublishedRow) -> None:
    for label, average in row.metrics.items():
        if "[mean over " not in label:
            continue
        start = f"{label.partition('[')[0]}[{label.partition('[mean over ')[2].removesuffix(']')}="
        parts = [value for other, value in row.metrics.items() if other.startswith(start)]
        if parts:
            last_digit = 0.1 if round(average, 1) == average else 0.01
            off = abs(average - sum(parts) / len(parts)) > last_digit + 1e-9
            assert not off or "average-off" in row.caveats


def test_some_averages_are_off_so_that_the_rule_above_is_one() -> None:
    assert sum("average-off" in row.caveats for row in PUBLISHED.rows) == 7


@pytest.mark.parametrize("row", [row for row in PUBLISHED.rows if row.protocol is not None], ids=ids)
def test_every_label_is_one_that_the_protocol_reports(row: PublishedRow) -> None:
    allowed = {
        "circo": r"mAP@(5|10|25|50)",
        "cirr": r"Recall(_soft)?@(1|5|10|50)|Recall_subset@(1|2|3)",
        "fashioniq": r"Recall@(1|5|10|50)\[(mean over category|category=(dress|shirt|toptee))\]",
        "genecis": r"Recall@(1|2|3)\[(mean over task|task=(focus|change)-(object|attribute))\]",
        "imagenet-r": r"Recall_fractional@(10|50)\[(mean over domain|domain=(cartoon|origami|toy|sculpture))\]",
    }
    assert all(re.fullmatch(allowed[row.benchmark], label) for label in row.metrics)


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
