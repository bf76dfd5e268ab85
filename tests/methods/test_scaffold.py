"""A new method works from its first minute."""

from __future__ import annotations

import importlib.metadata
import json
import tomllib
from typing import TYPE_CHECKING

import pytest

from cirbench.cli import execute
from cirbench.errors import UsageError
from cirbench.support.scaffold import write_plugin

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


def test_a_scaffolded_method_passes_the_check_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["new", "method", "fresh-idea", "--path", str(tmp_path)]) == 0
    spec = capsys.readouterr().out.splitlines()[0]
    assert execute(["check", "method", f"{spec}:SPEC", "--set", "weight=0.3", "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)
    assert len(findings) == 11
    assert [finding for finding in findings if finding["problem"] is not None] == []


def test_a_new_method_is_two_files_of_under_sixty_lines(tmp_path: Path) -> None:
    spec, method, *_ = write_plugin("method", "fresh-idea", tmp_path)
    assert spec.parent == method.parent == tmp_path / "fresh-idea" / "fresh_idea"
    assert sum(len(file.read_text().splitlines()) for file in (spec, method)) < 60


def test_its_package_registers_it(tmp_path: Path) -> None:
    *_, pyproject = write_plugin("method", "fresh-idea", tmp_path)
    project = tomllib.loads(pyproject.read_text())["project"]
    assert project["entry-points"]["cirbench.methods"] == {"fresh-idea": "fresh_idea:SPEC"}
    assert importlib.metadata.distribution("cirbench").metadata["Name"] in project["dependencies"]


def test_nothing_is_overwritten_and_no_bad_name_is_taken(tmp_path: Path) -> None:
    write_plugin("method", "fresh", tmp_path)
    with pytest.raises(UsageError, match=r"fresh exists already"):
        write_plugin("method", "fresh", tmp_path)
    for name in ("Fresh", "1st", "a_b", "a/b", "-x"):
        with pytest.raises(UsageError, match="cannot be the name of a method"):
            write_plugin("method", name, tmp_path)


def test_a_broken_method_fails_the_check_with_exit_code_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec, method, *_ = write_plugin("method", "worse-idea", tmp_path)
    method.write_text(method.read_text().replace("return self.weight * images_QD + texts_QD", "return images_QD[1:]"))
    assert execute(["check", "method", f"{spec}:SPEC"]) == 4
    printed = capsys.readouterr()
    assert "BROKEN  queries become finite float32 rows that have a direction" in printed.out
    assert "encode_queries returned 7 rows instead of 8." in printed.out
    assert "The method worse-idea breaks 1 of 7 rules." in printed.err
