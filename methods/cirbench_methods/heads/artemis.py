"""ARTEMIS (arXiv:2203.08101): the text looks for itself in the target, and for what it keeps of the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from cirbench.ranking import unit_rows
from cirbench.training.contrastive import gather_rows, in_full_precision, target_loss
from cirbench_methods.composition.method import FeatureComposition, with_trained_weights
from cirbench_methods.composition.train import HeadTraining

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cirbench.backbones.encoder import Encoder
    from cirbench.backbones.interface import Backbone
    from cirbench.protocol import Item
    from cirbench.training.interface import Batch
    from cirbench_methods.composition import CompositionParameters
    from cirbench_methods.heads import ArtemisTraining


class Sides(NamedTuple):
    """A query in four parts, from which its score with any target follows by four products.

    Attributes:
        explicit_BD: u a: the text, transformed, times its attention.
        explicit_squared_BD: a a.
        implicit_BD: n(b r) b: the reference under another attention of the text, times that attention.
        implicit_squared_BD: b b.
    """

    explicit_BD: torch.Tensor
    explicit_squared_BD: torch.Tensor
    implicit_BD: torch.Tensor
    implicit_squared_BD: torch.Tensor


class ArtemisNetwork(nn.Module):
    """Both attentions, the transformation of the text, and the logarithm of the factor of the scores."""

    def __init__(self, dim: int, temperature: float = 0.0) -> None:
        super().__init__()
        self.transform = nn.Linear(dim, dim)
        self.explicit = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.Softmax(dim=-1))
        self.implicit = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.Softmax(dim=-1))
        self.temperature = nn.Parameter(torch.tensor(temperature))

    def forward(self, images_BD: torch.Tensor, texts_BD: torch.Tensor) -> Sides:
        """Take references and texts apart for the score."""
        images_BD, texts_BD = functional.normalize(images_BD, dim=-1), functional.normalize(texts_BD, dim=-1)
        explicit_BD, implicit_BD = self.explicit(texts_BD), self.implicit(texts_BD)
        asked_BD = functional.normalize(self.transform(texts_BD), dim=-1)
        kept_BD = functional.normalize(implicit_BD * images_BD, dim=-1)
        return Sides(asked_BD * explicit_BD, explicit_BD**2, kept_BD * implicit_BD, implicit_BD**2)


def scores(sides: Sides, targets_TD: torch.Tensor) -> torch.Tensor:
    """Score queries with targets of unit length, (B, T); or each with K of its own, (B, K, D), as (B, K).

    Equal to u . n(a y) + n(b r) . n(b y), without a product for each pair.
    """
    form = "bd,td->bt" if targets_TD.ndim == 2 else "bd,btd->bt"
    found = [torch.einsum(form, side, targets_TD) for side in (sides.explicit_BD, sides.implicit_BD)]
    squares = (sides.explicit_squared_BD, sides.implicit_squared_BD)
    lengths = [torch.einsum(form, side, targets_TD**2).clamp_min(_TINY).sqrt() for side in squares]
    return found[0] / lengths[0] + found[1] / lengths[1]


_TINY = 1e-24
"""Keeps a length from being zero, as torch's normalisation does (1e-12)."""


class ArtemisHead(HeadTraining):
    """Its training on features of frozen towers."""

    module: ArtemisNetwork

    def __init__(self, backbone: Backbone, parameters: ArtemisTraining) -> None:
        super().__init__(backbone, parameters, ArtemisNetwork(backbone.dim, parameters.temperature), 1.0)

    def loss(self, batch: Batch) -> torch.Tensor:
        """The cross-entropy from each query to its target, by scores times exp(temperature)."""
        sides = self.module(self.features.references(batch), self.features.texts(batch))
        logits_BX = _logits(self.features.targets(batch), self.features.negatives(batch), *sides)
        return target_loss(logits_BX * self.module.temperature.exp(), batch, self.parameters)


@in_full_precision
def _logits(targets_BD: torch.Tensor, negatives_BKD: torch.Tensor, *sides: torch.Tensor) -> torch.Tensor:
    """Scores with the targets of all processes, and with each query's own negatives, (B, T + K)."""
    targets_TD = gather_rows(functional.normalize(targets_BD, dim=-1))
    found = [scores(Sides(*sides), rows) for rows in (targets_TD, functional.normalize(negatives_BKD, dim=-1))]
    return torch.cat(found, dim=1)


class Artemis(FeatureComposition):
    """ARTEMIS in use: rows of four parts against image features of unit length; a `Scorer`."""

    def __init__(self, encoder: Encoder, parameters: CompositionParameters, checkpoint: Path) -> None:
        network = ArtemisNetwork(encoder.backbone.dim)
        with_trained_weights(network, checkpoint, f"ARTEMIS's head on {encoder.backbone.identity.name}")
        network.to(encoder.backbone.device)
        super().__init__(encoder, parameters, lambda images, texts: torch.cat(network(images, texts), dim=1))

    def encode_gallery(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """The image features, of unit length."""
        return unit_rows(self.encoder.images(items), [f"image {item.id}" for item in items])

    def score(self, queries_QD: NDArray[np.float32], gallery_ND: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score queries against a chunk of the gallery, (Q, N)."""
        sides = Sides(*(torch.from_numpy(np.ascontiguousarray(part)) for part in np.split(queries_QD, 4, axis=1)))
        found: NDArray[np.float32] = scores(sides, torch.from_numpy(np.ascontiguousarray(gallery_ND))).numpy()
        return found
