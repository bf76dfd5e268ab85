"""Each turn of CIRCLED's dialogues is a query by itself, on the gallery of its benchmark."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cirbench.benchmarks import circo, cirr, fashioniq
from cirbench.benchmarks.circled import VARIANT
from cirbench.errors import CorruptFile, MissingData
from cirbench.metrics.measure import ceilings
from tests import circo_files
from tests.annotation_files import read, write, write_circled, write_cirr, write_fashioniq

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILE = "cirr/circled/cirr_val.json"


def write_turns(root: Path) -> dict[str, int]:
    """Write a small CIRR with dialogues; return what both count up to."""
    expected = write_cirr(root)
    gallery = [*read(root / "cirr/image_splits/split.rc2.val.json")]
    return {**expected, **write_circled(root, "cirr", "cirr_val", gallery)}


def test_a_turn_is_a_query_with_its_own_reference_and_the_answer_of_its_session(tmp_path: Path) -> None:
    protocol = cirr.load(VARIANT, tmp_path, write_turns(tmp_path))
    sessions = read(tmp_path / FILE)
    turns = [(session, turn) for session in sessions for turn in session["turns"]]
    assert [query.id for query in protocol.queries] == [f"{s['session_id']}-{t['turn']}" for s, t in turns]
    assert [query.reference.id for query in protocol.queries] == [t["reference_image_id"] for _, t in turns]
    assert [query.captions for query in protocol.queries] == [(t["relative_caption"],) for _, t in turns]
    assert protocol.labels is not None
    assert [list(row) for row in protocol.labels.relevant] == [s["ground_truth_ids"] for s, _ in turns]
    assert protocol.clusters == tuple(s["session_id"] for s, _ in turns)
    assert protocol.slices == {"turn": tuple((str(t["turn"]),) for _, t in turns)}
    plain = cirr.load("val", tmp_path, write_cirr(tmp_path))
    assert protocol.fields["gallery"] == plain.fields["gallery"] and protocol.exclude_reference
    assert {each.value for each in ceilings(protocol)} == {1.0}


def test_turns_of_fashioniq_rank_the_gallery_of_their_category(tmp_path: Path) -> None:
    expected = write_fashioniq(tmp_path)
    counts = {}
    for category, counted in expected.items():
        gallery = read(tmp_path / f"fashioniq/image_splits/split.{category}.val.json")
        counts[category] = {**counted, **write_circled(tmp_path, "fashioniq", f"fashioniq_{category}_val", gallery)}
    protocol = fashioniq.load(VARIANT, tmp_path, counts)
    assert protocol.pools is not None and protocol.pool_of_query is not None and len(protocol.queries) == 21
    for query, place in zip(protocol.queries, protocol.pool_of_query, strict=True):
        assert query.category is not None and query.category in query.id
        split = read(tmp_path / f"fashioniq/image_splits/split.{query.category}.val.json")
        assert list(protocol.pools[place]) == split


def test_ids_of_coco_may_have_the_zeros_of_their_files(tmp_path: Path) -> None:
    rows, images = circo_files.labelled_rows()
    circo_files.write(tmp_path, rows, images)
    counted = write_circled(tmp_path, "circo", "circo_val", [str(each) for each in images], zeros=12)
    protocol = circo.load(VARIANT, tmp_path, {**circo_files.expected(rows, len(images)), **counted})
    assert {query.reference.id for query in protocol.queries} <= {str(each) for each in images}
    circo_files.write(tmp_path / "other", rows, None)
    write_circled(tmp_path / "other", "circo", "circo_val", [str(each) for each in images])
    with pytest.raises(MissingData, match="the gallery of circo/val-circled, whose list is missing"):
        circo.load(VARIANT, tmp_path / "other", {**circo_files.expected(rows, len(images)), **counted})


BROKEN: dict[str, tuple[Callable[[Any], object], str]] = {
    "a session too few": (lambda sessions: sessions.pop(), "it holds 2 sessions, not 3; it holds 5 turns, not 7"),
    "a turn too few": (
        lambda sessions: sessions[1]["turns"].pop(1),
        "it holds 6 turns, not 7; turns are missing or out of order in query cirr_val_0001",
    ),
    "another subset": (lambda sessions: sessions[0].update(subset="cirr_train"), "the subset is not cirr_val in query"),
    "an empty caption": (
        lambda sessions: sessions[0]["turns"][1].update(relative_caption=" "),
        "a caption is empty in query cirr_val_0000",
    ),
    "an image outside": (
        lambda sessions: sessions[0].update(ground_truth_ids=["dev-999"]),
        "images are not in the gallery: dev-999",
    ),
    "a session twice": (lambda sessions: sessions[1].update(session_id="cirr_val_0000"), "session ids more than once"),
    "no answer": (lambda sessions: sessions[0].update(ground_truth_ids=[]), "Expected `array` of length >= 1"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_changed_file_is_refused_with_what_differs(tmp_path: Path, name: str) -> None:
    spoil, message = BROKEN[name]
    expected = write_turns(tmp_path)
    sessions = read(tmp_path / FILE)
    spoil(sessions)
    write(tmp_path / FILE, sessions)
    with pytest.raises(CorruptFile, match=message):
        cirr.load(VARIANT, tmp_path, expected)


def test_a_file_that_is_absent_is_answered_with_its_address(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"circled.cirr_val\.json") as caught:
        cirr.load(VARIANT, tmp_path, write_cirr(tmp_path))
    assert caught.value.hint is not None and "tk1441/CIRCLED" in caught.value.hint
