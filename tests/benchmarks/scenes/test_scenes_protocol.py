"""The protocols as others see them."""

from __future__ import annotations

import pytest

from cirbench.benchmarks.scenes import scenes_protocol
from cirbench.benchmarks.scenes.queries import ASPECTS
from cirbench.errors import UnknownName


@pytest.mark.parametrize(("split", "queries", "gallery"), [("val", 1000, 10_000), ("tiny", 60, 600)])
def test_a_split_has_the_size_it_announces(split: str, queries: int, gallery: int) -> None:
    protocol = scenes_protocol(split)
    assert protocol.name == f"scenes/{split}@1"
    assert len(protocol.queries) == queries
    assert protocol.gallery is not None
    assert len(protocol.gallery) == len(protocol.gallery.positions) == gallery


def test_the_headline_is_map_at_5_and_the_rest_follows() -> None:
    measures = [str(measure) for measure in scenes_protocol("val").measures]
    assert measures == [
        *(f"mAP@{k}" for k in (5, 10, 25, 50)),
        *(f"Recall@{k}" for k in (1, 5, 10, 50)),
        *(f"Recall_subset@{k}" for k in (1, 2, 3)),
        "mAP@10 per aspect",
    ]


def test_ids_in_labels_groups_and_references_are_ids_of_the_gallery() -> None:
    protocol = scenes_protocol("tiny")
    assert protocol.gallery is not None and protocol.labels is not None and protocol.groups is not None
    known = protocol.gallery.positions
    for query, relevant, group in zip(protocol.queries, protocol.labels.relevant, protocol.groups, strict=True):
        assert {query.reference.id, *relevant, *group} <= known.keys()
        assert query.reference.id in group and query.reference.id not in relevant
        assert protocol.gallery.items[known[query.reference.id]].image == query.reference.image


def test_every_query_carries_aspects_and_a_cluster_of_queries_on_the_same_reference() -> None:
    protocol = scenes_protocol("tiny")
    assert protocol.clusters is not None
    assert all(aspects and set(aspects) <= set(ASPECTS) for aspects in protocol.slices["aspect"])
    references = {
        (cluster, query.reference.id) for cluster, query in zip(protocol.clusters, protocol.queries, strict=True)
    }
    assert len(references) == len(set(protocol.clusters)) == 30


def test_the_digests_of_annotations_and_pixels_are_part_of_the_identity() -> None:
    digests = scenes_protocol("tiny").data_digests
    assert digests.keys() == {"annotations", "pixels"}
    assert all(len(digest) == 64 for digest in digests.values())


def test_a_protocol_is_built_once_in_a_process() -> None:
    assert scenes_protocol("tiny") is scenes_protocol("tiny")


def test_an_unknown_split_is_named_with_the_nearest_ones() -> None:
    with pytest.raises(UnknownName, match="no split of scenes called 'vall'") as caught:
        scenes_protocol("vall")
    assert caught.value.hint == "Nearest: val."
