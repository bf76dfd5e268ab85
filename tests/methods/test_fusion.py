"""Fusions of image and text feature are their formulas, computed here in another way."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cirbench.backbones.encoder import Encoder
from cirbench.benchmarks.scenes import scenes_protocol
from cirbench.errors import UsageError
from cirbench.methods.interface import find_method
from cirbench.methods.loading import build, parse_parameters
from cirbench_methods.fusion.method import slerp
from tests.method_rules import broken_rules
from tests.tiny_clip import tiny_backbone

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cirbench.methods.interface import Method
    from cirbench.protocol import Query

NAMES = ("slerp", "product", "weimocir")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(tiny_backbone(), None, batch_size=8)


def fusion(name: str, encoder: Encoder, **values: str) -> Any:
    spec = find_method(name)
    return build(spec, encoder, parse_parameters(spec, values))


def queries() -> tuple[Query, ...]:
    return scenes_protocol("tiny").queries[:6]


def features(encoder: Encoder) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    images = encoder.images([query.reference for query in queries()])
    texts = encoder.texts([query.captions[0] for query in queries()])
    return images.astype(np.float64), texts.astype(np.float64)


def units(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths: NDArray[np.float64] = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / lengths


@pytest.mark.parametrize("name", NAMES)
def test_each_follows_the_rules_of_the_interface(name: str, encoder: Encoder) -> None:
    def make() -> Method:
        method: Method = fusion(name, encoder)
        return method

    assert broken_rules(make) == []


def test_slerp_turns_the_image_towards_the_text_by_a_part_of_their_angle(encoder: Encoder) -> None:
    images, texts = map(units, features(encoder))
    rows = fusion("slerp", encoder, alpha="0.3").encode_queries(queries())
    across = units(texts - (images * texts).sum(axis=1, keepdims=True) * images)
    turn = 0.3 * np.arccos((images * texts).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(rows, np.cos(turn) * images + np.sin(turn) * across, atol=2e-6)


@given(arrays(np.float64, (3, 5), elements=st.floats(-1, 1, allow_subnormal=False)), st.floats(0, 1))
def test_a_row_of_slerp_has_unit_length_and_its_angles_add_up(rows: NDArray[np.float64], alpha: float) -> None:
    first, last = rows + 3 * np.eye(5)[0], rows[::-1] + 3 * np.eye(5)[1]  # never opposite, never zero
    first, last = (units(each).astype(np.float32) for each in (first, last))
    middle = slerp(first, last, alpha).astype(np.float64)
    np.testing.assert_allclose(np.linalg.norm(middle, axis=1), 1, atol=1e-6)
    whole = np.arccos(np.clip((first.astype(np.float64) * last).sum(axis=1), -1, 1))
    np.testing.assert_allclose((first * middle).sum(axis=1), np.cos(alpha * whole), atol=1e-5)


def test_slerp_of_parallel_rows_is_that_row_and_of_opposite_ones_on_the_line_between_them() -> None:
    rows = np.array([[1, 0], [0, -1]], np.float32)
    np.testing.assert_array_equal(slerp(rows, rows, 0.7), rows)
    np.testing.assert_allclose(slerp(rows, -rows, 0.75), -0.5 * rows)


def test_weimocir_adds_the_features_at_their_own_lengths(encoder: Encoder) -> None:
    images, texts = features(encoder)
    rows = fusion("weimocir", encoder, alpha="0.8").encode_queries(queries())
    np.testing.assert_allclose(rows, 0.2 * images + 0.8 * texts, rtol=1e-5, atol=1e-6)


def test_weimocir_strips_each_of_several_captions(encoder: Encoder) -> None:
    one, two = (dataclasses.replace(queries()[0], captions=c) for c in (("red and round",), ("red.", " round? ")))
    method = fusion("weimocir", encoder)
    np.testing.assert_array_equal(method.encode_queries([one]), method.encode_queries([two]))


def test_the_product_is_that_of_both_cosine_similarities(encoder: Encoder) -> None:
    images, texts = map(units, features(encoder))
    method = fusion("product", encoder)
    rows, gallery = (units(each.astype(np.float64)) for each in (method.encode_queries(queries()), images[:4]))
    scores = method.score(rows.astype(np.float32), gallery.astype(np.float32))
    np.testing.assert_allclose(scores, (images @ gallery.T) * (texts @ gallery.T), atol=1e-6)


@pytest.mark.parametrize("name", ["slerp", "weimocir"])
@pytest.mark.parametrize("value", ["-0.1", "1.5", "nan"])
def test_a_weight_outside_0_to_1_is_refused(name: str, value: str) -> None:
    with pytest.raises(UsageError, match="alpha"):
        parse_parameters(find_method(name), {"alpha": value})
