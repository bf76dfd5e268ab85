"""A package that is not installed is asked for by the command that installs it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from cirbench.errors import MissingData
from cirbench.support.needs import require, versions

ROOT = Path(__file__).parents[2]


def test_an_installed_package_is_imported() -> None:
    assert require("json", extra="transformers", purpose="BLIP").loads("1") == 1


@pytest.mark.parametrize("package", ["absent_package", "absent_package.part"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(package: str) -> None:
    with pytest.raises(MissingData, match="BLIP needs the package absent_package, which is not installed") as caught:
        require(package, extra="transformers", purpose="BLIP")
    assert caught.value.hint == "pip install 'cirbench[transformers]'"


def test_a_package_that_is_installed_and_lacks_one_of_its_own_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_package.py").write_text("import absent_package")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="absent_package"):
        require("broken_package", extra="transformers", purpose="BLIP")


def test_versions_are_of_what_is_installed() -> None:
    assert versions(["msgspec", "absent-package"]) == {"msgspec": msgspec.__version__}


def test_every_extra_that_is_asked_for_exists_and_no_requirement_has_two_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    sources = [path.read_text() for folder in ("cirbench", "methods") for path in (ROOT / folder).rglob("*.py")]
    asked = {name for text in sources for name in re.findall(r'(?:extra="|pip install .cirbench\[)([\w-]+)', text)}
    assert {"transformers", "keywords"} <= asked <= extras.keys()
    packages = [re.split("[<>=~!]", line)[0] for name in extras if name != "dev" for line in extras[name]]
    assert sorted(set(packages)) == sorted(packages)
