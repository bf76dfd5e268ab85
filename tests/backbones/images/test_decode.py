"""An image is read whole, or it is an error that names the file."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image, ImageFile

from cirbench.backbones.images.decode import FileImage, decode, is_image
from cirbench.backbones.images.preprocess import upright_rgb
from cirbench.benchmarks.files.check import inspect
from cirbench.errors import CheckFailed, CorruptFile, MissingData

if TYPE_CHECKING:
    from pathlib import Path


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
