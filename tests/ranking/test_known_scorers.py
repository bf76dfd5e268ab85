"""Scorers whose results are known reach them on every kind of protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from cirbench.benchmarks.scenes import scenes_protocol
from cirbench.metrics import measure
from cirbench.ranking import UNRANKED, rank, ranking_task
from tests import scorers
from tests.toy_protocols import circo_like, cirr_like, fashioniq_like, genecis_like

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cirbench.protocol import EvaluationProtocol
    from cirbench.ranking import Ranking

pytestmark = pytest.mark.slow

PROTOCOLS: Mapping[str, Callable[[], EvaluationProtocol]] = {
    "circo-like": circo_like,
    "cirr-like": cirr_like,
    "fashioniq-like": fashioniq_like,
    "genecis-like": genecis_like,
    "scenes/tiny": lambda: scenes_protocol("tiny"),
}


@pytest.fixture(params=PROTOCOLS, scope="module")
def protocol(request: pytest.FixtureRequest) -> EvaluationProtocol:
    return PROTOCOLS[request.param]()


def ranked(protocol: EvaluationProtocol, features: scorers.Features) -> Ranking:
    queries_QD, gallery_ND = features
    return rank(queries_QD, gallery_ND, ranking_task(protocol))


def values(protocol: EvaluationProtocol, features: scorers.Features) -> dict[str, float]:
    return {found.label: found.value for found in measure(ranked(protocol, features), protocol)}


def candidates(protocol: EvaluationProtocol) -> list[set[str]]:
    """The ids that each query ranks, by the definition of the protocol."""
    assert protocol.gallery is not None
    found = []
    for number, query in enumerate(protocol.queries):
        pool = set(protocol.gallery.ids)
        if protocol.pools is not None and protocol.pool_of_query is not None:
            pool = set(protocol.pools[protocol.pool_of_query[number]])
        found.append(pool - {query.reference.id} if protocol.exclude_reference else pool)
    return found


def test_an_oracle_is_right_about_everything(protocol: EvaluationProtocol) -> None:
    found = values(protocol, scorers.oracle(protocol))
    assert protocol.labels is not None
    most = max(len(truths) for truths in protocol.labels.relevant)
    for label, value in found.items():
        perfect = label.startswith(("mAP", "Recall_subset")) or int(label.split("@")[1].split("[")[0]) >= most
        assert value == 1.0 if perfect else value > 0, label


@pytest.mark.parametrize("scorer", [scorers.constant, scorers.random])
def test_a_scorer_that_knows_nothing_finds_the_target_by_chance(
    protocol: EvaluationProtocol, scorer: Callable[[EvaluationProtocol], scorers.Features]
) -> None:
    ranking = ranked(protocol, scorer(protocol))
    targets = ranking.relevant_ranks.values[ranking.relevant_ranks.offsets[:-1]]
    sizes = np.array([len(pool) for pool in candidates(protocol)])
    for k in (1, 3, 10, 50):
        chance = np.minimum(k / sizes, 1)
        spread = 4.5 * np.sqrt((chance * (1 - chance)).sum()) / len(sizes)
        assert abs(np.mean(targets <= k) - chance.mean()) <= spread + 1e-12


def test_a_random_scorer_has_the_target_first_in_its_group_one_time_in_five() -> None:
    protocol = cirr_like(queries=4000)
    found = values(protocol, scorers.random(protocol))
    for k in (1, 2, 3):
        assert abs(found[f"Recall_subset@{k}"] - k / 5) < 4.5 * np.sqrt(k / 5 * (1 - k / 5) / 4000)


def test_a_constant_scorer_gains_nothing_from_the_target_standing_first_in_its_list() -> None:
    protocol = genecis_like()
    ranking = ranked(protocol, scorers.constant(protocol))
    found = values(protocol, scorers.constant(protocol))
    assert abs(found["Recall@1"] - 1 / 15) < 4.5 * np.sqrt(1 / 15 * 14 / 15 / 2000)
    assert ranking.tied_relevant == 2000
    assert (ranking.relevant_ties.values == 14).all()


def test_a_copy_of_the_reference_finds_the_reference_first_where_it_is_kept(protocol: EvaluationProtocol) -> None:
    assert protocol.gallery is not None
    ranking = ranked(protocol, scorers.copy_of_reference(protocol))
    for row, (query, pool) in enumerate(zip(protocol.queries, candidates(protocol), strict=True)):
        reference = protocol.gallery.positions[query.reference.id]
        if query.reference.id in pool:
            assert ranking.top_QK[row, 0] == reference
            assert ranking.relevant_ranks[row].min() > 1
        else:
            assert reference not in ranking.top_QK[row]


def test_an_excluded_reference_has_no_rank_even_where_it_is_labelled_relevant() -> None:
    protocol = cirr_like(queries=20)
    task = ranking_task(protocol)
    task.relevant.values[3] = task.excluded_Q[3]
    queries_QD, gallery_ND = scorers.copy_of_reference(protocol)
    ranks = rank(queries_QD, gallery_ND, task).relevant_ranks.values
    assert ranks[3] == UNRANKED
    assert np.count_nonzero(ranks == UNRANKED) == 1
