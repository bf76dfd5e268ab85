"""What was made elsewhere becomes a run like any other, and where labels are hidden the files of the server."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import cirbench
from cirbench.benchmarks import load_protocol
from cirbench.cli import execute
from cirbench.errors import CirbenchError
from cirbench.leaderboard.board import read_leaderboard
from cirbench.runs.folder import Run, load_run
from tests.submissions import server_files

if TYPE_CHECKING:
    from pathlib import Path

    from cirbench.protocol import EvaluationProtocol


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_features(folder: Path, protocol: EvaluationProtocol, seed: int = 0, pull: float = 0.0) -> list[str]:
    """Write random features and return the options that name them; with ``pull`` they lead to the ground truths."""
    assert protocol.gallery is not None
    generator = np.random.default_rng(seed)
    gallery = generator.normal(size=(len(protocol.gallery), 16)).astype(np.float32)
    queries = generator.normal(size=(len(protocol.queries), 16)).astype(np.float32)
    if protocol.labels is not None:
        at = protocol.gallery.positions
        queries += pull * np.stack([gallery[at[names[0]]] for names in protocol.labels.relevant])
    np.savez(folder / f"f{seed}.npz", queries=queries, gallery=gallery)
    (folder / "q.json").write_text(json.dumps([query.id for query in protocol.queries]))
    (folder / "g.json").write_text(json.dumps(protocol.gallery.ids))
    file = folder / f"f{seed}.npz"
    ids = ["--query-ids", str(folder / "q.json"), "--gallery-ids", str(folder / "g.json")]
    return ["--features", f"{file}:queries", f"{file}:gallery", *ids]


def scored(*options: str, seed: int = 0, pull: float = 0.0) -> Run:
    """Score features on scenes/tiny and keep the run."""
    from pathlib import Path

    before = {*Path("runs").rglob("result.json")}
    features = write_features(Path.cwd(), load_protocol("scenes/tiny"), seed, pull)
    assert execute(["score", "-d", "scenes", "--split", "tiny", *features, "-o", "runs", *options]) == 0
    (new,) = {*Path("runs").rglob("result.json")} - before
    return load_run(new.parent)


def test_a_scored_run_says_where_it_came_from_and_what_was_declared(capsys: pytest.CaptureFixture[str]) -> None:
    declared = ["--supervision", "triplets", "--uses-triplets", "yes", "--uses-llm", "no", "--transductive", "yes"]
    declared += ["--trained-on", "CC3M"]
    run = scored("--name", "My Method", "--backbone", "ViT-L/14", *declared)
    out, err = capsys.readouterr()
    assert f"Run {run.folder}" in out
    assert "each is divided by its own" in err
    method, backbone = run.result.method, run.result.backbone
    assert (method.name, method.title, method.supervision) == ("my-method", "My Method", "triplets")
    assert method.trained_on == "CC3M"
    assert method.transductive == "yes"
    assert (method.uses_triplets, method.uses_llm, method.uses_shared_concept) == ("yes", "no", "unknown")
    assert (backbone.name, backbone.architecture, backbone.weights) == ("ViT-L/14", "ViT-L/14 (declared)", "not stated")
    assert run.result.scored is not None
    assert str(run.result.scored) == "scored from features that were made elsewhere"
    assert [(file.role, file.name, file.array) for file in run.result.scored.files] == [
        ("queries", "f0.npz", "queries"),
        ("ids of queries", "q.json", ""),
        ("gallery", "f0.npz", "gallery"),
        ("ids of gallery", "g.json", ""),
    ]
    assert run.result.environment.device == "not stated"
    assert len(run.query_ids) == 60
    assert {path.name for path in run.folder.iterdir()} >= {
        "predictions.jsonl",
        "run.trec",
        "qrels.trec",
        "config.toml",
    }


def test_the_same_files_and_declarations_are_the_same_run(capsys: pytest.CaptureFixture[str]) -> None:
    first = scored("--name", "mine")
    again = [f"{first.folder}/config.toml"]
    capsys.readouterr()
    assert execute(["score", "--config", *again]) == 0
    assert f"Run {first.folder}, as before" in capsys.readouterr().out
    others = [scored("--name", "mine", "--uses-llm", "no"), scored("--name", "mine", seed=1), scored("--name", "Mine")]
    assert len({run.folder for run in (first, *others)}) == 4


def test_lists_become_the_run_that_features_become(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = scored(pull=0.5)
    mine = {metric.label: metric.value for metric in run.result.metrics}
    for name in ("predictions.jsonl", "run.trec"):
        capsys.readouterr()
        score = ["score", "-d", "scenes", "--split", "tiny", "--predictions", str(run.folder / name), "-o", "more"]
        assert execute([*score, "--json"]) == 0
        other = load_run(json.loads(capsys.readouterr().out)["run"])
        assert str(other.result.scored) == "scored from lists that were made elsewhere"
        values = {metric.label: metric.value for metric in other.result.metrics}
        # A TREC run does not rank the groups.
        assert values == {label: value for label, value in mine.items() if label in values}
        assert (len(values) == len(mine)) == (name == "predictions.jsonl")


def test_scored_runs_are_compared_and_told_apart(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    good, poor = scored("--name", "good", pull=1.0), scored("--name", "poor", seed=1)
    capsys.readouterr()
    assert execute(["compare", str(good.folder), str(poor.folder)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "good" in out
    assert "Made elsewhere and scored here, with what is declared of them: good, poor." in out
    assert execute(["diff", str(good.folder), str(poor.folder)]) == 0
    assert "f0.npz" in capsys.readouterr().out
    assert execute(["report", str(good.folder), "--worst", "2"]) == 0
    assert execute(["list", "runs"]) == 0
    assert "whole, scored" in capsys.readouterr().out


def test_runs_on_the_same_backbone_give_the_composition_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    for at, name in enumerate(("image-only", "text-only", "image-text"), start=2):
        scored("--name", name, "--backbone", "ViT-L/14", seed=at, pull=at / 10)
    capsys.readouterr()
    run = scored("--name", "mine", "--baselines", "runs/scenes/*-*", pull=1.0)
    out = " ".join(capsys.readouterr().out.split())
    assert run.result.backbone.name == "ViT-L/14"
    for heading in ("composition", "gain over better", "against image-text"):
        assert heading in out
    (other,) = run.folder.parent.glob("image-text-*")
    assert execute(["compare", str(run.folder), str(other)]) == 0
    assert "retrieval by one side of the query alone" in " ".join(capsys.readouterr().out.split())


def test_baselines_of_another_backbone_or_protocol_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    one = scored("--name", "image-only", "--backbone", "A")
    two = scored("--name", "text-only", "--backbone", "B")
    score = [
        "score",
        "-d",
        "scenes",
        "--split",
        "tiny",
        *write_features(one.folder.parent, load_protocol("scenes/tiny")),
    ]
    cases = [
        (["--baselines", str(one.folder), "--baselines", str(two.folder)], "ran on different backbones: A, B"),
        (["--baselines", str(one.folder), "--backbone", "B"], "--backbone says 'B', and the baselines ran on 'A'"),
        (["--baselines", "absent"], "There is no finished run in absent"),
    ]
    for options, message in cases:
        assert execute([*score, "-o", "runs", *options]) in (2, 3)
        assert message in capsys.readouterr().err


def test_a_scored_run_is_published_as_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = scored(
        "--name", "Mine", "--backbone", "ViT-L/14", "--supervision", "triplets", "--trained-on", "~1M pairs", pull=1.0
    )
    capsys.readouterr()
    assert execute(["leaderboard", "add", str(run.folder), "--entries", "entries"]) == 0
    folder = tmp_path / capsys.readouterr().out.strip()
    entry = json.loads((folder / "entry.json").read_text())
    assert [file["name"] for file in entry["scored"]["files"]] == ["f0.npz", "q.json", "f0.npz", "g.json"]
    assert entry["method"]["trained_on"] == "~1M pairs"
    assert entry["commands"] == [
        "cirbench score --dataset scenes --protocol scenes/tiny --features f0.npz:queries f0.npz:gallery "
        "--query-ids q.json --gallery-ids g.json --output runs --name mine --supervision triplets --backbone ViT-L/14"
    ]
    assert execute(["leaderboard", "check", "--entries", "entries"]) == 0
    board = read_leaderboard(tmp_path / "entries")
    (row,) = [row for board in board.boards for row in board.rows if row.id == entry["id"]]
    assert (row.badge, row.backbone) == ("scored here", "ViT-L/14")
    assert row.disclosures["trained on"] == "~1M pairs"
    assert row.disclosures["selected on"] == "unknown"
    assert "what its author declares" in row.caveats[0]
    assert row.source.startswith("scored from features that were made elsewhere, by cirbench")


def test_an_entry_that_hides_that_it_was_scored_does_not_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = scored("--name", "mine")
    capsys.readouterr()
    assert execute(["leaderboard", "add", str(run.folder), "--entries", "entries"]) == 0
    path = tmp_path / capsys.readouterr().out.strip() / "entry.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "scored": None}))
    assert execute(["leaderboard", "check", "--entries", "entries"]) == 4
    assert "its seal does not fit" in capsys.readouterr().out


def test_lists_that_rank_no_groups_are_not_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    protocol = load_protocol("scenes/tiny")
    assert protocol.gallery is not None
    far = {query.id: [n for n in protocol.gallery.ids if n != query.reference.id][:50] for query in protocol.queries}
    run = cirbench.score(far, "scenes/tiny", output="runs", name="far").run
    assert run is not None
    assert "Recall_subset@1" not in run.values
    assert execute(["leaderboard", "add", str(run.folder), "--entries", "entries"]) == 4
    assert "does not rank the groups of its queries, so it lacks numbers" in capsys.readouterr().err


def test_reproduce_says_that_a_scored_run_cannot_be_made_again(capsys: pytest.CaptureFixture[str]) -> None:
    run = scored("--name", "mine")
    capsys.readouterr()
    assert execute(["reproduce", str(run.folder)]) == 2
    err = capsys.readouterr().err
    assert "was made elsewhere and scored here: nothing here can make its ranking again" in err
    assert f"cirbench score --config {run.folder.absolute()}/config.toml" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Say what to build files of"),
        (["runs", "--name", "mine"], "runs is a folder, and options say what was made elsewhere"),
        (["--predictions", "lists.json"], "--dataset is missing"),
        (["lists.json", "-d", "scenes", "--split", "tiny"], "scenes/tiny@1 are public, and no server scores it"),
        (["absent"], "There is no finished run in absent"),
    ],
)
def test_what_no_submission_can_be_built_of_is_said(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "lists.json").write_text(json.dumps(lists_of(load_protocol("scenes/tiny"), 50)))
    assert execute(["submit", "build", *options]) in (2, 3)
    assert message in capsys.readouterr().err
    assert not [*tmp_path.glob("submissions/*/*")]


def test_python_keeps_runs_of_lists_scores_and_pairs(tmp_path: Path) -> None:
    protocol = load_protocol("scenes/tiny")
    lists = lists_of(protocol, 50)
    by_score = {query: {name: -float(rank) for rank, name in enumerate(names)} for query, names in lists.items()}
    kept = [
        cirbench.score(given, "scenes/tiny", output="runs", name="order", uses_llm="no").run
        for given in (lists, by_score)
    ]
    assert kept[0] is not None
    assert kept[1] is not None
    assert kept[0].folder != kept[1].folder
    assert kept[0].result.metrics == kept[1].result.metrics
    assert kept[0].result.method.uses_llm == "no"
    again = cirbench.score(lists, "scenes/tiny", output="runs", name="order", uses_llm="no").run
    assert again is not None
    assert (again.folder, again.reused) == (kept[0].folder, True)
    with pytest.raises(CirbenchError, match="name belong to a run, and none is kept"):
        cirbench.score(lists, "scenes/tiny", name="order")


def test_whatever_differs_is_another_run_wherever_it_comes_from(tmp_path: Path) -> None:
    protocol = load_protocol("scenes/tiny")
    write_features(tmp_path, protocol)
    one = dict(np.load("f0.npz"))
    write_features(tmp_path, protocol, seed=1)
    other = dict(np.load("f1.npz"))
    np.savez("both.npz", a=one["queries"], b=other["queries"], gallery=one["gallery"])
    queries, gallery = [query.id for query in protocol.queries], list(protocol.gallery.ids if protocol.gallery else ())
    sides: list[tuple[Any, Any, Any, Any]] = [
        (one["queries"], one["gallery"], queries, gallery),
        (other["queries"], one["gallery"], queries, gallery),
        (one["queries"], one["gallery"], queries[::-1], gallery),
        (one["queries"], one["gallery"], "q.json", "g.json"),
        (other["queries"], one["gallery"], "q.json", "g.json"),  # ids in files, rows in memory
        ("both.npz:a", "both.npz:gallery", queries, gallery),
        ("both.npz:a", "both.npz:gallery", queries[::-1], gallery),  # the other way round
        ("both.npz:b", "both.npz:gallery", queries, gallery),
    ]
    folders = []
    for rows, columns, query_ids, gallery_ids in sides * 2:
        ids = {"query_ids": query_ids, "gallery_ids": gallery_ids}
        run = cirbench.score((rows, columns), protocol, **ids, output="runs", name="x").run
        assert run is not None
        folders.append(run.folder)
    assert folders[: len(sides)] == folders[len(sides) :]
    assert len({*folders}) == len(sides)


def test_python_ranks_pairs_each_by_itself_and_reads_ids_from_the_file(tmp_path: Path) -> None:
    protocol = load_protocol("scenes/tiny")
    write_features(tmp_path, protocol)
    arrays = np.load("f0.npz")
    queries, gallery = [query.id for query in protocol.queries], list(protocol.gallery.ids if protocol.gallery else ())
    halves = [(arrays["queries"][:20], arrays["gallery"]), (arrays["queries"][20:], arrays["gallery"])]
    parts = cirbench.score(halves, protocol, query_ids=[queries[:20], queries[20:]], gallery_ids=[gallery, gallery])
    everything: dict[str, Any] = {**arrays, "queries_ids": queries, "gallery_ids": gallery}
    np.savez("with-ids.npz", **everything)
    whole = cirbench.score(("with-ids.npz:queries", "with-ids.npz:gallery"), protocol)
    assert [each.value for each in parts.measurements] == [each.value for each in whole.measurements]
    generated = cirbench.score(
        (arrays["queries"], arrays["gallery"]),
        protocol,
        query_ids=iter(queries),
        gallery_ids=iter(gallery),
        output="runs",
    )
    assert generated.run is not None
    with pytest.raises(CirbenchError, match="Features need query_ids and gallery_ids"):
        cirbench.score((arrays["queries"], arrays["gallery"]), protocol)


# Hidden labels.


@pytest.fixture
def cirr(tmp_path: Path) -> EvaluationProtocol:
    return load_protocol("cirr/test1", server_files.write_cirr_test1(tmp_path / "data"))


@pytest.mark.slow
def test_features_on_cirr_test1_become_both_files_of_the_server_without_torch_or_scipy(
    cirr: EvaluationProtocol, tmp_path: Path
) -> None:
    options = ["-d", "cirr", "--split", "test1", *write_features(tmp_path, cirr), "--name", "mine"]
    program = """
import sys
for name in ("torch", "scipy", "open_clip"):
    sys.modules[name] = None
from cirbench.cli import execute
sys.exit(execute(sys.argv[1:]))
"""
    score = ["score", *options, "--data-root", str(tmp_path / "data")]
    done = subprocess.run([sys.executable, "-c", program, *score], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "rankings, and no numbers" in done.stdout
    assert done.stderr.count("to submit: ") == 2
    assert "Upload at https://cirr.cecs.anu.edu.au" in done.stderr
    files = sorted(map(str, tmp_path.glob("submissions/cirr/mine-*.recall*.json")))
    assert len(files) == 2
    assert execute(["submit", "check", *files, "--data-root", str(tmp_path / "data")]) == 0


def lists_of(protocol: EvaluationProtocol, length: int) -> dict[str, list[str]]:
    """The group first, then the gallery, without the reference."""
    assert protocol.gallery is not None
    groups = protocol.groups or ((),) * len(protocol.queries)
    found = {}
    for query, group in zip(protocol.queries, groups, strict=True):
        names = dict.fromkeys([*group, *protocol.gallery.ids[: length + 10]])
        found[query.id] = [name for name in names if name != query.reference.id][:length]
    return found


@pytest.mark.slow
def test_a_server_scored_entry_of_lists_says_that_they_were_made_elsewhere(
    annotation_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not (annotation_root / "cirr" / "captions" / "cap.rc2.test1.json").is_file():
        pytest.skip(f"{annotation_root} has no cirr/captions/cap.rc2.test1.json")
    (tmp_path / "lists.json").write_text(json.dumps(lists_of(load_protocol("cirr/test1", annotation_root), 50)))
    data = ["--data-root", str(annotation_root)]
    assert execute(["submit", "build", "lists.json", "-d", "cirr", "--split", "test1", *data]) == 0
    recall, subset = sorted(tmp_path.glob("submissions/cirr/*.recall*.json"))
    for path, scores in ((recall, "Recall@1=1,Recall@5=5,Recall@10=8,Recall@50=20"), (subset, "Recall_subset@1=20")):
        assert execute(["submit", "record", str(path), "--scores", scores, *data]) == 0
    (folder,) = (path.parent for path in tmp_path.glob("runs/cirr/*/result.json"))
    receipts = [word for path in tmp_path.glob("submissions/cirr/*.receipt.json") for word in ("--receipt", str(path))]
    capsys.readouterr()
    assert execute(["leaderboard", "add", str(folder), "--entries", "entries", *receipts, *data]) == 0
    board = read_leaderboard(tmp_path / "entries")
    (row,) = [row for board in board.boards for row in board.rows if row.badge == "server-scored"]
    assert "what its author declares" in row.caveats[0]


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["score", "submit build"])
def test_lists_on_cirr_test1_become_both_files(
    verb: str, cirr: EvaluationProtocol, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lists.json").write_text(json.dumps(lists_of(cirr, 50)))
    where = ["-d", "cirr", "--split", "test1", "--data-root", str(tmp_path / "data")]
    given = ["--predictions", "lists.json"] if verb == "score" else ["lists.json"]
    assert execute([*verb.split(), *where, *given]) == 0
    assert "groups are ranked in the order in which the lists hold their members" in capsys.readouterr().err
    recall, subset = (json.loads(path.read_text()) for path in sorted(tmp_path.glob("submissions/cirr/*.recall*.json")))
    first = cirr.queries[0]
    assert recall[first.id] == lists_of(cirr, 50)[first.id]
    assert subset[first.id] == lists_of(cirr, 50)[first.id][:3]


@pytest.mark.slow
def test_lists_without_groups_say_what_cirrs_server_needs(
    cirr: EvaluationProtocol, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cirr.gallery is not None
    assert cirr.groups is not None
    lists = {}
    for query, group in zip(cirr.queries, cirr.groups, strict=True):
        lists[query.id] = [name for name in cirr.gallery.ids[:70] if name not in group][:50]
    (tmp_path / "lists.json").write_text(json.dumps(lists))
    score = ["score", "-d", "cirr", "--split", "test1", "--data-root", "data", "--predictions", "lists.json"]
    assert execute(score) == 4
    assert "does not rank the groups of its queries, and the server takes 2 files" in capsys.readouterr().err


@pytest.mark.slow
def test_lists_on_circo_test_become_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    protocol = load_protocol("circo/test", server_files.write_circo_test(tmp_path / "data"))
    assert protocol.gallery is not None
    names = [f"{int(name):012d}.jpg" for name in protocol.gallery.ids[:60]]
    (tmp_path / "lists.json").write_text(json.dumps({query.id: names for query in protocol.queries}))
    score = ["score", "-d", "circo", "--split", "test", "--data-root", "data", "--predictions", "lists.json"]
    assert execute(score) == 0
    assert "names of files are read as the ids that they hold" in capsys.readouterr().err
    (path,) = tmp_path.glob("submissions/circo/lists-????????.json")
    assert json.loads(path.read_text())["0"] == [int(name) for name in protocol.gallery.ids[:50]]


def test_a_run_cannot_be_kept_where_the_gallery_is_not_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.circo_files import published_size, write

    write(tmp_path, published_size("test"), None, split="test")
    lists: dict[str, Any] = {str(number): list(range(1, 51)) for number in range(800)}
    (tmp_path / "lists.json").write_text(json.dumps(lists))
    score = ["score", "-d", "circo", "--split", "test", "--data-root", ".", "--predictions", "lists.json"]
    assert execute(score) == 3
    assert "The gallery of circo/test@1 is not available, so no run can be kept" in capsys.readouterr().err
