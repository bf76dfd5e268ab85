"""The images of your own data, by the names that its table may use."""

from __future__ import annotations

import dataclasses
import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from cirbench.datasets.imagefiles import SUFFIXES, files_below
from cirbench.datasets.protocol import Item
from cirbench.errors import CheckFailed, CorruptFile, MissingData
from cirbench.images.decode import FileImage

if TYPE_CHECKING:
    from collections.abc import Mapping

GALLERIES = ("gallery", "images")
"""What the folder of ranked images may be called; the earlier one wins."""

IMAGE_SUFFIXES = (*SUFFIXES, ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""In any case; other files in the gallery are no images of it."""

EXAMPLE = "Type `cirbench new dataset PATH` to get an example to change."


@dataclasses.dataclass(frozen=True)
class Pictures:
    """The images of a folder by the names that a table may use.

    Attributes:
        folder: The folder.
        below_gallery: The name of the gallery in it.
        gallery: Each image that is ranked, by its id.
        ids: The id of each image that is ranked, by its path below the gallery.
    """

    folder: Path
    below_gallery: str
    gallery: Mapping[str, FileImage]
    ids: Mapping[str, str]

    @classmethod
    def below(cls, folder: Path) -> Pictures:
        """List the gallery of a folder.

        Raises:
            MissingData: There is no gallery, or no image in it.
            CorruptFile: Two images have one id, or an id would hold white space.
            CheckFailed: A link in the gallery leads out of it.
        """
        place = next((name for name in GALLERIES if (folder / name).is_dir()), None)
        if place is None:
            raise MissingData(f"{folder} holds no folder gallery (or images).", hint=EXAMPLE)
        root = folder / place
        inside = root.resolve()
        gallery: dict[str, FileImage] = {}
        ids: dict[str, str] = {}
        for path in sorted(Path(below, name) for below, name in files_below(root)):
            if path.suffix.lower() not in IMAGE_SUFFIXES:
                continue
            _refuse_outside(path, inside)
            written = path.relative_to(root).as_posix()
            name = without_suffix(written)
            if name.split() != [name]:
                raise CorruptFile(
                    f"The image {path} has white space in its path, and its id must not: TREC files separate by it.",
                    hint="Rename the file, for instance with underscores.",
                )
            if name in gallery:
                raise CorruptFile(
                    f"The images {gallery[name]} and {path} have one id, {name}.", hint="Rename or remove one of them."
                )
            gallery[name], ids[written] = FileImage(path), name
        if not gallery:
            known = ", ".join(IMAGE_SUFFIXES)
            raise MissingData(f"{root} holds no images.", hint=f"Images are files that end in {known}.")
        return cls(folder, place, gallery, ids)

    def ranked(self, written: str) -> str | None:
        """Return the id of the gallery image that a table names, or ``None``."""
        for name in (written, written.removeprefix(f"{self.below_gallery}/")):
            if name in self.gallery or name in self.ids:
                return name if name in self.gallery else self.ids[name]
        return None

    def find(self, written: str) -> Item | None:
        """Return the image that a table names, in the gallery or elsewhere in the folder, or ``None``.

        Raises:
            CheckFailed: A link leads out of the folder.
        """
        name = self.ranked(written)
        if name is not None:
            return Item(name, self.gallery[name])
        for suffix in ("", *IMAGE_SUFFIXES):
            path = self.folder / f"{written}{suffix}"
            if path.suffix.lower() in IMAGE_SUFFIXES and _is_file(path):
                _refuse_outside(path, self.folder.resolve())
                return Item(without_suffix(f"{written}{suffix}"), FileImage(path))
        return None

    def nearest(self, written: str) -> str:
        """Offer ids that look like what a table names."""
        wanted = without_suffix(written.removeprefix(f"{self.below_gallery}/"))
        near = difflib.get_close_matches(wanted, self.gallery, n=3, cutoff=0.5)
        return f"Nearest: {', '.join(near)}." if near else f"The gallery holds, for instance, {min(self.gallery)}."


def without_suffix(written: str) -> str:
    """Return a path without its suffix, if that is one of images."""
    stem, dot, suffix = written.rpartition(".")
    return stem if f"{dot}{suffix}".lower() in IMAGE_SUFFIXES else written


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # whatever stands in a table may be too long for a path
        return False


def _refuse_outside(path: Path, inside: Path) -> None:
    """Refuse links out of a folder: a copied folder must not make other files of this machine part of a result."""
    if not (real := path.resolve()).is_relative_to(inside):
        raise CheckFailed(
            f"{path} leads out of {inside}, to {real}.",
            hint="Copy the image into the folder, or make the whole gallery a link.",
        )
