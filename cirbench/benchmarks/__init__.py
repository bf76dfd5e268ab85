"""Data sets: queries, galleries, protocols, and where their files are.

Importing this loads the catalogue and nothing else; a data set's module is imported when its protocol is loaded.
"""

from __future__ import annotations

from cirbench.benchmarks.catalogue import (
    choose_protocol,
    datasets,
    find_dataset,
    load_protocol,
    protocols,
)
from cirbench.benchmarks.entry import DatasetEntry, ProtocolEntry

__all__ = ["DatasetEntry", "ProtocolEntry", "choose_protocol", "datasets", "find_dataset", "load_protocol", "protocols"]
