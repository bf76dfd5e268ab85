"""CLIP's loss, against its definition in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cirbench.training.contrastive import Contrastive, contrastive_loss
from cirbench.training.data import Batches
from cirbench.training.interface import TrainingParameters
from tests.tiny_clip import some_pairs, tiny_backbone


def naive(images: list[list[float]], texts: list[list[float]], scale: float) -> float:
    def unit(row: list[float]) -> list[float]:
        length = math.sqrt(sum(x * x for x in row))
        return [x / length for x in row]

    units = [unit(row) for row in images], [unit(row) for row in texts]
    logits = [[scale * sum(a * b for a, b in zip(i, t, strict=True)) for t in units[1]] for i in units[0]]
    count = len(logits)
    total = 0.0
    for own in range(count):
        row, column = logits[own], [logits[other][own] for other in range(count)]
        total += math.log(sum(map(math.exp, row))) + math.log(sum(map(math.exp, column))) - 2 * logits[own][own]
    return total / (2 * count)


def test_the_loss_is_the_symmetric_cross_entropy_of_cosines() -> None:
    rng = np.random.default_rng(0)
    images_BD, texts_BD = rng.normal(size=(2, 6, 5))
    found = contrastive_loss(torch.tensor(images_BD), torch.tensor(texts_BD), torch.tensor(7.0), 0)
    assert found.item() == pytest.approx(naive(images_BD.tolist(), texts_BD.tolist(), 7.0), abs=1e-12)


def test_the_gradient_is_right() -> None:
    rng = np.random.default_rng(1)
    images_BD, texts_BD = (torch.tensor(rng.normal(size=(4, 3)), requires_grad=True) for _ in range(2))
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda images, texts, times: contrastive_loss(images, texts, times, 0), (images_BD, texts_BD, scale)
    )


def test_both_towers_and_the_temperature_are_trained() -> None:
    backbone = tiny_backbone()
    objective = Contrastive(backbone, TrainingParameters())
    loss = objective.loss(Batches(some_pairs(), backbone, 16, 0)[0])
    gradients = torch.autograd.grad(loss, list(objective.module.parameters()))
    assert all(bool(gradient.abs().sum() > 0) for gradient in gradients)
