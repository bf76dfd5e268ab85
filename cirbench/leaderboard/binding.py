"""What is known of a protocol wherever its files are: its digest, and what fixes the shape of every entry on it.

The digest of a protocol says that an entry names the right protocol. It does not say how many ground truths a query has
or how far down a rank can be, because that needs the annotation files. A `Binding` does, and travels with the digest:
for the benchmarks whose files could be counted in, both are shipped. For others, the first entry of a protocol writes
them into ``protocols.json`` beside the entries, where a reviewer sees them; later entries of that name must agree.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import chain, groupby, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from cirbench.benchmarks.catalogue import datasets, load_protocol, protocols
from cirbench.errors import CirbenchError
from cirbench.metrics.measure import ceilings
from cirbench.support.files import digest, read_versioned, write_versioned

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from cirbench.protocol import EvaluationProtocol
    from cirbench.runs.schema import ProtocolRecord

SCHEMA_VERSION = 2
FILE = "protocols.json"
SHIPPED = Path(__file__).parent / FILE

Runs = tuple[tuple[int, int], ...]
"""A number for each query, as (how many queries in a row, the number)."""


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A part of the file."""


class Binding(_Part, frozen=True):
    """What every whole entry on a protocol has in common.

    Attributes:
        queries: Digest of the ids in order.
        count: How many there are.
        gallery: How many images there are.
        candidates: Per query, how many images it ranks.
        labels: Labels of the numbers that the protocol reports; empty where a server keeps the ground truths.
        truths: Digest of how many ground truths each query has; ``None`` where a server keeps them.
        total: How many ground truths there are.
        groups: Per query, how many images its group has without the reference, or ``None``.
        gains: Digest of the soft labels, or ``None``.
    """

    queries: str
    count: int
    gallery: int
    candidates: Runs
    labels: tuple[str, ...] = ()
    truths: str | None = None
    total: int = 0
    groups: Runs | None = None
    gains: str | None = None

    @property
    def labelled(self) -> bool:
        """Whether the ground truths are public."""
        return bool(self.labels)


class KnownProtocol(_Part, frozen=True):
    """A protocol by name.

    Attributes:
        digest: Of everything that fixes a number.
        binding: What its entries have in common; ``None`` in files of schema version 1, which did not have it.
    """

    digest: str
    binding: Binding | None = None


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema_version: int = SCHEMA_VERSION
    protocols: dict[str, KnownProtocol]


def expand(runs: Runs) -> NDArray[np.int64]:
    """Return the number of each query."""
    return np.fromiter(chain.from_iterable(repeat(number, times) for times, number in runs), dtype=np.int64)


def _runs(numbers: Iterable[int]) -> Runs:
    return tuple((len([*same]), number) for number, same in groupby(numbers))


def binding_of(protocol: EvaluationProtocol) -> Binding | None:
    """Return what binds the entries on a protocol; ``None`` where its gallery is not available."""
    gallery, labels = protocol.gallery, protocol.labels
    if gallery is None:
        return None
    pools = protocol.pools or (gallery.ids,)
    members = [frozenset(pool) for pool in pools]
    pool_of_query = protocol.pool_of_query or (0,) * len(protocol.queries)
    excluded = [
        protocol.exclude_reference and query.reference.id in members[pool]
        for query, pool in zip(protocol.queries, pool_of_query, strict=True)
    ]
    groups = None
    if protocol.groups is not None:
        groups = _runs(
            len({*group} - {query.reference.id}) for query, group in zip(protocol.queries, protocol.groups, strict=True)
        )
    return Binding(
        queries=digest([query.id for query in protocol.queries]),
        count=len(protocol.queries),
        gallery=len(gallery),
        labels=tuple(each.label for each in ceilings(protocol)),
        truths=None if labels is None else digest([*map(len, labels.relevant)]),
        total=0 if labels is None else sum(map(len, labels.relevant)),
        candidates=_runs(len(members[pool]) - out for pool, out in zip(pool_of_query, excluded, strict=True)),
        groups=groups,
        gains=None if labels is None or labels.gains is None else digest(labels.gains),
    )


def known_protocols(entries: Path) -> Mapping[str, KnownProtocol]:
    """Return each known protocol by its name, ``circo/val@1``; what is shipped wins.

    Raises:
        CorruptFile: The file beside the entries is damaged.
    """
    return {**_read(entries / FILE), **_read(SHIPPED)}


def register_protocol(entries: Path, protocol: EvaluationProtocol) -> None:
    """Make a protocol known beside the entries."""
    known = {
        **_read(entries / FILE),
        protocol.name: KnownProtocol(digest=protocol.digest, binding=binding_of(protocol)),
    }
    write_versioned(entries / FILE, _File(protocols=dict(sorted(known.items()))))


def reserved(name: str, known: Mapping[str, KnownProtocol]) -> bool:
    """Whether a protocol goes by a benchmark's name, and is another version than the one that cirbench ships."""
    id = name.partition("@")[0]
    return name not in known and any(each.partition("@")[0] == id for each in _read(SHIPPED))


@lru_cache(maxsize=8)
def at_hand(name: str) -> EvaluationProtocol | None:
    """Return a benchmark's protocol where the benchmark ships with cirbench or its annotations are here."""
    id = name.partition("@")[0]
    if id not in protocols():
        return None
    try:
        protocol = load_protocol(id)
    except CirbenchError:
        return None
    return protocol if protocol.name == name else None


def same_here(recorded: ProtocolRecord) -> EvaluationProtocol | None:
    """Return the protocol that an entry was made on, where it is here and is the same."""
    protocol = at_hand(recorded.name)
    return protocol if protocol is not None and protocol.digest == recorded.digest else None


def ships(protocol: str) -> bool:
    """Whether a benchmark comes with cirbench, so that its files are always here."""
    dataset = datasets().get(protocol.partition("/")[0])
    return dataset is not None and dataset.needs is None


def restricted(protocol: EvaluationProtocol, query_ids: Sequence[str]) -> EvaluationProtocol | None:
    """Return the protocol with these queries only, in this order; ``None`` where it lacks one of them."""
    places = {query.id: place for place, query in enumerate(protocol.queries)}
    if not all(id in places for id in query_ids):
        return None
    return protocol.only([places[id] for id in query_ids])


def _with_names(values: dict[str, Any]) -> dict[str, Any]:
    """Version 1 held a digest by name."""
    return {
        "schema_version": 2,
        "protocols": {name: {"digest": value} for name, value in values["protocols"].items()},
    }


def _read(path: Path) -> dict[str, KnownProtocol]:
    if not path.is_file():
        return {}
    return read_versioned(path, _File, version=SCHEMA_VERSION, migrations={1: _with_names}, limit=4 << 20).protocols
