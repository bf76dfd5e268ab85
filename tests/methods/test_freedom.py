"""FREEDOM is its formulas, computed here in another way; neighbours are looked up in the gallery or not at all."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cirbench.backbones.encoder import Encoder
from cirbench.benchmarks.scenes import scenes_protocol
from cirbench.errors import UsageError
from cirbench.methods.evaluate import evaluate
from cirbench.methods.interface import GalleryFitted, find_method
from cirbench.methods.loading import build, parse_parameters
from cirbench_methods.corpora import SCENES_SUBJECTS
from cirbench_methods.freedom.method import weighted
from tests.method_rules import broken_rules, broken_rules_of_spec
from tests.tiny_clip import tiny_backbone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cirbench.protocol import Item

PROTOCOL = scenes_protocol("tiny")
QUERIES = PROTOCOL.queries[:5]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(tiny_backbone(), None, batch_size=8)


def freedom(encoder: Encoder, memory: str = "scenes", **values: str) -> Any:
    spec = find_method("freedom")
    return build(spec, encoder, parse_parameters(spec, {**({"memory": memory} if memory else {}), **values}))


def units(rows: NDArray[Any]) -> NDArray[np.float64]:
    wide = rows.astype(np.float64)
    lengths: NDArray[np.float64] = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / lengths


def plain(encoder: Encoder, query: Any, gallery: Sequence[Item], proxies: int, names: int, kept: int) -> Any:
    """One query, with loops."""
    memory = units(encoder.texts(SCENES_SUBJECTS))
    own, others = units(encoder.images([query.reference]))[0], units(encoder.images(gallery))
    similar = others @ own
    rows = [others[at] for at in np.argsort(-similar)[:proxies]]
    if similar.max() < 0.98:
        rows = [own, *rows[:-1]]
    if proxies == 1:
        rows = [own]
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update(SCENES_SUBJECTS[at] for at in np.argsort(-(memory @ row))[:names])
    best = sorted(counts, key=lambda word: -counts[word])[:kept]
    texts = units(encoder.texts([f"{word} {query.captions[0]}" for word in best]))
    return sum(counts[word] / counts[best[0]] * text for word, text in zip(best, texts, strict=True))


@pytest.mark.parametrize(("proxies", "names", "kept"), [(1, 7, 7), (6, 7, 7), (6, 4, 3)])
@pytest.mark.parametrize("inside", [True, False])
def test_queries_are_those_of_the_formulas(encoder: Encoder, proxies: int, names: int, kept: int, inside: bool) -> None:
    assert PROTOCOL.gallery is not None
    references = {query.reference.id for query in QUERIES}
    gallery = [item for item in PROTOCOL.gallery.items if inside or item.id not in references]
    method = freedom(encoder, proxies=str(proxies), names=str(names), kept=str(kept))
    if proxies > 1:
        method.fit_gallery(gallery)
    expected = [plain(encoder, query, gallery, proxies, names, kept) for query in QUERIES]
    np.testing.assert_allclose(method.encode_queries(QUERIES), expected, atol=1e-5)


def test_words_are_kept_by_frequency_and_of_equally_frequent_ones_the_first() -> None:
    assert weighted([[3, 1], [1, 2], [2, 1]], 2) == {1: 1.0, 2: 2 / 3}
    assert weighted([[3, 1], [2, 4]], 3) == {3: 1.0, 1: 1.0, 2: 1.0}


@pytest.mark.parametrize("proxies", ["1", "4"])
def test_it_follows_the_rules_of_the_interface(encoder: Encoder, proxies: str) -> None:
    assert broken_rules(lambda: freedom(encoder, proxies=proxies)) == []
    assert broken_rules_of_spec(find_method("freedom"), "cirbench_methods.freedom:SPEC") == []


def test_it_is_transductive_unless_the_reference_is_its_only_proxy(encoder: Encoder) -> None:
    spec = find_method("freedom")
    assert [spec.transductive_with(spec.parameters(proxies=count)) for count in (1, 20)] == ["no", "yes"]
    assert not isinstance(freedom(encoder, proxies="1"), GalleryFitted)


@pytest.mark.parametrize(("proxies", "golden"), [("1", 1.527778), ("20", 1.527778)])
def test_its_result_on_a_tiny_model_is_what_it_was(encoder: Encoder, proxies: str, golden: float) -> None:
    found = evaluate(freedom(encoder, proxies=proxies), PROTOCOL).measurements[0]
    assert 100 * found.value == pytest.approx(golden, abs=1e-3)


def test_what_it_cannot_use_is_refused(encoder: Encoder) -> None:
    with pytest.raises(UsageError, match="A list of words is needed to name what is on an image, and none is given"):
        freedom(encoder, memory="")
    with pytest.raises(UsageError, match=r"has no place for \{relative\}"):
        freedom(encoder, text="a {name}")
