"""An entry on disk, and the protocols that entries are of.

The digests of benchmarks that could be counted in are shipped. For others, the first entry of a protocol writes its
digest into ``protocols.json`` beside the entries, where a reviewer sees it; from then on no other digest goes by that
name.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from cirbench.errors import CorruptFile
from cirbench.runs.schema import (
    BackboneRecord,
    Counts,
    Environment,
    MethodRecord,
    ProtocolRecord,
    Record,
    rename_training,
)
from cirbench.support.files import digest, read_versioned, write_versioned

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cirbench.support.files import Migration

SCHEMA_VERSION = 2
ENTRY, RANKS = "entry.json", "ranks.npz"
RECEIPTS = re.compile(r"receipt-[a-z_]+\.json")

_LIMIT = 256 << 10


class Score(Record, frozen=True):
    """One number of an entry, in percent.

    Attributes:
        label: As in a result.
        value: The number.
        low: Lower end of the 95 % interval; ``None`` where a server scored.
        high: Upper end.
        n: How many queries it averages; ``None`` where a server scored.
    """

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


class Entry(Record, frozen=True, kw_only=True):
    """A row of a leaderboard that cirbench made, with what is needed to check it and to make it again.

    Attributes:
        schema_version: Of this form.
        id: Name of its folder; see `entry_id`.
        seal: Sha256 over everything else, so that a change is noticed; see `sealed`.
        run: Digest of the run's configuration.
        method: With the disclosures: trained on, selected on, triplets, language model, shared concept.
        protocol: With a digest of each part.
        backbone: By content.
        counts: How much of the benchmark was scored.
        metrics: The numbers; the first one is the headline.
        seed: Of the bootstrap, and of training where the run trained.
        commands: What to type to make the run again, one command a line.
        environment: Where the numbers were made.
        created: When the run was made, UTC, ISO 8601.
        lost: Ids of images that were missing or broken, where that was allowed.
        ranks: Sha256 of the ranks that the numbers follow from; ``None`` where a server scored.
        ranks_stored: Whether the ranks lie beside the entry; they do unless they are too large.
        receipts: Sha256 of each receipt of a test server, by file name.
        note: What its author wants to say.
    """

    schema_version: int = SCHEMA_VERSION
    id: str
    seal: str = ""
    run: str
    method: MethodRecord
    protocol: ProtocolRecord
    backbone: BackboneRecord
    counts: Counts
    metrics: tuple[Score, ...]
    seed: int
    commands: tuple[str, ...]
    environment: Environment
    created: str
    lost: tuple[str, ...] = ()
    ranks: str | None = None
    ranks_stored: bool = False
    receipts: dict[str, str] = msgspec.field(default_factory=dict)
    note: str = ""

    def __getitem__(self, label: str) -> Score:
        """Return one number by its label.

        Raises:
            KeyError: The entry does not report it.
        """
        for score in self.metrics:
            if score.label == label:
                return score
        raise KeyError(label)

    @property
    def partial(self) -> bool:
        """Whether anything of the protocol is missing."""
        return self.counts.partial or bool(self.lost)

    @property
    def server_scored(self) -> bool:
        """Whether the numbers are those of a test server."""
        return bool(self.receipts)


def entry_id(protocol: str, method: str, run: str) -> str:
    """Name an entry after its protocol, method and run: ``scenes-val--pli--45ec5ced``."""
    return f"{_slug(protocol.partition('@')[0])}--{_slug(method)}--{run[:8]}"


def seal_of(entry: Entry) -> str:
    """The sha256 over everything in an entry but the seal.

    What is null is left out, so that a later version of cirbench, which may record more, comes to the same.
    """
    return _seal(msgspec.to_builtins(entry))


def _seal(values: Mapping[str, Any]) -> str:
    return digest(_told({key: value for key, value in values.items() if key != "seal"}))


def _told(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _told(each) for key, each in value.items() if each is not None}
    return [_told(each) for each in value] if isinstance(value, list | tuple) else value


def sealed(entry: Entry) -> Entry:
    """Return the entry with its seal."""
    return msgspec.structs.replace(entry, seal=seal_of(entry))


def read_entry(folder: Path) -> Entry:
    """Read an entry, whatever it claims; `cirbench.leaderboard.check` says whether the claims hold.

    Raises:
        MissingData: There is none.
        CorruptFile: It is damaged, too large, or no file of its own.
    """
    path = folder / ENTRY
    if path.is_symlink() or folder.is_symlink():
        raise CorruptFile(f"{path} is a link, and an entry must lie in its own folder.")
    return read_versioned(path, Entry, version=SCHEMA_VERSION, migrations=MIGRATIONS, limit=_LIMIT)


def _names_of_training_parameters(entry: dict[str, Any]) -> dict[str, Any]:
    """1 to 2: training parameters have the names that trainings use today.

    A seal that held covers the new form; one that did not hold is left, so that it does not hold now either.
    """
    renamed = {**entry, "schema_version": 2, "method": rename_training(entry["method"])}
    return {**renamed, "seal": _seal(renamed)} if entry.get("seal") == _seal(entry) else renamed


MIGRATIONS: Mapping[int, Migration] = {1: _names_of_training_parameters}
"""By version, the way to the next one."""


def entry_folders(entries: Path) -> list[Path]:
    """The folders of entries, by name; hidden ones and files aside."""
    if not entries.is_dir():
        return []
    return sorted(path for path in entries.iterdir() if path.is_dir() and not path.name.startswith("."))


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"


PROTOCOLS_SCHEMA_VERSION = 1
FILE = "protocols.json"
SHIPPED = Path(__file__).parent / FILE


class _Known(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema_version: int = PROTOCOLS_SCHEMA_VERSION
    protocols: dict[str, str]


def known_protocols(entries: Path) -> Mapping[str, str]:
    """Return the digest of each known protocol by its name, ``circo/val@1``; what is shipped wins.

    Raises:
        CorruptFile: The file beside the entries is damaged.
    """
    return {**_read(entries / FILE), **_read(SHIPPED)}


def register_protocol(entries: Path, name: str, digest: str) -> None:
    """Make a protocol known beside the entries."""
    write_versioned(entries / FILE, _Known(protocols=dict(sorted({**_read(entries / FILE), name: digest}.items()))))


def _read(path: Path) -> dict[str, str]:
    return (
        read_versioned(path, _Known, version=PROTOCOLS_SCHEMA_VERSION, limit=1 << 20).protocols
        if path.is_file()
        else {}
    )
