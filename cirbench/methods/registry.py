"""Methods by name: entry points of the group ``cirbench.methods``, each of which may break without breaking others.

An entry point names the light SPEC, so that methods can be listed without importing torch.
"""

from __future__ import annotations

from importlib.metadata import entry_points

from cirbench.errors import CirbenchError, MethodFailed, UnknownName
from cirbench.methods.interface import MethodSpec
from cirbench.methods.references import load_object

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
        MethodFailed: The plug-in cannot be imported, or is no method.
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


def _spec(reference: str, *, owner: str) -> MethodSpec:
    named = load_object(reference, owner=owner)
    spec = named if isinstance(named, MethodSpec) else getattr(named, "SPEC", None)
    if not isinstance(spec, MethodSpec):
        raise MethodFailed(
            f"{reference} is no method: it is neither a MethodSpec nor a class with one as SPEC.",
            hint="docs/adding-a-method.md shows a whole one.",
        )
    return spec
