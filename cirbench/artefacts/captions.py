"""Captions of images: asked of a captioner once, and written to files with a card.

What is written for users is

<name>.jsonl        one line an image: ``{"image": path relative to this file, "caption": words}``
<name>.card.json    a `CaptionsCard`; written last, so a file with a card is whole
"""

from __future__ import annotations

import datetime
import importlib.metadata
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

import msgspec

from cirbench.artefacts.answers import Answer, Artefact, Question, answered, kept
from cirbench.errors import CorruptFile, UsageError
from cirbench.support.console import typed
from cirbench.support.files import cache_root, sha256_of_file, write_bytes, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from PIL import Image

    from cirbench.artefacts.answers import Maker
    from cirbench.artefacts.captioner import Captioner
    from cirbench.protocol import ImageSource
    from cirbench.support.console import Display

CAPTION = "caption"
"""The field of what a captioner answers to an image."""


class _Batch(msgspec.Struct):
    """A file of an earlier store: captions by the content of their images."""

    captions: dict[str, str]


def kept_captions(maker: Maker, root: Path | None = None) -> Artefact:
    """Open what is kept of a captioner's captions, those that version 0.1 has kept among them.

    Args:
        maker: The captioner; its revision is the captioner's identity.
        root: The folder of everything that is kept.

    Raises:
        CorruptFile: A file is damaged.
    """
    root = root or cache_root()
    artefact = kept(maker, root / "artefacts")
    if not artefact.path.exists():
        captions: dict[str, str] = {}
        for path in sorted((root / "captions" / maker.revision[:32]).glob("[0-9a-f]*.json")):
            try:
                captions |= msgspec.json.decode(path.read_bytes(), type=_Batch).captions
            except msgspec.DecodeError as error:
                raise CorruptFile(f"The captions in {path} are damaged: {error}.", hint="Remove the file.") from error
        if captions:
            artefact.add(Answer((content,), (), {CAPTION: (text,)}) for content, text in captions.items())
    return artefact


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


def describe(images: Sequence[ImageSource], captioner: Describes, artefact: Artefact, display: Display) -> list[str]:
    """Return the caption of each image; equal content is described once, ever.

    Raises:
        MissingData: An image is absent or cannot be decoded.
        CirbenchError: New captions cannot be kept.
    """

    def ask(questions: Sequence[Question], field: str, samples: int) -> Iterator[tuple[str, ...]]:
        with ThreadPoolExecutor(_DECODERS) as pool:
            size = captioner.batch_size
            batches = (questions[start : start + size] for start in range(0, len(questions), size))
            for decoded in _one_ahead(batches, lambda question: question.images[0].open(), pool):
                yield from ((caption,) for caption in captioner(decoded))

    questions = [Question((image,)) for image in images]
    found = answered(questions, CAPTION, 1, artefact, ask, display=display, title="Describing images")
    return [str(caption) for (caption,) in found]


def _one_ahead(
    batches: Iterator[Sequence[Question]], decode: Callable[[Question], Image.Image], pool: ThreadPoolExecutor
) -> Iterator[list[Image.Image]]:
    """The images of each batch, while those of the next are decoded."""
    ahead = (pool.map(decode, batch) for batch in batches)
    begun = next(ahead, None)
    while begun is not None:
        following = next(ahead, None)
        yield list(begun)
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
