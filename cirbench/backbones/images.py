"""Images: decoded whole or refused by name, then preprocessed by a declared rule; torch and Pillow are imported on use.

Decoding: pixels come back in the mode they were stored in, and EXIF orientation is not applied, since both are a matter
of the preprocessing. Only depth is settled here: 16 bits a channel become 8 by their upper byte, grey as well as RGB,
since every later step would clip them to white; numbers of no declared range (32-bit integers, floats) are refused.

A `Preprocessing` is written as text, and the whole text is part of every feature key:

    clip(224)               the shorter side to 224, centre crop: open_clip's own, bit for bit
    targetpad(1.25, 224)    first padded with black towards a side ratio of at most 1.25 (SEARLE, CIReVL, CLIP4Cir)
    squash(224)             both sides to 224, whatever the shape (SigLIP, CLIPA)

Size, interpolation, mean and standard deviation are the model's where the text does not give them. Words that may
follow:

    resize=346   scale to 346 pixels in place of the size, then cut the size out of the middle: squash(289, resize=346)
                 is ALIGN's. The model's own where the text gives no size.
    rgb-first    turn upright by EXIF, lay alpha over white, scale 16 to 8 bits and convert to RGB *before* resizing.
                 Without it the order is that of the published code: resize in the stored mode, convert afterwards, and
                 leave EXIF alone. Palette and transparent images differ visibly between the two.
    fast         uint8 antialiased resize by torchvision: about twice as fast, within one grey level of the exact one
                 (two at fewer than one value in a million). Images to be enlarged and very tall ones go the exact way.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import os
import re
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from cirbench.errors import (
    CheckFailed,
    CorruptFile,
    MissingData,
    UnknownName,
    UsageError,
    excerpt,
    excerpt_of_path,
    quoted,
)
from cirbench.support import memo
from cirbench.support.textfiles import HEAD, placeholder

# Pillow is imported where an image is opened: lists are scored, and finished runs shown, without.
if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from numpy.typing import NDArray
    from PIL import Image


MAX_PIXELS = 1 << 27
"""134 million pixels, more than any camera of the benchmarks; a larger image is taken for a decompression bomb."""

_PREFERRED = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_NOT_PIXELS = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}
"""Formats that Pillow recognises and hands to other programs, or does not decode at all."""
_CERTAIN = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000")
"""Formats that their first bytes tell without doubt."""


@functools.cache
def image_suffixes() -> tuple[str, ...]:
    """Return the suffixes, in lower case, of every format that the installed Pillow decodes, the usual ones first."""
    from PIL import Image

    formats = Image.registered_extensions()
    known = {suffix for suffix, name in formats.items() if name in Image.OPEN and name not in _NOT_PIXELS}
    return (*_PREFERRED, *sorted(known.difference(_PREFERRED)))


def is_image(path: Path | str) -> bool:
    """Whether a file is an image by its suffix; where it has none, by its first bytes."""
    _, dot, suffix = os.path.basename(path).rpartition(".")  # noqa: PTH119 - a Path for each of a million names takes its time
    if dot:
        return f".{suffix.lower()}" in image_suffixes()
    from PIL import Image

    try:
        with Image.open(path, formats=_CERTAIN):
            return True
    except Exception:  # whatever Pillow's parsers meet in a file that is not an image
        return False


def decode(path: Path) -> Image.Image:
    """Read an image whole, in its original mode; of an animation, the first frame.

    Raises:
        MissingData: The file is absent or cannot be read.
        CorruptFile: The file is empty, truncated, undecodable, or larger than `MAX_PIXELS`.
        CheckFailed: Pillow is configured to fill truncated images with grey.
    """
    return _decode(path, str(path))


def decode_bytes(content: bytes, name: str) -> Image.Image:
    """Read an image whole from the bytes of its file, like `decode`; ``name`` is what messages call it."""
    return _decode(io.BytesIO(content), name)


def _decode(file: Path | io.BytesIO, name: str) -> Image.Image:
    from PIL import Image, ImageFile, UnidentifiedImageError

    name = excerpt_of_path(name)
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise CheckFailed(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on, so truncated images would be filled with grey in silence.",
            hint="Some imported library set it: set it back to False.",
        )
    try:
        with Image.open(file) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise _too_large(name)
            image.load()
            return _in_8_bits(image, name)
    except (CorruptFile, MemoryError):
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise MissingData(f"The image {name} does not exist.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name) from error
    except UnidentifiedImageError as error:
        head = _head(file)
        if (found := placeholder(head)) is not None:
            raise CorruptFile(f"The image {name} is {found[0]}.", hint=found[1]) from error
        why = "it is not in a known image format" if head else "it is empty"
        raise CorruptFile(f"The image {name} cannot be decoded: {why}.", hint=_FETCH_AGAIN) from error
    except Exception as error:  # Pillow's decoders raise whatever their format's parser meets
        if isinstance(error, OSError) and error.errno is not None:
            raise MissingData(f"The image {name} cannot be read: {error.strerror}.") from error
        raise CorruptFile(f"The image {name} cannot be decoded whole: {excerpt(error)}.", hint=_FETCH_AGAIN) from error


_FETCH_AGAIN = "Fetch or copy the file again; nothing is skipped or filled in."


def _head(file: Path | io.BytesIO) -> bytes:
    if isinstance(file, io.BytesIO):
        return file.getvalue()[:HEAD]
    with file.open("rb") as opened:
        return opened.read(HEAD)


def undeclared_range(image: Image.Image) -> str | None:
    """Say why nobody can tell which number of an image is white, or return ``None``."""
    if image.mode not in ("I", "F") or _is_16_bits(image):
        return None
    numbers = "32-bit integers" if image.mode == "I" else "floating-point numbers"
    return f"it holds {numbers}, and nothing says which of them is white"


def _is_16_bits(image: Image.Image) -> bool:
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


def _in_8_bits(image: Image.Image, name: str) -> Image.Image:
    """Scale 16 bits of grey to 8 by their upper byte, as Pillow itself reads 16 bits of RGB."""
    if (why := undeclared_range(image)) is not None:
        raise CorruptFile(
            f"The image {name} cannot be used: {why}.",
            hint="Save it with 8 or 16 bits a channel, scaled as it is meant.",
        )
    if not _is_16_bits(image):
        return image
    from PIL import Image

    scaled = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    scaled.info = image.info  # with EXIF, which may turn the image
    return scaled


def _too_large(name: str) -> CorruptFile:
    return CorruptFile(
        f"The image {name} has more than {MAX_PIXELS:,} pixels and is taken for a decompression bomb.",
        hint="Scale it down, or replace it with the image that the data set describes.",
    )


@dataclasses.dataclass(frozen=True, slots=True)
class FileImage:
    """An image in a file of its own; an `ImageSource`."""

    path: Path

    @property
    def content(self) -> str:
        """Sha256 of the file's bytes.

        Raises:
            MissingData: The file is absent or cannot be read.
        """
        try:
            return memo.sha256(self.path)
        except FileNotFoundError:
            raise MissingData(f"The image {excerpt_of_path(self.path)} does not exist.") from None
        except OSError as error:
            raise MissingData(f"The image {excerpt_of_path(self.path)} cannot be read: {error.strerror}.") from error

    def open(self) -> Image.Image:
        """Decode the image; see `decode`."""
        return decode(self.path)

    def __str__(self) -> str:
        return str(self.path)


Shape = Literal["clip", "targetpad", "squash"]
Interpolation = Literal["bicubic", "bilinear"]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclasses.dataclass(frozen=True, slots=True)
class Preprocessing:
    """A declared way from a decoded image to the pixels that an image tower reads.

    Attributes:
        shape: How the image becomes square.
        size: S, the side in pixels.
        resize: To how many pixels the shorter side, or with ``squash`` both, are scaled before the centre crop to S;
            ``None`` for S itself.
        ratio: The side ratio from which ``targetpad`` pads; ``None`` for the others.
        interpolation: Of the resize; both are antialiased.
        rgb_first: Whether the image is made upright, opaque RGB before resizing.
        fast: Whether torchvision's uint8 resize is used.
        mean: Per channel, of values in 0..1.
        std: Per channel.
    """

    shape: Shape = "clip"
    size: int = 224
    resize: int | None = None
    ratio: float | None = None
    interpolation: Interpolation = "bicubic"
    rgb_first: bool = False
    fast: bool = False
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD

    def __str__(self) -> str:
        words = [
            *([f"{self.ratio:g}"] if self.ratio is not None else []),
            str(self.size),
            *([f"resize={self.resize}"] if self.resize is not None else []),
            self.interpolation,
            *(["rgb-first"] if self.rgb_first else []),
            *(["fast"] if self.fast else []),
            "mean=" + "/".join(f"{value!r}" for value in self.mean),
            "std=" + "/".join(f"{value!r}" for value in self.std),
        ]
        return f"{self.shape}({', '.join(words)})"

    @classmethod
    def parse(cls, declaration: str, default: Preprocessing | None = None) -> Preprocessing:
        """Read a declaration; what it leaves open is taken from ``default``.

        Raises:
            UnknownName: There is no such preprocessing.
            UsageError: The declaration cannot be understood.
        """
        default = default or cls()
        match = re.fullmatch(r"\s*([\w-]+)\s*(?:\((.*)\))?\s*", declaration)
        name, inside = match.groups() if match else (declaration, None)
        if name not in get_args(Shape):
            raise UnknownName("preprocessing", name, get_args(Shape))
        values = dataclasses.asdict(default) | {"shape": name, "ratio": 1.25 if name == "targetpad" else None}
        words = [word.strip() for word in (inside or "").split(",") if word.strip()]
        numbers = [word for word in words if re.fullmatch(r"\d+(\.\d+)?", word)]
        if name == "targetpad" and numbers and (len(numbers) == 2 or "." in numbers[0]):
            values["ratio"] = float(numbers.pop(0))
        if numbers:
            values |= {"size": _whole(numbers.pop(0), declaration), "resize": None}
        if numbers:
            raise _not_understood(declaration, numbers[0])
        for word in words:
            key, _, value = word.partition("=")
            if word in get_args(Interpolation):
                values["interpolation"] = word
            elif word in ("rgb-first", "fast"):
                values[word.replace("-", "_")] = True
            elif key in ("mean", "std") and re.fullmatch(r"[\d.e+-]+(/[\d.e+-]+){2}", value):
                values[key] = tuple(float(number) for number in value.split("/"))
            elif key == "resize" and value.isdecimal():
                values[key] = int(value)
            elif not re.fullmatch(r"\d+(\.\d+)?", word):
                raise _not_understood(declaration, word)
        if values["resize"] == values["size"]:
            values["resize"] = None
        parsed = cls(**values)
        if (parsed.resize or parsed.size) < parsed.size:
            raise UsageError(
                f"The preprocessing {quoted(declaration)} cuts {parsed.size} pixels out of {parsed.resize}."
            )
        if parsed.size < 1 or not all(value > 0 for value in parsed.std) or not (parsed.ratio or 1) >= 1:
            raise UsageError(f"The preprocessing {quoted(declaration)} has a size, ratio or deviation that cannot be.")
        return parsed

    def __call__(self, image: Image.Image) -> NDArray[np.float32]:
        """Preprocess a decoded image into (3, S, S) float32."""
        import torch

        return self.normalize(torch.from_numpy(self.levels(image))).numpy()

    def levels(self, image: Image.Image) -> NDArray[np.uint8]:
        """Make a decoded image square, (3, S, S) uint8, which is a quarter of the bytes; imports no torch."""
        if self.rgb_first:
            image = upright_rgb(image)
        if self.ratio is not None:
            image = pad_towards(image, self.ratio)
        resized = self._scaled(image)
        fast = self.fast and _agrees(image.size, resized)
        levels_SS3 = self._fast_square(image, resized) if fast else self._square(image, resized)
        return np.ascontiguousarray(levels_SS3.transpose(2, 0, 1))

    def normalize(self, levels_X3SS: torch.Tensor) -> torch.Tensor:
        """Turn grey levels into what the image tower reads, (..., 3, S, S) float32, wherever they are.

        By a table of the 256 levels of each channel, so that no device can round otherwise than another.
        """
        table_Y, first_311 = _table(self.mean, self.std, levels_X3SS.device)
        return table_Y.index_select(0, (levels_X3SS + first_311).flatten()).view(levels_X3SS.shape)

    def _square(self, image: Image.Image, resized: tuple[int, int]) -> NDArray[np.uint8]:
        from PIL import Image

        if image.size != resized:
            image = image.resize(resized, Image.Resampling[self.interpolation.upper()])
        left, top = (_centred(length, self.size) for length in resized)
        return np.asarray(plain_rgb(image.crop((left, top, left + self.size, top + self.size))))

    def _fast_square(self, image: Image.Image, resized: tuple[int, int]) -> NDArray[np.uint8]:
        pixels_HW3 = _resize(np.asarray(plain_rgb(image)), resized, self.interpolation)
        left, top = (_centred(length, self.size) for length in resized)
        return pixels_HW3[top : top + self.size, left : left + self.size]

    def _scaled(self, image: Image.Image) -> tuple[int, int]:
        """The width and height before the crop; the longer side is rounded down, as torchvision does."""
        shorter = self.resize or self.size
        if self.shape == "squash":
            return shorter, shorter
        width, height = image.size
        longer = int(shorter * max(width, height) / min(width, height))
        return (shorter, longer) if width <= height else (longer, shorter)


def declared_preprocessing(declaration: str | None, own: Preprocessing, name: str) -> Preprocessing:
    """The preprocessing that the user declares, completed by the model's own; by default the model's own.

    Raises:
        UnknownName: There is no such preprocessing.
        UsageError: The declaration cannot be understood, or is of another size than the image tower reads.
    """
    pipeline = own if declaration is None else Preprocessing.parse(declaration, own)
    if pipeline.size != own.size:
        raise UsageError(
            f"The image tower of {name!r} reads {own.size} pixels a side, not {pipeline.size}.",
            hint=f'Leave the size out: "{pipeline.shape}".',
        )
    return pipeline


def pad_towards(image: Image.Image, ratio: float) -> Image.Image:
    """Pad the short side with zeros, equally on both ends, until long : short is about ``ratio``.

    SEARLE's and CLIP4Cir's ``TargetPad``: each end gets the whole part of half of what is missing.
    """
    from PIL import ImageOps

    width, height = image.size
    if max(width, height) / min(width, height) < ratio:
        return image
    goal = max(width, height) / ratio
    across, down = max(int((goal - width) / 2), 0), max(int((goal - height) / 2), 0)
    return ImageOps.expand(image, border=(across, down, across, down), fill=0)


def upright_rgb(image: Image.Image) -> Image.Image:
    """Turn upright by EXIF, lay alpha over white, scale 16 to 8 bits, and convert to RGB."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def plain_rgb(image: Image.Image) -> Image.Image:
    """Convert to RGB as published pipelines do: not turned by EXIF, alpha dropped."""
    if image.mode == "RGB":  # Pillow would copy it
        return image
    if isinstance(image.info.get("transparency"), bytes):  # Pillow would warn; the published order drops alpha
        image = image.copy()
        del image.info["transparency"]
    return image.convert("RGB")


def _resize(pixels_HW3: NDArray[np.uint8], size: tuple[int, int], interpolation: str) -> NDArray[np.uint8]:
    """Resize RGB pixels to ``size`` (width, height), antialiased, by torchvision."""
    import torch
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional

    # A channels-last view: the kernel is vectorised over the channels of that layout.
    pixels_3HW = torch.from_numpy(np.require(pixels_HW3, requirements="W")).permute(2, 0, 1)
    resized_3HW = functional.resize(pixels_3HW, list(reversed(size)), InterpolationMode(interpolation), antialias=True)
    return np.asarray(resized_3HW.permute(1, 2, 0).numpy())


def _agrees(size: tuple[int, int], resized: tuple[int, int]) -> bool:
    """Whether torchvision's resize stays within one grey level of Pillow's.

    Enlarged edges overshoot differently; and Pillow shrinks the height first where it loses the most, while torchvision
    always starts with the width, so that intermediate values are clipped at different places.
    """
    columns, rows = size[0] - resized[0], size[1] - resized[1]
    return columns >= 0 and 0 <= rows <= 2 * columns


def _centred(length: int, size: int) -> int:
    return round((length - size) / 2)


@functools.lru_cache(maxsize=16)
def _table(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The normalised value of each grey level, (3 * 256,), and where each channel begins, (3, 1, 1).

    The arithmetic is that of ToTensor and Normalize, done once, on a CPU.
    """
    import torch

    levels = np.arange(256, dtype=np.float32) / np.float32(255)
    values = [(levels - np.float32(centre)) / np.float32(spread) for centre, spread in zip(mean, std, strict=True)]
    with torch.inference_mode(False):  # it serves trainings too
        first_311 = 256 * torch.arange(3, dtype=torch.int32, device=device).view(3, 1, 1)
        return torch.from_numpy(np.concatenate(values)).to(device), first_311


def _whole(number: str, declaration: str) -> int:
    if "." in number:
        raise _not_understood(declaration, number)
    return int(number)


def _not_understood(declaration: str, word: str) -> UsageError:
    return UsageError(
        f"The preprocessing {quoted(declaration)} cannot be understood at {quoted(word)}.",
        hint='Examples: "clip(224)", "targetpad(1.25, 224)", "squash(384, rgb-first)", "clip(224, fast)".',
    )
