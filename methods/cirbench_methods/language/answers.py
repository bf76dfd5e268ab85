"""Where the texts of a query come from: recorded answers, or the oracle of scenes.

A question is the reference with the relative captions. Its answers have the fields that methods ask for:

caption     the reference in words
edited      the same after the change
target      the target in words, by one call that sees the reference
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cirbench.artefacts import Artefact, Maker, Question, answered
from cirbench.benchmarks.scenes.benchmark import SPLITS, SceneImage, scenes_benchmark
from cirbench.benchmarks.scenes.oracle import ORACLE_VERSION, oracle_texts
from cirbench.errors import MissingData, UsageError, some

if TYPE_CHECKING:
    from cirbench.benchmarks.scenes.benchmark import Benchmark
    from cirbench.protocol import Query
    from cirbench_methods.language import AnswersParameters

ORACLE = "oracle"

Texts = Callable[[Sequence["Query"], str, int], list[tuple[str, ...]]]
"""Says what was answered: the first samples of a field for each query, which depend on that query alone."""


def open_answers(parameters: AnswersParameters) -> tuple[Texts, tuple[Artefact, ...]]:
    """Open what the parameters name; return where to look, and the files in which that is done.

    Raises:
        UsageError: They name nothing.
        MissingData: The file does not exist.
        CorruptFile: It is damaged.
    """
    if parameters.answers is None:
        raise UsageError(
            "This method needs what a language model said of each query, and nothing says where that is recorded.",
            hint="Give --set answers=FILE.jsonl. On scenes, --set answers=oracle gives an upper bound without a model.",
        )
    if parameters.answers == ORACLE:
        return functools.partial(_by_oracle, noise=parameters.noise), ()
    artefact = Artefact(Path(parameters.answers))
    return functools.partial(_recorded, artefact), (artefact,)


def knows_ground_truths(parameters: AnswersParameters) -> bool:
    """Whether the texts are those of an oracle, asked now or recorded."""
    if parameters.answers is None or parameters.answers == ORACLE:
        return parameters.answers == ORACLE
    path = Path(parameters.answers)
    return path.is_file() and Artefact(path).maker.oracle


def _recorded(artefact: Artefact, queries: Sequence[Query], field: str, samples: int) -> list[tuple[str, ...]]:
    """Look queries up.

    Raises:
        MissingData: Some are not answered, or not in words; the message counts them.
    """
    questions = [Question.of(query) for query in queries]
    found = answered(questions, field, samples, artefact)
    texts = [tuple(text for text in said if isinstance(text, str) and text.strip()) for said in found]
    wordless = [query.id for query, said in zip(queries, texts, strict=True) if len(said) < samples]
    if wordless:
        raise MissingData(
            f"{artefact.path} has answers without words in the field {field}, for the queries {some(wordless)}.",
            hint="Remove their lines, and ask again.",
        )
    return texts


def _by_oracle(queries: Sequence[Query], field: str, samples: int, *, noise: float) -> list[tuple[str, ...]]:
    """Ask the oracle about queries of scenes.

    Raises:
        MissingData: Some are of another benchmark.
    """
    found = [_known().get((query.reference.image.content, query.captions)) for query in queries]
    strangers = [query.id for query, place in zip(queries, found, strict=True) if place is None]
    if strangers:
        raise MissingData(
            f"The oracle knows the queries of scenes, and not {some(strangers)}.",
            hint="Give recorded answers by --set answers=FILE.jsonl.",
        )
    return [oracle_fields(scenes_benchmark(place[0]), *place, samples, noise)[field] for place in found if place]


@functools.cache
def _known() -> dict[tuple[str, tuple[str, ...]], tuple[str, int]]:
    """Split and place of every query of scenes, by the content of its reference and its captions."""
    return {
        (SceneImage(benchmark.gallery[query.reference]).content, (query.blueprint.caption,)): (split, number)
        for split in SPLITS
        for benchmark in (scenes_benchmark(split),)
        for number, query in enumerate(benchmark.queries)
    }


def oracle_fields(
    benchmark: Benchmark, name: str, number: int, samples: int, noise: float
) -> dict[str, tuple[str, ...]]:
    """What the oracle says of a query, by field."""
    said = oracle_texts(benchmark, name, number, samples=samples, noise=noise)
    return {"caption": said.captions, "edited": said.edited, "target": said.edited}


def oracle_maker(noise: float) -> Maker:
    """Who answers in a file of the oracle."""
    return Maker(
        model="oracle of scenes", revision=str(ORACLE_VERSION), decoding={"noise": noise}, licence="MIT", oracle=True
    )
