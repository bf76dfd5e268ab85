"""Every item is encoded once, its row depends on nothing but the item, and a method's own rows are kept alike."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from cirbench.backbones import encoder as module
from cirbench.backbones import load_backbone
from cirbench.backbones.encoder import Encoder, sensible_batch_size
from cirbench.backbones.store import FeatureStore, OwnSpace
from cirbench.errors import CirbenchError, MissingData
from cirbench.protocol import Item
from tests.backbones.small import model, state, write_folder
from tests.backbones.sources import Noise, captions, items
from tests.tiny_clip import tiny_backbone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from cirbench.backbones import Backbone


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def backbone(folder: Path) -> Backbone:
    return load_backbone(str(folder), device="cpu")


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "features")


@pytest.fixture
def opened() -> list[int]:
    Noise.opened.clear()
    return Noise.opened


def test_images_come_back_raw_in_the_order_asked_for(backbone: Backbone, store: FeatureStore) -> None:
    asked = items(3, 1, 2)
    with torch.inference_mode():
        pixels = torch.stack([backbone.preprocess(item.image.open()) for item in asked])
        expected = model().encode_image(pixels)
    rows = Encoder(backbone, store).images(asked)
    assert rows.shape == (3, 24)
    assert rows.dtype == np.float32
    torch.testing.assert_close(torch.from_numpy(rows), expected)


def test_texts_come_back_raw_in_the_order_asked_for(backbone: Backbone, store: FeatureStore) -> None:
    asked = captions(20)
    with torch.inference_mode():
        expected = model().encode_text(open_clip.tokenize(asked))
    torch.testing.assert_close(torch.from_numpy(Encoder(backbone, store).texts(asked)), expected)


def test_equal_content_is_encoded_once(backbone: Backbone, store: FeatureStore, opened: list[int]) -> None:
    rows = Encoder(backbone, store).images(items(1, 2, 1, 1))
    assert opened == [1, 2]
    assert np.array_equal(rows[[0, 0, 0]], rows[[0, 2, 3]])


@pytest.mark.parametrize("kept", [True, False])
def test_references_that_are_in_the_gallery_are_not_encoded_again(
    backbone: Backbone, store: FeatureStore, opened: list[int], kept: bool
) -> None:
    encoder = Encoder(backbone, store if kept else None)
    gallery = encoder.images(items(1, 2, 3, 4))
    references = encoder.images(items(4, 2, 5))
    assert opened == [1, 2, 3, 4, 5]
    assert np.array_equal(references[:2], gallery[[3, 1]])


def test_another_encoder_on_the_same_store_opens_no_image(
    backbone: Backbone, store: FeatureStore, opened: list[int]
) -> None:
    first = Encoder(backbone, store).images(items(1, 2))
    opened.clear()
    assert np.array_equal(Encoder(backbone, store).images(items(1, 2)), first)
    assert opened == []


def in_precision(folder: Path, precision: Any) -> Backbone:
    return load_backbone(str(folder), precision=precision, device="cpu")


def features(backbone: Backbone, store: FeatureStore | None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    encoder = Encoder(backbone, store)
    return encoder.images(items(1, 2, 3)), encoder.texts(captions(3))


def test_under_autocast_products_round_and_weights_do_not(folder: Path, backbone: Backbone) -> None:
    rounding = in_precision(folder, "bf16-autocast")
    assert {weights.dtype for weights in rounding.model.parameters()} == {torch.float32}
    for exact, rounded in zip(features(backbone, None), features(rounding, None), strict=True):
        assert rounded.dtype == np.float32
        assert not np.array_equal(exact, rounded)
        cosines = np.sum(exact * rounded, axis=1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rounded, axis=1)
        assert cosines.min() > 0.999


def test_features_of_one_precision_are_never_given_out_as_those_of_another(
    folder: Path, store: FeatureStore, opened: list[int]
) -> None:
    asked = ("fp32", "bf16", "bf16-autocast")
    alone = [features(in_precision(folder, each), None) for each in asked]
    opened.clear()
    for _ in range(2):
        for each, expected in zip(asked, alone, strict=True):
            found = features(in_precision(folder, each), store)
            assert [rows.tobytes() for rows in found] == [rows.tobytes() for rows in expected]
    assert opened == [1, 2, 3] * 3


def test_an_open_precision_shares_the_features_of_the_one_it_stands_for(
    folder: Path, store: FeatureStore, opened: list[int]
) -> None:
    features(in_precision(folder, "fp32"), store)
    left_open = in_precision(folder, "auto")
    assert left_open.identity.precision == "fp32"
    opened.clear()
    features(left_open, store)
    assert opened == []


def test_the_precision_of_features_is_not_that_of_the_code_around(backbone: Backbone) -> None:
    expected = features(backbone, None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = features(backbone, None)
    assert [rows.tobytes() for rows in found] == [rows.tobytes() for rows in expected]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16", "bf16-autocast"])
@pytest.mark.parametrize("batch_size", [1, 7, 8])
def test_a_row_depends_on_nothing_but_its_item(tmp_path: Path, batch_size: int, precision: Any) -> None:
    """Not on order, company, or what was known before: every forward pass has one shape."""
    backbone = load_backbone(str(write_folder(tmp_path / "model")), precision=precision, device="cpu")
    seeds, texts = list(range(20)), captions(40)
    whole = Encoder(backbone, None, batch_size=batch_size)
    image_rows, text_rows = whole.images(items(*seeds)), whole.texts(texts)
    rng = np.random.default_rng(0)
    piecewise = Encoder(backbone, None, batch_size=batch_size)
    for count in (1, 3, 20):
        some = rng.permutation(20)[:count]
        assert piecewise.images(items(*some)).tobytes() == image_rows[some].tobytes()
        some = rng.permutation(40)[:count]
        assert piecewise.texts([texts[at] for at in some]).tobytes() == text_rows[some].tobytes()


@pytest.mark.parametrize("batch_size", [7, 8])
def test_a_row_does_not_depend_on_the_number_of_threads(backbone: Backbone, batch_size: int) -> None:
    found = []
    threads = torch.get_num_threads()
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            encoder = Encoder(backbone, None, batch_size=batch_size)
            found.append((encoder.images(items(*range(20))).tobytes(), encoder.texts(captions(20)).tobytes()))
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(threads)
    assert found[0] == found[1] == found[2]


def test_every_forward_pass_has_one_of_a_few_shapes(backbone: Backbone) -> None:
    clip: Any = backbone.model
    shapes = []
    hooks = [
        tower.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape[:2])))
        for tower in (clip.visual.conv1, clip.transformer)
    ]
    encoder = Encoder(backbone, None, batch_size=8)
    encoder.images(items(*range(11)))
    encoder.texts(captions(30))
    for hook in hooks:
        hook.remove()
    assert set(shapes) == {(8, 3), (8, 8), (8, 16), (8, 24), (8, 32)}


def test_overlong_texts_are_counted_once_each_known_or_not(backbone: Backbone, store: FeatureStore) -> None:
    long = [f"{word} " * 90 for word in ("red", "blue")]
    encoder = Encoder(backbone, store)
    encoder.texts(["short", *long, long[0]])
    encoder.texts([long[1]])
    assert encoder.truncated_texts == 2
    again = Encoder(backbone, store)
    again.texts(long)
    assert again.truncated_texts == 2


def test_nothing_asked_is_nothing_returned(backbone: Backbone, store: FeatureStore) -> None:
    for kept in (store, None):
        encoder = Encoder(backbone, kept)
        assert encoder.images([]).shape == (0, 24)
        assert encoder.texts([]).shape == (0, 24)


def test_rows_can_be_streamed(backbone: Backbone, store: FeatureStore) -> None:
    asked = items(*range(9), 3)
    for kept in (store, None):
        rows = Encoder(backbone, kept).image_rows(asked)
        assert rows.shape == (10, 24)
        assert np.array_equal(rows[4:], Encoder(backbone, None).images(asked)[4:])


def test_a_broken_image_is_named_and_finished_shards_are_kept(
    backbone: Backbone, store: FeatureStore, opened: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARD", 4)
    with pytest.raises(MissingData, match="The image noise -1 is gone"):
        Encoder(backbone, store).images(items(1, 2, 3, 4, 5, -1, 6))
    opened.clear()
    Encoder(backbone, store).images(items(1, 2, 3, 4, 5, 6))
    assert opened == [5, 6]


def test_other_weights_share_the_store_and_no_row(backbone: Backbone, store: FeatureStore, tmp_path: Path) -> None:
    save_file(state(model(1)), tmp_path / "tuned.safetensors")
    encoder = Encoder(backbone, store, batch_size=4)
    tuned = encoder.with_weights(tmp_path / "tuned.safetensors")
    assert tuned.batch_size == 4
    assert np.abs(tuned.images(items(1)) - encoder.images(items(1))).min() > 0
    assert np.abs(tuned.texts(["a"]) - encoder.texts(["a"])).min() > 0


def test_a_plan_knows_how_many_images_are_new_and_how_long_one_takes(
    backbone: Backbone, store: FeatureStore, opened: list[int]
) -> None:
    encoder = Encoder(backbone, store)
    assert encoder.count_new(items(1, 2, 2)) == 2
    encoder.images(items(1))
    assert encoder.count_new(items(1, 2, 2)) == 1
    assert 0 < encoder.seconds_per_image() < 1
    assert opened == [1]


def test_cut_texts_are_counted_together_with_those_of_other_weights(backbone: Backbone, tmp_path: Path) -> None:
    save_file(state(model(1)), tmp_path / "tuned.safetensors")
    encoder = Encoder(backbone, None)
    encoder.with_weights(tmp_path / "tuned.safetensors").texts(["red " * 90])
    assert encoder.truncated_texts == 1


def test_progress_is_told_what_and_how_many(backbone: Backbone, store: FeatureStore) -> None:
    told: list[tuple[str, int]] = []
    done: list[int] = []

    @contextlib.contextmanager
    def progress(description: str, total: int, *, unit: str = "") -> Iterator[Callable[[int], None]]:
        told.append((description, total))
        yield done.append

    encoder = Encoder(backbone, store, batch_size=4, progress=progress)
    encoder.images(items(*range(10), 3))
    encoder.images(items(1))
    encoder.texts(captions(3))
    assert told == [("Encoding images", 10), ("Encoding texts", 3)]
    assert sum(done) == 13
    assert done[:3] == [4, 4, 2]


def test_a_shard_records_what_could_move_its_last_bits(backbone: Backbone, store: FeatureStore) -> None:
    Encoder(backbone, store, batch_size=4).images(items(1))
    (shard,) = store.root.rglob("*.safetensors")
    with safe_open(shard, framework="numpy") as file:
        header = json.loads(file.metadata()["cirbench"])
    assert header["batch_size"] == "4"
    assert header["device"] == "cpu"
    assert {"torch", "pillow", "space", "schema"} <= header.keys()


class SmallMemory:
    """A backbone whose device cannot hold more than a few rows."""

    def __init__(self, backbone: Backbone, rows: int) -> None:
        self._backbone, self._rows = backbone, rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backbone, name)

    def encode_images(self, pixels_B3HW: torch.Tensor) -> torch.Tensor:
        return self._backbone.encode_images(self._fitting(pixels_B3HW))

    def encode_tokens(self, tokens_BL: torch.Tensor) -> torch.Tensor:
        return self._backbone.encode_tokens(self._fitting(tokens_BL))

    def _fitting(self, batch: torch.Tensor) -> torch.Tensor:
        if len(batch) > self._rows:
            raise torch.OutOfMemoryError("out of memory")
        return batch


def test_many_images_are_looked_at_by_several_threads_and_keep_their_order(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[int] = set()

    @dataclasses.dataclass(frozen=True)
    class Watched(Noise):
        @property
        def content(self) -> str:
            threads.add(threading.get_ident())
            return Noise(self.seed).content

    monkeypatch.setattr(module, "_HASHED", 2)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    asked = [Item(str(seed), Watched(seed)) for seed in range(9)]
    found = Encoder(backbone, None).images(asked)
    assert threading.get_ident() not in threads
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    threads.clear()
    assert np.array_equal(Encoder(backbone, None).images(asked), found)
    assert threads == {threading.get_ident()}


@pytest.fixture(autouse=True)
def fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """No batch size was found yet."""
    monkeypatch.setattr(module, "_found", {})


@pytest.fixture
def fed_as_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are decoded ahead, and batches computed one after the other."""
    monkeypatch.setattr(Encoder, "_on_cpu", False)


def test_images_decoded_ahead_for_a_gpu_give_the_same_rows(
    backbone: Backbone, store: FeatureStore, request: pytest.FixtureRequest
) -> None:
    asked = items(*range(30))
    expected = Encoder(backbone, None, batch_size=4).images(asked)
    request.getfixturevalue("fed_as_a_gpu")
    assert np.array_equal(Encoder(backbone, store, batch_size=4).images(asked), expected)


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("kind", ["images", "texts", "own rows"])
def test_a_full_device_gets_smaller_batches(
    backbone: Backbone, kind: str, gpu: bool, request: pytest.FixtureRequest
) -> None:
    if gpu:
        request.getfixturevalue("fed_as_a_gpu")

    def rows(encoder: Encoder) -> NDArray[np.float32]:
        if kind == "images":
            return encoder.images(items(*range(10)))
        if kind == "texts":
            return encoder.texts(captions(10))
        tokens_NL = backbone.tokenize(captions(10))
        return encoder.rowwise(lambda batch: encoder.backbone.encode_tokens(tokens_NL[batch]), np.zeros(10, np.int64))

    small: Any = SmallMemory(backbone, 4)
    encoder = Encoder(small, None)
    found = rows(encoder)
    assert encoder.batch_size == 4
    assert np.array_equal(found, rows(Encoder(backbone, None, batch_size=4)))


def test_a_batch_size_that_was_found_is_kept_for_the_process_and_recorded_in_shards(
    backbone: Backbone, store: FeatureStore, capsys: pytest.CaptureFixture[str]
) -> None:
    small: Any = SmallMemory(backbone, 4)
    first = Encoder(small, store)
    usual = first.batch_size
    first.images(items(*range(10)))
    said = capsys.readouterr().err.splitlines()
    assert said[0] == (
        f"warning: a batch of {usual} did not fit into the memory of cpu; encoding goes on in batches of {usual // 2}"
    )
    assert Encoder(backbone, None).batch_size == 4
    assert Encoder(backbone, None, batch_size=16).batch_size == 16  # what is asked for is not changed
    Encoder(small, store).texts(captions(3))
    assert capsys.readouterr().err == ""
    headers = []
    for path in store.root.rglob("*.safetensors"):
        with safe_open(path, "np") as file:
            headers.append(file.metadata()["cirbench"])
    assert [json.loads(header)["batch_size"] for header in headers] == ["4", "4"]


@pytest.mark.usefixtures("fed_as_a_gpu")
def test_progress_takes_back_what_is_computed_again(backbone: Backbone) -> None:
    class FullLater(SmallMemory):
        def _fitting(self, batch: torch.Tensor) -> torch.Tensor:
            passes.append(len(batch))
            if len(batch) > 4 and len(passes) > 2:
                raise torch.OutOfMemoryError("out of memory")
            return batch

    passes: list[int] = []
    done: list[int] = []

    @contextlib.contextmanager
    def progress(description: str, total: int, *, unit: str = "") -> Iterator[Callable[[int], None]]:
        yield done.append

    small: Any = FullLater(backbone, 4)
    encoder = Encoder(small, None, progress=progress)
    encoder.batch_size = 8
    encoder.images(items(*range(18)))
    assert done == [8, -8, 4, 4, 4, 4, 2]


@pytest.mark.parametrize(("rows", "batch_size"), [(0, "auto"), (4, 8)])
def test_a_batch_that_cannot_fit_is_one_clear_error(backbone: Backbone, rows: int, batch_size: Any) -> None:
    small: Any = SmallMemory(backbone, rows)
    with pytest.raises(CirbenchError, match="does not fit into the memory of cpu") as caught:
        Encoder(small, None, batch_size=batch_size).images(items(1, 2))
    assert "--batch-size" in str(caught.value.hint)


def test_the_automatic_batch_is_smaller_for_larger_images(backbone: Backbone) -> None:
    class Sized:
        device = torch.device("cpu")
        image_size = 224

    sized: Any = Sized()
    sizes = []
    for sized.image_size in (32, 64, 224, 336, 448):
        sizes.append(sensible_batch_size(sized))
    assert sizes == [32, 32, 16, 8, 8]
    sized.device = torch.device("cuda")
    assert sensible_batch_size(sized) == 256


@pytest.mark.parametrize("workers", [1, 4])
def test_working_ahead_keeps_the_order_and_stays_bounded(workers: int) -> None:
    begun = []

    def work(source: Any) -> torch.Tensor:
        begun.append(source)
        return torch.tensor(source.seed)

    for position, seed in enumerate(module._ahead(work, [Noise(seed) for seed in range(30)], workers, 5)):
        assert int(seed) == position
        assert len(begun) <= position + 6
    assert len(begun) == 30


def test_an_error_while_working_ahead_arrives_in_its_place() -> None:
    sources: Any = [Noise(1), Noise(2), Noise(-1), Noise(3)]
    ahead = module._ahead(lambda source: torch.tensor(source.open().width), sources, 2, 3)
    assert [int(next(ahead)), int(next(ahead))] == [48, 48]
    with pytest.raises(MissingData, match="noise -1 is gone"):
        next(ahead)


CONTENTS = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(7)]


def space(recipe: str = "0") -> OwnSpace:
    return OwnSpace(tiny_backbone().identity, "words", recipe, 3)


class Maker:
    """Makes rows, remembers which, and is killed at a given call."""

    def __init__(self, killed_at: int = 99) -> None:
        self.calls: list[list[str]] = []
        self.killed_at = killed_at

    def __call__(self, contents: list[str], advance: Callable[[int], None]) -> NDArray[np.float32]:
        if len(self.calls) == self.killed_at:
            raise KeyboardInterrupt
        self.calls.append(contents)
        advance(len(contents))
        return np.array([[int(content[:4], 16), 1, 2] for content in contents], dtype=np.float32)


def test_rows_are_made_once_for_each_recipe_and_given_in_the_order_asked_for(tmp_path: Path) -> None:
    make = Maker()
    encoder = Encoder(tiny_backbone(), FeatureStore(tmp_path))
    asked = [*CONTENTS, CONTENTS[0]]
    rows = encoder.own(space(), asked, make, shard=3)
    assert rows[:, 0].tolist() == [int(content[:4], 16) for content in asked]
    assert [len(call) for call in make.calls] == [3, 3, 1]
    again = Encoder(tiny_backbone(), FeatureStore(tmp_path)).own(space(), asked[::-1], make, shard=3)
    np.testing.assert_array_equal(again, rows[::-1])
    assert len(make.calls) == 3
    encoder.own(space("1"), CONTENTS[:1], make, shard=3)
    assert len(make.calls) == 4


def test_a_killed_maker_goes_on_where_it_was(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Encoder(tiny_backbone(), FeatureStore(tmp_path)).own(space(), CONTENTS, Maker(killed_at=2), shard=3)
    make = Maker()
    Encoder(tiny_backbone(), FeatureStore(tmp_path)).own(space(), CONTENTS, make, shard=3)
    assert make.calls == [CONTENTS[6:]]


def test_rows_in_half_precision_are_rounded_in_memory_and_on_disk_alike(tmp_path: Path) -> None:
    half = dataclasses.replace(space(), precision="float16")
    assert half.digest != space().digest

    def make(contents: list[str], advance: Callable[[int], None]) -> NDArray[np.float32]:
        return np.array([[int(content[:6], 16) / 7e6, 1 / 3, 0] for content in contents], dtype=np.float32)

    stores = (None, FeatureStore(tmp_path), FeatureStore(tmp_path))
    rows = [Encoder(tiny_backbone(), store).own_rows(half, CONTENTS, make, shard=3)[:] for store in stores]
    exact = make(CONTENTS, lambda amount: None)
    for found in rows:
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, exact.astype(np.float16).astype(np.float32))
    assert not np.array_equal(rows[0], exact)
