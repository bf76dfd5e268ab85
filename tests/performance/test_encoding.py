"""What encoding costs, as ratios within one process: CPU seconds, one thread, medians of alternating rounds."""

from __future__ import annotations

import io
import json
import logging
import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import image_transform
from PIL import Image
from safetensors.torch import save_file

from cirbench.backbones import load_backbone
from cirbench.backbones.encoder import SHARD, Encoder
from cirbench.backbones.images import FileImage, Preprocessing
from cirbench.backbones.store import FeatureSpace, FeatureStore
from cirbench.backbones.text import CausalText
from cirbench.protocol import Item
from tests.backbones.test_store import IDENTITY, contents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cirbench.backbones import Backbone

pytestmark = pytest.mark.performance
ROUNDS = 5
IMAGES = 64
CAPTIONS = [
    "is blue and has longer sleeves",
    "shows two dogs of the same breed running on grass",
    "has one more person and is seen from above",
    "is more colourful with a floral print and a lower neckline",
    "the same animal but indoors, lying on a sofa next to a child",
    "remove the bottle",
    "instead of a man there is a woman holding a red umbrella in the rain",
    "same kind of building at night",
] * 4


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """JPEGs of 640 x 480, the size of COCO's, with some of the noise of photographs (about 90 kB each)."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    paths = []
    for number in range(IMAGES):
        coarse = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).resize((640, 480))
        pixels = np.asarray(coarse) + rng.normal(0, 5, (480, 640, 3))
        paths.append(folder / f"{number}.jpg")
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return paths


@pytest.fixture(scope="module")
def vit_b_32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of the size of ViT-B-32 with random weights."""
    folder, config = tmp_path_factory.mktemp("vit-b-32"), open_clip.get_model_config("ViT-B-32")
    logging.disable(logging.CRITICAL)
    save_file(open_clip.create_model("ViT-B-32", load_weights=False).state_dict(), folder / "model.safetensors")
    logging.disable(logging.NOTSET)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "activation": "gelu"}))
    return folder


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def backbone(vit_b_32: Path, request: pytest.FixtureRequest) -> Backbone:
    return load_backbone(str(vit_b_32), precision=request.param, device="cpu")


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def alternate(benchmark: Any, **works: Callable[[], object]) -> dict[str, float]:
    """The median CPU seconds of each work, measured in turn so that all see the same machine."""
    taken: dict[str, list[float]] = {name: [] for name in works}

    def once() -> None:
        for name, work in works.items():
            taken[name].append(seconds(work))

    benchmark.pedantic(once, rounds=ROUNDS, warmup_rounds=1)
    medians = {name: statistics.median(values[1:]) for name, values in taken.items()}
    benchmark.extra_info.update({f"{name} (CPU s)": round(median, 4) for name, median in medians.items()})
    return medians


def test_preprocessing_is_as_fast_as_open_clips_and_the_fast_variant_faster(benchmark: Any, photos: list[Path]) -> None:
    files = [path.read_bytes() for path in photos]

    def over(preprocess: Callable[[Image.Image], object]) -> Callable[[], object]:
        return lambda: [preprocess(Image.open(io.BytesIO(file))) for file in files]

    taken = alternate(
        benchmark,
        open_clip=over(image_transform(224, is_train=False)),
        exact=over(Preprocessing()),
        fast=over(Preprocessing(fast=True)),
    )
    benchmark.extra_info["exact, times open_clip's speed"] = round(taken["open_clip"] / taken["exact"], 2)
    benchmark.extra_info["fast, times open_clip's speed"] = round(taken["open_clip"] / taken["fast"], 2)
    assert taken["open_clip"] / taken["exact"] >= 1.0
    assert taken["open_clip"] / taken["fast"] >= 1.8


def test_short_captions_are_encoded_faster_without_their_padding(benchmark: Any, backbone: Backbone) -> None:
    clip: Any = backbone.model
    trimmed = CausalText.of(clip)
    assert trimmed is not None
    tokens = backbone.tokenize(CAPTIONS)

    def forward(encode: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], object]:
        return lambda: torch.inference_mode()(encode)(tokens)

    taken = alternate(benchmark, padded=forward(clip.encode_text), trimmed=forward(trimmed))
    benchmark.extra_info["times the speed"] = round(taken["padded"] / taken["trimmed"], 2)
    assert taken["padded"] / taken["trimmed"] >= 2.5


def test_training_on_short_captions_is_faster_without_their_padding(benchmark: Any, vit_b_32: Path) -> None:
    clip: Any = load_backbone(str(vit_b_32), device="cpu").model
    trimmed = CausalText.of(clip)
    assert trimmed is not None
    tokens = open_clip.tokenize(CAPTIONS)

    def step(encode: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.backward(encode(tokens).square().sum())

    taken = alternate(benchmark, padded=step(clip.encode_text), trimmed=step(trimmed))
    benchmark.extra_info["times the speed"] = round(taken["padded"] / taken["trimmed"], 2)
    assert taken["padded"] / taken["trimmed"] >= 2.5


def test_the_encoding_loop_reaches_its_serial_bound(
    benchmark: Any, backbone: Backbone, photos: list[Path], tmp_path: Path
) -> None:
    """The bound is preprocessing alone plus forward passes alone; the loop adds hashing, batching, and the store."""
    items = [Item(path.stem, FileImage(path)) for path in photos]
    batch_size = Encoder(backbone, None).batch_size
    pixels = torch.stack([backbone.preprocess(item.image.open()) for item in items[:batch_size]])
    stores = iter(range(1000))

    def preprocess() -> None:
        for item in items:
            backbone.preprocess(item.image.open())

    def forward() -> None:
        with torch.inference_mode():
            for _ in range(0, len(items), batch_size):
                backbone.encode_images(pixels)

    def loop() -> None:
        Encoder(backbone, FeatureStore(tmp_path / str(next(stores)))).images(items)

    taken = alternate(benchmark, preprocess=preprocess, forward=forward, loop=loop)
    share = (taken["preprocess"] + taken["forward"]) / taken["loop"]
    benchmark.extra_info["images per second"] = round(len(items) / taken["loop"], 1)
    benchmark.extra_info["share of the serial bound"] = round(share, 3)
    assert share >= 0.9


def test_kept_features_of_a_large_gallery_load_at_once(benchmark: Any, tmp_path: Path) -> None:
    """CIRCO's gallery, 123,403 x 768: finding the rows, checking every shard, gathering."""
    space, asked = FeatureSpace(IDENTITY, "image", 768), contents(range(123_403))
    writer = FeatureStore(tmp_path).table(space)
    for start in range(0, len(asked), SHARD):
        some = asked[start : start + SHARD]
        writer.write(some, np.random.default_rng(start).standard_normal((len(some), 768), dtype=np.float32), {})

    def load() -> None:
        assert FeatureStore(tmp_path).table(space).rows(asked)[:].shape == (123_403, 768)

    taken = alternate(benchmark, load=load)
    assert taken["load"] < 5
