"""An image is read whole or refused by name, and preprocessed as declared, which is what the published code does."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.transform import image_transform
from PIL import Image, ImageFile
from torchvision.transforms import functional

from cirbench.backbones.images import FileImage, Preprocessing, decode, is_image, pad_towards, upright_rgb
from cirbench.benchmarks.files.check import inspect
from cirbench.errors import CheckFailed, CorruptFile, MissingData, UnknownName, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def noise(width: int = 80, height: int = 60, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA", "LA"])
def test_an_image_comes_back_in_the_mode_it_was_stored_in(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(encoded(noise(mode=mode), "PNG"))
    assert decode(path).mode == mode
    assert decode(path).size == (80, 60)


def test_exif_orientation_is_left_to_the_preprocessing(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.jpg"
    path.write_bytes(encoded(noise(), "JPEG", exif=exif))
    assert decode(path).size == (80, 60)


def test_of_an_animation_the_first_frame_is_read(tmp_path: Path) -> None:
    path = tmp_path / "animation.gif"
    first, second = Image.new("RGB", (9, 9), "red"), Image.new("RGB", (9, 9), "blue")
    path.write_bytes(encoded(first, "GIF", save_all=True, append_images=[second]))
    assert decode(path).convert("RGB").getpixel((4, 4)) == (255, 0, 0)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_a_truncated_image_is_an_error_that_names_the_file(tmp_path: Path, kind: str, part: float) -> None:
    content = encoded(noise(), kind)
    path = tmp_path / f"half.{kind.lower()}"
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(CorruptFile, match=str(path)):
        decode(path)


def test_an_empty_file_is_said_to_be_empty(tmp_path: Path) -> None:
    path = tmp_path / "empty.jpg"
    path.touch()
    with pytest.raises(CorruptFile, match=r"empty\.jpg cannot be decoded: it is empty"):
        decode(path)


def test_a_file_of_another_kind_is_said_to_be_no_image(tmp_path: Path) -> None:
    path = tmp_path / "page.jpg"
    path.write_text("words")
    with pytest.raises(CorruptFile, match=r"page\.jpg cannot be decoded: it is not in a known image format"):
        decode(path)
    path.write_text("<html>404</html>")
    with pytest.raises(CorruptFile, match=r"page\.jpg is a web page"):
        decode(path)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n")
    with pytest.raises(CorruptFile, match=r"page\.jpg is a pointer of git-lfs") as raised:
        decode(path)
    assert "git lfs pull" in str(raised.value.hint)


@pytest.mark.parametrize("name", ["x" * 9000, "\x1b[31m\u202e.png"])
def test_a_message_shows_no_more_than_a_line_of_a_path_and_nothing_that_acts(tmp_path: Path, name: str) -> None:
    for use in (decode, lambda path: FileImage(path).content):
        with pytest.raises(MissingData) as raised:
            use(tmp_path / name)
        assert len(raised.value.message) < 300
        assert raised.value.message.isprintable()


RAMP = np.linspace(0, 65535, 32 * 24).astype(np.uint16).reshape(24, 32)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG2000", "PPM"])
def test_16_bits_of_grey_become_8_by_their_upper_byte(format: str, tmp_path: Path) -> None:
    path = tmp_path / "deep"
    Image.fromarray(RAMP).save(path, format)
    with Image.open(path) as stored:
        values = np.asarray(stored)
    image = decode(path)
    assert image.mode == "L"
    assert np.array_equal(np.asarray(image), values >> 8)
    assert np.array_equal(np.asarray(image.convert("RGB"))[..., 0], values >> 8)  # nothing is clipped to white


def test_16_bits_of_rgb_become_8_by_their_upper_byte(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    rows_HW3 = np.stack([RAMP, RAMP[::-1], 65535 - RAMP], axis=-1).astype(">u2")
    lines = b"".join(b"\0" + row.tobytes() for row in rows_HW3)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 32, 24, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines)),
        (b"IEND", b""),
    ]
    whole = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(whole))
    assert np.array_equal(np.asarray(decode(path)), rows_HW3 >> 8)


def test_a_deep_image_keeps_the_orientation_that_its_exif_has(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RAMP).save(tmp_path / "deep.png", exif=exif)
    assert decode(tmp_path / "deep.png").size == (32, 24)
    assert upright_rgb(decode(tmp_path / "deep.png")).size == (24, 32)


@pytest.mark.parametrize(("kind", "told"), [(np.float32, "floating-point numbers"), (np.int32, "32-bit integers")])
def test_numbers_of_no_declared_range_are_refused_by_name(kind: type, told: str, tmp_path: Path) -> None:
    path = tmp_path / "depth.tif"
    Image.fromarray(np.arange(12, dtype=kind).reshape(3, 4)).save(path)
    with pytest.raises(CorruptFile, match=rf"depth\.tif cannot be used: it holds {told}") as raised:
        decode(path)
    assert "8 or 16 bits" in str(raised.value.hint)
    assert inspect(path).state == "undecodable"


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".avif", ".jp2", ".webp", ".tif", ".bmp", ".gif", ".JPG", ""])
def test_every_format_that_the_decoder_opens_is_an_image(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    Image.new("RGB", (8, 8)).save(path, Image.registered_extensions().get(suffix.lower(), "JPEG"))
    assert is_image(path)
    assert decode(path).size == (8, 8)


@pytest.mark.parametrize(("name", "content"), [("a.txt", "x"), ("a", "x"), ("a.h5", ""), ("a.eps", ""), ("a.mpg", "")])
def test_what_the_decoder_does_not_open_is_not_an_image(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    assert not is_image(tmp_path / name)


def test_an_absent_image_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"gone\.jpg does not exist"):
        decode(tmp_path / "gone.jpg")
    with pytest.raises(MissingData, match=r"gone\.jpg does not exist"):
        _ = FileImage(tmp_path / "gone.jpg").content


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="cannot be read"):
        decode(tmp_path)
    with pytest.raises(MissingData, match="cannot be read"):
        _ = FileImage(tmp_path).content


@pytest.mark.slow
@pytest.mark.parametrize("side", [12_000, 20_000])
def test_a_decompression_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, side: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(encoded(Image.new("1", (side, side)), "PNG"))
    assert path.stat().st_size < 100_000
    with pytest.raises(CorruptFile, match=r"bomb\.png has more than .* pixels"):
        decode(path)


def test_decoding_refuses_to_fill_truncated_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The switch is global, so any imported library may have thrown it."""
    path = tmp_path / "image.png"
    path.write_bytes(encoded(noise(), "PNG"))
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(CheckFailed, match="LOAD_TRUNCATED_IMAGES"):
        decode(path)


def test_the_content_of_a_file_is_the_sha256_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(encoded(noise(), "PNG"))
    assert FileImage(path).content == hashlib.sha256(path.read_bytes()).hexdigest()
    assert FileImage(path).open().size == (80, 60)
    assert str(FileImage(path)) == str(path)


def test_the_content_follows_a_file_that_changes(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(encoded(noise(), "PNG"))
    before = FileImage(path).content
    path.write_bytes(encoded(noise(81), "PNG"))
    os.utime(path, ns=(0, 1))
    assert FileImage(path).content != before


MODES = ["RGB", "L", "P", "1", "RGBA", "LA", "CMYK", "I;16"]
sizes = st.tuples(st.integers(1, 300), st.integers(1, 300))


def picture(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 1 << 16, (height, width), dtype=np.uint16))
    if mode in ("RGBA", "LA"):
        return Image.fromarray(rng.integers(0, 256, (height, width, 4), dtype=np.uint8)).convert(mode)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)


def smooth(width: int, height: int, seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@settings(max_examples=60)
@given(size=sizes, mode=st.sampled_from(MODES), side=st.sampled_from([32, 224]))
def test_clip_is_open_clips_own_transform_bit_for_bit(size: tuple[int, int], mode: str, side: int) -> None:
    image = picture(size[0], size[1], mode)
    theirs = image_transform(side, is_train=False)(image)
    assert torch.equal(torch.from_numpy(Preprocessing(size=side)(image)), theirs)


@settings(max_examples=20)
@given(size=sizes, mode=st.sampled_from(MODES))
def test_levels_travel_as_bytes_and_are_normalised_later_to_the_same_bits(size: tuple[int, int], mode: str) -> None:
    image, preprocessing = picture(size[0], size[1], mode), Preprocessing(size=32)
    levels = preprocessing.levels(image)
    assert levels.dtype == np.dtype(np.uint8)
    assert levels.shape == (3, 32, 32)
    batch = torch.from_numpy(np.stack([levels] * 2))[:, None]
    normalised = preprocessing.normalize(batch)
    theirs = image_transform(32, is_train=False)(image)
    assert torch.equal(normalised, theirs.expand(2, 1, 3, 32, 32))


def test_every_level_of_every_channel_is_what_open_clip_makes_of_it() -> None:
    levels = np.arange(256, dtype=np.uint8).repeat(4).reshape(32, 32)
    image = Image.fromarray(np.stack([levels, levels[::-1], levels.T], axis=-1))
    preprocessing = Preprocessing(size=32)
    with torch.inference_mode():  # whose table serves trainings too
        first = preprocessing.normalize(torch.from_numpy(preprocessing.levels(image)))
    assert torch.equal(first, image_transform(32, is_train=False)(image))
    later = preprocessing.normalize(torch.from_numpy(preprocessing.levels(image))) * torch.ones(1, requires_grad=True)
    torch.autograd.backward(later.sum())


@settings(max_examples=30)
@given(size=sizes, mode=st.sampled_from(MODES), interpolation=st.sampled_from(["bicubic", "bilinear"]))
def test_squash_is_open_clips_own_transform_bit_for_bit(size: tuple[int, int], mode: str, interpolation: str) -> None:
    image = picture(size[0], size[1], mode)
    half = (0.5, 0.5, 0.5)
    theirs = image_transform(64, False, mean=half, std=half, resize_mode="squash", interpolation=interpolation)(image)
    mine = Preprocessing.parse(f"squash(64, {interpolation}, mean=0.5/0.5/0.5, std=0.5/0.5/0.5)")
    assert torch.equal(torch.from_numpy(mine(image)), theirs)


@settings(max_examples=60)
@given(size=sizes, mode=st.sampled_from(MODES), ratio=st.sampled_from([1.0, 1.25, 2.0]))
def test_targetpad_pads_with_zeros_as_the_published_formula_says(
    size: tuple[int, int], mode: str, ratio: float
) -> None:
    image = picture(size[0], size[1], mode)
    width, height = size
    expected = image
    if max(size) / min(size) >= ratio:
        across = max(int((max(size) / ratio - width) / 2), 0)
        down = max(int((max(size) / ratio - height) / 2), 0)
        expected = functional.pad(image, [across, down, across, down], fill=0)
    padded = pad_towards(image, ratio)
    assert padded.size == expected.size
    assert padded.mode == expected.mode
    assert padded.convert("RGBA").tobytes() == expected.convert("RGBA").tobytes()


def test_targetpad_continues_as_clip_does() -> None:
    image = picture(100, 300)
    padded = pad_towards(image, 1.25)
    assert padded.size == (240, 300)
    assert np.array_equal(Preprocessing.parse("targetpad(1.25, 64)")(image), Preprocessing(size=64)(padded))


def levels_apart(image: Image.Image, declaration: str) -> NDArray[np.float32]:
    exact = Preprocessing.parse(declaration)(image)
    fast = dataclasses.replace(Preprocessing.parse(declaration), fast=True)(image)
    std_311 = np.array(Preprocessing().std, dtype=np.float32)[:, None, None]
    apart_3SS: NDArray[np.float32] = np.rint(np.abs(exact - fast) * 255 * std_311)
    return apart_3SS


@pytest.mark.parametrize("shape", ["clip", "targetpad", "squash"])
@pytest.mark.parametrize("size", [(640, 480), (480, 640), (333, 500), (224, 224), (100, 50), (300, 900)])
def test_the_fast_variant_stays_within_one_grey_level(shape: str, size: tuple[int, int]) -> None:
    for image in (smooth(*size), picture(*size)):
        assert levels_apart(image, shape).max() <= 1


def test_the_fast_variant_is_two_levels_off_at_fewer_than_one_value_in_a_million() -> None:
    sizes = np.random.default_rng(0).integers(225, 700, (60, 2)).tolist()
    apart = np.array([levels_apart(picture(size[0], size[1], seed=seed), "squash") for seed, size in enumerate(sizes)])
    assert apart.max() <= 2
    assert np.mean(apart > 1) < 1e-6


def test_the_fast_variant_is_not_the_exact_one() -> None:
    assert levels_apart(picture(640, 480), "clip").max() == 1


def test_a_declaration_gets_what_it_leaves_open_from_the_model() -> None:
    model = Preprocessing(size=336, interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    assert Preprocessing.parse("clip", model) == model
    assert Preprocessing.parse("clip(224)", model).size == 224
    padded = Preprocessing.parse("targetpad(1.5)", model)
    assert (padded.shape, padded.ratio, padded.size, padded.mean) == ("targetpad", 1.5, 336, model.mean)
    assert Preprocessing.parse("targetpad(224)", model).ratio == 1.25
    assert Preprocessing.parse("targetpad", model).size == 336
    cropped = dataclasses.replace(model, resize=384)
    assert Preprocessing.parse("targetpad", cropped).resize == 384
    assert Preprocessing.parse("clip(336)", cropped).resize is None


@settings(max_examples=30)
@given(size=sizes, shape=st.sampled_from(["clip", "squash"]), fast=st.booleans())
def test_an_image_may_be_scaled_to_more_than_is_cut_out(size: tuple[int, int], shape: str, fast: bool) -> None:
    image = picture(*size)
    words = ", fast" if fast else ""
    whole = Preprocessing.parse(f"{shape}(96{words})")(image)
    part = Preprocessing.parse(f"{shape}(64, resize=96{words})")(image)
    assert np.array_equal(part, whole[:, 16:80, 16:80])


@given(
    shape=st.sampled_from(["clip", "targetpad", "squash"]),
    words=st.sets(st.sampled_from(["rgb-first", "fast", "bilinear"])),
    size=st.integers(1, 1024),
    beyond=st.integers(0, 64),
    mean=st.tuples(*[st.floats(0, 1)] * 3),
    std=st.tuples(*[st.floats(1e-3, 1)] * 3),
)
def test_a_preprocessing_reads_back_from_its_text(
    shape: str,
    words: set[str],
    size: int,
    beyond: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> None:
    text = ", ".join([str(size), *words, f"resize={size + beyond}"])
    declared = Preprocessing.parse(f"{shape}({text})", Preprocessing(mean=mean, std=std))
    assert declared.resize == (size + beyond if beyond else None)
    assert Preprocessing.parse(str(declared), Preprocessing(size=7, resize=9)) == declared


def test_every_choice_changes_the_text_that_enters_the_key() -> None:
    texts = ["clip", "clip(225)", "squash", "targetpad", "targetpad(1.5)", "clip(fast)", "clip(rgb-first)"]
    texts += ["clip(resize=256)", "squash(resize=256)", "clip(bilinear)", "clip(mean=0/0/0)", "clip(std=1/1/1)"]
    assert len({str(Preprocessing.parse(text)) for text in texts}) == len(texts)


@pytest.mark.parametrize(
    "text",
    ["clip(", "clip(224, 225)", "clip(22.5)", "clip(sharp)", "targetpad(1.5, 2.5)", "clip(mean=1/2)", "clip(x=1)"],
)
def test_a_declaration_that_cannot_be_understood_shows_examples(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Preprocessing.parse(text)
    assert caught.value.hint is not None


@pytest.mark.parametrize("text", ["clip(0)", "targetpad(0.5, 224)", "clip(std=0/1/1)"])
def test_a_declaration_of_impossible_numbers_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="cannot be"):
        Preprocessing.parse(text)


def test_what_is_cut_out_is_not_larger_than_the_image() -> None:
    with pytest.raises(UsageError, match="cuts 224 pixels out of 200"):
        Preprocessing.parse("clip(224, resize=200)")


def test_an_unknown_preprocessing_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match="There is no preprocessing called 'squish'") as caught:
        Preprocessing.parse("squish(224)")
    assert "squash" in str(caught.value)


def test_the_published_order_resizes_a_palette_before_converting_it() -> None:
    image = smooth(100, 80).convert("P")
    published, rgb_first = Preprocessing(size=32)(image), Preprocessing(size=32, rgb_first=True)(image)
    assert np.abs(published - rgb_first).max() > 0.1


def test_the_published_order_drops_the_alpha_of_a_palette_without_a_warning() -> None:
    image = smooth(64, 64).convert("P")
    image.info["transparency"] = bytes(range(256))
    mine = torch.from_numpy(Preprocessing(size=32)(image))
    with pytest.warns(UserWarning, match="Transparency"):
        theirs = image_transform(32, is_train=False)(image)
    assert torch.equal(mine, theirs)
    assert "transparency" in image.info


def test_rgb_first_turns_upright_by_exif() -> None:
    image = picture(60, 40)
    image.getexif()[0x0112] = 6
    assert image.getexif()[0x0112] == 6
    assert upright_rgb(image).size == (40, 60)


def test_rgb_first_lays_alpha_over_white() -> None:
    clear = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    assert upright_rgb(clear).getpixel((1, 1)) == (255, 255, 255)
    assert upright_rgb(Image.new("LA", (4, 4), (10, 255))).getpixel((1, 1)) == (10, 10, 10)


def test_rgb_first_scales_sixteen_bits_to_eight() -> None:
    deep = Image.fromarray(np.full((4, 4), 0x8000, dtype=np.uint16))
    assert upright_rgb(deep).getpixel((1, 1)) == (128, 128, 128)


def test_rgb_first_changes_nothing_for_plain_images() -> None:
    image = picture(90, 70)
    assert np.array_equal(Preprocessing(size=32)(image), Preprocessing(size=32, rgb_first=True)(image))
