"""Audits of entries say what audits of their runs say, as far as an entry keeps what they need."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from cirbench.comparison.audit import audit_run
from cirbench.comparison.published import load_published
from cirbench.leaderboard.adding import add_run
from cirbench.leaderboard.audits import audits, released
from cirbench.leaderboard.entry import (
    ENTRY,
    RANKS,
    SHOWN_ITEMS,
    SHOWN_QUERIES,
    Entry,
    EntryMetric,
    pack,
    read_evidence,
    spread,
)
from cirbench.support.arrays import read_archive, to_archive
from cirbench.support.files import write_versioned
from tests.leaderboard.runs import method, run_of, tiny
from tests.toy_protocols import circo_like

if TYPE_CHECKING:
    from pathlib import Path

    from cirbench.protocol import EvaluationProtocol
    from cirbench.runs.folder import Run

KEPT = circo_like(queries=60, items=200)


def keep(run: Run, protocol: EvaluationProtocol, entries: Path) -> str:
    """Write an entry as it would be added, of a protocol that only this test knows."""
    result = run.result
    entry = Entry(
        id=result.method.name,
        run=result.digest,
        method=result.method,
        protocol=result.protocol,
        backbone=result.backbone,
        counts=result.counts,
        metrics=tuple(EntryMetric(label=each.label, value=each.value) for each in result.metrics),
        seed=0,
        commands=(),
        environment=result.environment,
        created=result.created,
        ranks_stored=True,
    )
    (entries / entry.id).mkdir(parents=True)
    (entries / entry.id / RANKS).write_bytes(pack(read_archive(run.folder / "per_query.npz"), protocol))
    write_versioned(entries / entry.id / ENTRY, entry)
    return entry.id


def forget_references(entries: Path, id: str) -> None:
    """Make of an archive one from before places of references were kept."""
    arrays = read_archive(entries / id / RANKS)
    del arrays["reference_places_Q"], arrays["list_depth"]
    (entries / id / RANKS).write_bytes(to_archive(arrays))


def test_entries_have_the_gap_and_the_bounds_of_their_runs(tmp_path: Path) -> None:
    runs = {
        name: run_of(tmp_path / "runs" / f"{name}-1", method=method(name), seed=seed, skill=skill)
        for seed, (name, skill) in enumerate({"image-only": 0.3, "text-only": 0.5, "a-method": 1.5}.items())
    }
    entries = tmp_path / "entries"
    ids = {name: add_run(run.folder, entries).name for name, run in runs.items()}
    found = audits(ids.values(), entries)
    expected = audit_run("a-method", runs["a-method"], tiny())
    mine = found[ids["a-method"]]
    assert mine.reference == "removed"
    assert mine.one_modality is not None
    for name in ("value", "one_modality", "composition_gap", "bounds"):
        assert msgspec.to_builtins(getattr(mine, name)) == pytest.approx(msgspec.to_builtins(getattr(expected, name)))
    assert (mine.copies_in_top, mine.copies_listed) == (expected.copies_in_top, SHOWN_QUERIES)
    assert found[ids["text-only"]].one_modality == mine.one_modality
    assert found[ids["text-only"]].composition_gap is None


def test_released_lists_are_of_published_rows_on_the_protocol_that_was_audited() -> None:
    rows = {row.id: row for row in load_published().rows}
    for id, lists in released().items():
        assert f"{rows[id].protocol}@1" == lists.protocol and rows[id].provenance in ("own", "quoted")
        shares = [*lists.reference_in_top.values()]
        assert shares == sorted(shares)
        counts = [share * lists.queries / 100 for share in shares]
        assert counts == pytest.approx([*map(round, counts)], abs=1e-9)
    assert released()["circo-test/ldre/vit-l-14/quoted"].reference_in_top["5"] == pytest.approx(14.375)


def test_an_entry_without_the_baselines_of_its_backbone_has_no_gap(tmp_path: Path) -> None:
    entries = tmp_path / "entries"
    id = add_run(run_of(tmp_path / "run", method=method("a-method")).folder, entries).name
    assert (found := audits([id], entries)[id]).one_modality is None and found.composition_gap is None


def test_the_place_of_references_that_an_entry_keeps_gives_the_audit_of_its_run(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", KEPT, seed=1, skill=0.5)
    id = keep(run, KEPT, tmp_path / "entries")
    expected, found = audit_run("run", run, KEPT), audits([id], tmp_path / "entries")[id]
    assert (found.reference, found.listed) == ("candidate", 60)
    assert found.reference_in_top == expected.reference_in_top
    assert found.without_reference == pytest.approx(expected.without_reference)
    assert found.listed_value == pytest.approx(found.value)


def test_an_entry_from_before_is_audited_by_its_shown_lists_and_says_of_how_many_queries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tmp_path / "run", KEPT, seed=1, skill=0.5)
    id = keep(run, KEPT, tmp_path / "entries")
    forget_references(tmp_path / "entries", id)
    assert audits([id], tmp_path / "entries")[id].reference == "unknown"  # its protocol is not here
    monkeypatch.setattr("cirbench.leaderboard.binding.at_hand", lambda name: KEPT if name == KEPT.name else None)
    found = audits([id], tmp_path / "entries")[id]
    places = spread(60, SHOWN_QUERIES)
    top_SK = read_archive(run.folder / "per_query.npz")["top_QK"][places, :SHOWN_ITEMS]
    assert KEPT.gallery is not None
    references = [KEPT.gallery.positions[KEPT.queries[place].reference.id] for place in places]
    assert found.listed == SHOWN_QUERIES and found.reference_in_top is not None
    for k in (1, 5, 10):
        hits = [reference in row[:k] for reference, row in zip(references, top_SK.tolist(), strict=True)]
        assert found.reference_in_top[k] == pytest.approx(100 * np.mean(hits))
    assert found.reference_in_top[50] is None
    values_Q = run.values[run.result.metrics[0].label]
    assert found.listed_value == pytest.approx(100 * values_Q[places].mean())
    assert found.without_reference == pytest.approx(without_reference_of(run, places, tmp_path / "again"))


def without_reference_of(run: Run, places: list[int], entries: Path) -> float:
    """The headline over some queries without their references, from places that are known for all."""
    evidence = read_evidence(entries / keep(run, KEPT, entries) / RANKS)
    assert evidence.references is not None
    moved = dataclasses.replace(evidence, relevant_ranks=evidence.references.removed_from(evidence.relevant_ranks))
    (measured,) = moved.measured([run.result.metrics[0].label])[:1]
    return 100 * float(measured.values_Q[places].mean())
