"""What makes a run this run and no other: its digest is over this, and names its folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from cirbench.support.code import Code
from cirbench.support.files import digest

if TYPE_CHECKING:
    from pathlib import Path

IDENTITY = "identity.json"


class Identity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides the numbers of a run.

    Attributes:
        schema_version: Of this form; runs of version 1 did not keep it.
        protocol: Digest of the protocol.
        method: Name.
        parameters: Every parameter, defaults included.
        backbone: Digest of the backbone's identity.
        checkpoint: Sha256 of the trained weights, or ``None``.
        limit: How many queries, where not all.
        seed: Random seed for training and intervals.
        code: The source code of the method and of the harness.
        files: Sha256 of each file that a parameter names, by the parameter.
        lost: Ids of the images that were missing or broken, where that was allowed.
    """

    schema_version: Annotated[int, msgspec.Meta(ge=2, le=2)] = 2
    protocol: str
    method: str
    parameters: dict[str, Any]
    backbone: str
    checkpoint: str | None
    limit: int | None
    seed: int
    code: Code
    files: dict[str, str]
    lost: list[str]

    @property
    def digest(self) -> str:
        """Sha256 over all of it."""
        return digest(msgspec.to_builtins(self))

    def changes_since(self, other: Identity) -> list[str] | None:
        """Say what differs in the code, where nothing else does; ``None`` where something else does too."""
        return self.code.changes_since(other.code) if msgspec.structs.replace(other, code=self.code) == self else None


def latest_otherwise_equal(identity: Identity, parent: Path) -> tuple[Path, list[str]] | None:
    """Find the newest run under ``parent`` that only other code keeps apart, and say what changed in it."""
    found = []
    for path in parent.glob(f"{identity.method}-*/{IDENTITY}"):
        try:
            other = msgspec.json.decode(path.read_bytes(), type=Identity)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):  # not a run that could have been taken instead
            continue
        if changes := identity.changes_since(other):
            found.append((path.stat().st_mtime_ns, path.parent, changes))
    return max(found)[1:] if found else None
