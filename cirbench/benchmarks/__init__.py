"""Data sets: queries, galleries, protocols, and where their files are.

Importing this loads the catalogue and nothing else; a benchmark's module is imported when it is asked for.
"""

from __future__ import annotations

from cirbench.benchmarks.catalogue import (
    choose_protocol,
    datasets,
    find_dataset,
    load_protocol,
    protocols,
)
from cirbench.benchmarks.interface import Benchmark, ProtocolEntry

__all__ = ["Benchmark", "ProtocolEntry", "choose_protocol", "datasets", "find_dataset", "load_protocol", "protocols"]
