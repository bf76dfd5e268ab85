"""Plug-ins of every kind: named by entry points, loaded when they are asked for, each breaking only itself.

Methods, benchmarks, backbones, metrics and server forms are found in the same way, those that come with cirbench
included. An entry point names a light object, so that everything can be listed without importing torch.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

from cirbench.errors import CirbenchError, MissingData, PluginFailed, UnknownName, UsageError, excerpt, quoted
from cirbench.support.code import installed_points, module_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

OWN = "cirbench"
"""The distribution whose names no other one can take."""

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
"""What a new plug-in may be called."""


class Named(Protocol):
    """What every plug-in has."""

    @property
    def name(self) -> str:
        """As it is registered, and as users type it."""
        ...


T = TypeVar("T", bound=Named)


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One rule of ``cirbench check``, and what breaks it.

    Attributes:
        rule: What must hold.
        problem: What was found instead; ``None`` where it holds.
        note: What is worth knowing where it holds.
    """

    rule: str
    problem: str | None = None
    note: str | None = None


def rule(text: str, check: Callable[[], str | None]) -> Finding:
    """Check one rule of a plug-in: what it raises breaks the rule too."""
    try:
        return Finding(text, check())
    except CirbenchError as error:
        return Finding(text, error.message)
    except Exception as error:
        return Finding(text, f"{type(error).__name__}: {excerpt(error)}")


@dataclasses.dataclass(frozen=True, slots=True)
class Plugins(Generic[T]):
    """The installed plug-ins of one kind.

    Attributes:
        kind: For messages, ``"method"``.
        group: Of entry points, ``"cirbench.methods"``.
        type: What each object is.
        page: The page that shows a whole one.
        holder: The attribute of a class that may hold the object, where one may.
    """

    kind: str
    group: str
    type: type[T]
    page: str
    holder: str | None = None

    def names(self) -> list[str]:
        """Name every installed one, broken ones too, without importing any."""
        return sorted(_installed(self.group, tuple(sys.path)).references)

    def shipped(self) -> list[str]:
        """Name those that come with cirbench itself."""
        holders = _installed(self.group, tuple(sys.path)).holders
        return [name for name in self.names() if holders[name] == OWN]

    def reference(self, name: str) -> str:
        """Return the object behind a name, ``package.module:Name``; a name of that form stands for itself.

        Raises:
            UnknownName: There is none of that name; the hint has the nearest ones.
        """
        references = _installed(self.group, tuple(sys.path)).references
        if name not in references and ":" not in name:
            own = f"A {self.kind} of your own: package.module:Name or path/to/file.py:Name."
            raise UnknownName(self.kind, name, references, hint=own)
        return references.get(name, name)

    def find(self, name: str) -> T:
        """Load one, by its name or by ``package.module:Name`` or ``path/to/file.py:Name``.

        Raises:
            UnknownName: There is none of that name.
            MissingData: The file does not exist.
            PluginFailed: It cannot be imported, or is something else.
        """
        reference = self.reference(name)
        found = self._load(reference, owner=f"the {self.kind} {name}")
        if reference != name and found.name != name:
            where = f" in its {self.holder}" if self.holder else ""
            raise PluginFailed(f"The {self.kind} {name} calls itself {quoted(found.name)}{where}.")
        return found

    def all(self) -> tuple[dict[str, T], dict[str, CirbenchError]]:
        """Load every installed one; return those that work by name, and the error of each that does not."""
        found, broken = _all(self, tuple(sys.path))
        return dict(found), dict(broken)

    def _load(self, reference: str, *, owner: str) -> T:
        named = load_object(reference, owner=owner)
        found = named if isinstance(named, self.type) or self.holder is None else getattr(named, self.holder, None)
        if isinstance(found, self.type):
            return found
        wanted = self.type.__name__
        neither = (
            f"not a {wanted}" if self.holder is None else f"neither a {wanted} nor a class with one as {self.holder}"
        )
        raise PluginFailed(
            f"{reference} is not a {self.kind}: it is {neither}.", hint=f"{self.page} shows a whole one."
        )


def load_object(reference: str, *, owner: str) -> Any:
    """Import what ``reference`` names.

    Args:
        reference: ``"package.module:Name"`` or ``"path/to/file.py:Name"``.
        owner: Who needs it, for messages: ``"the method pli"``.

    Raises:
        UsageError: It is not a reference.
        MissingData: The file does not exist.
        PluginFailed: The module cannot be imported.
        UnknownName: The module has no such object.
    """
    place, separator, name = reference.rpartition(":")
    if not separator or not place or not name.isidentifier():
        raise UsageError(f"{reference!r} names no object.", hint="Write package.module:Name or path/to/file.py:Name.")
    try:
        module = _import_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except (UsageError, MissingData):
        raise
    except (Exception, SystemExit) as error:
        raise PluginFailed(
            f"{owner[:1].upper()}{owner[1:]} cannot be loaded: importing {place} failed with "
            f"{type(error).__name__}: {excerpt(error)}",
            hint="Install what is missing, or mend the module; nothing else is affected.",
        ) from error
    if not hasattr(module, name):
        public = [known for known in vars(module) if not known.startswith("_")]
        raise UnknownName(f"object in {place}", name, public)
    return getattr(module, name)


def _import_file(path: Path) -> ModuleType:
    """Import a file once; the ``__init__.py`` of a package under the package's own name, so that it finds the rest.

    A file finds the modules beside it, as a script does.
    """
    path = path.resolve()
    if not path.is_file():
        raise MissingData(f"The file {path} does not exist.")
    is_package = path.name == "__init__.py"
    name = module_name(path)
    if not is_package and str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # at the end, so that nothing that is installed is hidden
    if name in sys.modules:
        module = sys.modules[name]
        if getattr(module, "__file__", None) != str(path):
            raise UsageError(f"{path} cannot be imported: another package called {name} is loaded already.")
        return module
    folders = [str(path.parent)] if is_package else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=folders)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class _Installed(NamedTuple):
    references: dict[str, str]
    """The object behind each name."""
    holders: dict[str, str]
    """The distribution that registers each name."""
    refused: dict[str, str]
    """What is registered under a name that another distribution has, and that distribution."""


@functools.lru_cache
def _installed(group: str, path: tuple[str, ...]) -> _Installed:
    """Read the entry points of a group. What is installed is a function of ``path``, the value of `sys.path`."""
    every = [point for point in installed_points(path) if point.group == group]
    distributions = {id(point.dist): point.dist for point in every}
    # The metadata of a distribution are parsed whenever it is asked for its name.
    names = {key: "" if each is None else each.name for key, each in distributions.items()}
    points = sorted(((names[id(point.dist)], point) for point in every), key=lambda each: (each[0] != OWN, each[0]))
    found = _Installed({}, {}, {})
    for distribution, point in points:
        if point.name in found.references:
            found.refused[f"{point.name} of {distribution}"] = found.holders[point.name]
        else:
            found.references[point.name], found.holders[point.name] = point.value, distribution
    return found


@functools.lru_cache
def _all(plugins: Plugins[T], path: tuple[str, ...]) -> tuple[dict[str, T], dict[str, CirbenchError]]:
    found: dict[str, T] = {}
    broken: dict[str, CirbenchError] = {}
    for name in plugins.names():
        try:
            found[name] = plugins.find(name)
        except CirbenchError as error:
            broken[name] = error
    for name, holder in _installed(plugins.group, path).refused.items():
        broken[name] = PluginFailed(
            f"The {plugins.kind} {name} is not used: {holder} registers that name already.", hint="Rename one of them."
        )
    return found, broken
