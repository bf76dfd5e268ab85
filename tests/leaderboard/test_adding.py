"""A run becomes an entry that says everything and holds; what would not hold is not written."""

from __future__ import annotations

import dataclasses
import gzip
import json
import random
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from cirbench.benchmarks import circo
from cirbench.benchmarks.catalogue import load_protocol
from cirbench.benchmarks.folder import write_example
from cirbench.errors import CheckFailed, CirbenchError, CorruptFile, MissingData, UsageError
from cirbench.leaderboard.adding import add_run
from cirbench.leaderboard.audits import audits
from cirbench.leaderboard.binding import FILE, binding_of, known_protocols
from cirbench.leaderboard.board import read_leaderboard
from cirbench.leaderboard.check import check_entries
from cirbench.leaderboard.entry import Entry, read_entry, read_evidence, seal_of
from cirbench.methods.interface import find_method
from cirbench.methods.training import training_parameters
from cirbench.protocol import EvaluationProtocol, Gallery, Item, Query
from cirbench.runs.folder import load_run
from cirbench.submissions.uploads import Receipt
from cirbench.support.files import sha256_of_file, write_versioned
from cirbench.training.data.source import identified
from tests.leaderboard import runs
from tests.leaderboard.runs import run_of, tiny, without_labels
from tests.toy_protocols import NoImage
from tests.training.plain_samples import GreySample

if TYPE_CHECKING:
    from collections.abc import Callable
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


@pytest.mark.parametrize(
    ("trained_on", "selected_on", "options"),
    [
        ("not stated; converted from best.pt", None, ""),
        ("not stated; converted from best.pt (EMA)", "cirr/val", " --ema --selected-on cirr/val"),
    ],
)
def test_a_converted_checkpoint_is_converted_again(
    tmp_path: Path, trained_on: str, selected_on: str | None, options: str
) -> None:
    method = runs.method(
        parameters={}, trained_on=trained_on, selected_on=selected_on, checkpoint=runs.sha("c"), training={"epochs": 3}
    )
    entry = read_entry(add_run(run_of(tmp_path / "run", method=method).folder, tmp_path / "entries"))
    assert entry.commands == (
        f"cirbench convert random best.pt --backbone scenes-vit{options} --set epochs=3 --output CHECKPOINT",
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
    known = json.loads((entries / FILE).read_text())["protocols"]
    assert {name: each["digest"] for name, each in known.items()} == {"own/mine@1": protocol.digest}
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
    written = (run.folder / "result.json").read_text()
    values = json.loads(written)
    values["metrics"][0]["value"] += 1
    (run.folder / "result.json").write_text(json.dumps(values))
    with pytest.raises(CorruptFile, match="was edited: 'metrics' is not what it was written with"):
        add_run(run.folder, tmp_path / "entries")
    assert not [path for path in tmp_path.glob("entries/*") if path.is_dir()]
    (run.folder / "result.json").write_text(written)
    (run.folder / "per_query.npz").write_bytes(b"")
    with pytest.raises(CorruptFile, match="is not the file this run was written with"):
        add_run(run.folder, tmp_path / "entries")


def test_ranks_that_are_too_large_leave_their_digest_and_no_rank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cirbench.leaderboard.adding.MOST_STORED", 1000)
    with pytest.raises(CheckFailed, match="its ranks are not stored, and those of a protocol of this size can be"):
        add_run(run_of(tmp_path / "run").folder, tmp_path / "entries")
    monkeypatch.setattr("cirbench.leaderboard.check.MOST_STORED", 1000)
    for seed in (0, 1):
        folder = add_run(run_of(tmp_path / f"run{seed}", seed=seed).folder, tmp_path / "entries")
    entry = read_entry(folder)
    assert entry.ranks is not None and not entry.ranks_stored
    assert [path.name for path in folder.iterdir()] == ["entry.json"]
    verdict = check_entries(tmp_path / "entries")[0]
    assert verdict.ok
    assert verdict.notes == ("its ranks are too large to be stored, so its numbers were not recomputed",)
    rows = [row for board in read_leaderboard(tmp_path / "entries").boards for row in board.rows if row.is_run]
    assert [row.rank for row in rows] == [None, None]
    assert all("cannot be checked here" in row.caveats[0] for row in rows)


# Hidden labels.


@pytest.fixture(scope="session")
def hidden_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, EvaluationProtocol]:
    """A run on a protocol of CIRCO test's size, whose ground truths nobody here knows."""
    names = tuple(str(number) for number in range(123_403))
    protocol = EvaluationProtocol(
        id="circo/test",
        version=1,
        title="as large as CIRCO test",
        queries=tuple(
            Query(str(number), Item(names[number], NoImage(names[number])), ("a word",)) for number in range(800)
        ),
        gallery=Gallery(names),
        labels=None,
        measures=circo.MEASURES,
    )
    folder = tmp_path_factory.mktemp("hidden") / "run"
    return run_of(folder, protocol, dataset="circo").folder, protocol


@pytest.fixture
def answered(
    hidden_run: tuple[Path, EvaluationProtocol], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Callable[..., Path]]:
    """The run, and what writes a submission with a receipt beside it."""
    run, protocol = hidden_run
    monkeypatch.setattr("cirbench.leaderboard.adding.load_protocol", lambda *_: protocol)

    def receipt(length: int = 50, **changes: Any) -> Path:
        lists = {str(query): [*range(query, query + length)] for query in range(800)}
        (tmp_path / "mine.json").write_text(json.dumps(lists))
        said: dict[str, Any] = {
            "protocol": "circo/test",
            "file": "mine.json",
            "sha256": sha256_of_file(tmp_path / "mine.json"),
            "scores": {"mAP@5": 12.5, "mAP@10": 13.5},
            "date": "2026-02-03",
            "run_digest": load_run(run).result.digest,
        }
        write_versioned(tmp_path / "mine.receipt.json", Receipt(**said | changes))
        return tmp_path / "mine.receipt.json"

    return run, receipt


def test_a_run_on_hidden_labels_becomes_an_entry_with_the_servers_answer_and_what_it_scored(
    answered: tuple[Path, Callable[..., Path]], tmp_path: Path
) -> None:
    run, receipt = answered
    folder = add_run(run, tmp_path / "entries", receipts=[receipt()])
    entry = read_entry(folder)
    assert [(s.label, s.value, s.low, s.n) for s in entry.metrics] == [
        ("mAP@5", 12.5, None, None),
        ("mAP@10", 13.5, None, None),
    ]
    assert entry.server_scored and entry.ranks is None
    assert gzip.decompress((folder / "lists-server.json.gz").read_bytes()) == (tmp_path / "mine.json").read_bytes()
    assert check_entries(tmp_path / "entries")[0].ok


def test_lists_that_a_server_scored_are_audited_for_the_reference(
    answered: tuple[Path, Callable[..., Path]],
    hidden_run: tuple[Path, EvaluationProtocol],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, receipt = answered
    id = add_run(run, tmp_path / "entries", receipts=[receipt()]).name
    assert audits([id], tmp_path / "entries")[id].reference == "unknown"  # nobody names the references here
    monkeypatch.setattr("cirbench.leaderboard.binding.at_hand", lambda _: hidden_run[1])
    found = audits([id], tmp_path / "entries")[id]
    assert (found.value, found.listed) == (12.5, 800)
    assert found.reference_in_top == {
        1: 100,
        5: 100,
        10: 100,
        50: 100,
    }  # query q starts from image q, and lists it first


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"run_digest": runs.sha("other")}, "is about another protocol or run"),
        ({"run_digest": None}, "is about another protocol or run"),
        ({"protocol": "cirr/test1"}, "is about another protocol or run"),
        ({"scores": {"Recall@5": 12.5, "mAP@77": 13.5}}, "the server does not report 'mAP@77'"),
        ({"scores": {"mAP@5": 101.0}}, "is not a percentage"),
        ({"scores": {"mAP@5": -1.0}}, "is not a percentage"),
        ({"date": "9999-01-01"}, "which is not between 2020 and today"),
        ({"date": "soon"}, "which is not a date"),
        ({"length": 49}, "rule length"),
        ({"sha256": runs.sha("x")}, "it has changed since"),
    ],
)
def test_a_receipt_that_no_server_gives_is_refused(
    changes: dict[str, Any], told: str, answered: tuple[Path, Callable[..., Path]], tmp_path: Path
) -> None:
    run, receipt = answered
    with pytest.raises(CheckFailed, match=re.escape(told)):
        add_run(run, tmp_path / "entries", receipts=[receipt(**changes)])
    assert not [path for path in tmp_path.glob("entries/*") if path.is_dir()]


def test_a_receipt_without_the_file_that_was_scored_is_refused(
    answered: tuple[Path, Callable[..., Path]], tmp_path: Path
) -> None:
    run, receipt = answered
    path = receipt()
    (tmp_path / "mine.json").unlink()
    with pytest.raises(MissingData, match="an entry keeps the file that the server scored"):
        add_run(run, tmp_path / "entries", receipts=[path])


def test_no_server_keeps_the_ground_truths_of_data_of_ones_own(tmp_path: Path) -> None:
    write_example(tmp_path / "mine")
    table = tmp_path / "mine" / "queries.csv"
    rows = [line.split(",") for line in table.read_text().splitlines() if '"' not in line]
    table.write_text("\n".join(",".join(row[:3]) for row in rows) + "\n")
    protocol = load_protocol(str(tmp_path / "mine"))
    run = run_of(tmp_path / "run", without_labels(protocol), dataset=str(tmp_path / "mine"))
    (tmp_path / "x.json").write_text("{}")
    answer = Receipt(
        protocol=protocol.id,
        file="x.json",
        sha256=sha256_of_file(tmp_path / "x.json"),
        scores={"mAP@5": 1.0},
        date="2026-02-03",
        run_digest=run.result.digest,
    )
    write_versioned(tmp_path / "x.receipt.json", answer)
    with pytest.raises(CheckFailed, match="no server keeps the ground truths of its protocol"):
        add_run(run.folder, tmp_path / "entries", receipts=[tmp_path / "x.receipt.json"])


def test_hidden_labels_need_a_receipt(answered: tuple[Path, Callable[..., Path]], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="are hidden") as caught:
        add_run(answered[0], tmp_path / "entries")
    assert "--receipt" in str(caught.value.hint)


def test_public_ground_truths_take_no_receipt(tmp_path: Path) -> None:
    answer = Receipt(protocol="scenes/tiny", file="x.json", sha256=runs.sha("x"), scores={}, date="2026-02-03")
    write_versioned(tmp_path / "x.receipt.json", answer)
    with pytest.raises(UsageError, match="needs no receipt"):
        add_run(run_of(tmp_path / "run").folder, tmp_path / "entries", receipts=[tmp_path / "x.receipt.json"])


def test_the_digest_of_the_smallest_protocol_is_shipped(tmp_path: Path) -> None:
    known = known_protocols(tmp_path)[tiny().name]
    assert (known.digest, known.binding) == (tiny().digest, binding_of(tiny()))


def test_the_digests_of_the_benchmarks_are_those_of_the_published_annotations(annotation_root: Path) -> None:
    for name, known in known_protocols(annotation_root).items():
        try:
            protocol = load_protocol(name.partition("@")[0], annotation_root)
        except MissingData:  # PLI's pair lists are in no benchmark's own files
            assert name == "fashioniq/val-pli@1"
            continue
        assert (known.digest, known.binding) == (protocol.digest, binding_of(protocol))


# Killed.


@pytest.mark.slow
def test_an_entry_that_is_added_again_is_there_and_whole_at_every_moment(tmp_path: Path) -> None:
    run, entries = run_of(tmp_path / "run").folder, tmp_path / "entries"
    folder = add_run(run, entries, note="first")
    command = [sys.executable, "-m", "tests.leaderboard.killed_adds", str(run), str(entries)]
    notes, moments = set(), random.Random(0)
    for _ in range(4):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            ends = time.monotonic() + moments.uniform(0.5, 2)
            while time.monotonic() < ends:
                notes.add(read_entry(folder).note)  # never missing, never half
            process.kill()
        assert [verdict.ok for verdict in check_entries(entries)] == [True]
    assert len(notes) > 3
    add_run(run, entries, note="last")
    assert [path.name for path in entries.iterdir()] == [folder.name]


@pytest.mark.parametrize("step", ["write", "check", "exchange", "remove"])
def test_an_add_that_is_interrupted_keeps_one_whole_entry(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, entries = run_of(tmp_path / "run").folder, tmp_path / "entries"
    folder = add_run(run, entries, note="first")
    where = {"write": "write_versioned", "check": "check_entry", "exchange": "exchange", "remove": "shutil.rmtree"}[
        step
    ]
    calls = []

    def interrupted(*arguments: Any, **options: Any) -> None:
        calls.append(arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"cirbench.leaderboard.adding.{where}", interrupted)
        with pytest.raises(KeyboardInterrupt):
            add_run(run, entries, note="second")
    assert calls
    assert read_entry(folder).note in ("first", "second")
    assert [verdict.ok for verdict in check_entries(entries)] == [True]
    add_run(run, entries, note="third")
    assert [path.name for path in entries.iterdir()] == [folder.name]


def test_without_an_exchange_in_one_step_the_earlier_entry_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cirbench.support.files._exchanged", lambda *_: False)
    run, entries = run_of(tmp_path / "run").folder, tmp_path / "entries"
    folder = add_run(run, entries, note="first")
    assert read_entry(add_run(run, entries, note="second")).note == "second"
    rename = type(folder).rename
    with monkeypatch.context() as patch:
        patch.setattr(
            type(folder),
            "rename",
            lambda self, target: (
                (_ for _ in ()).throw(OSError(5, "I/O"))
                if target == folder and "earlier" not in self.name
                else rename(self, target)
            ),
        )
        with pytest.raises(CirbenchError, match="could not be written"):
            add_run(run, entries, note="third")
    assert read_entry(folder).note == "second"


def test_parameters_that_are_lists_are_kept_in_runs_and_entries(tmp_path: Path) -> None:
    listed = runs.method("mine", parameters={"layers": [1, 2], "scale": 0.5})
    run = run_of(tmp_path / "run", method=listed)
    assert load_run(run.folder).result.method.parameters == {"layers": [1, 2], "scale": 0.5}
    entry = read_entry(add_run(run.folder, tmp_path / "entries"))
    assert entry.method.parameters == {"layers": [1, 2], "scale": 0.5}
    assert "--set layers=1,2" in entry.commands[0]
