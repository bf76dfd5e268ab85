"""A finished run, whoever made it, is re-ranked into a run of its own."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import cirbench
from cirbench.benchmarks import load_protocol
from cirbench.cli import cli, execute
from cirbench.errors import CheckFailed, CirbenchError, UnknownName, UsageError
from cirbench.leaderboard.adding import add_run, commands
from cirbench.leaderboard.board import read_leaderboard, summaries
from cirbench.leaderboard.entry import read_entry
from cirbench.metrics.intervals import intervals
from cirbench.metrics.table import Measure
from cirbench.runs.config import read_config
from cirbench.runs.folder import Run, load_ranking, load_run
from cirbench.runs.scored import config_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

RERANKER = '''
"""Bright images first."""

import numpy as np

from cirbench.methods.interface import MethodSpec, Parameters


class BrightParameters(Parameters, frozen=True):
    """How bright.

    Attributes:
        sign: 1 for bright images first, -1 for dark ones.
    """

    sign: int = 1


class Bright:
    SPEC = MethodSpec(
        name="bright",
        title="Bright images first",
        implementation=f"{__file__}:Bright",
        parameters=BrightParameters,
        needs=("images",),
        uses_llm="yes",
        reranks=True,
    )

    def __init__(self, encoder, parameters, *, device):
        self.sign = parameters.sign

    def rerank(self, query, items, scores):
        return np.array([self.sign * np.asarray(item.open()).mean() for item in items], dtype=np.float32)


class Constant(Bright):
    SPEC = MethodSpec(name="constant", title="Constant", implementation=f"{__file__}:Constant", reranks=True, needs=())

    def __init__(self, encoder, parameters, *, device):
        pass

    def rerank(self, query, items, scores):
        return np.zeros(len(items), dtype=np.float32)


class Oracle(Bright):
    SPEC = MethodSpec(
        name="bright-oracle", title="Oracle", implementation=f"{__file__}:Oracle", reranks=True, needs=(), oracle=True,
        parameters=BrightParameters,
    )
'''
BRIGHT = "bright.py:Bright"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bright.py").write_text(RERANKER)
    return tmp_path


@pytest.fixture
def first(folder: Path) -> Run:
    """Features that lead a little to the ground truths, scored on scenes/tiny."""
    return scored("first")


def scored(name: str, seed: int = 0, benchmark: str = "scenes/tiny") -> Run:
    protocol = load_protocol(benchmark)
    assert protocol.gallery is not None and protocol.labels is not None
    generator = np.random.default_rng(seed)
    gallery = generator.normal(size=(len(protocol.gallery), 16)).astype(np.float32)
    queries = generator.normal(size=(len(protocol.queries), 16)).astype(np.float32)
    at = protocol.gallery.positions
    queries += 0.7 * np.stack([gallery[at[names[0]]] for names in protocol.labels.relevant])
    score = cirbench.score(
        (queries, gallery),
        benchmark,
        query_ids=[each.id for each in protocol.queries],
        gallery_ids=protocol.gallery.ids,
        output="runs",
        name=name,
        backbone="ViT-L/14",
    )
    assert score.run is not None
    return score.run


def rerank(first: Run, *options: str) -> Run:
    before = {*Path("runs").rglob("result.json")}
    assert execute(["run", "--rerank", BRIGHT, "--first-stage", str(first.folder), *options]) == 0
    (new,) = {*Path("runs").rglob("result.json")} - before
    return load_run(new.parent)


def brightness(positions: NDArray[np.int64]) -> list[float]:
    gallery = load_protocol("scenes/tiny").gallery
    assert gallery is not None and gallery.images is not None
    return [float(np.asarray(gallery.images[at].open()).mean()) for at in positions.tolist()]


def test_a_run_is_re_ranked_whose_dataset_nobody_has_to_name(first: Run, capsys: pytest.CaptureFixture[str]) -> None:
    second = rerank(first, "--rerank-top", "5")
    protocol = load_protocol("scenes/tiny")
    before, after = load_ranking(first, protocol), load_ranking(second, protocol)
    for query in range(0, 60, 20):
        bright = brightness(after.top_QK[query, :5])
        assert bright == sorted(bright, reverse=True)
        assert {*after.top_QK[query, :5]} == {*before.top_QK[query, :5]}
    assert np.array_equal(before.top_QK[:, 5:], after.top_QK[:, 5:])
    out = " ".join(capsys.readouterr().out.split())
    assert "Recall@K before" in out
    assert "first+bright" in out


def test_the_new_run_says_of_what_it_is_made_within_which_bounds_and_at_which_cost(first: Run) -> None:
    second = rerank(first, "--rerank-top", "10", "--rerank-set", "sign=-1")
    method, reranking = second.result.method, second.result.reranking
    assert (method.name, method.title) == ("first+bright", "first, re-ranked by bright")
    assert method.parameters == {"bright.sign": -1, "bright.top": 10}
    assert (method.uses_llm, method.uses_triplets, method.supervision) == ("yes", "unknown", "unknown")
    assert second.result.backbone == first.result.backbone
    assert second.result.scored == first.result.scored
    assert reranking is not None
    assert (reranking.reranker, reranking.k, reranking.first_stage) == ("bright", 10, first.result.digest)
    assert reranking.recall == pytest.approx(first.result["Recall@10"].value)
    assert reranking.at_most is not None
    assert reranking.recall == pytest.approx(second.result["Recall@10"].value)
    assert first.result["mAP@5"].value < reranking.at_most < 100
    assert reranking.calls_per_query == 2  # the first items, and the group
    assert reranking.seconds_per_query is not None and reranking.seconds_per_query > 0
    # What is kept is checked by its ranks when it is loaded, and its intervals are those of every run.
    found = intervals([second.measured("mAP@5")[0]], second.clusters)
    assert second.result["mAP@5"].low == pytest.approx(100 * found[0].low)


def test_several_depths_are_several_runs_and_a_second_time_they_are_read(
    first: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["run", "--rerank", BRIGHT, "--first-stage", "runs/scenes/first-*", "--rerank-top", "2,10"]
    assert execute(asked) == 0
    assert len(list(Path("runs/scenes").glob("first+bright-*"))) == 2
    capsys.readouterr()
    assert execute(asked) == 0
    seen = capsys.readouterr()
    assert seen.err.count("reused runs/scenes/first+bright-") == 2
    assert "bright.top=10" in seen.out


def test_the_configuration_of_the_new_run_asks_for_it_again(first: Run, capsys: pytest.CaptureFixture[str]) -> None:
    second = rerank(first, "--rerank-set", "sign=-1", "--limit", "7")
    capsys.readouterr()
    assert execute(["run", "--config", str(second.folder / "config.toml")]) == 0
    assert f"reused {second.folder}" in capsys.readouterr().err
    assert second.result.counts.partial
    assert len(second.query_ids) == 7


def test_what_was_re_ranked_can_be_re_ranked(first: Run) -> None:
    third = rerank(rerank(first, "--rerank-top", "10"), "--rerank-top", "3")
    assert third.result.method.name == "first+bright+bright"


def test_a_plan_counts_what_there_is_to_judge_and_does_nothing(first: Run, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["run", "--rerank", BRIGHT, "--first-stage", str(first.folder)]
    assert execute([*asked, "--plan"]) == 0
    plan = " ".join(capsys.readouterr().out.split())
    assert "re-ranks the first 50 of runs/scenes/first-" in plan
    assert "120 answers for 60 queries, 0 of them recorded, at most 120 to ask for" in plan
    assert not list(Path("runs/scenes").glob("first+bright-*"))
    assert execute(asked) == 0
    capsys.readouterr()
    assert execute([*asked, "--plan"]) == 0
    assert "finished, in runs/scenes/first+bright-" in capsys.readouterr().out


def test_lists_without_groups_get_their_groups_ranked(first: Run, capsys: pytest.CaptureFixture[str]) -> None:
    lists = ["score", "-d", "scenes", "--split", "tiny", "--predictions", str(first.folder / "run.trec"), "-o", "runs"]
    assert execute([*lists, "--name", "lists"]) == 0
    (folder,) = Path("runs/scenes").glob("lists-*")
    listed = load_run(folder)
    assert "Recall_subset@1" not in listed.values
    second, same = rerank(listed, "--rerank-top", "5"), rerank(first, "--rerank-top", "5")
    assert second.result["Recall_subset@1"].value == same.result["Recall_subset@1"].value
    assert second.result["mAP@5"].value == same.result["mAP@5"].value


@pytest.mark.slow
def test_a_method_and_its_second_stage_in_one_go(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["run", "-m", "image-text", "--rerank", BRIGHT, "-d", "scenes", "--split", "tiny", "--rerank-top", "5"]
    assert execute([*asked, "--plan"]) == 0
    assert "re-ranks the first 5 of image-text, once it is evaluated" in " ".join(capsys.readouterr().out.split())
    assert execute([*asked, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    names = [each["method"]["name"] for each in results]
    assert names == ["image-only", "text-only", "image-text", "image-text+bright"]
    assert results[-1]["reranking"]["first_stage"] == results[-2]["digest"]
    assert results[-1]["backbone"]["name"] == "scenes-vit"
    report = cirbench.evaluate(first_stage=results[-2]["folder"], rerank=BRIGHT, rerank_top=5)
    assert report["image-text+bright"].reused
    assert "Recall@K before" in repr(report)
    assert "Recall@K before" in report._repr_html_()


def test_python_takes_runs_and_classes(first: Run) -> None:
    namespace: dict[str, object] = {"__file__": str(Path("bright.py").absolute()), "__name__": "bright"}
    exec(RERANKER, namespace)  # as a notebook would
    bright = namespace["Bright"]
    assert isinstance(bright, type)
    report = cirbench.evaluate(
        first_stage=first, rerank=bright, rerank_top=[2, 5], rerank_parameters={"sign": -1}, limit=5
    )
    assert [run.result.method.name for run in report.runs] == ["first", "first+bright", "first+bright"]
    assert report.runs[1].result.method.parameters["bright.sign"] == -1


def test_a_board_shows_the_second_stage_and_how_to_make_both_again(first: Run, tmp_path: Path) -> None:
    second = rerank(first, "--rerank-top", "5", "--rerank-set", "sign=-1")
    entries = tmp_path / "entries"
    kept = add_run(second.folder, entries)
    entry = read_entry(kept)
    assert entry.reranking == second.result.reranking
    assert entry.commands[-1] == (
        f"cirbench run --rerank bright.py:Bright --first-stage {first.folder} --rerank-top 5 --rerank-set sign=-1"
    )
    assert entry.commands[:-1] == commands(first.result, config_of(first))
    boards = [board for board in read_leaderboard(entries).boards if board.protocol == "scenes/tiny"]
    (text,) = summaries(boards).values()
    assert "the first 5 of each query re-ranked by bright; Recall@5 before it" in text


def test_an_oracle_is_marked_as_one_and_stands_on_no_board(
    first: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["run", "--rerank", "bright.py:Oracle", "--first-stage", str(first.folder), "--rerank-top", "5"]
    assert execute(asked) == 0
    assert "Upper bounds, made with the ground truths: first+bright-oracle." in " ".join(
        capsys.readouterr().out.split()
    )
    (folder,) = Path("runs/scenes").glob("first+bright-oracle-*")
    with pytest.raises(CheckFailed, match="knows the ground truths"):
        add_run(folder, tmp_path / "entries")


def failing(*options: str) -> CirbenchError:
    """The error of a command."""
    with pytest.raises(CirbenchError) as caught:
        cli.main(["run", *options], standalone_mode=False)
    return caught.value


def test_a_first_stage_of_another_protocol_is_refused_with_both_names(first: Run) -> None:
    error = failing("--rerank", BRIGHT, "--first-stage", str(first.folder), "-d", "scenes", "--protocol", "scenes/val")
    assert isinstance(error, UsageError)
    assert "is a run on scenes/tiny@1 (43fd1892), and this is scenes/val@1 (9bdd7ccd)" in error.message


def test_a_first_stage_of_another_version_is_refused(first: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    path = first.folder / "result.json"
    content = json.loads(path.read_text())
    content["protocol"] |= {"name": "scenes/tiny@0", "digest": "0" * 64}
    content["digests"] = {}
    content["files"].pop("identity.json")
    path.write_text(json.dumps(content))
    error = failing("--rerank", BRIGHT, "--first-stage", str(first.folder))
    assert "is a run on scenes/tiny@0 (00000000), and this is scenes/tiny@1" in error.message


def test_lists_that_are_shorter_than_what_is_to_be_re_ranked_say_how_long_they_are(first: Run) -> None:
    protocol = load_protocol("scenes/tiny")
    lists = {
        row["query_id"]: row["ranking"]
        for row in map(json.loads, (first.folder / "predictions.jsonl").read_text().splitlines())
    }
    shallow = dataclasses.replace(protocol, id="mine/tiny", measures=(Measure("Recall", 5),))
    score = cirbench.score({query: ids[:7] for query, ids in lists.items()}, shallow, output="runs", name="short")
    with pytest.raises(
        UsageError, match=r"are shorter than the 50 items .* for 60 of 60 queries; the shortest has 7\."
    ) as c:
        cirbench.evaluate(None, shallow, first_stage=score.run, rerank=BRIGHT)
    assert c.value.hint == "Re-rank what they hold, --rerank-top 7, or score longer lists."
    assert len(cirbench.evaluate(None, shallow, first_stage=score.run, rerank=BRIGHT, rerank_top=7).runs) == 2


def test_more_than_a_run_keeps_is_refused(first: Run) -> None:
    error = failing("--rerank", BRIGHT, "--first-stage", str(first.folder), "--rerank-top", "51")
    assert error.message == "Runs on scenes/tiny@1 keep the first 50 items of each query, and 51 are to be re-ranked."
    assert error.hint == "Re-rank at most those: --rerank-top 50"


def test_a_judge_that_says_the_same_of_everything_leaves_no_run(first: Run) -> None:
    error = failing("--rerank", "bright.py:Constant", "--first-stage", str(first.folder))
    assert "gave all of the first 50 items of each query the same judgement, on all 60 queries" in error.message
    assert not list(Path("runs/scenes").glob("first+constant-*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--first-stage", "runs"], "--first-stage goes with --rerank."),
        (["--rerank-top", "5", "-m", "pli", "-d", "scenes"], "--rerank-top goes with --rerank."),
        (["--rerank", BRIGHT, "--first-stage", "nowhere"], "There is no finished run in nowhere."),
        (["--rerank", BRIGHT, "-d", "scenes"], "--method is missing."),
        (["--rerank", "image-text", "-m", "pli", "-d", "scenes"], "image-text finds items by itself, and does not"),
        (["-m", BRIGHT, "-d", "scenes"], "bright re-ranks what another method found, and finds nothing by itself."),
        (
            ["--rerank", BRIGHT, "--first-stage", "runs", "-m", "pli"],
            "--method is for methods that are run here, and --first-stage names finished runs.",
        ),
        (
            ["--rerank", BRIGHT, "-m", "pli", "-d", "scenes", "--rerank-top", "0"],
            "--rerank-top takes numbers from 1 on",
        ),
    ],
)
def test_options_that_do_not_belong_together_are_named(folder: Path, options: list[str], message: str) -> None:
    assert message in failing(*options).message


def test_an_unknown_re_ranker_and_an_unknown_parameter_are_named(first: Run) -> None:
    assert isinstance(failing("--rerank", "brigth", "--first-stage", str(first.folder)), UnknownName)
    error = failing("--rerank", BRIGHT, "--first-stage", str(first.folder), "--rerank-set", "sing=1")
    assert "no parameter of bright called 'sing'" in error.message


def test_a_configuration_file_says_the_same(first: Run, folder: Path) -> None:
    (folder / "second.toml").write_text(
        f'rerank = "{BRIGHT}"\nfirst_stage = "{first.folder}"\nrerank_top = 5\n\n[rerank_set]\nsign = -1\n'
    )
    config = read_config(folder / "second.toml", {})
    assert (config.dataset, config.protocol) == ("scenes", "scenes/tiny")
    assert (config.rerank_top, config.rerank_set) == ((5,), {"sign": -1})


def test_a_re_ranker_is_checked_by_the_rules_of_its_kind(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["check", "method", BRIGHT]) == 0
    assert "ok      the same items get the same judgements twice" in capsys.readouterr().out
    assert execute(["check", "method", "bright.py:Constant"]) == 4
    assert "BROKEN  items get different judgements" in capsys.readouterr().out
