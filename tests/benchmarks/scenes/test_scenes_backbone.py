"""The small CLIP that ships with cirbench."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cirbench.backbones import load_backbone
from cirbench.backbones.openclip import BUNDLED
from cirbench.benchmarks.scenes import scenes_protocol, training_pairs
from cirbench.benchmarks.scenes.benchmark import scenes_benchmark

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cirbench.backbones.interface import Backbone
    from cirbench.protocol import ImageSource

torch = pytest.importorskip("torch")
FOLDER = BUNDLED / "scenes-vit"


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("scenes-vit", device="cpu")


def images(backbone: Backbone, items: list[ImageSource]) -> NDArray[np.float32]:
    with torch.inference_mode():
        features = [
            backbone.encode_images(torch.stack([backbone.preprocess(item.open()) for item in items[i : i + 64]]))
            for i in range(0, len(items), 64)
        ]
    return unit(torch.cat(features).numpy())


def texts(backbone: Backbone, captions: list[str]) -> NDArray[np.float32]:
    with torch.inference_mode():
        return unit(backbone.encode_tokens(backbone.tokenize(captions)).numpy())


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths_N1: NDArray[np.float32] = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / lengths_N1


def test_the_weights_are_at_most_8_megabytes() -> None:
    assert (FOLDER / "model.safetensors").stat().st_size <= 8_000_000


def test_the_vocabulary_is_that_of_the_shortened_merges() -> None:
    """Two symbols a byte, one a merge, and the start and end tokens."""
    merges = gzip.decompress((FOLDER / "merges.txt.gz").read_bytes()).decode().splitlines()[1:]
    config = json.loads((FOLDER / "open_clip_config.json").read_text())
    assert config["model_cfg"]["text_cfg"]["vocab_size"] == 2 * 256 + len(merges) + 2


def test_any_text_can_be_tokenised(backbone: Backbone) -> None:
    tokens = backbone.tokenize(["a red star", "Zoë's naïve 火 €5 ☂", ""])
    assert tokens.shape[0] == 3
    assert int(tokens.max()) == int(tokens[:, 0].max()) + 1


@pytest.mark.slow
def test_it_matches_training_images_with_their_captions(backbone: Backbone) -> None:
    pairs = training_pairs(60_200)[60_000:]
    images_ND = images(backbone, [pair.image for pair in pairs])
    texts_ND = texts(backbone, [pair.caption for pair in pairs])
    ranks = ((images_ND @ texts_ND.T) > np.sum(images_ND * texts_ND, axis=1)[:, None]).sum(axis=1)
    assert np.mean(ranks < 5) > 0.6


@pytest.mark.slow
def test_both_modalities_are_needed(backbone: Backbone) -> None:
    """On the small split too, the sum finds far more than the image or the caption alone."""
    protocol, data = scenes_protocol("tiny"), scenes_benchmark("tiny")
    assert protocol.gallery is not None
    gallery_ND = images(backbone, list(protocol.gallery.images or ()))
    captions_QD = texts(backbone, [query.captions[0] for query in protocol.queries])
    references_QD = gallery_ND[[query.reference for query in data.queries]]

    def precision_at_5(queries_QD: NDArray[np.float32]) -> float:
        top = np.argsort(-(queries_QD @ gallery_ND.T), axis=1)[:, :5]
        hits = [len(set(row) & set(query.relevant)) for row, query in zip(top.tolist(), data.queries, strict=True)]
        return float(np.mean(hits))

    both = precision_at_5(unit(references_QD + captions_QD))
    assert both > 1.3 * max(precision_at_5(references_QD), precision_at_5(captions_QD))
