"""``list``, ``show`` and ``doctor`` tell what there is."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from cirbench import cli
from cirbench.benchmarks.catalogue import datasets, protocols
from cirbench.metrics.table import METRICS

KINDS = ("methods", "datasets", "protocols", "backbones", "metrics")

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_listed_as_a_table_and_as_json(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.execute(["list", kind]) == 0
    table = capsys.readouterr().out
    assert cli.execute(["list", kind, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows
    for row in rows:
        assert str(next(iter(row.values()))) in table


@pytest.mark.parametrize(
    ("kind", "names"), [("datasets", list(datasets())), ("protocols", list(protocols())), ("metrics", METRICS.names())]
)
def test_nothing_is_left_out_of_a_list(kind: str, names: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.execute(["list", kind, "--json"]) == 0
    assert [next(iter(row.values())) for row in json.loads(capsys.readouterr().out)] == names


def test_the_built_in_methods_are_ready(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.execute(["list", "methods", "--json"]) == 0
    states = {row["name"]: row["state"] for row in json.loads(capsys.readouterr().out)}
    assert {"image-only", "text-only", "image-text", "pli"} <= states.keys()
    assert set(states.values()) == {"ready", "re-ranks", "train first"}


def test_values_are_shown_as_they_are_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.execute(["show", "pli"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^ *weight +null$", shown, re.MULTILINE)
    assert re.search(r"^ *tf32 +false$", shown, re.MULTILINE)


def test_no_runs_is_no_error(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.execute(["list", "runs", "--runs", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "No runs here.\n")


@pytest.mark.parametrize("name", ["pli", "image-text", "scenes", "scenes/tiny", "scenes-vit", "mAP"])
def test_show_tells_about_anything_with_a_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.execute(["show", name]) == 0
    assert name in capsys.readouterr().out
    assert cli.execute(["show", name, "--json"]) == 0
    assert name in json.dumps(json.loads(capsys.readouterr().out))


def test_show_gives_the_defaults_of_every_parameter(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.execute(["show", "pli", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert {"weight", "prompt"} <= facts["parameters"].keys()
    assert facts["training"]["mask_ratio"] == 0.75


def test_show_speaks_of_training_where_a_method_is_trained(capsys: pytest.CaptureFixture[str]) -> None:
    told = {}
    for name in ("image-text", "lincir"):
        assert cli.execute(["show", name, "--json"]) == 0
        told[name] = json.loads(capsys.readouterr().out)
    assert told["lincir"]["trains_on"] == "texts"
    assert not {"trainer", "trains_on", "converter", "training"} & told["image-text"].keys()


def test_show_gives_the_digest_of_each_part_of_a_protocol(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.execute(["show", "scenes/tiny", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert {"queries", "gallery", "labels", "measures", "ties"} <= facts["digests of its parts"].keys()
    assert facts["digests of the data"]


def test_an_unknown_name_offers_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.execute(["show", "image-txt"]) == 2
    assert "Nearest: image-text" in capsys.readouterr().err


def test_the_doctor_names_versions_device_places_and_plugins(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.execute(["doctor"]) == 0
    shown = capsys.readouterr().out
    for fact in ("cirbench", "torch", "device", "cache", "data root", "image-text"):
        assert fact in shown
    assert cli.execute(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["methods"]


def test_the_list_of_runs_shows_foreign_names_without_their_control_characters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "scenes" / "evil\x1b[31m\u202e"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text("{}")
    assert cli.execute(["list", "runs", "--runs", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\u202e" not in shown
