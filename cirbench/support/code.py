"""Which source code a result rests on, so that an edit of any of it is another result.

A method rests on every module of the package that implements it and on what those import, as long as it is code that is
worked on: of a package that extends cirbench, or of files that are not installed as a library. Imports are followed in
the source, without executing it, so that an edit of one method leaves the results of its neighbours alone, and an edit
of a base that they share does not. Of the harness itself every module counts. Libraries count by their version, which a
result records elsewhere; files that are not modules count where a parameter names them, or where the code names one
that lies beside it.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

import cirbench
from cirbench.errors import UsageError
from cirbench.support.files import digest, sha256_of_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

GROUPS = tuple(f"cirbench.{kind}" for kind in ("methods", "benchmarks", "backbones", "metrics", "servers"))
"""The entry-point groups by which a package extends cirbench."""

_FILE_PREFIX = "cirbench_file_"


class Code(msgspec.Struct, frozen=True, kw_only=True):
    """The source code that a result rests on.

    Attributes:
        version: Version of cirbench.
        harness: Sha256 of each module of cirbench, by name.
        method: Sha256 of each module of the method and of what it imports, by name.
    """

    version: str
    harness: dict[str, str]
    method: dict[str, str]

    @property
    def digest(self) -> str:
        """Sha256 over all of it."""
        return digest(msgspec.to_builtins(self))

    @property
    def method_digest(self) -> str:
        """Sha256 over the method's modules alone."""
        return digest(self.method)

    def changes_since(self, earlier: Code) -> list[str]:
        """Say in one phrase each what differs from an earlier state; nothing where the two are equal."""
        phrases = [f"the code of {name} changed" for name in _changed(earlier.method, self.method)]
        if changed := _changed(earlier.harness, self.harness):
            named = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more modules" if len(changed) > 3 else "")
            phrases.append(f"the code of {named} changed")
        if self.version != earlier.version:
            phrases.append(f"cirbench {earlier.version} became {self.version}")
        return phrases


def current_code(*references: str) -> Code:
    """Return the code that objects rest on, as it is on disk now.

    Args:
        references: ``"package.module:Name"`` or ``"path/to/file.py:Name"``; the part after the colon may be missing.

    Raises:
        UsageError: A module was edited after this process had loaded it, or a file beside the method is hidden by
            another module of its name.
    """
    return Code(version=cirbench.__version__, harness=_harness(), method=_closure(references))


def module_name(path: Path) -> str:
    """The name under which a file is imported: its package's for an ``__init__.py``, else one for this file alone."""
    path = path.resolve()
    if path.name == "__init__.py":
        return path.parent.name
    return f"{_FILE_PREFIX}{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


@functools.cache
def _harness() -> dict[str, str]:
    """Every module of this package, as it was at the first look: what this process has loaded is of that time."""
    root = Path(cirbench.__file__).resolve().parent
    return {_dotted(path, root): _sha256(path, _state(path)) for path in _modules_below(root)}


def _closure(references: Iterable[str]) -> dict[str, str]:
    extending = {*_extending(tuple(sys.path))}
    found: dict[str, str] = {}
    pending: list[_Module] = []
    for reference in references:
        module = _referenced(reference)
        if module is None:
            continue
        extending.add(module.name.partition(".")[0])
        pending += [module, *_package_of(module)]
    while pending:
        module = pending.pop()
        if module.label in found:
            continue
        found[module.label] = _sha256(module.path, _state(module.path))
        _require_loaded_state(module, found[module.label])
        _refuse_hidden_siblings(module)
        for name in (module.name, *module.imports()):
            pending += (each for each in _chain(name) if _is_followed(each, extending))
        for text, path in module.data_files():
            found[f"{module.label}/{text}"] = _sha256(path, _state(path))
    return dict(sorted(found.items()))


@dataclasses.dataclass(frozen=True)
class _Module:
    name: str
    path: Path

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"

    @property
    def label(self) -> str:
        """The name, and for a file without a package its stem: the same in whatever folder it lies."""
        return self.path.stem if self.name.startswith((_FILE_PREFIX, "__main__")) else self.name

    def imports(self) -> Iterator[str]:
        """The dotted name of everything that it imports when it runs, whether that is a module or what one holds."""
        parts = self.name.split(".") if self.is_package else self.name.split(".")[:-1]
        for level, name in _named(self.path, _state(self.path)).imports:
            base = parts[: len(parts) - level + 1] if level else []
            yield ".".join([*base, *([name] if name else [])])

    def data_files(self) -> Iterator[tuple[str, Path]]:
        """The files beside it that a text in it names, as it names them, other than modules."""
        for text in _named(self.path, _state(self.path)).texts:
            path = self.path.parent / text.lstrip("/")  # folder + "/name" is common
            # Not Path.is_file, which fails for texts that cannot be paths.
            if os.path.isfile(path) and path.suffix != ".pyc" and path.resolve() != self.path:  # noqa: PTH113
                yield text, path


_LOADED: dict[str, tuple[ModuleSpec, str]] = {}
"""By name, what this process has loaded a module by, and its digest then."""


def _state(path: Path) -> tuple[int, int, int]:
    """What tells whether a file has to be read again."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


@functools.lru_cache(maxsize=4096)
def _sha256(path: Path, _state: tuple[int, int, int]) -> str:
    return sha256_of_file(path)


class _Named(msgspec.Struct, frozen=True):
    """What the source of a module names.

    Attributes:
        imports: Level (0 for an absolute import) and dotted name of everything that is imported when the code runs.
        texts: Texts that may name a file.
    """

    imports: tuple[tuple[int, str], ...] = ()
    texts: tuple[str, ...] = ()


@functools.lru_cache(maxsize=4096)
def _named(path: Path, _state: tuple[int, int, int]) -> _Named:
    if path.suffix != ".py":
        return _Named()
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # importing it will say so
        return _Named()
    imports: list[tuple[int, str]] = []
    texts: list[str] = []
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            pending += node.orelse
            continue
        pending += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            imports += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            imports += [(node.level, base), *((node.level, f"{base}.{alias.name}".lstrip(".")) for alias in node.names)]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            imports += [(len(text) - len(text.lstrip(".")), text.lstrip(".")) for text in _constants(node.args[:1])]
        texts += _paths(node)
    return _Named(tuple(imports), tuple(sorted({*texts})))


def _paths(node: ast.AST) -> list[str]:
    """The texts of a constant, of ``folder / "a" / "b"`` and of ``join(folder, "a", "b")``, as paths."""
    if isinstance(node, ast.Constant):
        return [text for text in _constants([node]) if 0 < len(text) <= 255 and "\0" not in text]
    parts: list[ast.expr] = []
    if isinstance(node, ast.Call):
        parts = node.args
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        parts = [node.right, *parts]
        node = node.left
    joined = "/".join(_constants(parts))
    return [joined] if len(parts) > 1 and 0 < len(joined) <= 1000 and "\0" not in joined else []


def _constants(nodes: Iterable[ast.expr]) -> list[str]:
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def _referenced(reference: str) -> _Module | None:
    place = reference.partition(".py:")[0] + ".py" if ".py:" in reference else reference.partition(":")[0]
    if place.endswith(".py"):
        path = Path(place).resolve()
        return _Module(module_name(path), path)
    if place.partition(".")[0] == cirbench.__name__:
        return None  # the harness counts whole
    if place == "__main__":
        return _main_module()
    chain = [*_chain(place)]
    return chain[-1] if chain and chain[-1].name == place else None


def _main_module() -> _Module:
    file = getattr(sys.modules["__main__"], "__file__", None)
    if file is None or not Path(file).is_file():
        raise UsageError(
            "The method is defined in this session, so nothing can tell when its code changes.",
            hint="Write it to a file and name it, file.py:Class; or evaluate an object of it.",
        )
    return _Module("__main__", Path(file).resolve())


def _chain(name: str) -> Iterator[_Module]:
    """The module ``name`` and the packages above it, outermost first; as far as they are modules with a file."""
    parts = name.split(".")
    search: list[str] | None = None
    for depth in range(1, len(parts) + 1):
        dotted = ".".join(parts[:depth])
        spec = _spec(dotted, search)
        if spec is None:
            return
        if spec.origin is not None and Path(spec.origin).is_file():
            yield _Module(dotted, Path(spec.origin).resolve())
        search = None if spec.submodule_search_locations is None else [*spec.submodule_search_locations]
        if search is None:
            return


def _spec(name: str, search: list[str] | None) -> ModuleSpec | None:
    """Where a module is, or would be, loaded from; nothing is imported."""
    loaded: ModuleSpec | None = getattr(sys.modules.get(name), "__spec__", None)
    if loaded is not None:
        return loaded
    try:
        return PathFinder.find_spec(name, search) if search is not None else importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None


def _package_of(module: _Module) -> Iterator[_Module]:
    """Every module of the package that ``module`` lies in; of a file without a package, none."""
    package = module.name if module.is_package else module.name.rpartition(".")[0]
    root = module.path.parent
    if package and (root / "__init__.py").is_file():
        for path in _modules_below(root):
            yield _Module(package + _dotted(path, root)[len(root.name) :], path)


def _modules_below(root: Path) -> list[Path]:
    """The Python files of a package and of the packages in it."""
    folders = [folder for folder in root.iterdir() if (folder / "__init__.py").is_file()]
    return sorted([*root.glob("*.py"), *(path for folder in folders for path in _modules_below(folder))])


def _dotted(path: Path, root: Path) -> str:
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _is_followed(module: _Module, extending: set[str]) -> bool:
    top = module.name.partition(".")[0]
    if top == cirbench.__name__ or top in sys.stdlib_module_names:
        return False
    return top in extending or not {"site-packages", "dist-packages"} & {*module.path.parts}


@functools.lru_cache
def installed_points(path: tuple[str, ...]) -> Sequence[EntryPoint]:
    """Read the entry points that extend cirbench. What is installed is a function of ``path``, that of `sys.path`."""
    points = entry_points()  # one look at everything that is installed takes as long as one at a group
    return [point for group in GROUPS for point in points.select(group=group)]


@functools.lru_cache
def _extending(path: tuple[str, ...]) -> frozenset[str]:
    """The top-level packages of every distribution that extends cirbench."""
    tops = set()
    for point in installed_points(path):
        tops.add(point.value.partition(":")[0].partition(".")[0])
        listed = None if point.dist is None else point.dist.read_text("top_level.txt")
        tops |= {*(listed or "").split()}
    return frozenset(tops)


def _require_loaded_state(module: _Module, sha256: str) -> None:
    """Refuse a module whose file differs from what this process has loaded: a result would be kept under wrong code."""
    spec = getattr(sys.modules.get(module.name), "__spec__", None)
    if spec is None:
        return
    known, before = _LOADED.setdefault(module.name, (spec, sha256))
    if known is not spec:  # it was reloaded
        _LOADED[module.name] = (spec, sha256)
    elif before != sha256:
        raise UsageError(
            f"{module.path} was edited after this process had loaded it, so a result would not be that of the file.",
            hint="Restart Python, or reload the module by importlib.reload.",
        )


def _refuse_hidden_siblings(module: _Module) -> None:
    """Refuse a file whose neighbour, which it means to import, is hidden by another module of the same name."""
    if module.is_package or "." in module.name:
        return
    for top in {name.partition(".")[0] for name in module.imports()} - sys.stdlib_module_names:
        beside = [module.path.parent / f"{top}.py", module.path.parent / top / "__init__.py"]
        loaded = [*_chain(top)]
        if loaded and any(path.is_file() for path in beside) and loaded[0].path not in [p.resolve() for p in beside]:
            raise UsageError(
                f"{module.path} imports {top}, and finds {loaded[0].path} instead of the file beside it.",
                hint=f"Give {beside[0].name} another name, or run its method by itself.",
            )


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
