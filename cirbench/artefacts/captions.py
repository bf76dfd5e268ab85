"""Captions of images: kept by content, made for images that have none, and written to files with a card.

The store has one folder for each captioner, and in it one immutable file for each batch: a killed process loses one
batch, and two processes can write side by side. What is written for users is

<name>.jsonl        one line an image: ``{"image": path relative to this file, "caption": words}``
<name>.card.json    a `CaptionsCard`; written last, so a file with a card is whole
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

import msgspec

from cirbench.errors import CorruptFile, UsageError
from cirbench.support.console import typed
from cirbench.support.files import cache_root, digest, sha256_of_file, write_bytes, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from PIL import Image

    from cirbench.artefacts.captioner import Captioner
    from cirbench.protocol import ImageSource
    from cirbench.support.console import Display

STORE_SCHEMA = 1


class _Batch(msgspec.Struct):
    """The form of a file: captions by the content of their images."""

    captioner: str
    captions: dict[str, str]
    schema: int = STORE_SCHEMA


@dataclasses.dataclass(frozen=True)
class CaptionStore:
    """What one captioner has written.

    Attributes:
        folder: The folder of the captions of all captioners.
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


_DECODERS = 4


class Describes(Protocol):
    """Writes a caption for each image."""

    @property
    def batch_size(self) -> int:
        """How many images it is given at a time."""
        ...

    def __call__(self, images: Sequence[Image.Image]) -> list[str]:
        """Write one caption an image; it depends on its own image only."""
        ...


def describe(images: Sequence[ImageSource], captioner: Describes, store: CaptionStore, display: Display) -> list[str]:
    """Return the caption of each image; equal content is described once, ever.

    Raises:
        MissingData: An image is absent or cannot be decoded.
        CorruptFile: Stored captions are damaged.
        CirbenchError: New captions cannot be kept.
    """
    contents = [image.content for image in images]
    known = store.read()
    sources = dict(zip(contents, images, strict=True))
    wanted = [content for content in sources if content not in known]
    with ThreadPoolExecutor(_DECODERS) as pool, display("Describing images", len(wanted)) as advance:
        size = captioner.batch_size
        batches = (wanted[start : start + size] for start in range(0, len(wanted), size))
        for batch, decoded in _one_ahead(batches, lambda content: sources[content].open(), pool):
            captions = dict(zip(batch, captioner(decoded), strict=True))
            store.add(captions)
            known |= captions
            advance(len(batch))
    return [known[content] for content in contents]


def _one_ahead(
    batches: Iterator[list[str]], decode: Callable[[str], Image.Image], pool: ThreadPoolExecutor
) -> Iterator[tuple[list[str], list[Image.Image]]]:
    """Each batch with its images, while those of the next are decoded."""
    ahead = ((batch, pool.map(decode, batch)) for batch in batches)
    begun = next(ahead, None)
    while begun is not None:
        following = next(ahead, None)
        batch, images = begun
        yield batch, list(images)
        begun = following


SCHEMA = 1
_PACKAGES = ("cirbench", "torch", "transformers")


class Line(msgspec.Struct, frozen=True):
    """An image and its caption."""

    image: str
    caption: str


class CaptionsCard(msgspec.Struct, frozen=True, kw_only=True):
    """Where a file of captions comes from.

    Attributes:
        schema: The version of this file's form.
        file: The file of captions.
        sha256: Of its bytes.
        captioner: The model, by name.
        identity: Sha256 over the model's files, the precision and the limit.
        files: Sha256 of each of the model's files.
        precision: In which the model ran.
        longest: New tokens a caption, where the model's own settings say nothing.
        batch_size: Images a batch.
        images: How many images were looked at.
        speechless: Those that got no caption and are left out.
        packages: Versions.
        created: When it was finished, UTC, ISO 8601.
    """

    schema: int = SCHEMA
    file: str
    sha256: str
    captioner: str
    identity: str
    files: dict[str, str]
    precision: str
    longest: int | None
    batch_size: int
    images: int
    speechless: list[str]
    packages: dict[str, str]
    created: str


def card_path(output: Path) -> Path:
    """Return the path of the card of a file of captions."""
    return output.with_suffix(".card.json")


def require_jsonl(output: Path) -> None:
    """Refuse a name that trainings would not read.

    Raises:
        UsageError: It does not end in ``.jsonl``.
    """
    if output.suffix != ".jsonl":
        raise UsageError(
            f"A captions file must end in .jsonl: {output}.",
            hint=f"For instance: --output {typed(output.stem + '.jsonl')}",
        )


def write_captions(output: Path, images: Sequence[Path], captions: Sequence[str], captioner: Captioner) -> CaptionsCard:
    """Write captions and their card, and return the card.

    Raises:
        CirbenchError: The disk is full, or the place cannot be written.
    """
    names = [os.path.relpath(image, output.parent).replace(os.sep, "/") for image in images]
    lines = [Line(name, caption) for name, caption in zip(names, captions, strict=True) if caption]
    write_bytes(output, b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    card = CaptionsCard(
        file=output.name,
        sha256=sha256_of_file(output),
        captioner=captioner.name,
        identity=captioner.identity,
        files=dict(captioner.files),
        precision=captioner.precision,
        longest=captioner.longest,
        batch_size=captioner.batch_size,
        images=len(names),
        speechless=[name for name, caption in zip(names, captions, strict=True) if not caption],
        packages={name: importlib.metadata.version(name) for name in _PACKAGES},
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    write_json(card_path(output), msgspec.to_builtins(card))
    return card
