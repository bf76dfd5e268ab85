"""A checkpoint is reused only while the code of its training is the same; what is reused, and what is not, is said."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cirbench
from tests.side_by_side import ROOT
from tests.tiny_clip import write_design

pytestmark = pytest.mark.slow

FILES = {
    "shared_base/__init__.py": "",
    "shared_base/losses.py": "def scaled(loss):\n    return 1 * loss\n",
    "my_method/__init__.py": (
        "from cirbench.methods.interface import MethodSpec\n"
        "from my_method.settings import Training\n"
        "SPEC = MethodSpec(name='mine', title='Mine', implementation='my_method.method:Mine',\n"
        "    trainer='my_method.training:Mine', training=Training)\n"
    ),
    "my_method/settings.py": (
        "from cirbench.training.interface import TrainingParameters\n"
        "class Training(TrainingParameters, frozen=True):\n    '''Nothing of its own.'''\n"
    ),
    "my_method/method.py": "class Mine:\n    pass\n",
    "my_method/training.py": (
        "from cirbench.training.contrastive import Contrastive\n"
        "from shared_base.losses import scaled\n"
        "class Mine(Contrastive):\n"
        "    def loss(self, batch):\n        return scaled(super().loss(batch))\n"
    ),
    "notes/readme.py": "# no part of the method\n",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a method of several modules, a base that it shares, a backbone, and a harness of its own."""
    from cirbench.training.contrastive import write_random_model

    folder = tmp_path_factory.mktemp("place")
    for name, content in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    shutil.copytree(Path(cirbench.__file__).parent, folder / "cirbench", ignore=shutil.ignore_patterns("__pycache__"))
    write_random_model(write_design(folder / "model"), folder / "model", seed=0)
    return folder


def train(place: Path, *options: str) -> tuple[str, str]:
    """The checkpoint's folder and what was said, as a new process gives them."""
    command = [sys.executable, "-m", "cirbench", "train", "my_method:SPEC", "--backbone", "model", "--data", "scenes:8"]
    command += ["--set", "steps=1", "--set", "batch_size=8", *options]
    paths = os.pathsep.join([str(place), str(ROOT / "methods")])
    environment = {**os.environ, "PYTHONPATH": paths, "CIRBENCH_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


@pytest.fixture(scope="module")
def first(place: Path) -> str:
    """The checkpoint of the method as it is."""
    return train(place)[0]


@pytest.mark.parametrize(
    ("edited", "named"),
    [
        ("my_method/training.py", "my_method.training"),
        ("my_method/method.py", "my_method.method"),
        ("my_method/settings.py", "my_method.settings"),
        ("shared_base/losses.py", "shared_base.losses"),
        ("cirbench/training/loop.py", "cirbench.training.loop"),
        ("cirbench/metrics/measure.py", "cirbench.metrics.measure"),
    ],
)
def test_an_edit_of_any_module_that_a_training_rests_on_is_another_checkpoint(
    place: Path, first: str, edited: str, named: str
) -> None:
    before = (place / edited).read_text()
    try:
        (place / edited).write_text(before + "\n# edited\n")
        other, said = train(place)
    finally:
        (place / edited).write_text(before)
    assert other != first
    assert "reused checkpoint" not in said
    assert f"{first} is not reused: the code of {named} changed" in said


def test_an_edit_of_anything_else_is_the_same_checkpoint(place: Path, first: str) -> None:
    (place / "notes" / "readme.py").write_text("# edited\n")
    (place / "my_method" / "README.md").write_text("# edited\n")
    again, said = train(place)
    assert again == first
    assert f"reused checkpoint {first}" in said


def test_a_folder_with_a_checkpoint_of_other_code_names_what_changed(place: Path) -> None:
    output = ["--output", "checkpoint"]
    train(place, *output)
    path = place / "my_method" / "training.py"
    before = path.read_text()
    try:
        path.write_text(before + "\n# edited\n")
        with pytest.raises(AssertionError, match=r"checkpoint holds another training: the code of my_method\.training"):
            train(place, *output)
        _, said = train(place, *output, "--restart")
    finally:
        path.write_text(before)
    assert "checkpoint is not reused: the code of my_method.training changed" in said
