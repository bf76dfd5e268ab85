"""CIRCUS' labels reach the queries that they are of, and a file of another form is refused."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import pytest

from cirbench.benchmarks import cirr, fashioniq
from cirbench.benchmarks.circus import ALL, HEADERS, NOT_LISTED, VALIDATED, circus_labels
from cirbench.errors import CorruptFile, MissingData, UsageError
from tests.annotation_files import write_cirr, write_fashioniq
from tests.toy_protocols import circo_like

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cirbench.protocol import EvaluationProtocol

Rows = list[dict[str, Any]]
FILES = {ALL: "cirr/circus/cirr_shortcut_free.csv", VALIDATED: "cirr/circus/cirr_validated.csv"}


def rows_of(protocol: EvaluationProtocol, places: list[int], kind: str) -> Rows:
    """Rows as published: M-BEIR's texts begin with a capital and end with a stop; captions are joined by "and"."""
    found: Rows = []
    for place in places:
        query = protocol.queries[place]
        text = " and ".join(filter(str.strip, (each.rstrip(".") for each in query.captions)))
        row = dict.fromkeys(HEADERS[kind].split(","), "") | {
            "query_idx": str(place),
            "query_text": f"{text[:1].upper()}{text[1:]}.",
            "query_image_ref": f"mbeir_images/dev/{query.reference.id}.jpg",
            "aggregate_label": "unresolved" if place % 2 else "composition_required",
        }
        if kind == VALIDATED:
            row["validated"] = "true"
        found.append(row)
    return found


def write(path: Path, rows: Rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def protocol(tmp_path: Path) -> EvaluationProtocol:
    """A small CIRR."""
    return cirr.load("val", tmp_path, write_cirr(tmp_path))


def test_each_label_reaches_the_query_with_its_reference_and_text(tmp_path: Path, protocol: EvaluationProtocol) -> None:
    write(tmp_path / FILES[ALL], rows_of(protocol, [2, 3, 5], ALL))
    labels = circus_labels(protocol, ALL, tmp_path, {"cirr": 3})
    named = {2: "composition_required", 3: "unresolved", 5: "unresolved"}
    assert labels == tuple((named.get(place, NOT_LISTED),) for place in range(20))
    # The same queries of another protocol have the same labels.
    soft = cirr.load("val-soft", tmp_path, write_cirr(tmp_path))
    assert circus_labels(soft, ALL, tmp_path, {"cirr": 3}) == labels


def test_validated_labels_reach_their_queries_and_the_others_carry_none(
    tmp_path: Path, protocol: EvaluationProtocol
) -> None:
    write(tmp_path / FILES[VALIDATED], rows_of(protocol, [2, 3], VALIDATED))
    labels = circus_labels(protocol, VALIDATED, tmp_path, {"cirr": 2})
    assert {place: row for place, row in enumerate(labels) if row} == {2: ("composition_required",), 3: ("unresolved",)}


def test_both_captions_of_fashioniq_are_one_text_also_where_one_is_empty(tmp_path: Path) -> None:
    fashion = fashioniq.load("val", tmp_path, write_fashioniq(tmp_path))
    silent = [place for place, query in enumerate(fashion.queries) if not all(query.captions)]
    write(tmp_path / "fashioniq/circus/fashioniq_shortcut_free.csv", rows_of(fashion, [*silent, 1], ALL))
    labels = circus_labels(fashion, ALL, tmp_path, {"fashioniq": len(silent) + 1})
    assert silent and {place for place, row in enumerate(labels) if row != (NOT_LISTED,)} == {*silent, 1}


BROKEN: dict[str, tuple[Callable[[Rows], object], str]] = {
    "another text": (
        lambda rows: rows[1].update(query_text="something else"),
        "no query with the reference and text of query_idx 3",
    ),
    "another reference": (
        lambda rows: rows[0].update(query_image_ref="mbeir_images/dev-999.jpg"),
        "no query with the reference and text of query_idx 2",
    ),
    "a row too few": (lambda rows: rows.pop(), "it holds 2 rows, not 3"),
    "a query twice": (lambda rows: rows[1].update(query_idx="2"), "it holds queries more than once: 2"),
    "another label": (
        lambda rows: rows[1].update(aggregate_label="text_shortcut"),
        "unknown labels: text_shortcut",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_rows_that_do_not_match_are_refused(tmp_path: Path, protocol: EvaluationProtocol, name: str) -> None:
    spoil, message = BROKEN[name]
    rows = rows_of(protocol, [2, 3, 5], ALL)
    spoil(rows)
    write(tmp_path / FILES[ALL], rows)
    with pytest.raises(CorruptFile, match=message):
        circus_labels(protocol, ALL, tmp_path, {"cirr": 3})


def test_other_columns_are_refused_with_what_differs(tmp_path: Path, protocol: EvaluationProtocol) -> None:
    rows = [
        {("label" if name == "aggregate_label" else name): value for name, value in row.items()}
        for row in rows_of(protocol, [2, 3, 5], ALL)
    ]
    write(tmp_path / FILES[ALL], rows)
    with pytest.raises(CorruptFile, match="shortcut_free files: aggregate_label missing, label more"):
        circus_labels(protocol, ALL, tmp_path, {"cirr": 3})


def test_rows_that_people_did_not_validate_are_refused(tmp_path: Path, protocol: EvaluationProtocol) -> None:
    rows = rows_of(protocol, [2, 3], VALIDATED)
    rows[1]["validated"] = "false"
    write(tmp_path / FILES[VALIDATED], rows)
    with pytest.raises(CorruptFile, match="queries 3 are not validated"):
        circus_labels(protocol, VALIDATED, tmp_path, {"cirr": 2})


def test_a_file_that_is_not_there_is_answered_with_its_address(tmp_path: Path, protocol: EvaluationProtocol) -> None:
    with pytest.raises(MissingData, match="CIRCUS' labels are not in") as caught:
        circus_labels(protocol, ALL, tmp_path)
    assert caught.value.hint is not None
    assert "exports/cirr_shortcut_free.csv" in caught.value.hint and str(tmp_path) in caught.value.hint
    with pytest.raises(UsageError, match="CIRCUS has no labels for toy/circo-like@1"):
        circus_labels(circo_like(), ALL, tmp_path)
