"""Audits of the rows of a board, from what their entries keep, and from lists that authors released.

Every entry keeps the rank of each ground truth. Entries from the present version keep the rank of each reference, so
that figures about it rest on all queries; earlier ones keep the first ten items of 48 queries. What a test server
scored is kept whole.
"""

from __future__ import annotations

import contextlib
import gzip
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from cirbench.comparison.audit import (
    Audit,
    audit_lists,
    bounds_of_truths,
    copies_in_top,
    reference_places,
    with_reference,
)
from cirbench.comparison.baselines import composition_subset
from cirbench.errors import CirbenchError
from cirbench.leaderboard.binding import restricted, same_here, ships
from cirbench.leaderboard.entry import RANKS, read_entry, read_evidence
from cirbench.methods.interface import unimodal_baselines
from cirbench.metrics.table import measures_of
from cirbench.runs.predictions.lists import lists_of
from cirbench.support.files import read_versioned

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cirbench.leaderboard.entry import Entry, Evidence


class ReleasedLists(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ranked lists that authors released, and what ``cirbench audit --json`` says of them.

    Attributes:
        rows: Ids of the published rows that they are the lists of, as far as anybody can tell.
        repository: On GitHub.
        commit: Of the repository.
        path: In the repository.
        sha256: Of the file.
        protocol: Id and version.
        queries: How many there are.
        reference_in_top: By cut-off, the share of queries with the reference among the first, in percent.
    """

    rows: tuple[str, ...]
    repository: str
    commit: str
    path: str
    sha256: str
    protocol: str
    queries: int
    reference_in_top: dict[str, float]

    @property
    def href(self) -> str:
        """Where the file is."""
        return f"https://github.com/{self.repository}/blob/{self.commit}/{self.path}"

    @property
    def audit(self) -> Audit:
        """What is known of them; a number only where the ground truths are public."""
        return Audit(
            name=f"{self.repository}, {self.path.rpartition('/')[2]}",
            protocol=self.protocol,
            queries=self.queries,
            label=None,
            value=None,
            reference="candidate",
            listed=self.queries,
            reference_in_top={int(k): share for k, share in self.reference_in_top.items()},
        )


class _Released(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema_version: int = 1
    lists: tuple[ReleasedLists, ...]


@cache
def released() -> Mapping[str, ReleasedLists]:
    """Return released lists by the published row that they are of."""
    file = read_versioned(Path(__file__).parent / "released.json", _Released, version=1)
    return {id: lists for lists in file.lists for id in lists.rows}


def audits(ids: Iterable[str], entries: Path) -> Mapping[str, Audit]:
    """Audit the entries of a board, each with the unimodal ones on its backbone.

    Args:
        ids: Of valid entries.
        entries: The folder in which they lie.
    """
    read = [read_entry(entries / id) for id in ids]
    evidence = {
        entry.id: read_evidence(entries / entry.id / RANKS) for entry in read if (entries / entry.id / RANKS).is_file()
    }
    found = {}
    for entry in read:
        if entry.server_scored:
            found[entry.id] = _of_server(entry, entries / entry.id)
        elif entry.id in evidence:
            beside = [other for other in read if other.id in evidence and _same_ground(entry, other)]
            found[entry.id] = _of_ranks(entry, evidence[entry.id], beside, evidence)
    return found


def _same_ground(entry: Entry, other: Entry) -> bool:
    return (
        entry.protocol.digest == other.protocol.digest
        and entry.backbone.digest == other.backbone.digest
        and not (entry.partial or other.partial)
    )


def _begun(entry: Entry, queries: int) -> Audit:
    """What the entry itself says; its use of shared concepts is among the disclosures of its row already."""
    return Audit(
        name=entry.id,
        protocol=entry.protocol.name,
        queries=queries,
        label=entry.metrics[0].label,
        value=entry.metrics[0].value,
        reference="removed" if entry.protocol.fields.get("exclude_reference") == "True" else "unknown",
    )


# What a server scored.


def _of_server(entry: Entry, folder: Path) -> Audit:
    """Look for the reference in the lists that were submitted, where the annotations are here to name it."""
    found, protocol = _begun(entry, entry.counts.queries), same_here(entry.protocol)
    if protocol is None or found.reference == "removed":
        return found
    for name in entry.lists or {}:
        content = gzip.decompress((folder / name).read_bytes())
        with contextlib.suppress(CirbenchError, msgspec.MsgspecError):  # a form that holds more than lists
            lists = lists_of(name, msgspec.json.decode(content, type=dict[str, list[str | int]]))
            looked = audit_lists(entry.id, lists, protocol)
            found = msgspec.structs.replace(
                found, reference=looked.reference, listed=looked.listed, reference_in_top=looked.reference_in_top
            )
    return found


# What was ranked or scored here.


def _of_ranks(entry: Entry, ranks: Evidence, beside: Iterable[Entry], evidence: Mapping[str, Evidence]) -> Audit:
    label, found = entry.metrics[0].label, _begun(entry, len(ranks.query_ids))
    protocol = same_here(entry.protocol)
    part = None if protocol is None else restricted(protocol, ranks.query_ids)
    shown = None if part is None else part.only(ranks.shown_places)
    known, places = ranks, ranks.references
    if places is None and shown is not None and found.reference != "removed":
        known, places = ranks.only(ranks.shown_places), reference_places(ranks.shown_SK, shown)
    if places is not None:
        lists = entry.scored is not None and any(file.role == "lists" for file in entry.scored.files)
        found = with_reference(found, known, places, known.asked([label]), lists=lists)
    if shown is not None and ships(entry.protocol.name):
        copies = copies_in_top(ranks.shown_SK, shown)
        found = msgspec.structs.replace(found, copies_in_top=copies, copies_listed=len(shown.queries))
    found = msgspec.structs.replace(found, bounds=bounds_of_truths(ranks, ranks, measures_of([label])[0].k))
    return _beside_one_modality(found, entry, label, beside, evidence)


def _beside_one_modality(
    found: Audit, entry: Entry, label: str, beside: Iterable[Entry], evidence: Mapping[str, Evidence]
) -> Audit:
    names = unimodal_baselines()
    sides = {
        other.method.name: other
        for other in beside
        if other.method.name in names and evidence[other.id].query_ids == evidence[entry.id].query_ids
    }
    if not all(name in sides for name in names):
        return found
    image_Q, text_Q = (evidence[sides[name].id].measured([label])[0].values_Q for name in names)
    subset_Q = composition_subset(image_Q, text_Q)
    answered = int((~np.isnan(image_Q)).sum())
    better = max(sides[name][label].value for name in names)
    return msgspec.structs.replace(
        found,
        one_modality=100 * (1 - int(subset_Q.sum()) / answered),
        composition_gap=None if entry.method.name in names else entry[label].value - better,
    )
