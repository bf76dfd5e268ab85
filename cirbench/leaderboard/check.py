"""Check what entries claim: the numbers follow from the ranks, and everything is what it was.

A change of one field is always noticed, because the seal covers all of them. Whoever seals an entry again still has to
fit the numbers to ranks, the ranks to the clusters and slices of a known protocol, and every digest to what it is of;
names, notes and disclosures remain words of whoever made the entry.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
from typing import TYPE_CHECKING

from cirbench.benchmarks.catalogue import protocols
from cirbench.errors import CheckFailed, CirbenchError, MissingData
from cirbench.leaderboard.entry import (
    ENTRY,
    RANKS,
    RECEIPTS,
    Entry,
    entry_folders,
    entry_id,
    known_protocols,
    read_entry,
    seal_of,
)
from cirbench.leaderboard.evidence import MOST_STORED, Evidence, read_evidence
from cirbench.metrics.table import measures_of
from cirbench.ranking.task import UNRANKED
from cirbench.submissions.receipts import RECEIPT_LIMIT, parse_receipt
from cirbench.support.files import digest, sha256_of_file
from cirbench.support.tables.model import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_SHA256 = re.compile(r"[0-9a-f]{64}")
_TOLERANCE = 1e-6  # in percentage points: numbers are recomputed in float64, on whatever machine checks
_ANSWERS = ("yes", "no", "unknown")
_SUPERVISION = ("training-free", "text-only", "image-only", "image-text pairs", "triplets")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What became of checking an entry.

    Attributes:
        name: Of its folder.
        problems: What is wrong, in sentences; nothing where it holds.
        notes: What could not be checked.
    """

    name: str
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the entry holds."""
        return not self.problems

    def require(self) -> None:
        """Raise where the entry does not hold.

        Raises:
            CheckFailed: Every problem, with the name of the entry.
        """
        if self.problems:
            raise CheckFailed(
                visible(f"The entry {self.name} does not hold: {'; '.join(self.problems)}."),
                hint="Make it again from its run: cirbench leaderboard add RUN",
            )


def check_entries(entries: Path) -> tuple[Verdict, ...]:
    """Check every entry of a folder.

    Raises:
        MissingData: There is no such folder.
        CorruptFile: The list of known protocols is damaged.
    """
    if not entries.is_dir():
        raise MissingData(f"There is no folder {entries}.", hint="Make an entry: cirbench leaderboard add RUN")
    known = known_protocols(entries)
    return tuple(check_entry(folder, known) for folder in entry_folders(entries))


def check_entry(folder: Path, known: Mapping[str, str]) -> Verdict:
    """Check one entry.

    Args:
        folder: Where it lies.
        known: The digest of each known protocol; see `cirbench.leaderboard.entry`.
    """
    if problems := tuple(_foreign(folder)):
        return Verdict(folder.name, problems)
    try:
        entry = read_entry(folder)
        problems = (*_identity(entry, folder.name), *_protocol(entry, known))
        if not problems:
            check = _by_server if entry.receipts else _by_ranks
            problems = tuple(check(entry, folder))
    except CirbenchError as error:
        return Verdict(folder.name, (error.message,))
    except RecursionError:
        return Verdict(folder.name, (f"{ENTRY} is nested deeper than any entry is",))
    stored = entry.ranks is None or entry.ranks_stored
    notes = () if stored else ("its ranks are too large to be stored, so its numbers were not recomputed",)
    return Verdict(folder.name, problems, notes)


def _foreign(folder: Path) -> Iterator[str]:
    """What must not lie in the folder of an entry: links, folders, and files that no entry has."""
    if folder.is_symlink():
        yield "it is a link, and an entry must lie in its own folder"
        return
    for path in sorted(folder.iterdir()):
        if path.is_symlink():
            yield f"{path.name!r} is a link, which may lead out of the folder"
        elif not path.is_file() or not (path.name in (ENTRY, RANKS) or RECEIPTS.fullmatch(path.name)):
            yield f"{path.name!r} is nothing that an entry has"


def _identity(entry: Entry, folder: str) -> Iterator[str]:
    """Whether the entry is what its names and digests say."""
    if entry.seal != seal_of(entry):
        yield f"{ENTRY} was changed after it was made: its seal does not fit"
    if entry.id != folder or entry.id != entry_id(entry.protocol.name, entry.method.name, entry.run):
        yield f"its id {entry.id!r} does not follow from its folder, protocol, method and run"
    named = {"run": entry.run, "ranks": entry.ranks, "checkpoint": entry.method.checkpoint, "code": entry.method.code}
    for name, value in named.items():
        if value is not None and _SHA256.fullmatch(value) is None:
            yield f"its {name} is not a sha256"
    parts = {name: getattr(entry.backbone, name) for name in entry.backbone.__struct_fields__}
    if parts.pop("digest") != digest({name: value for name, value in parts.items() if name != "name"}):
        yield "the digest of its backbone does not follow from its architecture, weights and preprocessing"
    method = entry.method
    if not {method.uses_llm, method.uses_shared_concept, method.uses_triplets} <= {*_ANSWERS}:
        yield f"a disclosure is not one of {', '.join(_ANSWERS)}"
    if method.supervision not in _SUPERVISION:
        yield f"its supervision is not one of {', '.join(_SUPERVISION)}"
    try:
        datetime.datetime.fromisoformat(entry.created)
    except ValueError:
        yield f"it was created at {entry.created!r}, which is not a date"


def _protocol(entry: Entry, known: Mapping[str, str]) -> Iterator[str]:
    """Whether the protocol is one that this leaderboard knows, and was covered as far as the entry says."""
    protocol, counts = entry.protocol, entry.counts
    if protocol.digest != digest(protocol.fields):
        yield "the digest of its protocol does not follow from the fields of the protocol"
    if protocol.name != f"{protocol.fields.get('id')}@{protocol.fields.get('version')}":
        yield f"its protocol {protocol.name!r} is called otherwise in the fields of the protocol"
    if known.get(protocol.name) != protocol.digest:
        why = "is another one here" if protocol.name in known else "is not known here"
        yield f"the digest of its protocol {protocol.name!r} {why}"
    if not (0 < counts.queries <= counts.queries_expected and 0 <= counts.gallery <= counts.gallery_expected):
        yield "it counts more queries or images than the protocol has, or none"
    counted = protocols().get(protocol.fields.get("id", ""))
    if counted is not None and (
        counted.queries not in (None, counts.queries_expected) or counted.gallery not in (None, counts.gallery_expected)
    ):
        yield "it does not count the queries and images that the protocol has"
    if min(counts.tied_relevant, counts.truncated_texts) < 0:
        yield "it counts less than nothing"
    if (entry.ranks is None) == (not entry.receipts):
        yield "its numbers need either ranks or the receipts of a server"


def _by_ranks(entry: Entry, folder: Path) -> Iterator[str]:
    """Whether the numbers follow from the ranks."""
    if present := [path.name for path in folder.iterdir() if RECEIPTS.fullmatch(path.name)]:
        yield f"{present[0]!r} is a receipt that the entry does not name"
    if (folder / RANKS).is_file() != entry.ranks_stored:
        yield f"{RANKS} is {'missing' if entry.ranks_stored else 'there, and the entry says that it is not'}"
        return
    if not entry.ranks_stored:
        yield from _plausible(entry)
        return
    if (folder / RANKS).stat().st_size > MOST_STORED:
        yield f"{RANKS} is larger than {MOST_STORED:,} bytes"
        return
    if sha256_of_file(folder / RANKS) != entry.ranks:
        yield f"{RANKS} is not the file that the entry was made with"
        return
    evidence = read_evidence(folder / RANKS)
    yield from _coverage(entry, evidence)
    yield from _numbers(entry, evidence)


def _coverage(entry: Entry, evidence: Evidence) -> Iterator[str]:
    """Whether the ranks are of the protocol's queries and gallery."""
    counts = entry.counts
    queries = len(evidence.query_ids)
    if queries != counts.queries_expected and not (entry.partial and counts.queries <= queries):
        yield f"there are ranks of {queries} queries, and the entry counts {counts.queries_expected}"
    if queries == counts.queries_expected and not evidence.belongs_to(entry.protocol.fields):
        yield "the clusters or slices of its queries are not those of the protocol"
    ranks = evidence.relevant_ranks.values
    if ((ranks > counts.gallery_expected) & (ranks != UNRANKED)).any():
        yield f"a rank is beyond the {counts.gallery_expected} images of the gallery"
    if ((evidence.shown_SK < -1) | (evidence.shown_SK >= counts.gallery_expected)).any():
        yield f"an item to show is not among the {counts.gallery_expected} images of the gallery"


def _numbers(entry: Entry, evidence: Evidence) -> Iterator[str]:
    labels = [score.label for score in entry.metrics]
    try:
        asked = ", ".join(map(str, measures_of(labels)))
        again = evidence.scores(labels, entry.seed)
    except ValueError as error:
        yield f"its numbers cannot be recomputed: {error}"
        return
    reported = [score.label for score in again]
    if asked != entry.protocol.fields.get("measures") or reported != labels or evidence.all_labels(labels) != {*labels}:
        yield "its numbers are not those that the protocol reports"
        return
    for claimed, found in zip(entry.metrics, again, strict=True):
        for what in ("value", "low", "high", "n"):
            said, is_ = getattr(claimed, what), getattr(found, what)
            if said is None or abs(said - is_) > _TOLERANCE:
                yield f"{claimed.label}: {what} is given as {said}, and the ranks give {is_}"


def _plausible(entry: Entry) -> Iterator[str]:
    """What can be said of numbers without ranks."""
    for score in entry.metrics:
        ends = (score.low, score.value, score.high)
        if None in ends or not 0 <= score.low <= score.high <= 100 or not 0 <= score.value <= 100:  # type: ignore[operator]
            yield f"{score.label}: {score.value} is not a percentage with an interval"


def _by_server(entry: Entry, folder: Path) -> Iterator[str]:
    """Whether the numbers are those of the receipts."""
    there = {path.name for path in folder.iterdir()} - {ENTRY}
    if there != entry.receipts.keys():
        yield "its receipts are not those that it names"
        return
    scores: dict[str, float] = {}
    for name, sha256 in entry.receipts.items():
        if (folder / name).stat().st_size > RECEIPT_LIMIT or sha256_of_file(folder / name) != sha256:
            yield f"{name} is not the receipt that the entry was made with"
            return
        receipt = parse_receipt(folder / name)
        if receipt.protocol != entry.protocol.name.partition("@")[0] or receipt.run_digest != entry.run:
            yield f"{name} is about another protocol or run"
        scores |= receipt.scores
    claimed = {score.label: score.value for score in entry.metrics}
    if claimed != scores or any((score.low, score.high, score.n) != (None, None, None) for score in entry.metrics):
        yield "its numbers are not those that the server answered"
