"""A protocol's ids become positions, and ties get an order that no label and no listing can influence."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import pytest

from cirbench.errors import MissingData
from cirbench.ranking import ranking_task, tie_order
from tests.toy_protocols import circo_like, cirr_like, genecis_like


def test_ties_are_ordered_by_the_sha256_of_the_id() -> None:
    names = [f"image {number}" for number in range(100)]
    by_hash = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    order = tie_order(names)
    assert [names[at] for at in np.argsort(order)] == by_hash
    assert dict(zip(names, order, strict=True)) == dict(zip(names[::-1], tie_order(names[::-1]), strict=True))


def test_groups_leave_out_the_reference_and_exclusions_name_it() -> None:
    protocol = cirr_like(queries=30)
    task = ranking_task(protocol)
    assert protocol.gallery is not None and protocol.groups is not None and task.groups is not None
    for row, query in enumerate(protocol.queries):
        assert protocol.gallery.ids[task.excluded_Q[row]] == query.reference.id
        named = [protocol.gallery.ids[at] for at in task.groups[row]]
        assert sorted(named) == sorted(set(protocol.groups[row]) - {query.reference.id})


def test_pools_are_positions_of_their_ids() -> None:
    protocol = genecis_like(queries=5)
    task = ranking_task(protocol)
    assert protocol.gallery is not None and protocol.pools is not None and task.pools is not None
    for pool, names in zip(task.pools, protocol.pools, strict=True):
        assert tuple(protocol.gallery.ids[at] for at in pool) == names


def test_a_protocol_whose_labels_are_hidden_asks_for_no_ranks() -> None:
    task = ranking_task(dataclasses.replace(circo_like(), labels=None))
    assert len(task.relevant) == 120
    assert len(task.relevant.values) == 0


def test_nothing_is_ranked_without_a_gallery() -> None:
    with pytest.raises(MissingData, match="The gallery of toy/circo-like@1 is not available"):
        ranking_task(dataclasses.replace(circo_like(), gallery=None))
