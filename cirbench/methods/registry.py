"""The methods that are installed, and objects named by ``module:attribute`` or ``file.py:attribute``.

An entry point names the light SPEC, so that methods can be listed without importing torch.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from cirbench.errors import CirbenchError, MethodFailed, MissingData, UnknownName, UsageError
from cirbench.methods.interface import Baseline, MethodSpec
from cirbench.support.code import module_name

if TYPE_CHECKING:
    from types import ModuleType


def load_object(reference: str, *, owner: str) -> Any:
    """Import what ``reference`` names.

    Args:
        reference: ``"package.module:Name"`` or ``"path/to/file.py:Name"``.
        owner: Who needs it, for messages: ``"the method pli"``.

    Raises:
        UsageError: It is not a reference.
        MissingData: The file does not exist.
        MethodFailed: The module cannot be imported.
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
        raise MethodFailed(
            f"{owner[:1].upper()}{owner[1:]} cannot be loaded: importing {place} failed with "
            f"{type(error).__name__}: {error}",
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


GROUP = "cirbench.methods"


def list_methods() -> list[str]:
    """Name every installed method, broken ones too, without importing any."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def find_method(name: str) -> MethodSpec:
    """Find a method.

    Args:
        name: An installed method's name, or ``package.module:Name`` or ``path/to/file.py:Name``, where the object is
            a `MethodSpec` or a class that has one as ``SPEC``.

    Raises:
        UnknownName: There is no such method.
        MissingData: The file does not exist.
        MethodFailed: The plug-in cannot be imported, or is not a method.
    """
    reference = reference_of(name)
    spec = _spec(reference, owner=f"the method {name}")
    if reference != name and spec.name != name:
        raise MethodFailed(f"The method {name} calls itself {spec.name!r} in its SPEC.")
    return spec


def reference_of(name: str) -> str:
    """The object behind a method's name, ``package.module:Name``; a name of that form stands for itself.

    Raises:
        UnknownName: There is no such method.
    """
    points = {point.name: point.value for point in entry_points(group=GROUP)}
    if name not in points and ":" not in name:
        raise UnknownName(
            "method", name, points, hint="A method of your own: package.module:Class or path/to/file.py:Class."
        )
    return points.get(name, name)


def load_methods() -> tuple[dict[str, MethodSpec], dict[str, CirbenchError]]:
    """Load the SPEC of every installed method; return those that work, and the error of each that does not."""
    found: dict[str, MethodSpec] = {}
    broken: dict[str, CirbenchError] = {}
    for name in list_methods():
        try:
            found[name] = find_method(name)
        except CirbenchError as error:
            broken[name] = error
    return found, broken


def find_baselines() -> dict[Baseline, MethodSpec]:
    """The installed untrained baselines by the side of the query that they represent: image, text, image and text.

    Where several methods represent the same side, the first by name is the baseline.
    """
    return _baselines(tuple(sorted((point.name, point.value) for point in entry_points(group=GROUP))))


def unimodal_baselines() -> tuple[str, str]:
    """The names of the baselines that represent the image and the text alone; empty where one is not installed."""
    found = find_baselines()
    image, text = (found[side].name if side in found else "" for side in ("image", "text"))
    return image, text


def reference_baseline() -> str:
    """The name of the baseline that every method is compared with, image and text; empty where it is not installed."""
    found = find_baselines()
    return found["image+text"].name if "image+text" in found else ""


@functools.lru_cache
def _baselines(points: tuple[tuple[str, str], ...]) -> dict[Baseline, MethodSpec]:
    found: dict[Baseline, MethodSpec] = {}
    for name, reference in points:
        with contextlib.suppress(CirbenchError):  # a broken method breaks only itself
            spec = _spec(reference, owner=f"the method {name}")
            if spec.baseline is not None:
                found.setdefault(spec.baseline, spec)
    return {side: found[side] for side in get_args(Baseline) if side in found}


def _spec(reference: str, *, owner: str) -> MethodSpec:
    named = load_object(reference, owner=owner)
    spec = named if isinstance(named, MethodSpec) else getattr(named, "SPEC", None)
    if not isinstance(spec, MethodSpec):
        raise MethodFailed(
            f"{reference} is not a method: it is neither a MethodSpec nor a class with one as SPEC.",
            hint="docs/adding-a-method.md shows a whole one.",
        )
    return spec
