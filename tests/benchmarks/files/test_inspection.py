"""Inspecting an image says what `cirbench.backbones.images` would make of it, and what is odd about it."""

from __future__ import annotations

import io
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cirbench.backbones.images import decode
from cirbench.benchmarks.files.check import inspect
from cirbench.errors import CirbenchError

if TYPE_CHECKING:
    from pathlib import Path


def encoded(format: str, mode: str = "RGB", size: tuple[int, int] = (64, 48), **options: object) -> bytes:
    noise = random.Random(1).randbytes(3 * size[0] * size[1])
    image = Image.frombytes("RGB", size, noise)
    image = image.convert("L").convert("I;16") if mode == "I;16" else image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


KINDS = {
    "jpeg": encoded("JPEG"),
    "progressive jpeg": encoded("JPEG", progressive=True),
    "grey jpeg": encoded("JPEG", "L"),
    "cmyk jpeg": encoded("JPEG", "CMYK"),
    "png": encoded("PNG"),
    "palette png": encoded("PNG", "P"),
    "transparent png": encoded("PNG", "RGBA"),
    "black and white png": encoded("PNG", "1"),
    "deep png": encoded("PNG", "I;16"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_image_is_whole_and_its_mode_is_told(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(KINDS[kind])
    found = inspect(path)
    assert (found.state, found.why, found.size) == ("whole", "", len(KINDS[kind]))
    with Image.open(path) as image:
        assert found.mode == image.mode
    assert not found.turned


def test_a_file_of_no_bytes_is_empty(tmp_path: Path) -> None:
    (tmp_path / "image.jpg").touch()
    assert inspect(tmp_path / "image.jpg").state == "empty"


def test_a_page_that_says_it_is_an_image_is_undecodable(tmp_path: Path) -> None:
    (tmp_path / "image.jpg").write_text("<html>404</html>")
    found = inspect(tmp_path / "image.jpg")
    assert (found.state, found.why) == ("undecodable", "it is a web page, as servers send in place of a file")


@pytest.mark.parametrize("kind", ["jpeg", "progressive jpeg", "png", "palette png"])
def test_a_file_cut_short_is_truncated(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(KINDS[kind][: len(KINDS[kind]) * 2 // 3])
    assert inspect(path).state == "truncated"


def test_a_file_that_is_gone_or_a_folder_is_unreadable(tmp_path: Path) -> None:
    assert inspect(tmp_path / "gone").state == "unreadable"
    assert inspect(tmp_path).state == "unreadable"


def test_an_image_of_too_many_pixels_is_not_decoded(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (12_000, 12_000)).save(path)
    found = inspect(path)
    assert found.state == "undecodable"
    assert "pixels" in found.why


def test_a_file_of_too_many_bytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.jpg"
    with path.open("wb") as file:
        file.truncate((1 << 28) + 1)
    assert inspect(path).why == "it has 268435457 bytes, too many for an image"


@pytest.mark.parametrize("orientation", [1, 2, 3, 6, 8])
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_exif_orientation_is_seen(orientation: int, format: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "image"
    path.write_bytes(encoded(format, exif=exif))
    assert inspect(path).turned == (orientation != 1)


@pytest.mark.filterwarnings("ignore")  # `check` silences Pillow's
def test_damaged_exif_data_do_not_make_an_image_broken(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(encoded("JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"))
    found = inspect(path)
    assert (found.state, found.turned) == ("whole", False)


@pytest.mark.slow
@settings(max_examples=400)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    cut=st.one_of(st.none(), st.floats(0, 1)),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=3),
)
@pytest.mark.filterwarnings("ignore")
def test_damaged_images_are_judged_as_the_decoder_does(
    kind: str, cut: float | None, flips: list[tuple[float, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(KINDS[kind])
    for place, bits in flips:
        content[int(place * len(content))] ^= bits
    if cut is not None:
        content = content[: int(cut * len(content))]
    path = tmp_path_factory.mktemp("damaged") / "image"
    path.write_bytes(content)
    try:
        decode(path)
        decodes = True
    except CirbenchError:
        decodes = False
    assert (inspect(path).state == "whole") == decodes
