"""What a run becomes: the files of its server in the order of its ranking, a manifest that names it, and the answer."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from cirbench.benchmarks import load_protocol, protocols
from cirbench.errors import CheckFailed, CorruptFile, MissingData, UnknownName, UsageError
from cirbench.submissions.check import check_files, protocol_loader
from cirbench.submissions.form import SERVERS
from cirbench.submissions.uploads import (
    build_submission,
    manifest_of,
    parse_scores,
    read_receipt,
    receipt_path,
    record_answer,
    score_labels,
    upload_hint,
)
from tests.submissions import server_files
from tests.submissions.runs import run_on
from tests.toy_protocols import circo_like

if TYPE_CHECKING:
    from pathlib import Path

    from cirbench.protocol import EvaluationProtocol
    from cirbench.runs.folder import Run


@pytest.fixture(scope="module")
def cirr(tmp_path_factory: pytest.TempPathFactory) -> EvaluationProtocol:
    return server_files.cirr_protocol(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def circo(tmp_path_factory: pytest.TempPathFactory) -> EvaluationProtocol:
    return server_files.circo_test(tmp_path_factory.mktemp("data")).known


def lines(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.folder / "predictions.jsonl").read_text().splitlines()]


def test_a_run_on_circo_test_becomes_one_file_of_the_first_fifty_ids(circo: EvaluationProtocol, tmp_path: Path) -> None:
    run = run_on(circo, tmp_path / "run")
    (path,) = build_submission(run, tmp_path / "out", protocol=circo)
    assert path == tmp_path / "out/circo/random-01234567.json"
    written = json.loads(path.read_bytes())
    assert written == {row["query_id"]: [int(name) for name in row["ranking"]] for row in lines(run)}
    assert [*written] == [str(number) for number in range(800)]


def test_a_run_on_cirr_test1_becomes_two_files_without_references(cirr: EvaluationProtocol, tmp_path: Path) -> None:
    run = run_on(cirr, tmp_path / "run")
    paths = build_submission(run, tmp_path / "out", protocol=cirr)
    assert [path.name for path in paths] == ["random-01234567.recall.json", "random-01234567.recall_subset.json"]
    recall, subset = (json.loads(path.read_bytes()) for path in paths)
    assert (recall.pop("version"), recall.pop("metric")) == ("rc2", "recall")
    assert (subset.pop("version"), subset.pop("metric")) == ("rc2", "recall_subset")
    assert recall == {row["query_id"]: row["ranking"][:50] for row in lines(run)}
    assert subset == {row["query_id"]: row["group_ranking"][:3] for row in lines(run)}
    for query in cirr.queries:
        assert query.reference.id not in recall[query.id] + subset[query.id]
    assert all(report.ok and not report.notes for report in check_files(paths, {"cirr/test1": cirr}.get))


def test_the_manifest_names_the_run_and_the_bytes_of_each_file(cirr: EvaluationProtocol, tmp_path: Path) -> None:
    run = run_on(cirr, tmp_path / "run")
    paths = build_submission(run, tmp_path / "out", protocol=cirr)
    manifest = manifest_of(paths[0])
    assert manifest is not None
    assert manifest == manifest_of(paths[1])
    assert manifest.files == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    assert (manifest.run, manifest.run_digest) == (str(run.folder), run.result.digest)
    assert (manifest.protocol, manifest.protocol_digest) == ("cirr/test1@1", cirr.digest)
    assert (manifest.method, manifest.parameters) == ("random", {"seed": 0})
    assert manifest.upload.startswith("https://cirr.")


def test_building_again_gives_the_same_bytes(cirr: EvaluationProtocol, tmp_path: Path) -> None:
    run = run_on(cirr, tmp_path / "run")

    def built() -> dict[str, bytes]:
        build_submission(run, tmp_path / "out", protocol=cirr)
        return {path.name: path.read_bytes() for path in (tmp_path / "out/cirr").iterdir()}

    assert built() == built()
    assert len(built()) == 3


def test_a_partial_run_is_refused(cirr: EvaluationProtocol, tmp_path: Path) -> None:
    run = run_on(cirr, tmp_path / "run", expected=4148)
    with pytest.raises(CheckFailed, match=r"is a partial run \(queries 20/4148, gallery 72/72\)"):
        build_submission(run, tmp_path / "out", protocol=cirr)
    assert not (tmp_path / "out").exists()


def test_a_run_whose_labels_are_public_has_no_server(tmp_path: Path) -> None:
    run = run_on(dataclasses.replace(circo_like(), labels=None), tmp_path / "run")
    with pytest.raises(UsageError, match="which no server scores"):
        build_submission(run, tmp_path / "out")


def test_a_run_on_other_annotations_is_refused(cirr: EvaluationProtocol, tmp_path: Path) -> None:
    run = run_on(cirr, tmp_path / "run")
    with pytest.raises(CheckFailed, match="the available annotations make it cirr/test1@1"):
        build_submission(run, tmp_path / "out", protocol=cirr.first(19))


def test_nothing_is_written_where_a_rule_is_broken(cirr: EvaluationProtocol, tmp_path: Path) -> None:
    kept = dataclasses.replace(cirr, exclude_reference=False)
    run = run_on(kept, tmp_path / "run")
    with pytest.raises(CheckFailed, match=r"random-01234567\.recall\.json: rule reference: query '\d+'"):
        build_submission(run, tmp_path / "out", protocol=kept)
    assert not (tmp_path / "out").exists()


def test_every_hidden_split_has_a_server_and_a_place_to_upload() -> None:
    hidden = {entry.dataset for entry in protocols().values() if not entry.labelled}
    assert hidden == {*SERVERS.names()}
    for dataset in hidden:
        assert upload_hint(dataset).startswith("Upload at https://")


def test_a_run_on_the_real_test1_gives_files_that_pass(annotation_root: Path, tmp_path: Path) -> None:
    if not (annotation_root / "cirr/captions/cap.rc2.test1.json").is_file():
        pytest.skip("CIRBENCH_DATA lacks CIRR's annotations of test1")
    protocol = load_protocol("cirr/test1", annotation_root)
    paths = build_submission(run_on(protocol, tmp_path / "run"), tmp_path / "out", protocol=protocol)
    for report in check_files(paths, protocol_loader(annotation_root)):
        assert (report.problems, report.notes, report.queries) == ((), (), 4148)


DAY = datetime.date(2026, 3, 4)


@pytest.fixture
def submission(tmp_path: Path) -> Path:
    """The first of two built files."""
    protocol = server_files.cirr_protocol(tmp_path)
    return build_submission(run_on(protocol, tmp_path / "run"), tmp_path / "out", protocol=protocol)[0]


def test_the_receipt_holds_scores_date_and_the_bytes_that_were_scored(submission: Path) -> None:
    path = record_answer(submission, "cirr/test1", {"Recall@1": 12.5}, DAY)
    assert path == receipt_path(submission) == submission.with_name("random-01234567.recall.receipt.json")
    receipt = read_receipt(submission)
    assert (receipt.scores, receipt.date, receipt.protocol) == ({"Recall@1": 12.5}, "2026-03-04", "cirr/test1")
    assert (receipt.file, receipt.run_digest) == (submission.name, "0123456789abcdef")
    assert json.loads(path.read_bytes())["schema_version"] == 1


def test_recording_again_replaces_the_answer(submission: Path) -> None:
    record_answer(submission, "cirr/test1", {"Recall@1": 12.5}, DAY)
    record_answer(submission, "cirr/test1", {"Recall@1": 13.5}, DAY)
    assert read_receipt(submission).scores == {"Recall@1": 13.5}


def test_a_file_that_changed_since_it_was_built_gets_no_receipt(submission: Path) -> None:
    submission.write_bytes(submission.read_bytes() + b"\n")
    with pytest.raises(CheckFailed, match=r"is not the file that was built from .*run: it has changed since"):
        record_answer(submission, "cirr/test1", {"Recall@1": 12.5}, DAY)
    assert not receipt_path(submission).exists()


def test_a_file_that_changed_since_the_answer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text("{}")
    record_answer(path, "circo/test", {"mAP@5": 1.0}, DAY)
    assert read_receipt(path).run_digest is None
    path.write_text("{ }")
    for act in (lambda: read_receipt(path), lambda: record_answer(path, "circo/test", {"mAP@5": 1.0}, DAY)):
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
