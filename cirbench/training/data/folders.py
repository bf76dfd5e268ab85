"""Samples from folders: every image below one, and its caption in a text file of the same name."""

from __future__ import annotations

import collections
import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cirbench.datasets.imagefiles import files_below
from cirbench.datasets.pictures import IMAGE_SUFFIXES
from cirbench.errors import CorruptFile, MissingData
from cirbench.images.decode import FileImage
from cirbench.training.data.source import Lazy

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class FolderSample:
    """An image file, and the text file of its caption."""

    image: FileImage
    text: Path | None

    @property
    def caption(self) -> str | None:
        """The words of the text file, in one line.

        Raises:
            MissingData: It cannot be read.
            CorruptFile: It is not text.
        """
        if self.text is None:
            return None
        try:
            return " ".join(self.text.read_text(encoding="utf-8-sig").split())
        except OSError as error:
            raise MissingData(f"its caption {self.text} cannot be read: {error.strerror}.") from error
        except UnicodeDecodeError as error:
            raise CorruptFile(f"its caption {self.text} is not text: {error}.") from error


@dataclasses.dataclass(frozen=True)
class Folder(Lazy):
    """The images below a folder, in the order of their paths.

    Attributes:
        folder: The folder.
        images: Paths of images, relative to it.
        captions: The folder of the captions, if there is one.
        texts: Paths of the captions, relative to it; empty for an image without one.
    """

    folder: Path
    images: tuple[str, ...]
    captions: Path | None = None
    texts: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def at(self, place: int) -> FolderSample:
        """Make one sample."""
        text = self.captions / self.texts[place] if self.captions is not None and self.texts[place] else None
        return FolderSample(FileImage(self.folder / self.images[place]), text)

    @property
    def uncaptioned(self) -> NDArray[np.int64]:
        """The positions of images that have no caption, where the others have one."""
        return np.array([place for place, text in enumerate(self.texts) if not text], dtype=np.int64)


def read_folder(folder: Path, captions: Path | None) -> Folder:
    """List the images below a folder, and find their captions.

    The caption of ``images/a/b.jpg`` is ``captions/a/b.txt``, or else ``captions/b.txt``.

    Raises:
        MissingData: There are no images, or no captions.
        CorruptFile: One flat caption would belong to two images.
    """
    images = tuple(sorted(name for name in _below(folder) if Path(name).suffix.lower() in IMAGE_SUFFIXES))
    if not images:
        raise MissingData(
            f"{folder} holds no images.", hint=f"Images are files that end in {', '.join(IMAGE_SUFFIXES)}."
        )
    if captions is None:
        return Folder(folder, images)
    known = {name for name in _below(captions) if name.endswith(".txt")}
    texts = tuple(_text(image, known) for image in images)
    if not any(texts):
        raise MissingData(
            f"{captions} holds no caption of an image in {folder}.",
            hint=f"The caption of {images[0]} is looked for in {Path(images[0]).stem}.txt.",
        )
    shared = [text for text, count in collections.Counter(filter(None, texts)).items() if count > 1]
    if shared:
        two = [image for image, text in zip(images, texts, strict=True) if text == shared[0]][:2]
        raise CorruptFile(
            f"{captions / shared[0]} would be the caption of both {two[0]} and {two[1]}.",
            hint="Give the captions the folders of the images.",
        )
    return Folder(folder, images, captions, texts)


def _below(folder: Path) -> list[str]:
    above = len(str(folder)) + 1
    return [f"{place}{os.sep}{name}"[above:].replace(os.sep, "/") for place, name in files_below(folder)]


def _text(image: str, known: set[str]) -> str:
    nested = str(Path(image).with_suffix(".txt").as_posix())
    flat = nested.rpartition("/")[2]
    return nested if nested in known else flat if flat in known else ""
