"""Packages: those that only some work needs are imported there, or asked for by the command that installs them."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

from cirbench.errors import MissingData

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MODELS = ("torch", "open_clip_torch", "transformers", "sentence-transformers", "numpy", "pillow", "safetensors")
"""The packages whose version may move a feature."""


def require(package: str, *, extra: str, purpose: str) -> Any:
    """Import a package of an extra and return the module.

    Args:
        package: What to import, for instance ``"transformers"``.
        extra: The extra of cirbench that brings it.
        purpose: What needs it, as the beginning of a sentence: ``"BLIP"``.

    Raises:
        MissingData: It is not installed; the hint is the command to type.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package.partition(".")[0]:
            raise
        raise MissingData(
            f"{purpose} needs the package {error.name}, which is not installed.",
            hint=f"pip install 'cirbench[{extra}]'",
        ) from error


def data_frame(columns: Mapping[str, Any]) -> Any:
    """Build a pandas data frame from columns of one length.

    Raises:
        MissingData: pandas is not installed; the hint is the command to type.
    """
    return require("pandas", extra="pandas", purpose="A data frame").DataFrame(dict(columns))


def versions(packages: Iterable[str]) -> dict[str, str]:
    """The versions of packages, by the name that they are installed by; those that are not installed are left out."""
    found: dict[str, str] = {}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
