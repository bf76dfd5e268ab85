"""A file of captions that trainings and methods read, and the card beside it that says who wrote it.

<name>.jsonl        one line an image: ``{"image": path relative to this file, "caption": words}``
<name>.card.json    a `CaptionsCard`; written last, so a file with a card is whole
"""

from __future__ import annotations

import datetime
import importlib.metadata
import os
from typing import TYPE_CHECKING

import msgspec

from cirbench.errors import UsageError
from cirbench.files import sha256_of_file, write_bytes, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cirbench.captions.captioner import Captioner

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
    """Where the card of a file of captions lies."""
    return output.with_suffix(".card.json")


def require_jsonl(output: Path) -> None:
    """Refuse a name that trainings would not read.

    Raises:
        UsageError: It does not end in ``.jsonl``.
    """
    if output.suffix != ".jsonl":
        raise UsageError(f"{output} is no name for captions.", hint=f"For instance: --output {output.stem}.jsonl")


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
