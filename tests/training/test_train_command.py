"""``cirbench train``: from pairs to a checkpoint that runs, and Ctrl-C on the way."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from safetensors.torch import load_file

from cirbench.backbones import load_backbone
from cirbench.cli import execute
from cirbench.cli.run import train_command
from cirbench.runs.training import TrainConfig, train
from cirbench.training.checkpoint import CARD, WEIGHTS, read_card
from cirbench.training.log import METRICS
from cirbench.training.state import STATE
from tests.tiny_clip import write_design

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

BRIEF = ["--data", "scenes:64", "--set", "steps=3", "--set", "batch_size=16"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder, made by the command itself."""
    design = write_design(tmp_path_factory.mktemp("models") / "design")
    folder = design.parent / "model"
    assert execute(["train", "clip", "--model", str(design), *BRIEF, "--output", str(folder)]) == 0
    return folder


def test_clip_is_trained_into_a_model_folder_that_loads(model: Path) -> None:
    assert sorted(path.name for path in model.iterdir()) == [
        CARD,
        "merges.txt.gz",
        METRICS,
        "model.safetensors",
        "open_clip_config.json",
    ]
    backbone = load_backbone(str(model), device="cpu")
    card = read_card(model)
    assert backbone.identity.weights == card.weights
    assert card.backbone.name == "design with random weights"
    assert (card.method, card.steps, card.training["decay"]) == ("clip", 3, "matrices")


@pytest.mark.parametrize(("method", "batch"), [("clip", "16"), ("lincir", "32")])
def test_epochs_that_are_set_replace_the_steps_of_a_preset_or_a_default(
    model: Path, tmp_path: Path, method: str, batch: str
) -> None:
    start = ["--model", str(model)] if method == "clip" else ["--backbone", str(model), "--set", "keywords=rules"]
    brief = [
        "--data",
        "scenes:64",
        "--set",
        "epochs=2",
        "--set",
        f"batch_size={batch}",
        "--output",
        str(tmp_path / "o"),
    ]
    assert execute(["train", method, *start, *brief]) == 0
    card = read_card(tmp_path / "o")
    assert card.steps == 2 * 64 // int(batch)
    assert (card.training["epochs"], card.training["steps"]) == (2, None)


def test_the_python_function_takes_the_options_of_the_command(model: Path, tmp_path: Path) -> None:
    options = {param.name for param in train_command.params} - {"assignments", "config", "resume", "method"}
    assert set(inspect.signature(train).parameters) == options | {"method", "parameters", "restart"}
    assert {*TrainConfig.__struct_fields__} == options | {"method", "set"}
    folder = train("pli", backbone=model, data="scenes:64", parameters={"steps": 1, "batch_size": 16}, output=tmp_path)
    assert folder == tmp_path
    assert read_card(folder).steps == 1


def test_a_method_is_trained_on_that_model(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "pli.toml"
    config.write_text(f'backbone = "{model}"\nseed = 3\n\n[set]\nmask_ratio = 0.5\nsteps = 9\n')
    output = tmp_path / "checkpoint"
    arguments = ["train", "pli", "--config", str(config), *BRIEF, "--output", str(output)]
    assert execute(arguments) == 0
    assert capsys.readouterr().out == f"{output}\n"
    card = read_card(output)
    assert (card.steps, card.training["seed"], card.training["mask_ratio"]) == (3, 3, 0.5)
    finished = (output / WEIGHTS).stat().st_mtime_ns
    assert execute(arguments) == 0
    assert (output / WEIGHTS).stat().st_mtime_ns == finished
    assert f"reused checkpoint {output}\n" in capsys.readouterr().err


def test_a_clip_is_evaluated_on_its_way_by_the_sum_of_image_and_text(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "model"
    looked = ["--evaluate", "scenes/tiny", "--eval-every", "2", "--monitor", "scenes/tiny", "--keep-epochs"]
    assert execute(["train", "clip", "--model", str(model), *BRIEF, "--output", str(output), *looked]) == 0
    card = read_card(output)
    assert [(seen.step, seen.protocol) for seen in card.evaluations] == [(2, "scenes/tiny@1"), (3, "scenes/tiny@1")]
    assert card.selected_on == "scenes/tiny@1"
    assert load_backbone(str(output), device="cpu").identity.weights == card.weights
    said = capsys.readouterr().err
    assert f"step 3: scenes/tiny@1 mAP@5 {card.evaluations[1].value:.2f} %" in said


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["pil", "--data", "scenes"], 2, "Nearest: pli"),
        (["pli"], 2, "--data is missing"),
        (["pli", "--data", "pairs.csv"], 3, "pairs.csv does not exist"),
        (["image-only", "--data", "scenes:64"], 2, "The method image-only is not trained"),
        (["pli", "--data", "scenes:64", "--set", "stepz=3"], 2, "Nearest: steps"),
        (["pli", "--data", "scenes:64", "--set", "steps=many"], 2, "steps of pli's training cannot be 'many'"),
        (["pli", "--data", "scenes:64", "--config", "absent.toml"], 3, "There is no configuration file absent.toml"),
        (["pli", "--data", "scenes:64", "--evaluate", "scenes/tine"], 2, "Nearest: scenes/tiny"),
        (["pli", "--data", "scenes:64", "--eval-every", "5"], 2, "--evaluate is missing"),
        (["pli", "--data", "scenes:64", "--device", "cuda:7"], 2, "This machine has no device cuda:7"),
        (
            ["pli", "--data", "scenes:64", "--set", "grad_accum_steps=3"],
            2,
            "cannot be split into equal parts for 3 micro-batches",
        ),
        (["clip", "--data", "scenes:64"], 2, "--model is missing"),
        (["pli", "--data", "scenes:64", "--model", "absent"], 2, "--model would have no effect"),
        (
            ["clip", "--data", "scenes:64", "--model", "m", "--backbone", "scenes-vit"],
            2,
            "--backbone would have no effect",
        ),
        (["clip", "--data", "scenes:64", "--model", "m", "--weights", "w.pt"], 2, "--weights would have no effect"),
        (["pli", "--data", "scenes:64", "--seed", "1", "--set", "seed=2"], 2, "--seed and --set seed=... exclude each"),
        (
            ["pli", "--data", "scenes:64", "--set", "epochs=1", "--set", "steps=2"],
            2,
            "epochs and steps of pli's training",
        ),
        (
            ["pli", "--data", "scenes:64", "--set", "milestones=3"],
            2,
            "schedule=epochs, and schedule is cosine",
        ),
        (["clip", "--data", "scenes:64", "--model", "absent"], 3, "absent describes no model"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    arguments: list[str], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "checkpoint"
    assert execute(["train", *arguments, "--output", str(output)]) == code
    assert message in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
def test_a_signal_to_all_processes_keeps_the_state_and_the_same_command_continues(model: Path, tmp_path: Path) -> None:
    output = tmp_path / "checkpoint"
    command = [sys.executable, "-m", "cirbench", "train", "pli", "--backbone", str(model), "--data", "scenes:64"]
    command += ["--set", "batch_size=16", "--set", "schedule=constant", "--set", "steps=1000000", "--workers", "1"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    steps = [0]
    for number, code, message in (
        (signal.SIGINT, 130, "Interrupted."),
        (signal.SIGTERM, 143, "Stopped by SIGTERM."),
        (signal.SIGHUP, 129, "Stopped by SIGHUP."),
        (signal.SIGINT, 130, "Interrupted."),  # continues what the one before has stopped
    ):
        with subprocess.Popen(
            [*command, "--output", str(output)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            assert process.stderr is not None
            start = "Training pli from step" if steps[-1] else "Training pli"
            assert any(line.startswith(start) for line in process.stderr)
            os.killpg(process.pid, number)  # as a terminal that closes and a scheduler do
            _, said = process.communicate(timeout=300)
        assert process.returncode == code, said
        assert f"{message} What was finished is kept: run the same command again to resume." in said
        assert "Traceback" not in said
        assert {path.name for path in output.glob("*")} == {METRICS, STATE}
        steps.append(len(load_file(output / STATE)["losses"]))
        assert steps[-1] > steps[-2]


def test_captions_that_are_cut_are_counted_before_the_training(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(["a red circle"] * 12 + ["a red circle and a blue square " * 40] * 4))
    command = ["train", "lincir", "--backbone", str(model), "--data", str(texts), "--set", "steps=1"]
    assert execute([*command, "--set", "batch_size=8", "--set", "keywords=rules", "-o", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    context = load_backbone(str(model), device="cpu").context_length
    assert f"4 of 16 captions that were looked at are longer than the {context} tokens that" in said
