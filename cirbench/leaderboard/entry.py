"""An entry on disk: what it says, its seal, and where it lies."""

from __future__ import annotations

import re
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
    Reranking,
    Scored,
    rename_training,
)
from cirbench.support.files import digest, read_versioned, slug

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cirbench.support.files import Migration

SCHEMA_VERSION = 5
ENTRY, RANKS = "entry.json", "ranks.npz"
RECEIPTS = re.compile(r"receipt-[a-z_]+\.json")
LISTS = re.compile(r"lists-[a-z_]+\.json\.gz")

_LIMIT = 256 << 10


class EntryMetric(Record, frozen=True):
    """One number of an entry, in percent.

    Attributes:
        label: As in a result.
        value: The number.
        low: Lower end of the 95 % interval; ``None`` where a server scored, and in entries from before the present
            method; see `cirbench.leaderboard.evidence.read_scores`.
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
        method: With the disclosures: trained on, selected on, triplets, language model, shared concept, transductive.
        protocol: With a digest of each part.
        backbone: By content.
        counts: How much of the benchmark was scored.
        metrics: The numbers; the first one is the headline.
        seed: Of training where the run trained, and of the paired tests that compare it.
        commands: What to type to make the run again, one command a line.
        environment: Where the numbers were made.
        created: When the run was made, UTC, ISO 8601.
        lost: Ids of images that were missing or broken, where that was allowed.
        ranks: Sha256 of the ranks that the numbers follow from; ``None`` where a server scored.
        ranks_stored: Whether the ranks lie beside the entry; they do unless they are too large.
        receipts: Sha256 of each receipt of a test server, by file name.
        lists: Sha256 of each submitted file that a receipt is about, compressed, by file name.
        scored: From what, where the ranking was made elsewhere, so that the rest is what its author declares.
        reranking: Of what, where it is another run's ranking in a new order; ``None`` for a first stage.
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
    metrics: tuple[EntryMetric, ...]
    seed: int
    commands: tuple[str, ...]
    environment: Environment
    created: str
    lost: tuple[str, ...] = ()
    ranks: str | None = None
    ranks_stored: bool = False
    receipts: dict[str, str] = msgspec.field(default_factory=dict)
    lists: dict[str, str] | None = None
    scored: Scored | None = None
    reranking: Reranking | None = None
    note: str = ""

    def __getitem__(self, label: str) -> EntryMetric:
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
    return f"{slug(protocol.partition('@')[0])}--{slug(method)}--{run[:8]}"


def seal_of(entry: Entry) -> str:
    """The sha256 over everything in an entry but the seal.

    What is null is left out, so that a later version of cirbench, which may record more, comes to the same.
    """
    return _seal(msgspec.to_builtins(entry))


def _seal(values: Mapping[str, Any]) -> str:
    return digest(_without_nulls({key: value for key, value in values.items() if key != "seal"}))


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list | tuple) else value


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
    """1 to 2: training parameters and options have the names that trainings use today."""
    commands = [command.replace(" --select ", " --monitor ") for command in entry["commands"]]
    renamed = {**entry, "schema_version": 2, "method": rename_training(entry["method"]), "commands": commands}
    return _sealed_again(entry, renamed)


def _without_intervals(entry: dict[str, Any]) -> dict[str, Any]:
    """2 to 3: intervals are computed by another method, so those that were written are left out."""
    metrics = [{**score, "low": None, "high": None} for score in entry["metrics"]]
    return _sealed_again(entry, {**entry, "schema_version": 3, "metrics": metrics})


def _scored_elsewhere(entry: dict[str, Any]) -> dict[str, Any]:
    """3 to 4: an entry says whether its ranking was made elsewhere; up to then none was."""
    return _sealed_again(entry, {**entry, "schema_version": 4, "scored": None})


def _one_stage(entry: dict[str, Any]) -> dict[str, Any]:
    """4 to 5: an entry says whether it is another run's ranking in a new order; up to then none was."""
    return _sealed_again(entry, {**entry, "schema_version": 5, "reranking": None})


def _sealed_again(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """A seal that was right covers the new form; one that was wrong is left, so that it is wrong now as well."""
    return {**after, "seal": _seal(after)} if before.get("seal") == _seal(before) else after


MIGRATIONS: Mapping[int, Migration] = {
    1: _names_of_training_parameters,
    2: _without_intervals,
    3: _scored_elsewhere,
    4: _one_stage,
}
"""By version, the way to the next one."""


def entry_folders(entries: Path) -> list[Path]:
    """The folders of entries, by name; hidden ones and files aside."""
    if not entries.is_dir():
        return []
    return sorted(path for path in entries.iterdir() if path.is_dir() and not path.name.startswith("."))
