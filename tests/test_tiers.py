"""`make quick` leaves out what is slow, and still tests every package and every family of methods."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent
PACKAGES = sorted(path.parent.name for path in ROOT.glob("cirbench/*/__init__.py"))
# A package without a SPEC is what others share, and is tested with them.
FAMILIES = sorted(
    path.parent.name
    for path in ROOT.glob("methods/cirbench_methods/*/__init__.py")
    if "MethodSpec(" in path.read_text()
)


@functools.cache
def functions(path: Path) -> dict[ast.FunctionDef, bool]:
    """The tests of a file, and whether each is part of `make quick`."""
    body = ast.parse(path.read_text()).body
    whole = any(isinstance(node, ast.Assign) and is_slow(node) for node in body)
    found = [node for node in body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    return {node: not whole and not any(map(is_slow, node.decorator_list)) for node in found}


def is_slow(node: ast.AST) -> bool:
    return "pytest.mark.slow" in ast.unparse(node)


def interrupts(test: ast.FunctionDef) -> bool:
    return any(isinstance(node, ast.Attribute) and node.attr in ("send_signal", "kill") for node in ast.walk(test))


@pytest.mark.parametrize("package", PACKAGES)
def test_at_least_half_of_the_tests_of_each_package_are_quick(package: str) -> None:
    quick = [each for path in (TESTS / package).rglob("test_*.py") for each in functions(path).values()]
    assert len(quick) >= 3
    assert sum(quick) >= len(quick) / 2


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_of_methods_has_quick_tests(family: str) -> None:
    assert any(quick for path in TESTS.glob(f"methods/test_{family}*.py") for quick in functions(path).values())


def test_whoever_kills_or_interrupts_a_process_is_slow() -> None:
    tests = [each for path in TESTS.rglob("test_*.py") for each in functions(path).items() if interrupts(each[0])]
    assert len(tests) >= 5
    assert [test.name for test, quick in tests if quick] == []
