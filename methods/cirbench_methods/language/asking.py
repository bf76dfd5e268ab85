"""Ask a captioner and a language model about queries, and record what they say for the methods of this folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench.artefacts import Question, answered
from cirbench.errors import MethodFailed, quoted
from cirbench.methods.interface import join_captions
from cirbench.support import console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from PIL import Image

    from cirbench.artefacts import Artefact
    from cirbench.protocol import Query


def record_answers(
    queries: Sequence[Query],
    artefact: Artefact,
    *,
    describe: Callable[[Image.Image], str],
    edit: Callable[[str, str], str],
    samples: int = 1,
) -> None:
    """Fill the fields ``caption`` and ``edited`` of a file of answers; what it has is not asked for again.

    Args:
        queries: Of a protocol.
        artefact: The file; each answer is in it as soon as it is there.
        describe: Says what is in an image.
        edit: Changes a description as the second text asks; several captions of a query are joined by " and ".
        samples: Descriptions of each reference, each of which is edited once.

    Raises:
        MethodFailed: A function returned no words.
        MissingData: An image cannot be read.
    """
    asked = [Question.of(query) for query in queries]

    def described(questions: Sequence[Question], field: str, samples: int) -> Iterator[tuple[str, ...]]:
        for question in questions:
            image = question.images[0].open()
            yield tuple(_words(describe(image), f"the image {question.images[0]}") for _ in range(samples))

    def edited(questions: Sequence[Question], field: str, samples: int) -> Iterator[tuple[str, ...]]:
        for question in questions:
            captions = artefact.find(question.key, "caption", samples)
            change = join_captions(question.texts)
            yield tuple(_words(edit(str(caption), change), quoted(change)) for caption in captions)

    answered(asked, "caption", samples, artefact, described, display=console.progress)
    answered(asked, "edited", samples, artefact, edited, display=console.progress)


def _words(text: object, what: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise MethodFailed(f"The model said nothing of {what}: {quoted(text)}.", hint="What was said before is kept.")
    return text
