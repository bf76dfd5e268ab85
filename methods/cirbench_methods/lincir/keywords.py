"""The keywords of a caption, as spans of its letters: what a pseudo-word shall stand for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from cirbench.errors import MissingData, UsageError
from cirbench.support.extras import require
from cirbench_methods.lincir.functionwords import DETERMINERS, FUNCTION_WORDS

if TYPE_CHECKING:
    from collections.abc import Iterable

Span = tuple[int, int]
"""Where a keyword begins and ends in its caption."""

TAGS = frozenset({"NOUN", "PROPN", "ADJ", "DET"})
"""The parts of speech that a keyword is made of."""

_WITHOUT = "or find keywords without spaCy: --set keywords=rules"
_WORD = re.compile(r"\w+(?:['’-]\w+)*")


class Keywords(Protocol):
    """Finds the keywords of a caption."""

    def __call__(self, caption: str) -> list[Span]:
        """The spans of the keywords, in order."""
        ...


class TaggedKeywords:
    """Maximal runs of nouns, proper nouns, adjectives and determiners, as spaCy tags them.

    Args:
        pipeline: An installed pipeline by name, or its folder.

    Raises:
        MissingData: spaCy or the pipeline is not installed.
        UsageError: The pipeline tags no parts of speech.
    """

    def __init__(self, pipeline: str) -> None:
        try:
            spacy = require("spacy", extra="keywords", purpose="Finding keywords by part of speech")
            self._tag = spacy.load(pipeline, exclude=["parser", "ner", "lemmatizer"])
        except MissingData as error:
            raise MissingData(error.message, hint=f"{error.hint}, {_WITHOUT}") from error
        except OSError as error:
            hint = f"python -m spacy download {pipeline}, {_WITHOUT}"
            raise MissingData(f"spaCy's pipeline {pipeline} is not installed.", hint=hint) from error
        if not any(word.pos_ for word in self._tag("the black dog on a sofa")):
            raise UsageError(f"spaCy's pipeline {pipeline} tags no parts of speech.", hint="Choose one with a tagger.")

    def __call__(self, caption: str) -> list[Span]:
        """The spans of the keywords, in order."""
        words = [(word.idx, word.idx + len(word), word.pos_ in TAGS) for word in self._tag(caption)]
        return _runs(words)


class RuledKeywords:
    """Maximal runs of words that are not function words of English, with the determiners before and within them.

    Verbs cannot be told from nouns without a tagger: those that captions use most stand among the function words.
    """

    def __call__(self, caption: str) -> list[Span]:
        """The spans of the keywords, in order."""
        words: list[tuple[int, int, bool]] = []
        for found in _WORD.finditer(caption):
            between = caption[words[-1][1] : found.start()] if words else ""
            if between.strip():
                words.append((found.start(), found.start(), False))  # a sign ends a run
            belongs = found[0].lower() not in FUNCTION_WORDS and not found[0].isdecimal()
            words.append((found.start(), found.end(), belongs))
        spans = _runs(words)
        return [(start, end) for start, end in spans if not _is_bare(caption[start:end])]


def _is_bare(keyword: str) -> bool:
    return all(word.lower() in DETERMINERS for word in _WORD.findall(keyword))


def _runs(words: Iterable[tuple[int, int, bool]]) -> list[Span]:
    """Join neighbouring words that belong to keywords."""
    spans: list[Span] = []
    follows = False
    for start, end, belongs in words:
        if belongs:
            spans[-1:] = [(spans[-1][0], end)] if follows else [*spans[-1:], (start, end)]
        follows = belongs
    return spans
