"""An image is read whole, or it is an error that names the file."""

from __future__ import annotations

import hashlib
import io
import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image, ImageFile

from cirbench.backbones.images import FileImage, decode
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
    path.write_text("<html>404</html>")
    with pytest.raises(CorruptFile, match=r"page\.jpg cannot be decoded: it is not an image"):
        decode(path)


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
