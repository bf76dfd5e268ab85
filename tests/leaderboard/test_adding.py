"""A run becomes an entry that says everything and holds; what would not hold is not written."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from cirbench.benchmarks.catalogue import load_protocol
from cirbench.benchmarks.example import write_example
from cirbench.errors import CheckFailed, CorruptFile, UsageError
from cirbench.leaderboard.adding import add_run
from cirbench.leaderboard.check import check_entries
from cirbench.leaderboard.entry import FILE, Entry, known_protocols, read_entry, seal_of
from cirbench.leaderboard.evidence import read_evidence
from cirbench.methods.registry import find_method
from cirbench.methods.training import training_parameters
from cirbench.submissions.receipts import Receipt
from cirbench.support.files import write_versioned
from cirbench.training.data.source import identified
from tests.leaderboard import runs
from tests.leaderboard.runs import run_of, tiny, without_labels
from tests.training.plain_samples import GreySample

if TYPE_CHECKING:
    from pathlib import Path


def test_an_entry_has_the_numbers_and_the_ranks_of_its_run(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    folder = add_run(run.folder, tmp_path / "entries", note="first")
    entry = read_entry(folder)
    assert folder.name == entry.id == f"scenes-tiny--random--{run.result.digest[:8]}"
    assert [(s.label, s.value, s.low, s.high, s.n) for s in entry.metrics] == [
        (m.label, m.value, m.low, m.high, m.n) for m in run.result.metrics
    ]
    assert (entry.note, entry.seed, entry.partial, entry.ranks_stored) == ("first", 0, False, True)
    evidence = read_evidence(folder / "ranks.npz")
    assert evidence.query_ids == run.query_ids
    assert evidence.clusters == run.clusters
    assert sorted(path.name for path in folder.iterdir()) == ["entry.json", "ranks.npz"]


def test_an_entry_holds_and_is_replaced_by_itself(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    entries = tmp_path / "entries"
    first = add_run(run.folder, entries)
    content = (first / "ranks.npz").read_bytes()
    again = add_run(run.folder, entries, note="again")
    assert first == again
    assert (again / "ranks.npz").read_bytes() == content
    assert [path.name for path in entries.iterdir()] == [first.name]
    assert [verdict.problems for verdict in check_entries(entries)] == [()]


def test_a_field_that_a_later_version_adds_leaves_the_seal_as_it_is(tmp_path: Path) -> None:
    class Later(Entry, frozen=True, kw_only=True):
        colour: str | None = None

    folder = add_run(run_of(tmp_path / "run").folder, tmp_path / "entries")
    content = (folder / "entry.json").read_bytes()
    assert seal_of(msgspec.json.decode(content, type=Later)) == msgspec.json.decode(content, type=Entry).seal


def test_nothing_of_the_makers_machine_is_published(tmp_path: Path) -> None:
    trained = runs.method(
        trained_on="/home/me/pairs.csv",
        checkpoint=runs.sha("c"),
        training={"phrases": "../me/phrases.json", "epochs": 3, "milestones": [1, 2], "seed": 0},
    )
    run = run_of(tmp_path / "run", method=trained, backbone=runs.backbone("/home/me/models/mine"))
    entry = read_entry(add_run(run.folder, tmp_path / "entries"))
    assert "/me" not in msgspec.json.encode(entry).decode()
    assert entry.backbone.name == "mine"
    assert entry.commands == (
        "cirbench run --method random --dataset scenes --protocol scenes/tiny --backbone mine --set scale=1.0 "
        "--set 'prompt={}' --train-data pairs.csv --train phrases=phrases.json --train epochs=3 "
        "--train milestones=1,2",
    )


def test_a_selected_checkpoint_is_trained_by_a_command_of_its_own(tmp_path: Path) -> None:
    method = runs.method(
        parameters={}, trained_on="pairs.csv", selected_on="cirr/val", checkpoint=runs.sha("c"), training={"epochs": 3}
    )
    entry = read_entry(add_run(run_of(tmp_path / "run", method=method).folder, tmp_path / "entries"))
    assert entry.commands == (
        "cirbench train random --backbone scenes-vit --data pairs.csv --monitor cirr/val --set epochs=3 "
        "--output CHECKPOINT",
        "cirbench run --method random --dataset scenes --protocol scenes/tiny --backbone scenes-vit "
        "--checkpoint CHECKPOINT",
    )


def test_a_method_that_run_trains_by_itself_needs_one_command(tmp_path: Path) -> None:
    usual = json.loads(msgspec.json.encode(training_parameters(find_method("pli"), "scenes-vit", {"seed": 3})))
    method = runs.method("pli", trained_on="scenes", checkpoint=runs.sha("c"), training=usual, parameters={})
    entry = read_entry(add_run(run_of(tmp_path / "run", method=method, seed=3).folder, tmp_path / "entries"))
    assert entry.commands == (
        "cirbench run --method pli --dataset scenes --protocol scenes/tiny --backbone scenes-vit --seed 3",
    )


def test_training_on_the_first_samples_names_the_data_and_how_many(tmp_path: Path) -> None:
    first = identified("pairs.csv", [GreySample(place) for place in range(3)], listing="").first(2)
    method = runs.method(
        parameters={}, trained_on=first.name, checkpoint=runs.sha("c"), training={"samples": 2, "seed": 0}
    )
    entry = read_entry(add_run(run_of(tmp_path / "run", method=method).folder, tmp_path / "entries"))
    assert entry.method.trained_on == "pairs.csv (the first 2)"
    assert entry.commands == (
        "cirbench run --method random --dataset scenes --protocol scenes/tiny --backbone scenes-vit "
        "--train-data pairs.csv --train samples=2",
    )


def test_a_partial_run_is_taken_and_says_so(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", limit=20)
    folder = add_run(run.folder, tmp_path / "entries")
    assert read_entry(folder).partial
    assert "--limit 20" in read_entry(folder).commands[0]
    assert check_entries(tmp_path / "entries")[0].ok


def test_data_of_ones_own_are_let_in_once_and_by_one_digest(tmp_path: Path) -> None:
    write_example(tmp_path / "mine")
    entries = tmp_path / "entries"
    protocol = load_protocol(str(tmp_path / "mine"))
    run = run_of(tmp_path / "run", protocol, dataset=str(tmp_path / "mine"))
    entry = read_entry(add_run(run.folder, entries))
    assert entry.commands[0].startswith("cirbench run --method random --dataset FOLDER --backbone scenes-vit")
    assert json.loads((entries / FILE).read_text())["protocols"] == {"own/mine@1": protocol.digest}
    assert check_entries(entries)[0].ok

    table = tmp_path / "mine" / "queries.csv"
    table.write_text(table.read_text().replace("a green circle", "a leek-green circle"))
    other = run_of(tmp_path / "other", load_protocol(str(tmp_path / "mine")), dataset=str(tmp_path / "mine"), seed=1)
    with pytest.raises(CheckFailed, match="the digest of its protocol 'own/mine@1' is another one here"):
        add_run(other.folder, entries)
    assert [path.name for path in entries.iterdir() if path.is_dir()] == [entry.id]


def test_a_run_on_other_data_than_lie_here_is_refused_with_what_differs(tmp_path: Path) -> None:
    changed = dataclasses.replace(tiny(), captions="as I like it", exclude_reference=False)
    run = run_of(tmp_path / "run", changed)
    with pytest.raises(CheckFailed, match="with other exclude_reference, captions than the data here have"):
        add_run(run.folder, tmp_path / "entries")


def test_a_run_that_was_changed_is_refused(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    values = json.loads((run.folder / "result.json").read_text())
    values["metrics"][0]["value"] += 1
    (run.folder / "result.json").write_text(json.dumps(values))
    with pytest.raises(CheckFailed, match=r"mAP@5: value is given as .* and the ranks give"):
        add_run(run.folder, tmp_path / "entries")
    assert not [path for path in (tmp_path / "entries").iterdir() if path.is_dir()]
    (run.folder / "per_query.npz").write_bytes(b"")
    with pytest.raises(CorruptFile, match="is not the file this run was written with"):
        add_run(run.folder, tmp_path / "entries")


def test_ranks_that_are_too_large_leave_their_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cirbench.leaderboard.adding.MOST_STORED", 1000)
    folder = add_run(run_of(tmp_path / "run").folder, tmp_path / "entries")
    entry = read_entry(folder)
    assert entry.ranks is not None and not entry.ranks_stored
    assert [path.name for path in folder.iterdir()] == ["entry.json"]
    verdict = check_entries(tmp_path / "entries")[0]
    assert verdict.ok
    assert verdict.notes == ("its ranks are too large to be stored, so its numbers were not recomputed",)


# Hidden labels.


def hidden(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A run on data without targets, and what a receipt for it says."""
    write_example(tmp_path / "mine")
    table = tmp_path / "mine" / "queries.csv"
    rows = [line.split(",") for line in table.read_text().splitlines() if '"' not in line]
    table.write_text("\n".join(",".join(row[:3]) for row in rows) + "\n")
    protocol = load_protocol(str(tmp_path / "mine"))
    assert protocol.labels is None
    run = run_of(tmp_path / "run", without_labels(protocol), dataset=str(tmp_path / "mine"))
    said = {
        "protocol": protocol.id,
        "file": "mine-1a2b3c4d.json",
        "sha256": runs.sha("file"),
        "scores": {"mAP@5": 12.5, "mAP@10": 13.5},
        "date": "2026-02-03",
        "run_digest": run.result.digest,
    }
    return run.folder, said


def receipt(path: Path, **values: Any) -> Path:
    write_versioned(path, Receipt(**values))
    return path


def test_a_run_on_hidden_labels_becomes_an_entry_with_the_servers_answer(tmp_path: Path) -> None:
    run, said = hidden(tmp_path)
    folder = add_run(run, tmp_path / "entries", receipts=[receipt(tmp_path / "mine.receipt.json", **said)])
    entry = read_entry(folder)
    assert [(s.label, s.value, s.low, s.n) for s in entry.metrics] == [
        ("mAP@5", 12.5, None, None),
        ("mAP@10", 13.5, None, None),
    ]
    assert entry.server_scored and entry.ranks is None
    assert check_entries(tmp_path / "entries")[0].ok


def test_cirrs_two_receipts_make_one_entry(tmp_path: Path) -> None:
    run, said = hidden(tmp_path)
    first = receipt(tmp_path / "a.receipt.json", **said | {"file": "x.recall.json", "scores": {"Recall@1": 25.0}})
    other = receipt(
        tmp_path / "b.receipt.json", **said | {"file": "x.recall_subset.json", "scores": {"Recall_subset@1": 50.0}}
    )
    folder = add_run(run, tmp_path / "entries", receipts=[first, other])
    assert sorted(read_entry(folder).receipts) == ["receipt-recall.json", "receipt-recall_subset.json"]
    assert check_entries(tmp_path / "entries")[0].ok


def test_a_receipt_of_another_run_or_protocol_is_refused(tmp_path: Path) -> None:
    run, said = hidden(tmp_path)
    for change in ({"run_digest": runs.sha("other")}, {"run_digest": None}, {"protocol": "circo/test"}):
        with pytest.raises(CheckFailed, match="is about another protocol or run"):
            add_run(run, tmp_path / "entries", receipts=[receipt(tmp_path / "r.json", **said | change)])


def test_hidden_labels_need_a_receipt_and_public_ones_take_none(tmp_path: Path) -> None:
    run, said = hidden(tmp_path)
    with pytest.raises(UsageError, match="are hidden") as caught:
        add_run(run, tmp_path / "entries")
    assert "--receipt" in str(caught.value.hint)
    with pytest.raises(UsageError, match="needs no receipt"):
        add_run(
            run_of(tmp_path / "public").folder,
            tmp_path / "entries",
            receipts=[receipt(tmp_path / "r.json", **said)],
        )


def test_the_digest_of_the_smallest_protocol_is_shipped(tmp_path: Path) -> None:
    assert known_protocols(tmp_path)[tiny().name] == tiny().digest


def test_the_digests_of_the_benchmarks_are_those_of_the_published_annotations(annotation_root: Path) -> None:
    for name, digest in known_protocols(annotation_root).items():
        assert load_protocol(name.partition("@")[0], annotation_root).digest == digest
