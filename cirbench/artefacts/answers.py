"""Answers of models, recorded and replayed: what a captioner, a language model or a judge said of images and texts.

An *artefact* is a file of answers: JSON Lines that anybody can read, merge and share. Its first line is a `Maker`: the
model with its revision and decoding parameters, the prompts by the field that they fill, and the licence. Each other
line is an `Answer` to a `Question`: several samples of one or more fields. A question is known by content alone, the
digests of its images and its texts, so an artefact holds for whatever benchmark asks the same of the same image,
whatever ids it uses.

A file only ever grows, by whole lines: a killed process loses the line that it was writing, and two can write side by
side; where both asked the same, the first answer stays. The store has one file for each maker.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import re
from typing import TYPE_CHECKING, Protocol

import msgspec

from cirbench.errors import CorruptFile, MethodFailed, MissingData, UsageError, excerpt, quoted, some
from cirbench.support.console import say, silent
from cirbench.support.files import cache_root, digest, lock_of, locked, slug, write_bytes, writing_failed
from cirbench.support.textfiles import decode_utf8, json_rows, read_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from cirbench.protocol import ImageSource, Query
    from cirbench.support.console import Display

SCHEMA = 1

RESUME = "What was answered until now is kept; the same command goes on from there."
"""The hint of whatever stops in the middle of many questions."""

Sample = str | float
"""One answer: a text, or the number that a judge gives."""

Scalar = str | int | float | bool | None


class Maker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who answered, and what was asked.

    Attributes:
        schema: The version of the file's form.
        model: The model, by the name under which it answered.
        revision: Of its weights, or their digest; empty where nobody says.
        decoding: What else decides an answer: temperature, longest answer, precision, seed.
        prompts: By field, the text that was put around a question; none for a captioner without a prompt.
        licence: Under which the answers may be used; empty where nobody says.
        oracle: Whether whoever answered knows the ground truths.
    """

    schema: int = SCHEMA
    model: str
    revision: str = ""
    decoding: dict[str, Scalar] = {}
    prompts: dict[str, str] = {}
    licence: str = ""
    oracle: bool = False

    @property
    def digest(self) -> str:
        """Sha256 of all that decides the answers."""
        return digest([self.model, self.revision, self.decoding, self.prompts])


Key = tuple[tuple[str, ...], tuple[str, ...]]
"""The digests of a question's images, and its texts."""


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was answered to one question.

    Attributes:
        images: The content digests of the images that were looked at, in order.
        texts: The texts that were given: relative captions, a caption to edit.
        fields: By field, the samples in the order in which they were drawn; one sample of a field belongs to that of
            the others at the same place.
    """

    images: tuple[str, ...]
    texts: tuple[str, ...]
    fields: dict[str, tuple[Sample, ...]]

    @property
    def key(self) -> Key:
        """What the question is known by."""
        return self.images, self.texts


@dataclasses.dataclass(frozen=True)
class Question:
    """Images and texts to ask a model about."""

    images: tuple[ImageSource, ...] = ()
    texts: tuple[str, ...] = ()

    @classmethod
    def of(cls, query: Query) -> Question:
        """Return what is asked about a query: its reference with its relative captions."""
        return cls((query.reference.image,), query.captions)

    @property
    def key(self) -> Key:
        """What it is known by, whatever it was called where it comes from."""
        return tuple(image.content for image in self.images), self.texts

    @property
    def title(self) -> str:
        """What messages call it."""
        return quoted(" / ".join(self.texts)) if self.texts else "a question without text"


class Answers(Protocol):
    """Asks a model; what it answers to a question depends on that question alone."""

    def __call__(self, questions: Sequence[Question], field: str, samples: int) -> Iterator[tuple[Sample, ...]]:
        """Yield the samples of each question in order, as soon as they are there, so that each is kept at once."""
        ...


class ArtefactRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a run says of an artefact that it used.

    Attributes:
        model: Who answered.
        maker: The digest of the `Maker`.
        answers: How many questions were looked up.
        digest: Sha256 over their answers; the same where a run is replayed without the model.
        oracle: Whether whoever answered knows the ground truths.
    """

    model: str
    maker: str
    answers: int
    digest: str
    oracle: bool = False


class Artefact:
    """A file of answers by one maker.

    Args:
        path: The file; it is written when the first answer is added.
        maker: Who answers; needed where there is no file yet.

    Raises:
        MissingData: There is no file, and no maker is given.
        CorruptFile: It is damaged, of another form, by another maker, or answers one question in two ways.
    """

    def __init__(self, path: Path, maker: Maker | None = None) -> None:
        self.path = path
        self._answers: _Answers = {}
        self._used: set[tuple[Key, str, int]] = set()
        self._read = 0
        if maker is not None and not _begun(path, maker):
            self.maker = maker
            return
        first = read_text(path).partition("\n")[0]
        self.maker = _maker(path, first)
        if maker is not None and maker.digest != self.maker.digest:
            raise CorruptFile(f"{path} holds the answers of another model or to other prompts.", hint="Move it away.")
        if self._catch_up():
            say(f"{path}: the last line was cut off while it was written, and is left out.")

    def __len__(self) -> int:
        return len(self._answers)

    def __iter__(self) -> Iterator[Answer]:
        """All answers, one for each question."""
        return (Answer(*key, fields) for key, fields in self._answers.items())

    @property
    def fields(self) -> list[str]:
        """What was asked for."""
        return sorted({field for fields in self._answers.values() for field in fields})

    def find(self, key: Key, field: str, samples: int) -> tuple[Sample, ...]:
        """Return the first samples of a field, fewer where fewer were drawn."""
        found = self._answers.get(key, {}).get(field, ())[:samples]
        if len(found) == samples:
            self._used.add((key, field, samples))
        return found

    def add(self, answers: Iterable[Answer]) -> None:
        """Add answers at the end of the file; they are there when this returns.

        Raises:
            MethodFailed: A number is NaN or infinite; nothing is added.
            CirbenchError: The disk is full, or the place cannot be written.
        """
        answers = [*answers]
        for answer in answers:
            _require_finite(answer, self.maker.model)
        with locked(lock_of(self.path)):
            try:
                begun = _begun(self.path, self.maker)
                if begun:
                    self._catch_up()
                new = [answer for answer in map(self._unknown, answers) if answer.fields]
                self._read = _append(self.path, new if begun else [self.maker, *new])
            except OSError as error:
                raise writing_failed(self.path, error) from error
        for answer in new:
            _join(self._answers, answer, str(self.path))

    def record(self) -> ArtefactRecord:
        """Say what was used of it."""
        said = hashlib.sha256()
        for key, field, samples in sorted(self._used):
            said.update(msgspec.json.encode([key, field, self._answers[key][field][:samples]]))
        keys = {key for key, _, _ in self._used}
        return ArtefactRecord(
            model=self.maker.model,
            maker=self.maker.digest,
            answers=len(keys),
            digest=said.hexdigest(),
            oracle=self.maker.oracle,
        )

    def _catch_up(self) -> bool:
        """Read what the file holds beyond what was read of it; return whether its last line was cut off."""
        with self.path.open("rb") as file:
            file.seek(self._read)
            content = file.read()
        whole, tail = content[: content.rfind(b"\n") + 1], content[content.rfind(b"\n") + 1 :]
        if tail and _is_json(tail):
            whole, tail = content, b""
        text = decode_utf8(whole, str(self.path))
        if not self._read:  # the maker's line; an empty one in its place, so that lines have their numbers
            text = f"\n{text.partition(chr(10))[2]}"
        for number, answer in json_rows(str(self.path), text, Answer):
            _join(self._answers, answer, f"{self.path}, line {number}")
        self._read += len(whole)
        return bool(tail)

    def _unknown(self, answer: Answer) -> Answer:
        """Leave of an answer what was not answered yet; what was stays as it is."""
        known = self._answers.get(answer.key, {})
        fields = {
            field: (*known.get(field, ()), *samples[len(known.get(field, ())) :])
            for field, samples in answer.fields.items()
            if len(samples) > len(known.get(field, ()))
        }
        return Answer(answer.images, answer.texts, fields)


def _require_finite(answer: Answer, model: str) -> None:
    for field, samples in answer.fields.items():
        for sample in samples:
            if isinstance(sample, float) and not math.isfinite(sample):
                raise MethodFailed(f"{model} answered {sample} to {_asked(answer)}, in the field {field}.")


def _asked(answer: Answer) -> str:
    return quoted(" / ".join(answer.texts)) if answer.texts else f"the image {answer.images[0][:12]}"


_Answers = dict[Key, dict[str, tuple[Sample, ...]]]


def _join(answers: _Answers, answer: Answer, place: str) -> None:
    """Put an answer among others; a question may be answered again by more of the same samples."""
    fields = answers.setdefault(answer.key, {})
    for field, samples in answer.fields.items():
        known = fields.get(field, ())
        if known[: len(samples)] != samples[: len(known)]:
            raise CorruptFile(
                f"{place} answers {_asked(answer)} a second time, and otherwise, in the field {field}.",
                hint="Leave one of the answers.",
            )
        fields[field] = max(known, samples, key=len)


def _begun(path: Path, maker: Maker) -> bool:
    """Whether a file has more than the beginning of its maker's line, which is what a killed process may leave."""
    if not path.exists():
        return False
    line = msgspec.json.encode(maker)
    with path.open("rb") as file:
        start = file.read(len(line))
    return len(start) == len(line) or not line.startswith(start)


def _append(path: Path, lines: Sequence[msgspec.Struct]) -> int:
    """Write whole lines at the end of a file, in place of what a killed process has left of its last one.

    Returns:
        The size of the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
    with path.open("r+b" if path.exists() else "w+b") as file:
        end = file.seek(0, os.SEEK_END)
        start = _start_of_last_line(file, end)
        file.seek(start)
        tail = file.read(end - start)
        if tail and not _is_json(tail):
            file.truncate(start)
            file.seek(start)
        elif tail:
            content = b"\n" + content
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


_BLOCK = 4096


def _start_of_last_line(file: BinaryIO, end: int) -> int:
    """Where the text behind the last line break of a file begins."""
    while end > 0:
        begin = max(0, end - _BLOCK)
        file.seek(begin)
        if (at := file.read(end - begin).rfind(b"\n")) >= 0:
            return begin + at + 1
        end = begin
    return 0


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line)
    except msgspec.DecodeError:
        return False
    return True


def _maker(path: Path, line: str) -> Maker:
    try:
        maker = msgspec.json.decode(line.encode(), type=Maker)
    except msgspec.MsgspecError as error:
        raise CorruptFile(
            f"{path} is not a file of recorded answers: its first line does not say who answered ({excerpt(error)}).",
            hint='It begins with a line such as {"schema": 1, "model": "...", "licence": "...", "prompts": {}}.',
        ) from error
    if maker.schema != SCHEMA:
        raise CorruptFile(
            f"{path} has schema {maker.schema}, and this cirbench reads {SCHEMA}.", hint="Upgrade cirbench."
        )
    return maker


def kept(maker: Maker, folder: Path | None = None) -> Artefact:
    """Open what is kept of a maker's answers, under ``CIRBENCH_CACHE`` or in the user's cache directory."""
    name = f"{slug(maker.model)[:60]}-{maker.digest[:12]}.jsonl"
    return Artefact((folder or cache_root() / "artefacts") / name, maker)


def answered(
    questions: Sequence[Question],
    field: str,
    samples: int,
    artefact: Artefact,
    ask: Answers | None = None,
    *,
    display: Display = silent,
    title: str = "Asking",
) -> list[tuple[Sample, ...]]:
    """Return the samples of each question: recorded ones, and what a model says now, each kept at once.

    Args:
        questions: Equal ones are asked once.
        field: What is asked for, a key of the maker's prompts where it has prompts.
        samples: How many answers to each.
        artefact: Where answers are recorded.
        ask: The model; without it every answer has to be recorded.
        display: Shows how many of the missing ones are there.
        title: What it says it is doing.

    Raises:
        MissingData: Some are not recorded and there is no model; the message counts them and says what they would take.
    """
    keys = [question.key for question in questions]
    missing = {
        key: question
        for key, question in zip(keys, questions, strict=True)
        if len(artefact.find(key, field, samples)) < samples
    }
    if missing and ask is None:
        raise _missing([*missing], len(set(keys)), field, samples, artefact)
    if missing and ask is not None:
        with display(title, len(missing)) as advance:
            for key, given in zip(missing, ask([*missing.values()], field, samples), strict=True):
                artefact.add([Answer(*key, {field: given})])
                advance(1)
    return [artefact.find(key, field, samples) for key in keys]


TOKENS_A_CHARACTER = 0.25
"""A rule of thumb for English text; what a model counts differs."""
_PLACE = re.compile(r"\{(\d+)\}")


def worded(prompt: str, texts: Sequence[str]) -> str:
    """Put the texts of a question in the places ``{0}``, ``{1}`` of a prompt, or below it if it has none of them."""
    places = {int(place) for place in _PLACE.findall(prompt)}
    if texts and places.isdisjoint(range(len(texts))):
        return "\n".join([prompt, *texts])
    return _PLACE.sub(lambda found: texts[int(found[1])] if int(found[1]) < len(texts) else found[0], prompt)


def cost(questions: Sequence[Question], prompt: str, samples: int) -> tuple[int, int, int]:
    """Count what questions would take: calls, images to look at, and tokens of text, by a rule of thumb."""
    texts = sum(len(worded(prompt, question.texts)) for question in questions)
    images = sum(len(question.images) for question in questions)
    return len(questions) * samples, images * samples, round(texts * samples * TOKENS_A_CHARACTER)


def require_one_sample(temperature: float, samples: int) -> None:
    """Refuse several samples of a model that always says the most likely."""
    if samples > 1 and temperature == 0:
        raise UsageError(
            f"At temperature 0 all {samples} samples would be one.", hint="Set a temperature above 0, such as 0.7."
        )


def _missing(keys: Sequence[Key], asked: int, field: str, samples: int, artefact: Artefact) -> MissingData:
    calls = len(keys) * samples
    images = samples * sum(len(images) for images, _ in keys)
    prompt = len(artefact.maker.prompts.get(field, ""))
    tokens = round(samples * sum(prompt + len(" ".join(texts)) for _, texts in keys) * TOKENS_A_CHARACTER)
    named = [quoted(" / ".join(texts)) if texts else f"an image {images[0][:12]}" for images, texts in keys]
    held = ", ".join(artefact.fields) or "nothing"
    return MissingData(
        f"{artefact.path} lacks {'an answer' if samples == 1 else f'{samples} answers'} of the field {field} to "
        f"{len(keys):,} of {asked:,} questions: {some(named)}.",
        hint=f"It holds {held}; questions are known by the content of their images and by their texts. To be asked of "
        f"{artefact.maker.model}: {calls:,} calls with {images:,} images and about {tokens:,} tokens of text.",
    )


def merge(parts: Sequence[Artefact], output: Path, *, licence: str | None = None) -> Artefact:
    """Write the answers of several files by one maker to one, with a note on their licence if one is given.

    Raises:
        CorruptFile: They are not by one maker, or answer one question in two ways.
    """
    first = parts[0]
    if strange := [part.path for part in parts if part.maker.digest != first.maker.digest]:
        raise CorruptFile(
            f"{strange[0]} holds the answers of another model or to other prompts than {first.path}.",
            hint="Merge the files of each of them by itself.",
        )
    maker = first.maker if licence is None else msgspec.structs.replace(first.maker, licence=licence)
    answers: _Answers = {}
    for part in parts:
        for answer in part:
            _join(answers, answer, str(part.path))
    lines = (maker, *(Answer(*key, fields) for key, fields in answers.items()))
    write_bytes(output, b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    return Artefact(output)
