"""``cirbench score`` prints numbers on stdout, or one clear message on stderr and the right exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cirbench.benchmarks import load_protocol
from cirbench.cli import execute
from tests.circo_files import published_size, write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.circo_files import Rows

Lists = dict[str, list[Any]]


def perfect(rows: Rows) -> Lists:
    """Rank the ground truths first, then ids that are in no list of ground truths."""
    return {str(row["id"]): [*row["gt_img_ids"], *range(700_000, 700_050 - len(row["gt_img_ids"]))] for row in rows}


@pytest.fixture
def circo(tmp_path: Path) -> list[str]:
    """The arguments that score perfect predictions on a data root with CIRCO's published counts."""
    rows = published_size()
    write(tmp_path, rows, None)
    write(tmp_path, published_size("test"), None, split="test")
    (tmp_path / "lists.json").write_text(json.dumps(perfect(rows)))
    return ["score", "-d", "circo", "--data-root", str(tmp_path), "--predictions", str(tmp_path / "lists.json")]


def test_the_table_is_headed_by_protocol_and_counts(
    circo: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert execute(circo) == 0
    out, err = capsys.readouterr()
    first = out.splitlines()[0]
    assert first.startswith("circo/val@1 (")
    assert first.endswith("queries 220/220, gallery not available: ids not checked against it")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    assert rows[0] == ["mAP@5", "100.0000", "98.3372 to 100.0000", "220"]
    assert [row[0] for row in rows] == [
        *(f"mAP@{k}" for k in (5, 10, 25, 50)),
        *(f"Recall@{k}" for k in (5, 10, 25, 50)),
        "mAP@10[aspect=cardinality]",
        "mAP@10[aspect=addition]",
        "mAP@10[aspect=negation]",
        "mAP@10[aspect=direct_addressing]",
        "mAP@10[aspect=compare_change]",
        "mAP@10[aspect=comparative_statement]",
        "mAP@10[aspect=statement_with_conjunction]",
        "mAP@10[aspect=spatial_relations_background]",
        "mAP@10[aspect=viewpoint]",
    ]
    assert [row[3] for row in rows[8:]] == ["37", "80", "21", "119", "86", "50", "164", "100", "54"]
    assert err == ""


def test_json_is_one_object_and_nothing_else(circo: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert execute([*circo, "--json"]) == 0
    out, err = capsys.readouterr()
    content = json.loads(out)
    assert content["schema_version"] == 1
    assert content["protocol"]["name"] == "circo/val@1"
    assert len(content["protocol"]["digest"]) == 64
    assert (content["queries"], content["queries_expected"]) == (220, 220)
    assert (content["gallery"], content["gallery_expected"]) == (None, 123_403)
    assert content["metrics"][0] == {
        "label": "mAP@5",
        "value": 100.0,
        "low": pytest.approx(100 * 0.025 ** (1 / 220)),  # Clopper and Pearson's, of 220 hits in 220 queries
        "high": 100.0,
        "n": 220,
        "at_most": 100.0,
    }
    assert len(content["metrics"]) == 17
    assert content["not_measured"] == []
    assert err == ""


def test_the_environment_names_the_data_root(
    circo: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at = circo.index("--data-root")
    monkeypatch.setenv("CIRBENCH_DATA", circo[at + 1])
    assert execute(circo[:at] + circo[at + 2 :]) == 0
    monkeypatch.delenv("CIRBENCH_DATA")
    capsys.readouterr()
    assert execute(circo[:at] + circo[at + 2 :]) == 3
    assert "Give --data-root DIR, or set CIRBENCH_DATA" in capsys.readouterr().err


def features(folder: Path, *, images: int | None = None) -> list[str]:
    """Write random features for scenes/tiny and return the arguments that score them."""
    protocol = load_protocol("scenes/tiny")
    assert protocol.gallery is not None
    generator = np.random.default_rng(0)
    ids = {"q": [query.id for query in protocol.queries], "g": list(protocol.gallery.ids[:images])}
    for name, names in ids.items():
        np.save(folder / f"{name}.npy", generator.normal(size=(len(names), 8)).astype(np.float32))
        (folder / f"{name}.txt").write_text("\n".join(names))
    paths = [str(folder / name) for name in ("q.npy", "g.npy", "q.txt", "g.txt")]
    return [
        *("score", "-d", "scenes", "--split", "tiny", "--features", *paths[:2]),
        *("--query-ids", paths[2], "--gallery-ids", paths[3]),
    ]


def test_features_are_ranked_and_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(features(tmp_path)) == 0
    out = capsys.readouterr().out
    assert "queries 60/60, gallery 600/600\n" in out
    assert "Recall_subset@3" in out
    assert "PARTIAL" not in out


def test_lists_without_groups_say_what_was_not_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    protocol = load_protocol("scenes/tiny")
    assert protocol.gallery is not None
    lines = [
        json.dumps({"query_id": query.id, "ranking": [n for n in protocol.gallery.ids if n != query.reference.id][:50]})
        for query in protocol.queries
    ]
    path = tmp_path / "lists.jsonl"
    path.write_text("\n".join(lines))
    assert execute(["score", "-d", "scenes", "--split", "tiny", "--predictions", str(path)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Not measured, since these predictions do not rank the groups: Recall_subset@1, Recall_subset@2" in out


def test_a_gallery_of_another_size_is_marked_as_partial(
    circo: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = published_size()
    names = sorted({row["reference_img_id"] for row in rows} | {image for row in rows for image in row["gt_img_ids"]})
    generator = np.random.default_rng(0)
    for name, ids in (("q", [row["id"] for row in rows]), ("g", names)):
        np.save(tmp_path / f"{name}.npy", generator.normal(size=(len(ids), 4)).astype(np.float16))
        (tmp_path / f"{name}.json").write_text(json.dumps(ids))
    arguments = ["--features", "q.npy", "g.npy", "--query-ids", "q.json", "--gallery-ids", "g.json"]
    placed = [str(tmp_path / part) if "." in part else part for part in arguments]
    assert execute([*circo[: circo.index("--predictions")], *placed]) == 0
    assert f"gallery {len(names)}/123403 · PARTIAL" in capsys.readouterr().out


BAD_USE: dict[str, tuple[list[str], int, str]] = {
    "neither kind of input": ([], 2, "Give either --predictions or --features."),
    "both kinds of input": (
        ["--predictions", "a", "--features", "b", "c", "--query-ids", "d", "--gallery-ids", "e"],
        2,
        "Give either --predictions or --features.",
    ),
    "absent features": (["--features", "b", "c"], 3, "b cannot be read: No such file"),
    "fewer ids than pairs": (
        ["--features", "b", "c", "--features", "d", "e", "--query-ids", "f"],
        2,
        "There are 2 pairs of --features and 1 files of --query-ids.",
    ),
    "declarations of a run that is not kept": (
        ["--predictions", "a", "--name", "mine", "--uses-llm", "no"],
        2,
        "--uses-llm, --name belong to a run, and none is kept.\nGive --output runs to keep one.",
    ),
    "ids without features": (["--predictions", "a", "--query-ids", "d"], 2, "belong together."),
    "an unknown split": (
        ["--split", "vall", "--predictions", "a"],
        2,
        "no split of circo called 'vall'.\nNearest: val.",
    ),
    "an unknown protocol": (["--protocol", "circo/vall", "--predictions", "a"], 2, "Nearest: circo/val"),
    "an unknown data set": (
        ["-d", "circle", "--predictions", "a"],
        2,
        "no data set called 'circle'.\nNearest: circo, icir, cirr.",
    ),
    "an absent file": (["--predictions", "absent.json"], 3, "The file absent.json does not exist"),
    "an absent data root": (["--data-root", "absent", "--predictions", "a"], 3, "The data root absent"),
}


@pytest.mark.parametrize("name", BAD_USE)
def test_bad_use_gives_one_message_and_its_exit_code(
    circo: list[str], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, code, message = BAD_USE[name]
    assert execute([*circo[: circo.index("--predictions")], *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.startswith("error: ")
    assert "Traceback" not in err


BAD_LISTS: dict[str, tuple[Callable[[Lists], object], str]] = {
    "a missing query": (lambda lists: lists.pop("7"), "1 query ids are missing: '7'"),
    "an unknown query": (lambda lists: lists.update({"220": lists["0"]}), "1 unknown query ids ('220')"),
    "a repeated id": (lambda lists: lists["7"].__setitem__(1, lists["7"][0]), "query '7': the id '600"),
    "49 ids": (lambda lists: lists["7"].pop(), "query '7': its list holds 49 ids, and the deepest measure needs 50"),
    "a padded id": (lambda lists: lists["7"].__setitem__(1, "000000000007"), "query '7': '000000000007' cannot be"),
    "a file name": (lambda lists: lists["7"].__setitem__(1, "7.jpg"), "query '7': '7.jpg' cannot be a gallery id"),
    "a fraction": (lambda lists: lists["7"].__setitem__(1, 7.5), "query '7' has the wrong form"),
    "a null": (lambda lists: lists["7"].__setitem__(1, None), "query '7' has the wrong form"),
}


@pytest.mark.parametrize("name", BAD_LISTS)
def test_broken_predictions_fail_the_check(
    circo: list[str], tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, message = BAD_LISTS[name]
    path = tmp_path / "lists.json"
    lists = json.loads(path.read_text())
    spoil(lists)
    path.write_text(json.dumps(lists))
    assert execute([*circo, "--json"]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert f"error: {path}" in err
    assert message in err


def test_ids_are_checked_against_a_gallery_that_is_at_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    protocol = load_protocol("scenes/tiny")
    assert protocol.gallery is not None
    lines = [
        f"{query.id} Q0 {name} {rank} {-rank} me"
        for query in protocol.queries
        for rank, name in enumerate([name for name in protocol.gallery.ids if name != query.reference.id][:50])
    ]
    path = tmp_path / "lists.run"
    path.write_text("\n".join([*lines[:-1], lines[-1].replace(lines[-1].split()[2], "elsewhere")]))
    assert execute(["score", "-d", "scenes", "--split", "tiny", "--predictions", str(path)]) == 4
    assert "1 ids are not in the gallery ('elsewhere')" in capsys.readouterr().err


@pytest.mark.slow
def test_torch_is_never_imported(circo: list[str], tmp_path: Path) -> None:
    code = "import sys; from cirbench.cli import execute; code = execute(sys.argv[1:]); "
    code += "print([name for name in ('torch', 'open_clip') if name in sys.modules]); sys.exit(code)"
    for arguments in (circo, [*circo, "--json"], features(tmp_path), ["score", "--help"]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]"


def test_help_shows_both_kinds_of_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["score", "--help"]) == 0
    out = capsys.readouterr().out
    assert "cirbench score --dataset circo --split val --predictions ranked.json" in out
    assert "--features QUERIES GALLERY" in out


def test_trust_decides_a_run_whose_ranks_contradict_its_scores(
    circo: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lists: Lists = json.loads((tmp_path / "lists.json").read_text())
    rows = [f"{query} Q0 {item} {n + 1} {n / 100} l2\n" for query, ids in lists.items() for n, item in enumerate(ids)]
    (tmp_path / "l2.trec").write_text("".join(rows))
    circo[-1] = str(tmp_path / "l2.trec")
    assert execute([*circo, "--json"]) == 4
    assert "in 220 of 220 queries the ranks contradict the scores" in capsys.readouterr().err
    values = {}
    for trust in ("ranks", "scores"):
        assert execute([*circo, "--json", "--trust", trust]) == 0
        values[trust] = json.loads(capsys.readouterr().out)["metrics"][0]["value"]
    assert values == {"ranks": 100.0, "scores": 0.0}


def test_trust_without_lists_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute([*features(tmp_path), "--trust", "ranks"]) == 2
    assert "--trust goes with --predictions" in capsys.readouterr().err
