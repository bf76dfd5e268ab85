"""What a server answered is kept beside the file that it answered to, and holds for no other."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING

import pytest

from cirbench.errors import CheckFailed, CorruptFile, MissingData, UnknownName, UsageError
from cirbench.submissions.build import build_submission
from cirbench.submissions.receipts import manifest_of, parse_scores, read_receipt, receipt_path, record, score_labels
from tests.submissions import server_files
from tests.submissions.runs import run_on

if TYPE_CHECKING:
    from pathlib import Path

DAY = datetime.date(2026, 3, 4)


@pytest.fixture
def submission(tmp_path: Path) -> Path:
    """The first of two built files."""
    protocol = server_files.cirr_protocol(tmp_path)
    return build_submission(run_on(protocol, tmp_path / "run"), tmp_path / "out", protocol=protocol)[0]


def test_the_receipt_holds_scores_date_and_the_bytes_that_were_scored(submission: Path) -> None:
    path = record(submission, "cirr/test1", {"Recall@1": 12.5}, DAY)
    assert path == receipt_path(submission) == submission.with_name("random-01234567.recall.receipt.json")
    receipt = read_receipt(submission)
    assert (receipt.scores, receipt.date, receipt.protocol) == ({"Recall@1": 12.5}, "2026-03-04", "cirr/test1")
    assert (receipt.file, receipt.run_digest) == (submission.name, "0123456789abcdef")
    assert json.loads(path.read_bytes())["schema_version"] == 1


def test_recording_again_replaces_the_answer(submission: Path) -> None:
    record(submission, "cirr/test1", {"Recall@1": 12.5}, DAY)
    record(submission, "cirr/test1", {"Recall@1": 13.5}, DAY)
    assert read_receipt(submission).scores == {"Recall@1": 13.5}


def test_a_file_that_changed_since_it_was_built_gets_no_receipt(submission: Path) -> None:
    submission.write_bytes(submission.read_bytes() + b"\n")
    with pytest.raises(CheckFailed, match=r"is not the file that was built from .*run: it has changed since"):
        record(submission, "cirr/test1", {"Recall@1": 12.5}, DAY)
    assert not receipt_path(submission).exists()


def test_a_file_that_changed_since_the_answer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text("{}")
    record(path, "circo/test", {"mAP@5": 1.0}, DAY)
    assert read_receipt(path).run_digest is None
    path.write_text("{ }")
    for act in (lambda: read_receipt(path), lambda: record(path, "circo/test", {"mAP@5": 1.0}, DAY)):
        with pytest.raises(CheckFailed, match="has changed since the server's answer of 2026-03-04"):
            act()


def test_a_damaged_or_newer_receipt_is_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text("{}")
    with pytest.raises(MissingData, match=r"mine\.receipt\.json cannot be read"):
        read_receipt(path)
    receipt_path(path).write_text('{"schema_version": 1')
    with pytest.raises(CorruptFile, match=r"mine\.receipt\.json is damaged"):
        read_receipt(path)
    receipt_path(path).write_text('{"schema_version": 2, "something": "new"}')
    with pytest.raises(CorruptFile, match="has schema version 2; this cirbench reads up to 1"):
        read_receipt(path)


def test_a_damaged_manifest_is_told(submission: Path) -> None:
    (manifest,) = submission.parent.glob("*.manifest.json")
    manifest.write_text("{")
    with pytest.raises(CorruptFile, match="is damaged"):
        manifest_of(submission)


def test_scores_are_read_from_pairs_or_json_under_the_labels_of_run() -> None:
    expected = {"mAP@5": 12.3, "Recall@10": 45.0, "mAP@10[aspect=negation]": 6.5}
    assert parse_scores("map@5=12.3, recall@10=45,negation=6.5", "circo/test") == expected
    assert parse_scores('{"mAP@5": 12.3, "Recall@10": 45, "mAP@10[aspect=negation]": "6.5"}', "circo/test") == expected
    assert parse_scores("mAP@10[aspect=negation]=6.5,", "circo/test") == {"mAP@10[aspect=negation]": 6.5}
    assert parse_scores("recall_subset@1=55.5", "cirr/test1") == {"Recall_subset@1": 55.5}
    assert len(score_labels("circo/test")) == 8 + 9


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "No score is given"),
        ("{}", "No score is given"),
        ("mAP@5", "'mAP@5' is not a valid score"),
        ("mAP@5=high", 'is "high", and must be a number of percent'),
        ("mAP@5=101", "from 0 to 100"),
        ("mAP@5=-1", "from 0 to 100"),
        ("mAP@5=nan", "from 0 to 100"),
        ('{"mAP@5": true}', "is true, and must be"),
        ("mAP@5=1,map@5=2", "The score mAP@5 is given twice"),
    ],
)
def test_a_score_that_is_no_percentage_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        parse_scores(text, "circo/test")


def test_an_unknown_score_is_refused_with_the_nearest_names() -> None:
    with pytest.raises(UnknownName, match=r"no score of circo/test called 'mAP@6'.\nNearest: .*mAP@5"):
        parse_scores("mAP@6=1", "circo/test")
