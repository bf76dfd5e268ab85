"""Packages that only some work needs: imported there, or asked for by the command that installs them."""

from __future__ import annotations

import importlib
from typing import Any

from cirbench.errors import MissingData


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
