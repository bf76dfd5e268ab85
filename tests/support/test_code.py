"""An edit of any module that a method rests on is other code; an edit of anything else is not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cirbench.support.code import Code

ROOT = Path(__file__).parent.parent.parent
PROGRAM = """
import json, sys, msgspec
from cirbench.support.code import current_code
code = {reference: current_code(reference) for reference in sys.argv[1:]}
print(json.dumps({reference: [each.digest, sorted(each.method)] for reference, each in code.items()}))
"""
PLI, LINCIR, SEARLE = (f"cirbench_methods.{name}.method:X" for name in ("pli", "lincir", "searle"))


def look(*references: str, path: Path, program: str = PROGRAM) -> dict[str, tuple[str, list[str]]]:
    """The code of each reference, as a new process with ``path`` before everything else finds it."""
    environment = {**os.environ, "PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", program, *references]
    done = subprocess.run(command, env=environment, cwd=path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, tuple[str, list[str]]] = json.loads(done.stdout)
    return found


def edited(path: Path, *references: str, root: Path) -> set[str]:
    """Those of the references whose code is other code after a comment was added to a file."""
    before = look(*references, path=root)
    content = path.read_bytes()
    path.write_bytes(content + b"# edited\n")
    after = look(*references, path=root)
    path.write_bytes(content)
    return {reference for reference in references if before[reference][0] != after[reference][0]}


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the harness and of its methods."""
    root = tmp_path_factory.mktemp("copied")
    for source in (ROOT / "cirbench", ROOT / "methods" / "cirbench_methods"):
        shutil.copytree(source, root / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    return root


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder with a method of two modules, and with files that it does not use."""
    package = tmp_path / "my_method"
    package.mkdir()
    (package / "__init__.py").write_text("NAME = 'mine'\n")
    (package / "method.py").write_text(
        "from typing import TYPE_CHECKING\nfrom . import mixing\nfrom shared.base import Base\n"
        "if TYPE_CHECKING:\n    import only_types\nclass Mine(Base): ...\n"
    )
    (package / "mixing.py").write_text("def mix():\n    import late\n")
    (package / "not_imported.py").write_text("")
    (package / "README.md").write_text("")
    (tmp_path / "shared").mkdir()
    for name in ("shared/__init__.py", "shared/base.py", "late.py", "only_types.py", "unrelated.py"):
        (tmp_path / name).write_text("class Base: ...\n")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["__init__", "errors", "ranking/ranking", "cli/run", "methods/interface"])
def test_an_edit_of_the_harness_is_other_code_for_every_method(name: str, copied: Path) -> None:
    assert edited(copied / "cirbench" / f"{name}.py", PLI, LINCIR, root=copied) == {PLI, LINCIR}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "whose"),
    [
        ("__init__", {PLI, LINCIR, SEARLE}),
        ("pli/tuning", {PLI}),
        ("pli/train", {PLI}),
        ("baselines/method", {PLI}),
        ("inversion/phi", {LINCIR, SEARLE}),
        ("lincir/method", {LINCIR}),
        ("searle/words", {SEARLE}),
        ("captioning/method", set()),
    ],
)
def test_an_edit_of_a_method_touches_those_that_rest_on_it(name: str, whose: set[str], copied: Path) -> None:
    assert edited(copied / "cirbench_methods" / f"{name}.py", PLI, LINCIR, SEARLE, root=copied) == whose


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("my_method/__init__.py", True),
        ("my_method/method.py", True),
        ("my_method/mixing.py", True),
        ("my_method/not_imported.py", True),
        ("shared/__init__.py", True),
        ("shared/base.py", True),
        ("late.py", True),
        ("my_method/README.md", False),
        ("only_types.py", False),
        ("unrelated.py", False),
    ],
)
@pytest.mark.parametrize("reference", ["my_method.method:Mine", "my_method/__init__.py:Mine"])
def test_every_module_of_a_package_and_what_it_imports_counts(
    name: str, counts: bool, reference: str, mine: Path
) -> None:
    assert bool(edited(mine / name, reference, root=mine)) == counts


@pytest.mark.parametrize(("name", "counts"), [("one.py", True), ("late.py", True), ("unrelated.py", False)])
def test_of_the_files_beside_a_method_in_a_file_those_that_it_imports_count(
    name: str, counts: bool, mine: Path
) -> None:
    (mine / "one.py").write_text("import late\nclass Mine: ...\n")
    assert bool(edited(mine / name, f"{mine / 'one.py'}:Mine", root=mine)) == counts


@pytest.mark.slow
@pytest.mark.parametrize("reference", ["my_method.method:Mine", "alone.py:Mine"])
@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("import typing\nif not typing.TYPE_CHECKING:\n    import late", "late.py"),
        ("TYPE_CHECKING = 0\nif X or TYPE_CHECKING:\n    import late", "late.py"),
        ("import importlib\nlate = importlib.import_module('late')", "late.py"),
        ("late = __import__('late')", "late.py"),
        ("from pathlib import Path\nTEXT = (Path(__file__).parent / 'words.txt').read_text()", "words.txt"),
        ("from pathlib import Path\nTEXT = Path(__file__).with_name('words.txt')", "words.txt"),
        ("from pathlib import Path\nTEXT = Path(__file__).parent / 'parts' / 'words.txt'", "parts/words.txt"),
        ("import os\nTEXT = os.path.join(os.path.dirname(__file__), 'parts', 'words.txt')", "parts/words.txt"),
        ("TEXT = files(__package__).joinpath('parts/words.txt')", "parts/words.txt"),
        ("exec(open(HERE + '/words.txt').read())", "words.txt"),
    ],
)
def test_what_code_names_in_other_ways_than_by_import_counts(code: str, name: str, reference: str, mine: Path) -> None:
    module = mine / "my_method" / "method.py" if "my_method" in reference else mine / "alone.py"
    module.write_text(f"{code}\nclass Mine: ...\n")
    (module.parent / "parts").mkdir()
    for text in ("words.txt", "parts/words.txt", "unrelated.txt"):
        (module.parent / text).write_text("a\n")
    path = mine / name if name == "late.py" else module.parent / name
    assert edited(path, reference, root=mine) == {reference}
    assert edited(module.parent / "unrelated.txt", reference, root=mine) == set()


def test_a_module_named_relative_to_its_package_counts(mine: Path) -> None:
    (mine / "my_method" / "sub").mkdir()
    (mine / "my_method" / "sub" / "__init__.py").write_text("")
    (mine / "my_method" / "other.py").write_text("")
    (mine / "my_method" / "sub" / "method.py").write_text("import_module('..other', __package__)\n")
    assert edited(mine / "my_method" / "other.py", "my_method.sub.method", root=mine)


def test_neither_the_place_nor_the_time_of_a_file_counts(mine: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (mine / "one.py").write_text("import late\n")
    before = look("my_method.method", f"{mine / 'one.py'}:X", path=mine)
    moved = tmp_path_factory.mktemp("elsewhere") / "moved"
    shutil.copytree(mine, moved)
    for path in moved.rglob("*.py"):
        os.utime(path, (1, 1))
    after = look("my_method.method", f"{moved / 'one.py'}:X", path=moved)
    assert [*before.values()] == [*after.values()]


def test_a_file_that_cannot_be_parsed_counts_by_its_bytes(mine: Path) -> None:
    (mine / "broken.py").write_bytes(b"def \xff(:\x00\n")
    assert look(f"{mine / 'broken.py'}:X", path=mine)[f"{mine / 'broken.py'}:X"][1] == ["broken"]


def test_libraries_do_not_count(mine: Path) -> None:
    (mine / "one.py").write_text("import numpy, torch, json, click.core, hypothesis\nimport cirbench.protocol\n")
    assert look(f"{mine / 'one.py'}:X", path=mine)[f"{mine / 'one.py'}:X"][1] == ["one"]


EDITED_WHILE_LOADED = """
import importlib, pathlib, sys
from cirbench.support.code import current_code
from cirbench.errors import UsageError
import my_method.mixing
first = current_code("my_method.method").digest
path = pathlib.Path(my_method.mixing.__file__)
path.write_text(path.read_text() + "# edited\\n")
try:
    current_code("my_method.method")
except UsageError as error:
    refused = str(error)
importlib.reload(my_method.mixing)
second = current_code("my_method.method").digest
import json
print(json.dumps({"refused": [refused, []], "differs": [str(first != second), []]}))
"""


def test_code_that_was_edited_after_it_was_loaded_is_refused_until_it_is_reloaded(mine: Path) -> None:
    found = look(path=mine, program=EDITED_WHILE_LOADED)
    assert "mixing.py was edited after this process had loaded it" in found["refused"][0]
    assert found["differs"][0] == "True"


HIDDEN = """
import json, sys
sys.path.append(sys.argv[1])
from cirbench.support.code import current_code
from cirbench.errors import UsageError
try:
    current_code(sys.argv[1] + "/one.py:X")
except UsageError as error:
    print(json.dumps({"": [str(error), []]}))
"""


def test_a_module_beside_a_file_that_another_of_its_name_hides_is_refused(mine: Path) -> None:
    (mine / "folder").mkdir()
    (mine / "folder" / "one.py").write_text("import late\n")
    (mine / "folder" / "late.py").write_text("")
    said = look(str(mine / "folder"), path=mine, program=HIDDEN)[""][0]
    assert f"one.py imports late, and finds {mine / 'late.py'} instead of the file beside it" in said


def test_what_changed_is_said_by_module() -> None:
    before = Code(version="1", harness={"cirbench.a": "0", "cirbench.b": "0"}, method={"m.x": "0", "m.gone": "0"})
    after = Code(version="2", harness={"cirbench.a": "0", "cirbench.b": "1"}, method={"m.x": "1", "m.new": "0"})
    assert after.changes_since(after) == []
    assert after.changes_since(before) == [
        "the code of m.gone changed",
        "the code of m.new changed",
        "the code of m.x changed",
        "the code of cirbench.b changed",
        "cirbench 1 became 2",
    ]
