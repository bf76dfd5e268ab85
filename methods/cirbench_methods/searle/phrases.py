"""Phrases about concepts: files of them, those for scenes, and the placeholder in a concept's place."""

from __future__ import annotations

import dataclasses
import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cirbench.backbones.text import PLACEHOLDER
from cirbench.benchmarks.scenes.language import GROUND_WORDS, STYLE_WORDS, VIEWPOINT_WORDS, phrase
from cirbench.benchmarks.scenes.world import COLOURS, SHAPES, Dice
from cirbench.errors import CorruptFile, MissingData, UsageError
from cirbench.support.console import typed
from cirbench.support.files import digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCENES = "scenes"
SCHEMA = 1
"""Of the files that `cirbench_methods.searle.generate` writes."""


@dataclasses.dataclass(frozen=True)
class Phrases:
    """Concepts with phrases in each of which the concept can be replaced.

    Attributes:
        concepts: The concepts, in the order of the file.
        sentences: The phrases of each.
        dropped: Concepts that occur in none of their phrases, and so cannot be replaced.
        digest: Sha256 of concepts and phrases.
    """

    concepts: tuple[str, ...]
    sentences: tuple[tuple[str, ...], ...]
    dropped: tuple[str, ...]
    digest: str


class Header(msgspec.Struct, frozen=True):
    """The first line of a phrases file that `cirbench_methods.searle.generate` wrote.

    Attributes:
        schema: Of the file.
        model: The language model, by name.
        samples: Phrases asked for, a concept.
        seed: Of the sampling.
    """

    schema: int
    model: str
    samples: int
    seed: int


class Line(msgspec.Struct, frozen=True):
    """Every other line: a concept with its phrases."""

    concept: str
    phrases: tuple[str, ...]


def open_phrases(name: str | None) -> Phrases:
    """Open ``scenes``, a ``.json`` file (concept to list of phrases) or a ``.jsonl`` file (`Line` by line).

    Raises:
        UsageError: Nothing is given, or no concept can be replaced in its phrases.
        MissingData: The file does not exist.
        CorruptFile: It cannot be read, or a concept has no phrase; the message names it.
    """
    if name is None:
        raise UsageError(
            "SEARLE's regularisation needs phrases about concepts.",
            hint="Give --set phrases=FILE.json (concept to list of phrases), which "
            "python -m cirbench_methods.searle.generate writes, or do without: --set regularisation=0",
        )
    found = usable(scenes_phrases() if name == SCENES else _read(Path(name)), name)
    if not found.concepts:
        raise UsageError(
            f"None of the {len(found.dropped)} concepts of {name} occurs in its own phrases, so none can be replaced.",
            hint="Each phrase has to hold its concept as it is written, for instance: a photo of dog that is asleep.",
        )
    return found


def usable(phrases: Mapping[str, Sequence[str]], name: str) -> Phrases:
    """Keep the phrases in which the concept can be replaced, and the concepts that have any.

    A placeholder that is in a phrase already is removed: it would be taken for the concept's.

    Raises:
        CorruptFile: A concept has no phrase at all.
    """
    kept: dict[str, tuple[str, ...]] = {}
    dropped = []
    for concept, sentences in phrases.items():
        if not concept.strip() or not sentences:
            raise CorruptFile(f"The concept {concept!r} of {name} has no phrases.", hint="Give it some, or remove it.")
        cleaned = (" ".join(sentence.replace(PLACEHOLDER, " ").split()) for sentence in sentences)
        if holding := tuple(sentence for sentence in cleaned if _word(concept).search(sentence)):
            kept[concept] = holding
        else:
            dropped.append(concept)
    return Phrases(tuple(kept), tuple(kept.values()), tuple(dropped), digest(kept))


def replaced(sentence: str, concept: str, occurrences: str) -> str:
    """Put the placeholder where a phrase mentions the concept, the first time or every time."""
    marked = _word(concept).sub(f" {PLACEHOLDER} ", sentence, count=1 if occurrences == "first" else 0)
    return " ".join(marked.split())


def _word(concept: str) -> re.Pattern[str]:
    """The concept as whole words, in whatever case."""
    return re.compile(rf"(?<!\w){re.escape(concept.strip())}(?!\w)", re.IGNORECASE)


def _read(path: Path) -> dict[str, tuple[str, ...]]:
    if path.suffix not in (".json", ".jsonl"):
        raise UsageError(f"{str(path)!r} holds no phrases.", hint="Give FILE.json, FILE.jsonl or scenes.")
    if not path.is_file():
        raise MissingData(
            f"The file of phrases {path} does not exist.",
            hint="Write one: python -m cirbench_methods.searle.generate CONCEPTS.txt "
            f"{typed(path.with_suffix('.jsonl'))}",
        )
    try:
        if path.suffix == ".json":
            return msgspec.json.decode(path.read_bytes(), type=dict[str, tuple[str, ...]])
        return {line.concept: line.phrases for line in read_lines(path)[1]}
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        hint = 'Write {"dog": ["a photo of dog that ...", ...], ...}.'
        raise CorruptFile(f"{path} holds no phrases: {error}.", hint=hint) from error


def read_lines(path: Path) -> tuple[Header | None, list[Line]]:
    """Read a ``.jsonl`` file of phrases, with or without a header; a last line that was cut short is left out.

    Raises:
        CorruptFile: Another line cannot be read; the message has its number.
    """
    header, lines = None, []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    for number, text in enumerate(whole.splitlines(), start=1):
        try:
            if number == 1 and b'"schema"' in text:
                header = msgspec.json.decode(text, type=Header)
            else:
                lines.append(msgspec.json.decode(text, type=Line))
        except msgspec.DecodeError as error:
            raise CorruptFile(f"{path}, line {number}: {error}.") from error
    if header is not None and header.schema != SCHEMA:
        raise CorruptFile(f"{path} has schema {header.schema}; this version of cirbench reads {SCHEMA}.")
    return header, lines


PER_CONCEPT = 16


def scenes_phrases() -> dict[str, tuple[str, ...]]:
    """Map each shape, alone and in each colour, to phrases about it; always the same ones, drawn from no scene."""
    concepts = [*SHAPES, *(f"{colour} {shape}" for colour, shape in itertools.product(COLOURS, SHAPES))]
    return {
        concept: tuple(_phrase(concept, Dice("searle", concept, number)) for number in range(PER_CONCEPT))
        for concept in concepts
    }


def _phrase(concept: str, dice: Dice) -> str:
    """Say at most one of the things that a caption of scenes could say beside the concept."""
    text = phrase(1, (), concept)
    words = {"ground": GROUND_WORDS, "style": STYLE_WORDS, "viewpoint": VIEWPOINT_WORDS}
    beside = dice.pick(("nothing", "company", *words))
    if beside == "nothing":
        return text
    if beside == "company":
        return f"{text} and {phrase(1, (dice.pick(COLOURS),), dice.pick(SHAPES))}"
    said, *_ = dice.pick([*words[beside].values()])  # the shorter of two ways to say it
    return {"ground": f"{text} {said}", "style": f"{said} of {text}", "viewpoint": f"{text}, {said}"}[beside]
