"""Results of every earlier schema version load; the oldest of each is kept beside this file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cirbench.errors import CorruptFile
from cirbench.metrics.intervals import intervals
from cirbench.runs.folder import load_run
from cirbench.runs.schema import MIGRATIONS, SCHEMA_VERSION

KEPT = Path(__file__).parent


def test_every_earlier_version_has_a_migration_and_a_run_that_was_written_with_it() -> None:
    assert sorted(MIGRATIONS) == [*range(1, SCHEMA_VERSION)]
    for version in MIGRATIONS:
        written = json.loads((KEPT / f"schema-{version}" / "result.json").read_text())
        assert written["schema_version"] == version


@pytest.mark.parametrize("version", sorted(MIGRATIONS))
def test_a_run_of_an_earlier_version_loads_with_the_numbers_it_was_written_with(version: int) -> None:
    folder = KEPT / f"schema-{version}"
    written = json.loads((folder / "result.json").read_text())
    run = load_run(folder)
    assert run.result.schema_version == SCHEMA_VERSION
    assert run.result.digest == written["digest"]
    assert {m.label: m.value for m in run.result.metrics} == {m["label"]: m["value"] for m in written["metrics"]}
    assert run.values["mAP@5"].mean() == pytest.approx(run.result["mAP@5"].value / 100)


@pytest.mark.parametrize("version", sorted(MIGRATIONS))
def test_a_run_of_an_earlier_version_gets_the_intervals_of_today(version: int) -> None:
    folder = KEPT / f"schema-{version}"
    run, written = load_run(folder), json.loads((folder / "result.json").read_text())
    found = intervals([run.measured(metric.label)[0] for metric in run.result.metrics], run.clusters)
    assert [(metric.low, metric.high) for metric in run.result.metrics] == [
        (100 * interval.low, 100 * interval.high) for interval in found
    ]
    assert all(metric.low <= metric.value <= metric.high for metric in run.result.metrics)
    assert (run.result.metrics[0].low == written["metrics"][0]["low"]) == (version >= 4)


def test_what_version_1_did_not_record_is_unknown() -> None:
    method = load_run(KEPT / "schema-1").result.method
    assert (method.selected_on, method.training) == (None, None)


def test_training_parameters_of_version_2_have_the_present_names() -> None:
    written = json.loads((KEPT / "schema-2" / "result.json").read_text())["method"]["training"]
    training = load_run(KEPT / "schema-2").result.method.training
    assert training is not None
    assert (training["grad_accum_steps"], training["activation_checkpointing"]) == (2, False)
    assert (written["accumulate"], written["checkpointing"]) == (2, False)
    assert training.keys() - {"grad_accum_steps", "activation_checkpointing"} == written.keys() - {
        "accumulate",
        "checkpointing",
    }


def test_a_run_of_a_newer_version_says_what_to_do(tmp_path: Path) -> None:
    folder = shutil.copytree(KEPT / "schema-1", tmp_path / "run")
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps(result | {"schema_version": SCHEMA_VERSION + 1}))
    with pytest.raises(CorruptFile, match=f"this cirbench reads up to {SCHEMA_VERSION}") as caught:
        load_run(folder)
    assert caught.value.hint == "Upgrade cirbench."


def test_an_old_result_without_what_its_version_had_is_damaged(tmp_path: Path) -> None:
    folder = shutil.copytree(KEPT / "schema-1", tmp_path / "run")
    result = json.loads((folder / "result.json").read_text())
    del result["method"]
    (folder / "result.json").write_text(json.dumps(result))
    with pytest.raises(CorruptFile, match="damaged"):
        load_run(folder)
