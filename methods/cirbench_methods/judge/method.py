"""A judge asks its model about the candidates, one, two or all at a time, and scores them by the answers."""

from __future__ import annotations

import itertools
import string
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cirbench.artefacts import Artefact, Maker, Question, answered, kept
from cirbench.errors import UsageError
from cirbench.methods.interface import STRIPPED, Calls, join_captions
from cirbench_methods.judge.model import AnsweringModel

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from cirbench.backbones.encoder import Encoder
    from cirbench.methods.interface import ComposedQuery, Picture
    from cirbench_methods.judge import JudgeParameters

_LOOKS_FOR = "Someone looks for an image that is like the reference, with this change: {}"
PROMPTS = {
    "pointwise": f"The first image is a reference, the second a candidate. {_LOOKS_FOR}. Is the candidate such an "
    "image? Answer yes or no.",
    "pairwise": "The first image is a reference, the second is candidate A, the third is candidate B. "
    f"{_LOOKS_FOR}. Which candidate is such an image? Answer A or B.",
    "listwise": f"The first image is a reference; then come candidates A, B and so on. {_LOOKS_FOR}. Which candidate "
    "is such an image? Answer with its letter.",
}
LETTERS = string.ascii_uppercase


class Judge:
    """Scores candidates by what a vision-language model answers; every answer is recorded, and asked for once.

    - pointwise: the log-odds of yes against no, one question a candidate;
    - pairwise: the mean log-odds of being preferred, over all other candidates and both orders, so that neither place
      is favoured: K (K - 1) questions;
    - listwise: the logit of the candidate's letter, one question for all (arXiv:2406.15657).
    """

    def __init__(self, encoder: Encoder | None, parameters: JudgeParameters, *, device: str = "auto") -> None:
        self._mode = parameters.mode
        self._prompt = parameters.prompt or PROMPTS[parameters.mode]
        if "{}" not in self._prompt:
            raise UsageError(
                f"The prompt {self._prompt!r} has no place for the caption.", hint="Write {} where it belongs."
            )
        self._recorded_in = None if parameters.answers is None else Path(parameters.answers)
        self._model = AnsweringModel(
            parameters.model,
            pixels=parameters.pixels,
            precision=parameters.precision,
            batch_size=parameters.batch_size,
            device=device,
        )

    @property
    def artefacts(self) -> list[Artefact]:
        """Where its answers are recorded."""
        return [self._artefact]

    def rerank(
        self, query: ComposedQuery, items: Sequence[Picture], scores: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Score candidates, (K,)."""
        questions, samples = self._questions(query, items), self._samples(len(items))
        ask = None if self._recorded_in is not None else self._ask
        answers = answered(questions, self._mode, samples, self._artefact, ask)
        found = np.array(answers, dtype=np.float32).reshape(-1)
        if self._mode != "pairwise":
            return found if questions else np.zeros(len(items), np.float32)
        preferred_KK = np.zeros((len(items), len(items)), np.float32)
        for (one, other), value in zip(itertools.permutations(range(len(items)), 2), found, strict=True):
            preferred_KK[one, other] = value
        others = max(1, len(items) - 1)
        mean_K: NDArray[np.float32] = (preferred_KK - preferred_KK.T).sum(axis=1) / np.float32(2 * others)
        return mean_K

    def count_calls(self, query: ComposedQuery, items: Sequence[Picture]) -> Calls:
        """Count the questions about these candidates, and those that are answered already."""
        samples = self._samples(len(items))
        keys = [question.key for question in self._questions(query, items)]
        known = [len(self._artefact.find(key, self._mode, samples)) == samples for key in keys]
        return Calls(len(keys), sum(known))

    @cached_property
    def _artefact(self) -> Artefact:
        if self._recorded_in is None:
            maker = Maker(
                model=self._model.name,
                revision=self._model.revision,
                decoding=self._model.decoding,
                prompts={self._mode: self._prompt},
            )
            return kept(maker)
        artefact = Artefact(self._recorded_in)
        if self._mode not in artefact.maker.prompts:
            asked = ", ".join(artefact.maker.prompts) or "nothing"
            raise UsageError(
                f"{self._recorded_in} holds no {self._mode} judgements; {artefact.maker.model} was asked for {asked}.",
                hint="Give the mode that it holds: --rerank-set mode=...",
            )
        return artefact

    def _questions(self, query: ComposedQuery, items: Sequence[Picture]) -> list[Question]:
        """The questions about these candidates, each known by its images and the caption."""
        texts = (join_captions(query.captions, strip=STRIPPED),)
        if self._mode == "pointwise":
            return [Question((query.reference, item), texts) for item in items]
        if self._mode == "pairwise":
            return [Question((query.reference, *pair), texts) for pair in itertools.permutations(items, 2)]
        if len(items) > len(LETTERS):
            raise UsageError(
                f"A listwise judge calls candidates by the letters A to Z, and {len(items)} are to be judged at once.",
                hint=f"Re-rank fewer: --rerank-top {len(LETTERS)}",
            )
        return [Question((query.reference, *items), texts)] if len(items) > 1 else []

    def _samples(self, items: int) -> int:
        """How many numbers answer a question: one, or one for each candidate of a list."""
        return items if self._mode == "listwise" else 1

    def _ask(self, questions: Sequence[Question], field: str, samples: int) -> Iterator[tuple[float, ...]]:
        words = {"pointwise": ("yes", "no"), "pairwise": ("A", "B")}.get(field, tuple(LETTERS[:samples]))
        size = self._model.batch_size
        for batch in (questions[start : start + size] for start in range(0, len(questions), size)):
            asked = [(question.images, self._prompt.replace("{}", question.texts[0])) for question in batch]
            for logits in self._model.logits(asked, words):
                yield tuple(logits) if field == "listwise" else (logits[0] - logits[1],)
