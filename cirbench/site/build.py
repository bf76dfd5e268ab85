"""``cirbench leaderboard build``: the whole site in one folder, byte for byte the same from the same data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cirbench.errors import UsageError
from cirbench.files import write_text
from cirbench.leaderboard.board import boards
from cirbench.site.pages import pages
from cirbench.site.thumbnails import Thumbnails
from cirbench.versioned import read_versioned, write_versioned

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA_VERSION = 1
MANIFEST = "site.json"
THUMBNAILS = "thumbnails"


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a built site consists of.

    Attributes:
        schema_version: Of this form.
        files: Every other file, sorted.
    """

    schema_version: int = SCHEMA_VERSION
    files: tuple[str, ...]


def build_site(entries: Path, output: Path) -> Manifest:
    """Write the site of the published rows and the entries of a folder; files of an earlier one that it lacks go.

    Raises:
        UsageError: ``output`` holds something else than a site.
        CheckFailed: An entry does not hold.
    """
    earlier = _earlier(output)
    thumbnails = Thumbnails(output / THUMBNAILS, f"../{THUMBNAILS}")
    written = pages(boards(entries), entries, thumbnails)
    for path, text in written.items():
        write_text(output / path, text)
    files = tuple(sorted([*written, *(f"{THUMBNAILS}/{name}" for name in thumbnails.names)]))
    manifest = Manifest(files=files)
    for path in set(earlier) - set(files):
        (output / path).unlink(missing_ok=True)
    write_versioned(output / MANIFEST, manifest)
    return manifest


def _earlier(output: Path) -> tuple[str, ...]:
    """The files of the site that lies in a folder.

    Raises:
        UsageError: Something else lies there.
    """
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return ()
    if not (output / MANIFEST).is_file():
        raise UsageError(f"{output} holds something that is no site.", hint="Give --output a folder of its own.")
    files = read_versioned(output / MANIFEST, Manifest, version=SCHEMA_VERSION).files
    root = output.resolve()
    return tuple(path for path in files if (output / path).resolve().is_relative_to(root))
