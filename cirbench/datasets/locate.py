"""Where the files of a data set are: below ``--data-root``, or below the folder that ``CIRBENCH_DATA`` names."""

from __future__ import annotations

import os
from pathlib import Path

from cirbench.errors import CheckFailed, MissingData

VARIABLE = "CIRBENCH_DATA"
"""The environment variable that names the data root."""

_EXAMPLE = "a folder that holds, for instance, circo/annotations/val.json"


def data_root(given: Path | None = None) -> Path:
    """Return the folder that holds the data sets: ``given``, else the one that ``CIRBENCH_DATA`` names.

    Raises:
        MissingData: Neither is set, or what is set is no folder.
    """
    named = os.environ.get(VARIABLE)
    hint = f"Give --data-root DIR, or set {VARIABLE}: {_EXAMPLE}."
    if given is None and not named:
        raise MissingData("Nothing says where the data sets are.", hint=hint)
    root = given if given is not None else Path(str(named))
    if not root.is_dir():
        source = "--data-root" if given is not None else VARIABLE
        raise MissingData(f"The data root {root} (from {source}) is not a folder.", hint=hint)
    return root


def locate(root: Path, *candidates: str, hint: str | None = None) -> Path:
    """Return the first of ``candidates``, paths relative to ``root``, that is a file.

    Raises:
        MissingData: None is; the message names every path that was tried.
        CheckFailed: See `find`.
    """
    found = find(root, *candidates)
    if found is None:
        tried = ", ".join(str(root / candidate) for candidate in candidates)
        get = f"cirbench data get {candidates[0].partition('/')[0]} --data-root {root}"
        hint = hint or f"Type `{get}`, or point --data-root or {VARIABLE} elsewhere: {_EXAMPLE}."
        raise MissingData(f"A file of the data set is missing; tried {tried}.", hint=hint)
    return found


def find(root: Path, *candidates: str) -> Path | None:
    """Return the first of ``candidates``, paths relative to ``root``, that is a file, or ``None``.

    Raises:
        CheckFailed: A candidate leads out of the root, by ``..``, by an absolute path or through a link. The data root
            bounds what is read, so that a downloaded folder cannot make other files of this machine part of a result.
    """
    inside = root.resolve()
    for candidate in candidates:
        path = root / candidate
        resolved = path.resolve()
        if not resolved.is_relative_to(inside):
            raise CheckFailed(
                f"{path} leads out of the data root, to {resolved}.",
                hint="Copy the file into the data root, or choose a data root that holds both.",
            )
        if resolved.is_file():
            return path
    return None
