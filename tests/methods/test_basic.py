"""BASIC is its formulas, computed here step by step for one query; what it needs and lacks is said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cirbench.backbones.encoder import Encoder
from cirbench.benchmarks.scenes import scenes_protocol
from cirbench.errors import CorruptFile, MissingData, UsageError
from cirbench.methods.evaluate import evaluate
from cirbench.methods.interface import GalleryFitted, find_method
from cirbench.methods.loading import build, parse_parameters
from cirbench_methods.basic.method import projection
from cirbench_methods.corpora import SCENES_STYLES, SCENES_SUBJECTS
from tests.method_rules import broken_rules, broken_rules_of_spec
from tests.tiny_clip import tiny_backbone

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

PROTOCOL = scenes_protocol("tiny")
QUERIES = PROTOCOL.queries[:4]
WORDS = {"subjects": "scenes", "styles": "scenes", "images": "scenes:12", "pairs": "scenes:6", "context": "3"}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(tiny_backbone(), None, batch_size=8)


def basic(encoder: Encoder, **values: str | None) -> Any:
    spec, given = find_method("basic"), {**WORDS, **values}
    return build(
        spec, encoder, parse_parameters(spec, {name: text for name, text in given.items() if text is not None})
    )


def units(rows: NDArray[Any]) -> NDArray[np.float64]:
    wide = rows.astype(np.float64)
    lengths: NDArray[np.float64] = np.linalg.norm(wide, axis=-1, keepdims=True)
    return wide / lengths


class Plain:
    """The formulas for one query after the other, with loops in place of matrices."""

    def __init__(self, encoder: Encoder) -> None:
        from cirbench.benchmarks.scenes import training_pairs

        assert PROTOCOL.gallery is not None
        self.encoder = encoder
        self.gallery = self.images(PROTOCOL.gallery.items)
        self.image_mean = self.images([_Sampled(pair) for pair in training_pairs(12)]).mean(axis=0)
        subjects, styles = self.texts(SCENES_SUBJECTS), self.texts(SCENES_STYLES)
        self.text_mean = subjects.mean(axis=0)
        self.subjects, self.styles = subjects - self.text_mean, styles - self.text_mean
        pairs = training_pairs(6)
        self.pair_images = self.images([_Sampled(pair) for pair in pairs]) - self.image_mean
        self.pair_texts = self.texts([pair.caption or "" for pair in pairs]) - self.text_mean

    def images(self, items: Sequence[Any]) -> NDArray[np.float64]:
        return units(self.encoder.images(items))

    def texts(self, texts: Sequence[str]) -> NDArray[np.float64]:
        return units(self.encoder.texts(texts))

    def projection(self) -> NDArray[np.float64]:
        matrix = 0.8 * np.cov(self.subjects.T) - 0.2 * sum(np.outer(s, s) for s in self.styles) / (len(self.styles) - 1)
        values, vectors = np.linalg.eigh(matrix + 1e-5)
        return np.asarray(sum(np.outer(v, v) for value, v in zip(values, vectors.T, strict=True) if value > 0))

    def scores(self, query: Any, neighbours: int = 0) -> list[float]:
        centred = self.gallery - self.image_mean
        own = self.images([query.reference])[0] - self.image_mean
        image = self.projection() @ own
        if neighbours:
            similar = centred @ image
            near = np.argsort(-similar)[:neighbours]
            weights = [*np.exp(0.1 * similar[near]), np.exp(0.1)]
            rows = [*centred[near], own]
            image = self.projection() @ (sum(w * r for w, r in zip(weights, rows, strict=True)) / sum(weights))
        forms = [f"{word} {query.captions[0]}" for word in SCENES_SUBJECTS[:3]]
        forms += [f"{query.captions[0]} {word}" for word in SCENES_SUBJECTS[:3]]
        text = units(self.texts(forms).mean(axis=0)) - self.text_mean
        low_image = min(float(a @ b) for a in self.pair_images for b in self.pair_images)
        low_text = min(float(a @ b) for a in self.pair_texts for b in self.pair_images)
        found = []
        for item in centred:
            by_image = max(0.0, (float(image @ item) - low_image) / abs(low_image))
            by_text = max(0.0, (float(text @ item) - low_text) / abs(low_image))
            found.append(by_image * by_text - 0.1 * (by_image + by_text) ** 2)
        return found


class _Sampled:
    def __init__(self, pair: Any) -> None:
        self.id, self.image = "pair", pair.image


@pytest.mark.parametrize("neighbours", [0, 5])
def test_scores_are_those_of_the_formulas(encoder: Encoder, neighbours: int) -> None:
    assert PROTOCOL.gallery is not None
    method, items = basic(encoder, neighbours=str(neighbours)), PROTOCOL.gallery.items
    if neighbours:
        method.fit_gallery(items)
    scores = method.score(method.encode_queries(QUERIES), method.encode_gallery(items))
    plain = Plain(encoder)
    expected = [plain.scores(query, neighbours) for query in QUERIES]
    np.testing.assert_allclose(scores, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("values", [{}, {"neighbours": "3"}, {"images": "gallery", "components": "0", "context": "0"}])
def test_it_follows_the_rules_of_the_interface(encoder: Encoder, values: dict[str, str]) -> None:
    assert broken_rules(lambda: basic(encoder, **values)) == []
    assert broken_rules_of_spec(find_method("basic"), "cirbench_methods.basic:SPEC") == []


def test_it_is_transductive_only_where_it_looks_at_the_gallery(encoder: Encoder) -> None:
    spec = find_method("basic")
    for values, transductive in (({}, "no"), ({"neighbours": "3"}, "yes"), ({"images": "gallery"}, "yes")):
        assert spec.transductive_with(parse_parameters(spec, {**WORDS, **values})) == transductive
        assert isinstance(basic(encoder, **values), GalleryFitted) == (transductive == "yes")


@pytest.mark.parametrize(("neighbours", "golden"), [("0", 0.791667), ("5", 0.75)])
def test_its_result_on_a_tiny_model_is_what_it_was(encoder: Encoder, neighbours: str, golden: float) -> None:
    found = evaluate(basic(encoder, neighbours=neighbours), PROTOCOL).measurements[0]
    assert 100 * found.value == pytest.approx(golden, abs=1e-3)


def test_the_projection_keeps_directions_of_subjects_and_drops_those_of_styles() -> None:
    axes = np.eye(6)
    subjects, styles = np.concatenate([axes[:3], -axes[:3]]), 5 * np.concatenate([axes[2:4], -axes[2:4]])
    found = projection(subjects, styles, 0.2, 6)
    np.testing.assert_allclose(found @ found, found, atol=1e-12)
    assert found[0, 0] > 0.99 and found[1, 1] > 0.99 and found[2, 2] < 0.01 and found[3, 3] < 0.01
    assert np.linalg.matrix_rank(projection(subjects, styles, 0.2, 1)) == 1


def test_statistics_are_read_from_files_too(encoder: Encoder, tmp_path: Path) -> None:
    plain = Plain(encoder)
    np.save(tmp_path / "mean.npy", plain.image_mean)
    np.savez(
        tmp_path / "pairs.npz",
        images=plain.pair_images + plain.image_mean,
        texts=plain.pair_texts + plain.text_mean,
    )
    for name, words in (("subjects.csv", ("object_name", *SCENES_SUBJECTS)), ("styles.txt", SCENES_STYLES)):
        (tmp_path / name).write_text("".join(f"{word}\n" for word in words))
    files = {"subjects": "subjects.csv", "styles": "styles.txt", "images": "mean.npy", "pairs": "pairs.npz"}
    assert PROTOCOL.gallery is not None
    both = [basic(encoder), basic(encoder, **{option: str(tmp_path / file) for option, file in files.items()})]
    one, other = (m.score(m.encode_queries(QUERIES), m.encode_gallery(PROTOCOL.gallery.items)) for m in both)
    np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (
            {"subjects": None},
            UsageError,
            "A list of words is needed for what images show, and none is given.*subjects=",
        ),
        ({"styles": None}, UsageError, "A list of words is needed for how images show it.*styles="),
        ({"images": None}, UsageError, "nothing says by which mean.*images=FILE.npy"),
        ({"subjects": "absent.txt"}, MissingData, "absent.txt"),
        ({"subjects": "empty.txt"}, CorruptFile, "empty.txt holds no word"),
        ({"images": "broken.npy"}, CorruptFile, "broken.npy holds no arrays of features called images"),
        ({"images": "short.npy"}, CorruptFile, r"have the shape \(1, 3\); images of this backbone have \d+ numbers"),
        ({"images": "nan.npy"}, CorruptFile, "nan.npy hold NaN"),
        ({"pairs": "half.npz"}, CorruptFile, "half.npz holds no arrays of features called images and texts"),
        ({"pairs": "texts.txt"}, UsageError, "pairs of basic is trained on"),
    ],
)
def test_what_it_cannot_use_is_refused(
    encoder: Encoder,
    values: dict[str, str | None],
    error: type[Exception],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    dim = encoder.backbone.dim
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "texts.txt").write_text("a red ball\na box\n")
    (tmp_path / "broken.npy").write_bytes(b"\x93NUMPY")
    np.save(tmp_path / "short.npy", np.ones(3))
    np.save(tmp_path / "nan.npy", np.full(dim, np.nan))
    np.savez(tmp_path / "half.npz", images=np.ones((2, dim)))
    with pytest.raises(error) as caught:
        method = basic(encoder, **values)
        method.score(method.encode_queries(QUERIES), method.encode_gallery([QUERIES[0].reference]))
    import re

    assert re.search(message, str(caught.value), re.DOTALL)
