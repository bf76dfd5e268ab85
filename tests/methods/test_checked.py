"""Whatever a method returns wrongly is said, with the method and the item."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cirbench.benchmarks.scenes import scenes_protocol
from cirbench.errors import CorruptFile, MethodFailed
from cirbench.methods.evaluate import evaluate
from cirbench.methods.interface import GalleryFitted, MethodSpec, Scorer
from cirbench.methods.loading import build, checked
from cirbench.ranking.vectors import max_sim

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cirbench.protocol import Item, Query

Q = 3


class Returning:
    """A method that returns what it is told to."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        self.answer = answer

    def encode_gallery(self, items: Sequence[Item]) -> Any:
        return self.answer()

    def encode_queries(self, queries: Sequence[Query]) -> Any:
        return self.answer()


class Scoring(Returning):
    def score(self, queries_QD: Any, gallery_ND: Any) -> Any:
        return self.answer()


@pytest.fixture(scope="module")
def queries() -> Sequence[Query]:
    return scenes_protocol("tiny").queries[:Q]


def ones(*shape: int) -> Any:
    return np.ones(shape, dtype=np.float32)


def with_nan() -> Any:
    rows = ones(Q, 4)
    rows[1, 2] = np.nan
    rows[2, 0] = np.inf
    return rows


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda: ones(Q, 2, 2), r"returned an array of shape \(3, 2, 2\) instead of \(3, D\)"),
        (lambda: ones(Q, 0), r"returned an array of shape \(3, 0\) instead of \(3, D\)"),
        (lambda: ones(Q - 1, 4), "returned 2 rows instead of 3"),
        (lambda: ones(Q, 4).astype(np.float64), "returned float64 values instead of float32"),
        (lambda: [[1.0]] * Q, "returned a list instead of a numpy array"),
        (lambda: 1 / 0, "raised ZeroDivisionError: division by zero"),
    ],
)
def test_a_wrong_array_is_a_failure_of_the_method(
    answer: Callable[[], Any], message: str, queries: Sequence[Query]
) -> None:
    with pytest.raises(MethodFailed, match=rf"The method mine failed: encode_queries ({message})"):
        checked(Returning(answer), "mine").encode_queries(queries)


def test_a_value_that_is_no_number_is_a_failure_that_names_the_item(queries: Sequence[Query]) -> None:
    with pytest.raises(MethodFailed) as caught:
        checked(Returning(with_nan), "mine").encode_queries(queries)
    assert f"returned NaN or infinite values for query {queries[1].id} and 1 more" in caught.value.message
    with pytest.raises(MethodFailed) as caught:
        checked(Returning(with_nan), "mine").encode_gallery([query.reference for query in queries])
    assert f"for gallery item {queries[1].reference.id} and 1 more" in caught.value.message


def test_an_error_that_is_written_for_people_passes_as_it_is(queries: Sequence[Query]) -> None:
    def damaged() -> Any:
        raise CorruptFile("The image 3.jpg is damaged.")

    with pytest.raises(CorruptFile, match=r"3\.jpg"):
        checked(Returning(damaged), "mine").encode_queries(queries)


def test_right_rows_pass_untouched(queries: Sequence[Query]) -> None:
    rows = ones(Q, 4)
    assert checked(Returning(lambda: rows), "mine").encode_queries(queries) is rows


def test_only_a_method_with_scores_of_its_own_scores() -> None:
    assert not isinstance(checked(Returning(lambda: None), "mine"), Scorer)
    scorer = checked(Scoring(lambda: ones(2, 3)), "mine")
    assert isinstance(scorer, Scorer)
    assert scorer.score(ones(2, 4), ones(3, 4)).shape == (2, 3)
    with pytest.raises(MethodFailed, match=r"score returned an array of shape \(2, 3\) instead of \(5, 3\)"):
        scorer.score(ones(5, 4), ones(3, 4))
    broken = checked(Scoring(lambda: np.full((2, 3), np.nan, dtype=np.float32)), "mine")
    assert isinstance(broken, Scorer)
    with pytest.raises(MethodFailed, match="score returned NaN or infinite scores"):
        broken.score(ones(2, 4), ones(3, 4))


class Fitting(Scoring):
    """Several vectors for each query and item, and a look at the gallery."""

    seen = 0

    def fit_gallery(self, items: Sequence[Item]) -> None:
        self.seen += len(items)


def test_only_a_scorer_returns_several_vectors_in_half_precision_or_from_disk(queries: Sequence[Query]) -> None:
    halves = ones(Q, 2, 4).astype(np.float16)

    class OnDisk:
        shape = halves.shape

        def __getitem__(self, rows: Any) -> Any:
            return halves[rows]

    several: dict[str, Any] = {"float16 values instead": halves, "OnDisk instead of a numpy array": OnDisk()}
    for message, rows in several.items():
        answer: Callable[[], Any] = functools.partial(several.get, message)
        assert checked(Scoring(answer), "mine").encode_queries(queries) is rows
        with pytest.raises(MethodFailed, match=message):
            checked(Returning(answer), "mine").encode_queries(queries)
    with pytest.raises(MethodFailed, match="NaN or infinite values for query"):
        checked(Scoring(lambda: np.full((Q, 2, 4), np.nan, np.float16)), "mine").encode_queries(queries)


def test_a_method_sees_the_gallery_unless_it_is_declared_not_to(queries: Sequence[Query]) -> None:
    method = Fitting(lambda: None)
    fitted = checked(method, "mine")
    assert isinstance(fitted, GalleryFitted)
    fitted.fit_gallery([query.reference for query in queries])
    assert method.seen == Q
    assert not isinstance(checked(method, "mine", transductive=False), GalleryFitted)
    assert not isinstance(checked(Scoring(lambda: None), "mine"), GalleryFitted)


def test_a_method_that_looks_at_the_gallery_and_does_not_declare_it_is_refused() -> None:
    spec = MethodSpec("mine", "Mine", f"{__name__}:Undeclared", needs=())
    with pytest.raises(MethodFailed, match="its SPEC says that it is not transductive"):
        build(spec, None, spec.parameters())
    declared = dataclasses.replace(spec, transductive="yes")
    assert isinstance(build(declared, None, spec.parameters()), GalleryFitted)
    decided = dataclasses.replace(spec, transductive=lambda parameters: False)
    assert not isinstance(build(decided, None, spec.parameters()), GalleryFitted)


class Undeclared(Fitting):
    def __init__(self, encoder: None, parameters: Any, checkpoint: None = None) -> None:
        super().__init__(lambda: None)


def test_an_evaluation_fits_the_gallery_first_and_ranks_several_vectors() -> None:
    protocol = scenes_protocol("tiny")
    assert protocol.gallery is not None
    generator = np.random.default_rng(0)
    vectors = {item.id: generator.standard_normal((3, 5)).astype(np.float32) for item in protocol.gallery.items}

    class Late:
        mean = np.zeros(5)

        def fit_gallery(self, items: Sequence[Item]) -> None:
            self.mean = np.mean([vectors[item.id] for item in items], axis=(0, 1))

        def encode_gallery(self, items: Sequence[Item]) -> Any:
            return np.stack([vectors[item.id] - self.mean for item in items]).astype(np.float32)

        def encode_queries(self, queries: Sequence[Query]) -> Any:
            return self.encode_gallery([query.reference for query in queries])

        def score(self, queries_TWD: Any, items_BVD: Any) -> Any:
            return max_sim(queries_TWD, items_BVD)

    found = evaluate(checked(Late(), "late"), protocol).ranking
    centred = np.stack([vectors[item.id] for item in protocol.gallery.items])
    centred = (centred - centred.mean(axis=(0, 1))).astype(np.float32)
    at = protocol.gallery.positions
    for query, top in zip(protocol.queries, found.top_QK, strict=True):
        scores = max_sim(centred[[at[query.reference.id]]], centred)[0]
        scores[at[query.reference.id]] = -np.inf  # which the protocol excludes
        assert scores[top[0]] == scores.max()
