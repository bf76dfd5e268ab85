"""A judge asks its model about the candidates, one, two or all at a time, and scores them by the answers."""

from __future__ import annotations

import itertools
import string
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from cirbench.artefacts.judgements import Judgements
from cirbench.errors import UsageError
from cirbench.methods.interface import Calls, join_captions
from cirbench_methods.judge.model import AnsweringModel, Question

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cirbench.backbones.features.encoder import Encoder
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
        self._model = AnsweringModel(
            parameters.model,
            pixels=parameters.pixels,
            precision=parameters.precision,
            batch_size=parameters.batch_size,
            device=device,
        )

    def rerank(
        self, query: ComposedQuery, items: Sequence[Picture], scores: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Score candidates, (K,)."""
        answers = self._answered(self._questions(query, items))
        logits = [np.array(each, dtype=np.float32) for each in answers]
        if self._mode == "pointwise":
            return np.array([yes - no for yes, no in logits], dtype=np.float32)
        if self._mode == "listwise":
            return logits[0] if logits else np.zeros(len(items), np.float32)
        preferred_KK = np.zeros((len(items), len(items)), np.float32)
        for (one, other), (first, second) in zip(itertools.permutations(range(len(items)), 2), logits, strict=True):
            preferred_KK[one, other] = first - second
        mean_K: NDArray[np.float32] = (preferred_KK - preferred_KK.T).sum(axis=1) / max(1, 2 * (len(items) - 1))
        return mean_K.astype(np.float32)

    def count_calls(self, query: ComposedQuery, items: Sequence[Picture]) -> Calls:
        """Count the questions about these candidates, and those that are answered already."""
        keys = [question.key for question in self._questions(query, items)]
        return Calls(len(keys), sum(key in self._recorded for key in keys))

    @cached_property
    def _recorded(self) -> Judgements:
        return Judgements.of(self._model.identity)

    def _questions(self, query: ComposedQuery, items: Sequence[Picture]) -> list[Question]:
        text = self._prompt.replace("{}", join_captions(query.captions, strip=" ."))
        if self._mode == "pointwise":
            return [Question((query.reference, item), text, ("yes", "no")) for item in items]
        if self._mode == "pairwise":
            pairs = itertools.permutations(items, 2)
            return [Question((query.reference, one, other), text, ("A", "B")) for one, other in pairs]
        if len(items) > len(LETTERS):
            raise UsageError(
                f"A listwise judge calls candidates by the letters A to Z, and {len(items)} are to be judged at once.",
                hint=f"Re-rank fewer: --rerank-top {len(LETTERS)}",
            )
        return [Question((query.reference, *items), text, tuple(LETTERS[: len(items)]))] if len(items) > 1 else []

    def _answered(self, questions: Sequence[Question]) -> list[tuple[float, ...]]:
        """The logits of each question's answers; those that are new are recorded batch by batch."""
        keyed = {question.key: question for question in questions}
        new = [question for key, question in keyed.items() if key not in self._recorded]
        size = self._model.batch_size
        for batch in (new[start : start + size] for start in range(0, len(new), size)):
            logits = self._model.ask(batch)
            self._recorded.add(question.answered(each) for question, each in zip(batch, logits, strict=True))
        return [self._recorded[question.key].logits for question in questions]
