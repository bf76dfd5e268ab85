"""The imports of the project point downward only."""

from __future__ import annotations

import ast
import graphlib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = (
    ("errors",),
    ("support",),
    ("metrics",),
    ("protocol",),
    ("backbones",),
    ("ranking", "benchmarks"),
    ("artefacts", "training"),
    ("methods",),
    ("runs",),
    ("comparison",),
    ("submissions",),
    ("leaderboard",),
    ("cli", "__init__"),
    ("__main__",),
)
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}


def modules() -> list[Path]:
    return sorted((ROOT / "cirbench").rglob("*.py"))


@cache
def imports(path: Path) -> set[str]:
    """Every absolute import of ``path``, wherever it stands, type-only ones excepted."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for statement in block.body
        for node in ast.walk(statement)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if is_module(name) else node.module for name in names}
    return found


@cache
def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room(module: str) -> str:
    return [*module.split("."), "__init__"][1]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_its_own_room_and_the_rooms_below(path: Path) -> None:
    own = path.relative_to(ROOT / "cirbench").parts[0].removesuffix(".py")
    for module in imports(path):
        if module.split(".")[0] != "cirbench" or room(module) in (own, "__init__"):
            continue
        assert LEVEL[room(module)] < LEVEL[own], f"{path} imports {module}"


def test_cirbench_never_imports_the_methods() -> None:
    for path in modules():
        assert not any(module.startswith("cirbench_methods") for module in imports(path)), path


def test_no_module_is_longer_than_800_lines() -> None:
    sources = [*modules(), *(ROOT / "methods").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    assert {str(path): n for path in sources if (n := len(path.read_text().splitlines())) > 800} == {}


def test_no_module_needs_itself_by_way_of_others() -> None:
    names = {dotted(path): path for path in modules()}
    needs = {name: {module for module in imports(path) if module in names} for name, path in names.items()}
    graphlib.TopologicalSorter(needs).prepare()  # raises CycleError, which names the circle
