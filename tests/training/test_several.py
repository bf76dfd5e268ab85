"""Several processes under torchrun train and encode what one does, and when one of them dies, the others say so."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cirbench.training.checkpoint import CARD, read_card
from cirbench.training.contrastive import write_random_model
from cirbench.training.log import METRICS
from tests.side_by_side import TORCHRUN, environment, start_two
from tests.tiny_clip import write_design
from tests.training import several

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The .grad attribute"),  # torch's compiler ignores it itself
]

PLI = ["-m", "cirbench", "train", "pli", "--data", "scenes:64", "--set", "batch_size=16"]


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, subprocess.CompletedProcess[str]]:
    """Where one process and where two have left the same work, and what the two have said."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    command = [*TORCHRUN, str(Path(several.__file__)), str(two)]
    shared = environment(CIRBENCH_CACHE=str(two / "cache"))
    pair = subprocess.run(command, env=shared, capture_output=True, text=True)
    assert pair.returncode == 0, pair.stderr
    several.main(one)
    return one, two, pair


@pytest.fixture(scope="module")
def folders(works: tuple[Path, Path, subprocess.CompletedProcess[str]]) -> tuple[Path, Path]:
    """Where one process and where two have left the same work."""
    return works[:2]


@pytest.mark.parametrize("case", several.CASES)
def test_the_same_whole_batch_gives_the_same_losses_on_two_processes(folders: tuple[Path, Path], case: str) -> None:
    one, two = (read_card(folder / case) for folder in folders)
    assert (one.processes, two.processes) == (1, 2)
    # In bf16 the order of a sum is seen in the third digit, and twenty steps amplify that.
    tolerance = 0.05 if one.training["precision"] == "bf16" else 1e-4
    assert two.losses == pytest.approx(one.losses, abs=tolerance)
    assert two.request == one.request


def test_one_of_two_processes_writes_every_step_once(folders: tuple[Path, Path]) -> None:
    first, *lines = (folders[1] / "pli" / METRICS).read_text().splitlines()
    assert json.loads(first)["method"] == "pli"
    assert [json.loads(line)["step"] for line in lines] == [*range(1, 21)]
    assert [json.loads(line)["loss"] for line in lines] == read_card(folders[1] / "pli").losses


def test_two_processes_leave_the_features_of_one_byte_for_byte(folders: tuple[Path, Path]) -> None:
    one, two = (
        {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("features/*/*.safetensors")}
        for folder in folders
    )
    assert len(one) == 13  # 100 images in shards of eight
    assert two == one


def test_a_run_of_two_processes_is_the_run_of_one_and_one_of_them_speaks(
    works: tuple[Path, Path, subprocess.CompletedProcess[str]],
) -> None:
    one, two, pair = works
    rankings = [
        {path.parent.name: path.read_bytes() for path in folder.glob("runs/*/*/predictions.jsonl")}
        for folder in (one, two)
    ]
    assert len(rankings[0]) == 3  # with both unimodal baselines
    assert rankings[1] == rankings[0]
    assert pair.stdout.startswith(f"{two / 'checkpoint'}\nscenes/tiny@1")
    assert pair.stdout.count("scenes/tiny@1 (") == 1  # the other process would print the table again
    assert pair.stderr.count("step 4: scenes/tiny@1 mAP@5") == 1
    assert [seen.step for seen in read_card(two / "checkpoint").evaluations] == [4]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_design(tmp_path_factory.mktemp("models") / "model")
    write_random_model(folder, folder, seed=0)
    return folder


def test_when_a_process_is_killed_the_other_stops_within_a_minute_and_says_why(model: Path, tmp_path: Path) -> None:
    output = tmp_path / "checkpoint"
    script = str(Path(several.__file__).with_name("accident.py"))
    endless = [sys.executable, script, *PLI[2:], "--backbone", str(model), "--set", "steps=1000000"]
    first, second = start_two([*endless, "--output", str(output)], environment())
    second.communicate()
    _, said = first.communicate(timeout=60)
    assert (second.returncode, first.returncode) == (-signal.SIGKILL, 1)
    assert "error: Another process of this run has ended or cannot be reached, so this one stops too." in said
    assert "run the same command again to resume" in said
    assert "Traceback" not in said
    assert not (output / CARD).exists()
