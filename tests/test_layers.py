"""The imports of the project point downward only."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = (
    ("errors",),
    ("processes", "files", "arrays", "parameters", "extras"),
    ("versioned", "archives"),
    ("metrics", "statistics", "images", "tables"),
    ("datasets",),
    ("backbones", "retrieval", "data"),
    ("features", "predictions"),
    ("training", "console", "captions"),
    ("methods",),
    ("evaluation",),
    ("results",),
    ("comparison",),
    ("submissions",),
    ("leaderboard",),
    ("site",),
    ("running", "watching"),
    ("reproducing", "sweeping"),
    ("cli", "__init__"),
    ("__main__",),
)
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
# An interval is a property of measured values: predictions and results both ask metrics and statistics for it.


def modules() -> list[Path]:
    return sorted((ROOT / "cirbench").rglob("*.py"))


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
            found.add(node.module)
    return found


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


def test_no_module_is_longer_than_400_lines() -> None:
    sources = [*modules(), *(ROOT / "methods").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    assert {str(path): n for path in sources if (n := len(path.read_text().splitlines())) > 400} == {}
