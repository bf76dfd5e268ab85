"""How often intervals contain the truth, and how often the paired test finds a difference: simulated.

``make coverage`` prints the tables of docs/comparing.md; the tests beside this module run a shortened version.
"""

from __future__ import annotations

import dataclasses
import sys
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from cirbench.metrics.intervals import Interval, intervals
from cirbench.metrics.paired import Pair, compare_all
from tests.metrics.measured import Measured, over_seeds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

SINGLE = (1,)
RARELY = 0.05

GROWING = tuple(int(size) for size in np.rint(np.linspace(1, 30, 40)))
"""Sizes of 40 clusters, from 1 to 30."""


@dataclasses.dataclass(frozen=True)
class Population:
    """Queries in clusters, with values of known probabilities.

    Attributes:
        name: What it stands for.
        sizes: Of its clusters.
        values: What a query may have.
        chances: Of each value.
        correlation: Between queries of one cluster. Each cluster has chances of its own, from a Dirichlet distribution
            (for zeros and ones: beta-binomial hits); at 1 all queries of a cluster have the same value.
    """

    name: str
    sizes: tuple[int, ...]
    values: tuple[float, ...]
    chances: tuple[float, ...]
    correlation: float = 0.0

    @property
    def mean(self) -> float:
        """The truth."""
        return float(np.dot(self.values, self.chances))

    @property
    def clusters(self) -> list[str]:
        """Per query its cluster."""
        return np.repeat([f"{at:04}" for at in range(len(self.sizes))], self.sizes).tolist()

    def draw(self, generator: np.random.Generator) -> NDArray[np.float64]:
        """One sample, a value per query."""
        chances, clusters = np.array(self.chances), len(self.sizes)
        if self.correlation == 0:
            chances_CV = np.tile(chances, (clusters, 1))
        elif self.correlation == 1:
            chances_CV = generator.multinomial(1, chances, size=clusters).astype(np.float64)
        else:
            chances_CV = generator.dirichlet(chances * (1 / self.correlation - 1), size=clusters)
        limits_QV = np.repeat(chances_CV.cumsum(axis=1)[:, :-1], self.sizes, axis=0)
        drawn_Q = (generator.random((len(limits_QV), 1)) >= limits_QV).sum(axis=1)
        values_Q: NDArray[np.float64] = np.array(self.values)[drawn_Q]
        return values_Q


def hits(share: float, sizes: tuple[int, ...], correlation: float = 0.0) -> Population:
    """Zeros and ones."""
    return Population(f"0/1, p = {share:g}", sizes, (0.0, 1.0), (1 - share, share), correlation)


PAIRS_500, PAIRS_30, ALONE_220, ALONE_21 = (2,) * 500, (2,) * 30, SINGLE * 220, SINGLE * 21
CORRELATIONS = (0.0, 0.3, 1.0)

OF_INTERVALS = (
    *(hits(share, PAIRS_500, correlation) for correlation in CORRELATIONS for share in (0.5, 0.1, 0.02, 0.005, 0.001)),
    *(hits(share, PAIRS_30, correlation) for correlation in CORRELATIONS for share in (0.5, 0.1, 0.05, 0.01)),
    *(hits(share, ALONE_220) for share in (0.005, 0.05, 0.99)),
    hits(0.05, ALONE_21),
    *(hits(share, GROWING, correlation) for correlation in CORRELATIONS for share in (0.3, 0.05)),
    *(
        Population(name, sizes, values, chances, correlation)
        for name, values, chances in (
            ("AP, mean 0.20", (0, 0.2, 1 / 3, 0.5, 1), (0.6, 0.1, 0.1, 0.1, 0.1)),
            ("AP, mean 0.02", (0, 0.1, 0.3, 1), (0.9, 0.07, 0.02, 0.01)),
            ("mean of two recalls", (0, 0.5, 1), (0.5, 0.3, 0.2)),
            ("rarely not 0.25", (0.25, 1), (0.99, 0.01)),
        )
        for sizes, correlation in ((ALONE_21, 0.0), (ALONE_220, 0.0), (PAIRS_500, 0.3))
    ),
)


def skewed(share: float, sizes: tuple[int, ...], correlation: float = 0.0) -> Population:
    """Differences that are +0.95 for few queries and little below zero for the others; their mean is zero."""
    rest = -0.95 * share / (1 - share)
    return Population(f"+.95 at {share:g}", sizes, (0.95, rest), (share, 1 - share), correlation)


def wins(share: float, sizes: tuple[int, ...], correlation: float = 0.0) -> Population:
    """Differences of a recall: as many wins as losses, and ties."""
    return Population(f"wins and losses {share:g}", sizes, (1.0, -1.0, 0.0), (share, share, 1 - 2 * share), correlation)


def precisions(sizes: tuple[int, ...], correlation: float = 0.0) -> Population:
    """Differences of average precision."""
    values = (0.0, 0.2, 1 / 3, 0.5, 1.0)
    chances = (0.6, 0.1, 0.1, 0.1, 0.1)
    both = [(one - other, p * q) for one, p in zip(values, chances) for other, q in zip(values, chances)]  # noqa: B905
    return Population("AP", sizes, tuple(d for d, _ in both), tuple(p for _, p in both), correlation)


OF_DIFFERENCES = tuple(
    make(sizes, correlation)
    for make in (
        lambda sizes, correlation: skewed(0.05, sizes, correlation),
        lambda sizes, correlation: skewed(0.01, sizes, correlation),
        lambda sizes, correlation: wins(0.05, sizes, correlation),
        precisions,
    )
    for sizes, correlation in ((SINGLE * 60, 0.0), (ALONE_220, 0.0), (SINGLE * 1000, 0.0), ((2,) * 200, 0.3))
)


def coverage(population: Population, draws: int, seed: int = 0) -> tuple[float, float]:
    """Return the share of 95 % intervals that contain the truth, and their mean width."""
    generator, clusters = np.random.default_rng(seed), population.clusters
    found = [intervals([Measured("x", population.draw(generator))], clusters)[0] for _ in range(draws)]
    covered = [interval.low <= population.mean <= interval.high for interval in found]
    return float(np.mean(covered)), float(np.mean([interval.high - interval.low for interval in found]))


def repetitions(population: Population, draws: int, effect: float = 0.0, seed: int = 0) -> Iterator[Pair]:
    """Compare two methods again and again, whose differences are those of a population moved by an effect."""
    generator, clusters = np.random.default_rng(seed), population.clusters
    zeros = [Measured("x", np.zeros(len(clusters)))]
    for _ in range(draws):
        differences = [Measured("x", population.draw(generator) - population.mean + effect)]
        yield compare_all([differences, zeros], clusters, resamples=999)[0]


def rejected(pairs: Sequence[Pair]) -> float:
    """Return the share of pairs with a p-value below 5 %."""
    return float(np.mean([pair.p_value < 0.05 for pair in pairs]))


def detectable(population: Population, side: int, draws: int) -> float:
    """Return the middle one of the minimum detectable effects that pairs with a difference of one sign report."""
    pairs = repetitions(population, draws, effect=0.2 * side, seed=2)
    return side * float(np.median([pair.detectable for pair in pairs]))


@dataclasses.dataclass(frozen=True)
class Trained:
    """A method whose hits depend on the query and on the seed of its training; both are drawn anew each time.

    A query is a hit where a normal deviate is below a limit. It is the sum of one of the query, one of the seed, and
    one of both together.

    Attributes:
        share: Of hits; the truth.
        queries: How many queries there are.
        seeds: How many seeds there are.
        of_seeds: The share of the deviate's variance that is the seed's.
        of_both: The share that is of query and seed together.
    """

    share: float
    queries: int
    seeds: int
    of_seeds: float
    of_both: float

    def draw(self, generator: np.random.Generator, queries_Q: NDArray[np.float64] | None = None) -> Measured:
        """Train with each seed, and answer the queries, which are drawn too if not given."""
        queries_Q = generator.standard_normal(self.queries) if queries_Q is None else queries_Q
        seeds_S1 = generator.standard_normal((self.seeds, 1)) * np.sqrt(self.of_seeds)
        both_SQ = generator.standard_normal((self.seeds, self.queries)) * np.sqrt(self.of_both)
        deviates_SQ = queries_Q * np.sqrt(1 - self.of_seeds - self.of_both) + seeds_S1 + both_SQ
        return over_seeds("x", (deviates_SQ < NormalDist().inv_cdf(self.share)).astype(np.float64))


OVER_SEEDS = tuple(
    Trained(share, queries, seeds, of_seeds, of_both)
    for share, queries in ((0.3, 220), (0.3, 2000), (0.05, 220), (0.05, 2000))
    for seeds in (2, 3, 5)
    for of_seeds, of_both in ((0.0, 0.2), (0.002, 0.2), (0.02, 0.2))
)


def coverage_over_seeds(trained: Trained, draws: int, seed: int = 0) -> tuple[float, float, float]:
    """Return how many intervals contain the truth, their mean width, and how many would if seeds were left out."""
    generator = np.random.default_rng(seed)
    samples = [trained.draw(generator) for _ in range(draws)]

    def covered(found: Sequence[Interval]) -> float:
        return float(np.mean([one.low <= trained.share <= one.high for one in found]))

    found = [intervals([sample])[0] for sample in samples]
    width = float(np.mean([one.high - one.low for one in found]))
    return covered(found), width, covered([intervals([dataclasses.replace(one, by_seed=())])[0] for one in samples])


def level_over_seeds(trained: Trained, draws: int, seed: int = 0) -> float:
    """Return how often the paired test tells apart two methods that differ in their seeds alone."""
    generator = np.random.default_rng(seed)
    pairs = []
    for _ in range(draws):
        queries_Q = generator.standard_normal(trained.queries)
        one, other = trained.draw(generator, queries_Q), trained.draw(generator, queries_Q)
        pairs.append(compare_all([[one], [other]], resamples=999)[0])
    return rejected(pairs)


def shape(population: Population) -> str:
    """Write how many clusters of how many queries there are, and how correlated those are."""
    sizes = sorted(set(population.sizes))
    if sizes == [1]:
        return f"{len(population.sizes)} queries"
    many = f"{len(population.sizes)} of {sizes[0]}" if len(sizes) == 1 else f"{len(population.sizes)} of 1 to 30"
    return f"{many}, {population.correlation:g}"


def main(draws: int) -> None:
    """Print the tables, as Markdown."""
    say: Callable[[str], None] = lambda line: print(line, flush=True)  # noqa: E731
    say(f"| values | clusters | coverage of the 95 % interval, {draws} draws | mean width |\n|---|---|--:|--:|")
    for population in OF_INTERVALS:
        covered, width = coverage(population, draws)
        say(f"| {population.name} | {shape(population)} | {100 * covered:.1f} % | {100 * width:.2f} |")
    say(f"\n| differences | clusters | level, {draws} draws | thin | power, upwards | power, downwards |")
    say("|---|---|--:|--:|--:|--:|")
    for population in OF_DIFFERENCES:
        null = [*repetitions(population, draws)]
        thin = float(np.mean([pair.thin for pair in null]))
        cells = [f"{100 * rejected(null):.1f} %", f"{100 * thin:.0f} %"]
        for side in (1, -1):
            if thin > RARELY:  # the pairs themselves say that they are too thin
                cells.append("")
                continue
            effect = detectable(population, side, draws // 5)
            power = rejected([*repetitions(population, draws, effect, seed=1)])
            cells.append(f"{100 * power:.1f} % at {100 * effect:+.2f}")
        say(f"| {population.name} | {shape(population)} | {' | '.join(cells)} |")
    say(f"\n| hits | queries | seeds | variance of seeds, of both | coverage, {draws} draws | seeds left out | level |")
    say("|--:|--:|--:|---|--:|--:|--:|")
    for trained in OVER_SEEDS:
        covered, _, left_out = coverage_over_seeds(trained, draws)
        cells = [f"{100 * trained.share:g} %", f"{trained.queries}", f"{trained.seeds}"]
        cells += [f"{100 * trained.of_seeds:g} %, {100 * trained.of_both:g} %", f"{100 * covered:.1f} %"]
        say(f"| {' | '.join(cells)} | {100 * left_out:.1f} % | {100 * level_over_seeds(trained, draws):.1f} % |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1500)
