"""What can be evaluated: the benchmarks that are installed, found by name, and folders of one's own by their path.

A benchmark is one object in one module, named by an entry point (docs/adding-a-plugin.md). Its module is imported when
the benchmark is asked for by name, and all are when they are listed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from cirbench.benchmarks.interface import BENCHMARKS, Benchmark, ProtocolEntry
from cirbench.errors import UnknownName, UsageError
from cirbench.metrics.table import printed_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cirbench.protocol import EvaluationProtocol

T = TypeVar("T")


def datasets() -> dict[str, Benchmark]:
    """Return every benchmark that works by its name; `BENCHMARKS` knows the broken ones too."""
    return BENCHMARKS.all()[0]


def protocols() -> dict[str, ProtocolEntry]:
    """Return every protocol by its id."""
    return {protocol.id: protocol for entry in datasets().values() for protocol in entry.protocols}


def find_protocol(id: str) -> ProtocolEntry | None:
    """Return the protocol of an id, or ``None``; no other benchmark than its own is imported."""
    name = id.partition("/")[0]
    if name not in BENCHMARKS.names():
        return None
    return next((each for each in BENCHMARKS.find(name).protocols if each.id == id), None)


def paper_columns(protocol: str, labels: Sequence[str]) -> tuple[str, ...]:
    """Return what papers print of the numbers that a protocol reports, as its benchmark says, or else as is usual."""
    name = protocol.partition("/")[0]
    declared = BENCHMARKS.find(name).columns if name in BENCHMARKS.names() else ()
    return tuple(label for label in declared if label in labels) or printed_labels(labels)


def is_folder(name: str) -> bool:
    """Say whether a name that was typed is the path of a folder."""
    try:
        return Path(name).is_dir()
    except OSError:  # no path at all: it is too long, or may not be looked at
        return False


def find_dataset(name: str) -> Benchmark:
    """Return the benchmark of a name, or else the one that is made of the folder at this path.

    Raises:
        UnknownName: There is neither; the hint names the nearest data sets.
        MissingData: The folder holds no table of queries.
        CorruptFile: The folder's table breaks a rule; the message names the line.
        PluginFailed: The benchmark cannot be imported.
    """
    known = BENCHMARKS.names()
    if name in known:
        return BENCHMARKS.find(name)
    if is_folder(name):
        from cirbench.benchmarks.folder import folder_benchmark

        return folder_benchmark(Path(name))
    raise UnknownName("data set", name, known, hint="Nor is there a folder at that path." if "/" in name else None)


def choose_protocol(dataset: str, *, split: str | None = None, protocol: str | None = None) -> ProtocolEntry:
    """Return the protocol that a user means by ``--dataset``, ``--split`` and ``--protocol``.

    Raises:
        UnknownName: There is no such data set, split or protocol; the hint names the nearest ones.
        UsageError: The protocol is not one of the data set, or not one of the split.
        MissingData: The data set is a folder that `find_dataset` cannot read.
    """
    entry = find_dataset(dataset)
    if split is not None and split not in entry.splits:
        raise UnknownName(f"split of {dataset}", split, entry.splits)
    if protocol is None:
        wanted = split or entry.default_split
        return next(candidate for candidate in entry.protocols if candidate.split == wanted)
    own = {each.id: each for each in entry.protocols}
    chosen = own[protocol] if protocol in own else _lookup("protocol", protocol, own | protocols())
    if chosen not in entry.protocols:
        raise UsageError(
            f"The protocol {protocol} is not one of the data set {dataset}.",
            hint=f"Its protocols are {', '.join(candidate.id for candidate in entry.protocols)}.",
        )
    if split is not None and chosen.split != split:
        raise UsageError(
            f"The protocol {protocol} uses the split {chosen.split}, and --split says {split}.",
            hint="Leave --split out.",
        )
    return chosen


def load_protocol(id: str, data_root: Path | None = None) -> EvaluationProtocol:
    """Load a protocol by its id, or your own data by the path of its folder.

    Args:
        id: For instance ``"circo/val"``.
        data_root: The folder that holds the data sets; the one that ``CIRBENCH_DATA`` names where it is ``None``.

    Raises:
        UnknownName: There is no such protocol; the hint names the nearest ones.
        MissingData: Its files are not there, or not whole.
    """
    chosen = find_protocol(id)
    if chosen is None and is_folder(id):
        from cirbench.benchmarks.folder import folder_protocol

        return folder_protocol(Path(id))
    folder, at, split = id.rpartition("@")
    if chosen is None and at and is_folder(folder):
        from cirbench.benchmarks.folder import folder_protocol

        return folder_protocol(Path(folder), split)
    chosen = chosen or _lookup("protocol", id, protocols())
    benchmark = BENCHMARKS.find(chosen.dataset)
    if benchmark.needs is None:
        return benchmark.load(chosen.variant, data_root or Path())
    from cirbench.benchmarks import annotation_files

    return benchmark.load(chosen.variant, annotation_files.data_root(data_root))


def _lookup(kind: str, name: str, known: dict[str, T]) -> T:
    if name not in known:
        raise UnknownName(kind, name, known)
    return known[name]
