"""The captions that a captioner has written, by the content of the images.

One folder for each captioner, and in it one immutable file for each batch: a killed process loses the batch that it was
at, and two processes can write side by side.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import msgspec

from cirbench.errors import CorruptFile
from cirbench.features.store import cache_root
from cirbench.files import digest, write_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SCHEMA = 1


class _Batch(msgspec.Struct):
    """The form of a file: captions by the content of their images."""

    captioner: str
    captions: dict[str, str]
    schema: int = SCHEMA


@dataclasses.dataclass(frozen=True)
class CaptionStore:
    """What one captioner has written.

    Attributes:
        folder: Where the captions of all captioners lie.
        captioner: The captioner's identity.
    """

    folder: Path
    captioner: str

    @property
    def own(self) -> Path:
        """The folder of this captioner."""
        return self.folder / self.captioner[:32]

    def read(self) -> dict[str, str]:
        """Every caption so far, by the content of the image.

        Raises:
            CorruptFile: A file is damaged.
        """
        captions: dict[str, str] = {}
        for path in sorted(self.own.glob("[0-9a-f]*.json")):
            try:
                captions |= msgspec.json.decode(path.read_bytes(), type=_Batch).captions
            except msgspec.DecodeError as error:
                raise CorruptFile(f"The captions in {path} are damaged: {error}.", hint="Remove the file.") from error
        return captions

    def add(self, captions: Mapping[str, str]) -> None:
        """Keep more captions; they are there whole when this returns."""
        content = msgspec.json.encode(_Batch(self.captioner, dict(captions)))
        write_bytes(self.own / f"{digest(captions)[:32]}.json", content)


def default_captions(captioner: str) -> CaptionStore:
    """The store under ``CIRBENCH_CACHE``, or under the user's cache directory."""
    return CaptionStore(cache_root() / "captions", captioner)
