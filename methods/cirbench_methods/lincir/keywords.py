"""The keywords of a caption, which pseudo-words replace: found by part of speech or by rules, and masked."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Protocol

from cirbench.backbones.text import PLACEHOLDER
from cirbench.errors import MissingData, UsageError
from cirbench.support.needs import require

if TYPE_CHECKING:
    from collections.abc import Iterable

_DETERMINERS = "a an the this that these those some any each every no all both another"
DETERMINERS = frozenset(_DETERMINERS.split())
"""They belong to a keyword that follows them, as their tag does for spaCy."""

_PREPOSITIONS = """
about above across after against along alongside amid among around as at atop before behind below beneath beside besides
between beyond by down during for from in inside into like near next of off on onto out outside over past per through
throughout to toward towards under underneath until up upon via while with within without
"""
_CONJUNCTIONS = "and or but nor so yet if because although though whereas whether than then when where whereby"
_PRONOUNS = """
i me my mine you your yours he him his she her hers it its we us our ours they them their theirs who whom whose which
what himself herself itself themselves someone somebody something anyone anything everyone everything nobody nothing
there here one's other others
"""
_AUXILIARIES = """
am is are was were be been being do does did done have has had having can could may might must shall should will would
isn't aren't wasn't weren't don't doesn't didn't can't won't not
"""
_NUMBERS = "one two three four five six seven eight nine ten eleven twelve several many few much more most"
_ADVERBS = """
also very too just only even still together apart away back close far ahead again almost already always often well
partly partially mostly nearly side top left right front upside
"""
_VERBS = """
sits sitting sat stands standing stood lies lying lay laying walks walking rides riding holds holding held wears wearing
plays playing eats eating flies flying parked filled covered looks looking shows showing shown seen take takes taking
made make making put puts placed hanging hangs goes going get gets getting run runs running used using
"""

FUNCTION_WORDS = frozenset(
    " ".join((_PREPOSITIONS, _CONJUNCTIONS, _PRONOUNS, _AUXILIARIES, _NUMBERS, _ADVERBS, _VERBS)).split()
)


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
            self._pipeline = pipeline
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

    def __reduce__(self) -> tuple[type[TaggedKeywords], tuple[str]]:
        return TaggedKeywords, (self._pipeline,)  # another process loads the pipeline itself


class RuledKeywords:
    """Maximal runs of words that are not function words of English, with the determiners before and within them.

    Verbs cannot be distinguished from nouns without a tagger: those that captions use most are function words here.
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


BARE = f"a photo of {PLACEHOLDER}"
"""What replaces a caption without keywords."""


def clean(caption: str) -> str:
    """Lower-case a caption, name the persons that Conceptual Captions hides, and take placeholders of its own out."""
    named = caption.replace("<PERSON>", "person").replace(PLACEHOLDER, "")
    return " ".join(named.lower().split())


def mask(caption: str, keywords: Keywords) -> str:
    """Replace each keyword by a placeholder, at its place and nowhere else."""
    spans = keywords(caption)
    if not spans:
        return BARE
    kept, end = [], 0
    for start, stop in spans:
        kept += [caption[end:start].strip(), PLACEHOLDER]
        end = stop
    return " ".join(part for part in (*kept, caption[end:].strip()) if part)


REMEMBERED = 1_000_000
"""How many captions are masked once only, where epochs repeat them."""
_SHARED = 16
"""How many decoding processes share that memory."""


class Masking:
    """Cleans a caption and masks its keywords; returns it clean, and masked."""

    def __init__(self, keywords: Keywords, remembered: int = REMEMBERED) -> None:
        self._keywords = keywords
        self._mask = functools.lru_cache(remembered)(functools.partial(mask, keywords=keywords))

    def __call__(self, caption: str) -> tuple[str, str]:
        """The caption, clean and masked."""
        plain = clean(caption)
        return plain, self._mask(plain)

    def __reduce__(self) -> tuple[type[Masking], tuple[Keywords, int]]:
        return Masking, (self._keywords, REMEMBERED // _SHARED)
