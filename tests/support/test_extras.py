"""A package that is not installed is asked for by the command that installs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from cirbench.errors import MissingData
from cirbench.support.extras import require, versions

if TYPE_CHECKING:
    from pathlib import Path


def test_an_installed_package_is_imported() -> None:
    assert require("json", extra="blip", purpose="BLIP").loads("1") == 1


@pytest.mark.parametrize("package", ["absent_package", "absent_package.part"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(package: str) -> None:
    with pytest.raises(MissingData, match="BLIP needs the package absent_package, which is not installed") as caught:
        require(package, extra="blip", purpose="BLIP")
    assert caught.value.hint == "pip install 'cirbench[blip]'"


def test_a_package_that_is_installed_and_lacks_one_of_its_own_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_package.py").write_text("import absent_package")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="absent_package"):
        require("broken_package", extra="blip", purpose="BLIP")


def test_versions_are_of_what_is_installed() -> None:
    assert versions(["msgspec", "absent-package"]) == {"msgspec": msgspec.__version__}
