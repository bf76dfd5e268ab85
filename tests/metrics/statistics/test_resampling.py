"""Resampling is seeded, the same for every block size, and draws clusters whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cirbench.metrics.statistics.resampling import bootstrap_means, cluster_sums, sign_flipped_means

GENERATOR = np.random.default_rng(7)
VALUES_QM = np.where(GENERATOR.random((90, 3)) < 0.1, np.nan, GENERATOR.random((90, 3)))
CLUSTERS = tuple(str(number) for number in GENERATOR.integers(0, 25, 90))


@pytest.mark.parametrize("block", [1, 1000, 10_000_000])
def test_the_block_size_changes_nothing(block: int) -> None:
    for clusters in (None, CLUSTERS):
        expected = bootstrap_means(VALUES_QM, clusters=clusters, resamples=301, seed=3)
        assert bootstrap_means(VALUES_QM, clusters=clusters, resamples=301, seed=3, block=block).tobytes() == (
            expected.tobytes()
        )
        flips = sign_flipped_means(VALUES_QM, clusters=clusters, permutations=301, seed=3)
        assert sign_flipped_means(VALUES_QM, clusters=clusters, permutations=301, seed=3, block=block).tobytes() == (
            flips.tobytes()
        )


def test_the_seed_changes_the_resamples_and_nothing_else() -> None:
    one = bootstrap_means(VALUES_QM, resamples=50, seed=0)
    assert one.tobytes() == bootstrap_means(VALUES_QM, resamples=50, seed=0).tobytes()
    assert one.tobytes() != bootstrap_means(VALUES_QM, resamples=50, seed=1).tobytes()


def test_the_other_measures_and_the_order_of_clusters_names_change_nothing() -> None:
    together = bootstrap_means(VALUES_QM, clusters=CLUSTERS, resamples=40)
    alone = bootstrap_means(VALUES_QM[:, 1:2], clusters=CLUSTERS, resamples=40)
    assert together[:, 1].tobytes() == alone[:, 0].tobytes()


@given(st.integers(0, 2**31))
def test_each_resample_is_a_mean_over_whole_clusters(seed: int) -> None:
    """With powers of a large base as cluster sums, a mean tells how often each cluster was drawn."""
    clusters = ("a", "a", "b", "c", "c", "c")
    values = np.array([[0.0], [0.0], [1.0], [0.0], [0.0], [0.0]])
    for mean in bootstrap_means(values, clusters=clusters, resamples=20, seed=seed)[:, 0]:
        drawn = {b / (2 * a + b + 3 * c) for a in range(4) for b in range(4) for c in range(4) if a + b + c == 3}
        assert any(abs(mean - possible) < 1e-9 for possible in drawn)


def test_every_cluster_of_one_query_is_as_no_clusters() -> None:
    one_each = tuple(f"{number:03}" for number in range(90))
    alone = bootstrap_means(VALUES_QM, resamples=30)
    assert bootstrap_means(VALUES_QM, clusters=one_each, resamples=30).tobytes() == alone.tobytes()


def test_a_resample_in_which_nobody_takes_part_has_no_mean() -> None:
    values = np.array([[1.0], [np.nan], [np.nan]])
    means = bootstrap_means(values, resamples=200)[:, 0]
    assert set(means[~np.isnan(means)]) == {1.0}
    assert 0.2 < np.isnan(means).mean() < 0.4  # (2/3)^3


def test_sums_of_clusters_are_exact_to_the_last_bit() -> None:
    sums_CM, counts_CM = cluster_sums(VALUES_QM, CLUSTERS)
    shuffled = np.random.default_rng(0).permutation(90)
    again, _ = cluster_sums(VALUES_QM[shuffled], [CLUSTERS[at] for at in shuffled])
    assert sums_CM.tobytes() == again.tobytes()
    assert counts_CM.sum() == np.count_nonzero(~np.isnan(VALUES_QM))
    np.testing.assert_allclose(sums_CM.sum(axis=0), np.nansum(VALUES_QM, axis=0), atol=1e-8)
