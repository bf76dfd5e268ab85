"""Probes: what a language model says that a target shows, keeps and lacks, looked up among recorded answers."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cirbench.artefacts import Question, answered
from cirbench.errors import CorruptFile, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cirbench.artefacts import Artefact
    from cirbench.protocol import Query

WHOLE, LISTS = "whole", ("desired", "preserved", "forbidden")


@dataclasses.dataclass(frozen=True, slots=True)
class Probes:
    """What is said of a query.

    Attributes:
        whole: The target in words.
        desired: What must be there.
        preserved: What must stay of the reference.
        forbidden: What must not be there.
    """

    whole: str
    desired: tuple[str, ...] = ()
    preserved: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """All of them."""
        return (self.whole, *self.desired, *self.preserved, *self.forbidden)


def probes_of(queries: Sequence[Query], artefact: Artefact) -> list[Probes]:
    """Look up the probes of queries, by reference and captions.

    Raises:
        MissingData: Some are not recorded; the message counts and names them.
        CorruptFile: The target of a query is empty.
    """
    questions = [Question.of(query) for query in queries]
    said = {field: _first(answered(questions, field, 1, artefact)) for field in _fields(artefact)}
    if silent := [query.id for query, text in zip(queries, said[WHOLE], strict=True) if not text.strip()]:
        raise CorruptFile(f"{artefact.path} does not say what query {quoted(silent[0])} looks for.")
    lists = {field: [_lines(text) for text in said[field]] for field in LISTS if field in said}
    return [
        Probes(whole.strip(), **{field: texts[place] for field, texts in lists.items()})
        for place, whole in enumerate(said[WHOLE])
    ]


def most_probes(artefact: Artefact) -> int:
    """Count the probes of the query that has the most, whichever queries are asked for."""
    counts = (
        1 + sum(len(_lines(str(each.fields[field][0]))) for field in LISTS if each.fields.get(field))
        for each in artefact
    )
    return max(counts, default=1)


def _fields(artefact: Artefact) -> tuple[str, ...]:
    """The fields to look up: the whole, and those lists that the model was asked for."""
    return (WHOLE, *(field for field in LISTS if field in artefact.fields))


def _first(samples: Iterable[tuple[object, ...]]) -> list[str]:
    return [str(sample[0]) for sample in samples]


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if line.strip())
