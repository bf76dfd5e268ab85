"""A method that brings its own features runs without images and without a backbone, beside the runs that it names."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import cirbench
from cirbench.benchmarks import load_protocol
from cirbench.cli import execute
from cirbench.runs.folder import load_run
from tests.submissions import server_files

if TYPE_CHECKING:
    from cirbench.protocol import EvaluationProtocol

PLUGIN = '''
"""A method that reads features from a file."""

import numpy as np

from cirbench import MethodSpec, Parameters


class FromFile(Parameters, frozen=True):
    """Parameters.

    Attributes:
        file: The features, one array for each side.
    """

    file: str = "features.npz"


class Precomputed:
    SPEC = MethodSpec(
        name="precomputed",
        title="Features from a file",
        implementation=f"{__file__}:Precomputed",
        parameters=FromFile,
        needs=(),
    )

    def __init__(self, encoder, parameters, checkpoint=None):
        assert encoder is None
        self.arrays = np.load(parameters.file)

    def encode_gallery(self, items):
        return self.rows("gallery", [item.id for item in items])

    def encode_queries(self, queries):
        return self.rows("queries", [query.id for query in queries])

    def rows(self, side, ids):
        at = {name: row for row, name in enumerate(self.arrays[f"{side}_ids"].tolist())}
        return self.arrays[side][[at[name] for name in ids]]
'''


@pytest.fixture(autouse=True)
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    (tmp_path / "precomputed.py").write_text(PLUGIN)
    return f"{tmp_path}/precomputed.py:Precomputed"


def write_features(protocol: EvaluationProtocol, seed: int = 0) -> None:
    assert protocol.gallery is not None
    generator = np.random.default_rng(seed)
    ids = {"queries": [query.id for query in protocol.queries], "gallery": list(protocol.gallery.ids)}
    arrays: dict[str, Any] = {f"{side}_ids": names for side, names in ids.items()}
    for side, names in ids.items():
        arrays[side] = generator.normal(size=(len(names), 8)).astype(np.float32)
    np.savez("features.npz", **arrays)


def run(plugin: str, *options: str) -> list[str]:
    return ["run", "--method", plugin, "--dataset", "scenes", "--split", "tiny", *options]


def test_neither_a_backbone_nor_baselines_are_needed(plugin: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_features(load_protocol("scenes/tiny"))
    for options in ([], ["--backbone", "none"], ["--backbone", "none", "--baselines", "none"]):
        assert execute(run(plugin, *options, "--plan")) == 0
        out = capsys.readouterr().out
        assert "backbone none is needed" in " ".join(out.split())
        assert "image-only" not in out
    assert execute(run(plugin, "--json")) == 0
    out, err = capsys.readouterr()
    (result,) = json.loads(out)["results"]
    assert "precomputed on scenes/tiny@1, no backbone" in err
    assert (result["backbone"]["name"], result["environment"]["device"]) == ("not stated", "not stated")
    assert result["scored"] is None
    assert execute(["run", "--config", f"{result['folder']}/config.toml"]) == 0
    assert f"reused {result['folder']}" in capsys.readouterr().err
    assert execute(["leaderboard", "add", result["folder"], "--entries", "entries"]) == 0
    entry = json.loads((Path(capsys.readouterr().out.strip()) / "entry.json").read_text())
    assert "--backbone none" in entry["commands"][0]


def test_other_features_are_another_run(plugin: str, capsys: pytest.CaptureFixture[str]) -> None:
    folders = []
    for seed in (0, 1):
        write_features(load_protocol("scenes/tiny"), seed)
        assert execute(run(plugin, "--json", "--set", "file=features.npz")) == 0
        folders.append(json.loads(capsys.readouterr().out)["results"][0]["folder"])
    assert folders[0] != folders[1]


@pytest.mark.slow
def test_images_are_neither_opened_nor_looked_for(
    plugin: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    protocol = load_protocol("cirr/test1", server_files.write_cirr_test1(tmp_path / "data"))
    write_features(protocol)
    data = ["--dataset", "cirr", "--split", "test1", "--data-root", "data"]
    assert execute(["run", "--method", plugin, *data]) == 0
    assert capsys.readouterr().err.count("to submit: ") == 2
    assert execute(["run", "--method", "image-only", *data]) == 3
    assert "images" in capsys.readouterr().err


def scored(name: str, seed: int, backbone: str) -> str:
    write_features(load_protocol("scenes/tiny"), seed)
    pair = ("features.npz:queries", "features.npz:gallery")
    run = cirbench.score(pair, "scenes/tiny", output="runs", name=name, backbone=backbone).run
    assert run is not None
    return str(run.folder)


def test_runs_that_are_named_as_baselines_stand_beside_it(plugin: str, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("image-only", "text-only", "image-text")
    folders = [scored(name, seed, "ViT-L/14") for seed, name in enumerate(names, start=1)]
    write_features(load_protocol("scenes/tiny"))
    capsys.readouterr()
    assert execute(run(plugin, "--baselines", "runs/scenes/*-only-*", "--baselines", folders[2])) == 0
    out = " ".join(capsys.readouterr().out.split())
    for heading in (*names, "precomputed", "composition", "against image-text"):
        assert heading in out
    (folder,) = Path("runs/scenes").glob("precomputed-*")
    assert load_run(folder).result.backbone.name == "ViT-L/14"
    report = cirbench.evaluate(plugin, "scenes/tiny", baselines=folders)
    assert [run.result.method.name for run in report.runs] == [*names, "precomputed"]
    assert report["precomputed"].reused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "image-only", "--backbone", "none"], "image-only needs a backbone, and --backbone is none"),
        (["--weights", "w.pt"], "--weights is of a backbone, and precomputed runs without one"),
        (["--batch-size", "4"], "--batch-size is of a backbone"),
        (["--precision", "bf16"], "--precision is of a backbone"),
        (["--allow-missing"], "--allow-missing is about images, and precomputed needs none"),
        (["--baselines", "none", "--baselines", "runs/x"], "--baselines names runs and none"),
        (["--baselines", "absent"], "There is no finished run in absent"),
    ],
)
def test_what_has_no_meaning_without_a_backbone_is_refused(
    plugin: str, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_features(load_protocol("scenes/tiny"))
    assert execute(run(plugin, *options)) in (2, 3)
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_with_a_backbone_it_stands_beside_the_baselines_on_it(plugin: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = PLUGIN.replace("        assert encoder is None\n", "        assert encoder is not None\n")
    Path("precomputed.py").write_text(text)
    sys.modules.pop(next((name for name in sys.modules if name.startswith("cirbench_file_precomputed")), ""), None)
    write_features(load_protocol("scenes/tiny"))
    assert execute(run(plugin, "--backbone", "scenes-vit", "--json")) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert [result["method"]["name"] for result in results] == ["image-only", "text-only", "image-text", "precomputed"]
    assert len({result["backbone"]["digest"] for result in results}) == 1
    folder = results[0]["folder"]
    other = scored("text-only", 2, "another")
    capsys.readouterr()
    assert execute(run(plugin, "--backbone", "scenes-vit", "--baselines", other)) == 2
    assert "The baselines ran on another, and this is scenes-vit" in capsys.readouterr().err
    assert execute(run("image-text", "--baselines", folder, "--json")) == 0
    names = [each["method"]["name"] for each in json.loads(capsys.readouterr().out)["results"]]
    assert names == ["image-only", "image-text"]


def test_a_sweep_stands_beside_the_runs_that_it_names(plugin: str, capsys: pytest.CaptureFixture[str]) -> None:
    protocol = load_protocol("scenes/tiny")
    beside = scored("image-only", 3, "ViT-L/14")
    same_name = scored("precomputed", 4, "ViT-L/14")
    for seed in (0, 1):
        write_features(protocol, seed)
        Path("features.npz").rename(f"f{seed}.npz")
    capsys.readouterr()
    sweep = ["sweep", plugin, "--set", "file=f0.npz,f1.npz", "--dataset", "scenes", "--split", "tiny"]
    assert execute([*sweep, "--baselines", beside, "--baselines", same_name, "--format", "csv"]) == 0
    out = capsys.readouterr().out
    assert ("f0.npz" in out, "f1.npz" in out, same_name in out) == (True, True, False)
