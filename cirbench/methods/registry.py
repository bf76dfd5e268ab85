"""The methods that are installed, and the baselines among them."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, get_args

from cirbench.methods.interface import Baseline, MethodSpec
from cirbench.support.plugins import Plugins

if TYPE_CHECKING:
    from cirbench.errors import CirbenchError

METHODS = Plugins("method", "cirbench.methods", MethodSpec, "docs/adding-a-method.md", holder="SPEC")


def list_methods() -> list[str]:
    """Name every installed method, broken ones too, without importing any."""
    return METHODS.names()


def find_method(name: str) -> MethodSpec:
    """Find a method.

    Args:
        name: An installed method's name, or ``package.module:Name`` or ``path/to/file.py:Name``, where the object is
            a `MethodSpec` or a class that has one as ``SPEC``.

    Raises:
        UnknownName: There is no such method.
        MissingData: The file does not exist.
        PluginFailed: The plug-in cannot be imported, or is not a method.
    """
    return METHODS.find(name)


def load_methods() -> tuple[dict[str, MethodSpec], dict[str, CirbenchError]]:
    """Load the SPEC of every installed method; return those that work, and the error of each that does not."""
    return METHODS.all()


def find_baselines() -> dict[Baseline, MethodSpec]:
    """The installed untrained baselines by the side of the query that they represent: image, text, image and text.

    Where several methods represent the same side, the first by name is the baseline.
    """
    return _baselines(tuple(sys.path))


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
def _baselines(path: tuple[str, ...]) -> dict[Baseline, MethodSpec]:
    """Find them among what is installed, which is a function of ``path``; a broken method hides none."""
    found: dict[Baseline, MethodSpec] = {}
    for spec in METHODS.all()[0].values():
        if spec.baseline is not None:
            found.setdefault(spec.baseline, spec)
    return {side: found[side] for side in get_args(Baseline) if side in found}
