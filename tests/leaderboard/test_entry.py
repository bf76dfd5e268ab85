"""Ranks, clusters, slices and soft labels are all that the numbers of any protocol follow from."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cirbench.comparison.audit import NO_CANDIDATE, ReferencePlaces
from cirbench.errors import CorruptFile
from cirbench.leaderboard.check import shown_as_ranked
from cirbench.leaderboard.entry import MOST_STORED, pack, read_evidence, spread
from cirbench.metrics.functions import UNRANKED
from cirbench.metrics.table import Measure
from cirbench.protocol import Labels
from cirbench.support.arrays import read_archive
from tests.leaderboard.runs import run_of
from tests.toy_protocols import circo_like, cirr_like, fashioniq_like, genecis_like

if TYPE_CHECKING:
    from pathlib import Path

    from cirbench.protocol import EvaluationProtocol


def soft() -> EvaluationProtocol:
    """Soft labels, and queries that share a reference drawn together."""
    protocol = cirr_like(60, 90)
    assert protocol.groups is not None
    relevant = tuple((group[1], group[2]) for group in protocol.groups)
    return dataclasses.replace(
        protocol,
        labels=Labels(relevant, tuple((1.0, 0.5) if place % 3 else (0.2, -1.0) for place in range(60))),
        measures=tuple(Measure("Recall_soft", k) for k in (1, 5, 10)),
        clusters=tuple(query.reference.id for query in protocol.queries),
    )


PROTOCOLS = {
    "several ground truths and aspects": circo_like(40, 120),
    "groups": cirr_like(60, 90),
    "galleries of categories and their mean": fashioniq_like(),
    "candidates of each query": genecis_like(60, 120),
    "soft labels": soft(),
}


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_the_numbers_of_a_run_follow_from_its_evidence(protocol: EvaluationProtocol, tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", protocol, seed=3, skill=0.7)
    (tmp_path / "ranks.npz").write_bytes(pack(read_archive(run.folder / "per_query.npz"), protocol))
    evidence = read_evidence(tmp_path / "ranks.npz")
    labels = [metric.label for metric in run.result.metrics]
    assert [(s.label, s.value, s.low, s.high, s.n) for s in evidence.scores(labels)] == [
        (m.label, m.value, m.low, m.high, m.n) for m in run.result.metrics
    ]
    assert evidence.all_labels(labels) == {*labels}
    assert evidence.belongs_to(protocol.fields)
    for measured in evidence.measured(labels):
        np.testing.assert_array_equal(measured.values_Q, run.values[measured.label])


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_the_place_of_each_reference_is_kept_where_references_are_ranked(
    protocol: EvaluationProtocol, tmp_path: Path
) -> None:
    run = run_of(tmp_path / "run", protocol, seed=3, skill=0.7)
    arrays = read_archive(run.folder / "per_query.npz")
    (tmp_path / "ranks.npz").write_bytes(pack(arrays, protocol))
    found = read_evidence(tmp_path / "ranks.npz").references
    assert protocol.gallery is not None
    if protocol.exclude_reference:
        assert found is None
        return
    assert found is not None and found.depth == 50
    pools = protocol.pools or (protocol.gallery.ids,)
    for place, query in enumerate(protocol.queries):
        top = [protocol.gallery.ids[at] for at in arrays["top_QK"][place] if at >= 0]
        pool = pools[protocol.pool_of_query[place] if protocol.pool_of_query else 0]
        expected = top.index(query.reference.id) + 1 if query.reference.id in top else UNRANKED
        assert found.places_Q[place] == (expected if query.reference.id in pool else NO_CANDIDATE)


def test_a_reference_that_the_shown_items_hold_elsewhere_is_noticed(tmp_path: Path) -> None:
    protocol = circo_like(40, 120)
    arrays = read_archive(run_of(tmp_path / "run", protocol).folder / "per_query.npz")
    (tmp_path / "ranks.npz").write_bytes(pack(arrays, protocol))
    evidence = read_evidence(tmp_path / "ranks.npz")
    assert evidence.references is not None
    assert [*shown_as_ranked(evidence, protocol)] == []
    hidden = ReferencePlaces(np.full(40, UNRANKED), 50)
    (told,) = shown_as_ranked(dataclasses.replace(evidence, references=hidden), protocol)
    assert told == "a reference has another rank than the items to show say"


def test_a_slice_that_is_left_out_is_missed(tmp_path: Path) -> None:
    protocol = circo_like(40, 120)
    run = run_of(tmp_path / "run", protocol)
    (tmp_path / "ranks.npz").write_bytes(pack(read_archive(run.folder / "per_query.npz"), protocol))
    labels = [metric.label for metric in run.result.metrics][:-1]
    assert read_evidence(tmp_path / "ranks.npz").all_labels(labels) - {*labels} == {run.result.metrics[-1].label}


def test_equal_runs_make_equal_bytes(tmp_path: Path) -> None:
    protocol = circo_like(40, 120)
    packed = [pack(read_archive(run_of(tmp_path / name, protocol).folder / "per_query.npz"), protocol) for name in "ab"]
    assert packed[0] == packed[1]


def test_an_archive_that_is_too_large_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "ranks.npz"
    path.write_bytes(bytes(MOST_STORED + 1))
    with pytest.raises(CorruptFile, match="is larger than 1,048,576 bytes"):
        read_evidence(path)


@pytest.mark.parametrize(("total", "count", "places"), [(4, 2, [0, 2]), (3, 12, [0, 1, 2]), (5, 2, [0, 2])])
def test_what_is_shown_is_spread_over_the_queries(total: int, count: int, places: list[int]) -> None:
    assert spread(total, count) == places
