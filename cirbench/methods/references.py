"""Objects named by text: ``package.module:Name`` and ``file.py:Name``."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cirbench.errors import MethodFailed, MissingData, UnknownName, UsageError

if TYPE_CHECKING:
    from types import ModuleType


def load_object(reference: str, *, owner: str) -> Any:
    """Import what ``reference`` names.

    Args:
        reference: ``"package.module:Name"`` or ``"path/to/file.py:Name"``.
        owner: Who needs it, for messages: ``"the method pli"``.

    Raises:
        UsageError: It is no reference.
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
    """Import a file once; the ``__init__.py`` of a package under the package's own name, so that it finds the rest."""
    path = path.resolve()
    if not path.is_file():
        raise MissingData(f"The file {path} does not exist.")
    is_package = path.name == "__init__.py"
    mangled = f"cirbench_file_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    name = path.parent.name if is_package else mangled
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
