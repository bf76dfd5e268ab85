"""Judgements: what a model answered to questions about images, one line each, so that nothing is asked for twice.

The file of a model is only ever added to, a whole line in one write: a killed process loses what it was asking for, two
processes can write side by side, and files of one model are merged by putting one behind the other.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from cirbench.errors import CirbenchError, CorruptFile, excerpt
from cirbench.support.files import cache_root, digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


class Judgement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One answer.

    Attributes:
        schema_version: Of this form.
        images: Sha256 of the content of each image, in the order in which they were shown.
        text: The question.
        answers: The words that could be answered.
        logits: That of each.
    """

    schema_version: int = 1
    images: tuple[str, ...]
    text: str
    answers: tuple[str, ...]
    logits: tuple[float, ...]

    @property
    def key(self) -> str:
        """By which it is found again."""
        return question_key(self.images, self.text, self.answers)


def question_key(images: Sequence[str], text: str, answers: Sequence[str]) -> str:
    """Sha256 over a question: the content of its images in order, its text, and the words that may be answered."""
    return digest([list(images), text, list(answers)])


class Judgements:
    """What one model has answered so far.

    Args:
        path: The file; it may not be there yet.

    Raises:
        CorruptFile: A line is damaged; the message names it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Judgement] = {}
        content = path.read_bytes() if path.is_file() else b""
        *lines, torn = content.split(b"\n")
        if torn:  # it was being written when its process was killed or the disk was full
            with path.open("r+b") as file:
                file.truncate(len(content) - len(torn))
        for number, line in enumerate(lines, start=1):
            judgement = _read(line, f"{path}, line {number},")
            self._known.setdefault(judgement.key, judgement)

    @classmethod
    def of(cls, model: str) -> Judgements:
        """Open those of a model, by its identity, under ``CIRBENCH_CACHE`` or the user's cache directory."""
        return cls(cache_root() / "judgements" / f"{model[:32]}.jsonl")

    def __contains__(self, key: object) -> bool:
        return key in self._known

    def __getitem__(self, key: str) -> Judgement:
        return self._known[key]

    def __len__(self) -> int:
        return len(self._known)

    def add(self, judgements: Iterable[Judgement]) -> None:
        """Keep more judgements; they are there, whole, when this returns.

        Raises:
            CirbenchError: They cannot be written.
        """
        new = [each for each in judgements if each.key not in self._known]
        lines = b"".join(msgspec.json.encode(each) + b"\n" for each in new)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab", buffering=0) as file:
                file.write(lines)
                os.fsync(file.fileno())
        except OSError as error:
            raise CirbenchError(f"Judgements cannot be kept in {self._path}: {error.strerror or error}.") from error
        self._known |= {each.key: each for each in new}


def _read(line: bytes, where: str) -> Judgement:
    try:
        judgement = msgspec.json.decode(line, type=Judgement)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptFile(
            f"{where} is damaged: {excerpt(error)}.", hint="Remove the line: it is asked for again."
        ) from error
    if judgement.schema_version != 1 or len(judgement.logits) != len(judgement.answers):
        raise CorruptFile(f"{where} is not a judgement of this version of cirbench.", hint="Upgrade cirbench.")
    return judgement
