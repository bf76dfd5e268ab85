"""A wheel built from this tree is all that a user needs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import cirbench

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
SOURCES = ("cirbench", "methods", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build from a copy, so that neither old build folders nor untracked files of the checkout take part."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def site_packages(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel unpacked into an empty folder; its dependencies come from the environment of the tests."""
    folder = tmp_path_factory.mktemp("site-packages")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(folder)]
    subprocess.run([*command, str(wheel)], check=True, capture_output=True)
    return folder


def test_site_packages_gains_only_cirbench_and_its_methods(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"cirbench", "cirbench_methods"}


def test_the_wheel_holds_every_module_and_data_file_of_the_tree(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    tree = {
        str(path.relative_to(root))
        for root, package in ((ROOT, "cirbench"), (ROOT / "methods", "cirbench_methods"))
        for path in (root / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert tree - inside == set()


def test_the_weights_of_each_small_backbone_take_at_most_8_mb(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        sizes = {
            Path(info.filename).parent.name: info.file_size
            for info in archive.infolist()
            if info.filename.endswith(".safetensors")
        }
    assert sizes.keys() == {"scenes-vit", "scenes-vit-captions"}
    assert max(sizes.values()) <= 8_000_000


def test_the_installed_wheel_lists_methods_and_runs_scenes_from_the_root_folder(
    site_packages: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(site_packages), "CIRBENCH_CACHE": str(tmp_path / "cache")}
    where = _cirbench(["-c", "import cirbench; print(cirbench.__file__)"], environment)
    assert Path(where.strip()).is_relative_to(site_packages)
    listed = _cirbench(["-m", "cirbench", "list", "methods"], environment)
    assert "pli" in listed
    run = [
        "run",
        "--method",
        "image-text",
        "--dataset",
        "scenes",
        "--split",
        "tiny",
        "--output",
        str(tmp_path / "runs"),
    ]
    assert "mAP@5" in _cirbench(["-m", "cirbench", *run], environment)


def test_version_and_date_are_the_same_wherever_they_are_stated() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    cited = dict(re.findall(r"^([a-z-]+): (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE))
    (version, date), *_ = re.findall(r"^## (\S+) \((\S+)\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert project["version"] == cirbench.__version__ == cited["version"] == version
    assert cited["date-released"] == date
    assert cited["repository-code"] == project["urls"]["Repository"]


def _cirbench(arguments: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd="/", env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
