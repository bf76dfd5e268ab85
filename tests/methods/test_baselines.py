"""The untrained baselines are the formulas on their label."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cirbench.backbones.encoder import Encoder
from cirbench.benchmarks.scenes import scenes_protocol
from cirbench.errors import UsageError
from cirbench.methods.interface import find_method, sentences
from cirbench.methods.loading import build, parse_parameters
from tests.tiny_clip import tiny_backbone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cirbench.protocol import Query


@pytest.fixture(scope="module")
def queries() -> Sequence[Query]:
    return scenes_protocol("tiny").queries[:6]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(tiny_backbone(), None, batch_size=8)


def encoded(name: str, encoder: Encoder, queries: Sequence[Query], **values: Any) -> NDArray[np.float32]:
    spec = find_method(name)
    return build(spec, encoder, parse_parameters(spec, values)).encode_queries(queries)


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths: NDArray[np.float32] = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / lengths


def test_each_is_its_formula(encoder: Encoder, queries: Sequence[Query]) -> None:
    images = encoder.images([query.reference for query in queries])
    texts = encoder.texts([query.captions[0] for query in queries])
    expected = {
        "image-only": images,
        "text-only": texts,
        "image-text": unit(images) + unit(texts),
    }
    for name, rows in expected.items():
        np.testing.assert_allclose(encoded(name, encoder, queries), rows, rtol=1e-5, atol=1e-6)
    weighted = encoded("image-text", encoder, queries, weight="0.25", sum="raw")
    np.testing.assert_allclose(weighted, 0.25 * images + texts, rtol=1e-5, atol=1e-6)


def test_the_gallery_is_the_image_tower_for_all_of_them(encoder: Encoder, queries: Sequence[Query]) -> None:
    items = [query.reference for query in queries]
    for name in ("image-only", "text-only", "image-text"):
        spec = find_method(name)
        rows = build(spec, encoder, parse_parameters(spec, {})).encode_gallery(items)
        np.testing.assert_array_equal(rows, encoder.images(items))


def test_several_captions_become_one_sentence_in_a_prompt(queries: Sequence[Query]) -> None:
    two = dataclasses.replace(queries[0], captions=("is red", "has {} sleeves"))
    assert sentences([two]) == ["is red and has {} sleeves"]
    assert sentences([two], "a photo of {}, please") == ["a photo of is red and has {} sleeves, please"]
    with pytest.raises(UsageError, match="The prompt 'a photo' has no place for the caption"):
        sentences([two], "a photo")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"sum": "raw"}, "is red and has dots"),
        ({"sum": "normalised"}, "is red. and has dots?"),
        ({"sum": "raw", "strip": ""}, "is red. and has dots?"),
        ({"sum": "normalised", "strip": "?"}, "is red. and has dots"),
    ],
)
def test_the_sum_strips_each_of_several_captions_as_the_public_code_of_that_sum_does(
    encoder: Encoder, queries: Sequence[Query], values: dict[str, str], sentence: str
) -> None:
    two = dataclasses.replace(queries[0], captions=("is red.", "has dots?"))
    one = dataclasses.replace(queries[0], captions=(sentence,))
    unstripped = {"sum": values["sum"], "strip": ""}
    np.testing.assert_array_equal(
        encoded("image-text", encoder, [two], **values), encoded("image-text", encoder, [one], **unstripped)
    )
