"""Which protocols a leaderboard knows, by digest: those of the benchmarks, and those that its keeper let in.

The digests of benchmarks that could be counted in are shipped. For others, the first entry of a protocol writes its
digest into ``protocols.json`` beside the entries, where a reviewer sees it; from then on no other digest goes by that
name.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cirbench.versioned import read_versioned, write_versioned

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA_VERSION = 1
FILE = "protocols.json"
SHIPPED = Path(__file__).parent / FILE


class _Known(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema_version: int = SCHEMA_VERSION
    protocols: dict[str, str]


def known_protocols(entries: Path) -> Mapping[str, str]:
    """Return the digest of each known protocol by its name, ``circo/val@1``; what is shipped wins.

    Raises:
        CorruptFile: The file beside the entries is damaged.
    """
    return {**_read(entries / FILE), **_read(SHIPPED)}


def let_in(entries: Path, name: str, digest: str) -> None:
    """Make a protocol known beside the entries."""
    write_versioned(entries / FILE, _Known(protocols=dict(sorted({**_read(entries / FILE), name: digest}.items()))))


def _read(path: Path) -> dict[str, str]:
    return read_versioned(path, _Known, version=SCHEMA_VERSION, limit=1 << 20).protocols if path.is_file() else {}
