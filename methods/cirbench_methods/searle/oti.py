"""Optimisation-based textual inversion: words that make texts resemble their images (SEARLE, section 3.2).

Many images at once, each with a word of its own. Everything that is drawn for an image comes from the image and the
seed, and AdamW treats every number for itself, so a word does not depend on the images beside it.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cirbench.backbones.text import PseudoWords
    from cirbench_methods.searle import SearleOtiParameters


@dataclasses.dataclass(frozen=True)
class Draws:
    """What is drawn for one image.

    Attributes:
        start_E: The word that it starts from.
        templates_S: The template of each step.
        phrases_S: The concept and the phrase of each step; empty without regularisation.
    """

    start_E: NDArray[np.float32]
    templates_S: NDArray[np.int64]
    phrases_S: tuple[tuple[int, int], ...]


def draw(
    content: str,
    width: int,
    templates: int,
    near_k: Sequence[int],
    phrases: Sequence[Sequence[str]],
    parameters: SearleOtiParameters,
) -> Draws:
    """Draw everything that is random in the inversion of an image.

    Args:
        content: Of the image.
        width: E, the length of a word.
        templates: How many there are.
        near_k: The concepts that the phrases may be about.
        phrases: Those of every concept.
        parameters: Steps, seed and the size of the first word.
    """
    key = hashlib.sha256(f"{parameters.seed}/{content}".encode()).digest()
    generator = np.random.default_rng(np.frombuffer(key, dtype=np.uint32))
    steps = parameters.steps
    start_E = (parameters.init * generator.standard_normal(width)).astype(np.float32)
    templates_S = generator.integers(templates, size=steps)
    if not len(near_k):
        return Draws(start_E, templates_S, ())
    concepts_S = np.asarray(near_k)[generator.integers(len(near_k), size=steps)].tolist()
    places_S = generator.random(steps).tolist()
    chosen = tuple((c, int(place * len(phrases[c]))) for c, place in zip(concepts_S, places_S, strict=True))
    return Draws(start_E, templates_S, chosen)


@dataclasses.dataclass(frozen=True)
class Texts:
    """Texts with a placeholder, as tokens, and which of them each image sees at each step.

    Attributes:
        tokens_TL: The texts.
        chosen_BS: Rows of ``tokens_TL``.
        lengths_B: How many positions of an image's texts are computed.
    """

    tokens_TL: torch.Tensor
    chosen_BS: NDArray[np.int64]
    lengths_B: NDArray[np.int64]

    def of(self, rows: NDArray[np.intp]) -> Texts:
        """Those of some of the images."""
        return Texts(self.tokens_TL, self.chosen_BS[rows], self.lengths_B[rows])


def invert(
    words: PseudoWords,
    start_BE: torch.Tensor,
    images_BD: torch.Tensor,
    templates: Texts,
    phrases: Texts | None,
    plain_PD: torch.Tensor | None,
    parameters: SearleOtiParameters,
) -> torch.Tensor:
    """Optimise a word for each image, (B, E); the towers are left alone.

    Args:
        words: The text tower.
        start_BE: The words to start from.
        images_BD: The features that texts with the words shall resemble.
        templates: What the image's loss is computed with.
        phrases: What the phrases' loss is computed with, if it has a weight.
        plain_PD: The features of the phrases as they are, by row of ``phrases.tokens_TL``.
        parameters: Of the optimisation.
    """
    with torch.inference_mode(mode=False), torch.enable_grad():
        images_BD, words_BE = images_BD.clone(), start_BE.clone().requires_grad_()
        average_BE = start_BE.clone()
        optimizer = torch.optim.AdamW([words_BE], lr=parameters.lr, weight_decay=parameters.weight_decay)
        for step in range(parameters.steps):
            losses_B = cosine_losses(_composed(words, templates, step, words_BE), images_BD)
            if phrases is not None and plain_PD is not None:
                spoken_BD = _composed(words, phrases, step, words_BE)
                spoken_B = cosine_losses(spoken_BD, plain_PD[phrases.chosen_BS[:, step]])
                losses_B = (losses_B + parameters.regularisation * spoken_B) / (1 + parameters.regularisation)
            # A sum, not a mean: the size of a row's gradient must not depend on how many rows there are.
            (words_BE.grad,) = torch.autograd.grad(losses_B.sum(), words_BE)
            optimizer.step()
            average_BE.lerp_(words_BE.detach(), 1 - parameters.ema)
    return average_BE


def cosine_losses(texts_BD: torch.Tensor, targets_BD: torch.Tensor) -> torch.Tensor:
    """One minus the cosine of each row, (B,)."""
    return 1 - functional.cosine_similarity(texts_BD, targets_BD, dim=-1)


def _composed(words: PseudoWords, texts: Texts, step: int, words_BE: torch.Tensor) -> torch.Tensor:
    tokens_BL = texts.tokens_TL[texts.chosen_BS[:, step]]
    return words(tokens_BL, words_BE, length=int(texts.lengths_B.max()))
