"""A board with as many valid entries as one likes, for timing: ``python -m tests.leaderboard.crowd N ...``."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from cirbench.leaderboard.entry import ENTRY, RANKS, entry_id, read_entry, read_evidence, sealed
from cirbench.leaderboard.site.build import build_site
from cirbench.support.arrays import read_archive, to_archive
from cirbench.support.files import write_bytes, write_versioned

if TYPE_CHECKING:
    from numpy.typing import NDArray

COMMITTED = Path(__file__).parents[2] / "leaderboards" / "entries"


def crowd(entries: Path, count: int) -> Path:
    """Write entries of one protocol and backbone: each answers every query as one of the committed ones does."""
    folders = sorted(COMMITTED.glob("scenes-val--*"))
    entry = read_entry(folders[0])
    sources = [read_archive(folder / RANKS) for folder in folders]
    evidence = read_evidence(folders[0] / RANKS)
    sources = [arrays for arrays in sources if arrays["shown_SK"].shape == evidence.shown_SK.shape]
    queries, offsets = len(evidence.query_ids), evidence.relevant_ranks.offsets
    write_bytes(entries / "protocols.json", (COMMITTED / "protocols.json").read_bytes())
    generator = np.random.default_rng(0)
    for number in range(count):
        chances = generator.dirichlet(np.full(len(sources), 0.5))
        source_Q = generator.choice(len(sources), queries, p=chances)

        def mixed(name: str, source: NDArray[np.int64]) -> NDArray[np.int64]:
            chosen: NDArray[np.int64] = np.stack([arrays[name] for arrays in sources])[source, np.arange(len(source))]
            return chosen

        ranks = mixed("relevant_ranks", np.repeat(source_Q, np.diff(offsets)))
        groups_Q = mixed("group_ranks_Q", source_Q)
        changed = {
            "relevant_ranks": ranks,
            "group_ranks_Q": groups_Q,
            "shown_SK": mixed("shown_SK", source_Q[evidence.shown_places]),
        }
        content = to_archive(sources[0] | changed)
        own = dataclasses.replace(evidence, relevant_ranks=evidence.relevant_ranks.like(ranks), group_ranks_Q=groups_Q)
        run = hashlib.sha256(str(number).encode()).hexdigest()
        made = msgspec.structs.replace(
            entry,
            id=entry_id(entry.protocol.name, entry.method.name, run),
            run=run,
            metrics=own.scores([score.label for score in entry.metrics]),
            ranks=hashlib.sha256(content).hexdigest(),
        )
        write_bytes(entries / made.id / RANKS, content)
        write_versioned(entries / made.id / ENTRY, sealed(made))
    return entries


def seconds_to_build(count: int) -> list[float]:
    """CPU seconds of the first build of a site with so many entries, and of a second one."""
    with tempfile.TemporaryDirectory() as folder:
        entries, taken = crowd(Path(folder) / "entries", count), []
        for _ in range(2):
            started = time.process_time()
            built = build_site(entries, Path(folder) / "site")
            taken.append(time.process_time() - started)
        assert not built.left_out, built.left_out[:2]
        return taken


if __name__ == "__main__":
    for asked in sys.argv[1:]:
        print(asked, *(f"{seconds:.1f}" for seconds in seconds_to_build(int(asked))))
