"""The second stage of PALAVRA, in use: the proposed word of each reference, optimised to resemble its image."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from cirbench.backbones.store import OwnSpace
from cirbench.backbones.text import PLACEHOLDER, PseudoWords
from cirbench.backbones.weights import place, read_tensors
from cirbench.support.files import digest, sha256_of_file
from cirbench.training.checkpoint import WEIGHTS
from cirbench_methods.inversion.method import Inversion
from cirbench_methods.palavra.networks import PalavraNetworks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cirbench.backbones.encoder import Encoder
    from cirbench.protocol import Item
    from cirbench_methods.palavra import PalavraParameters

SCHEMA = 1
_PASSES = 8
"""Batches that are made before they are kept, so that every core has something to do."""


class Palavra(Inversion):
    """Words by the set encoder, improved by optimisation, one for each different reference."""

    def __init__(self, encoder: Encoder, parameters: PalavraParameters, checkpoint: Path) -> None:
        super().__init__(encoder, parameters, PalavraInverter(encoder, parameters, checkpoint))


class PalavraInverter:
    """Proposes a word for each image and improves it.

    Raises:
        UsageError: The backbone cannot read pseudo-words.
        CorruptFile: The checkpoint is damaged, or of other networks.
    """

    def __init__(self, encoder: Encoder, parameters: PalavraParameters, checkpoint: Path) -> None:
        self.encoder = encoder
        self.parameters = parameters
        self.tower = PseudoWords(encoder.backbone)
        self.weights = checkpoint / WEIGHTS
        tensors = read_tensors(self.weights)
        self.networks = PalavraNetworks.for_tensors(tensors, encoder.backbone)
        owner = f"PALAVRA's networks for {encoder.backbone.identity.name}"
        place(self.networks, tensors, path=self.weights, architecture=owner)
        self.networks.eval().requires_grad_(False)

    def __call__(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """Make the words of images, (N, E), or find those that were made before.

        Raises:
            MissingData: An image is absent or cannot be decoded.
            CirbenchError: New words cannot be kept.
        """
        # Before anything is made: several processes share what is to be encoded, and so have to ask for it together.
        features_ND, coarse_1D = self.encoder.images(items), self.encoder.texts([self.parameters.coarse])
        places = {item.image.content: row for row, item in enumerate(items)}
        device = self.encoder.backbone.device
        images_ND = functional.normalize(torch.from_numpy(features_ND), dim=-1).to(device)
        coarse_D = self.networks.map(functional.normalize(torch.from_numpy(coarse_1D).to(device), dim=-1))[0]
        tokens_1L = self.tower.tokenize([PLACEHOLDER])

        def make(contents: list[str], advance: Callable[[int], None]) -> NDArray[np.float32]:
            chosen_MD = images_ND[[places[content] for content in contents]]

            def compute(rows: NDArray[np.intp]) -> torch.Tensor:
                proposed_BE = self.networks.encoder(chosen_MD[rows][:, None])
                return improve(self.tower, tokens_1L, proposed_BE, chosen_MD[rows], coarse_D, self.parameters)

            return self.encoder.rowwise(compute, np.zeros(len(contents), np.int64), advance)

        return self.encoder.own(
            self.space, [item.image.content for item in items], make, shard=_PASSES * self.encoder.batch_size
        )

    @cached_property
    def space(self) -> OwnSpace:
        """Everything but the image that decides a word."""
        chosen = {name: getattr(self.parameters, name) for name in ("steps", "lr", "temperature", "coarse")}
        decided = digest({"schema": SCHEMA, "weights": sha256_of_file(self.weights), **chosen})
        return OwnSpace(self.encoder.backbone.identity, "Inverting images", decided, self.tower.width)


def improve(
    tower: PseudoWords,
    tokens_1L: torch.Tensor,
    proposed_BE: torch.Tensor,
    images_BD: torch.Tensor,
    coarse_D: torch.Tensor,
    parameters: PalavraParameters,
) -> torch.Tensor:
    """Optimise the word of each image by Adam, (B, E); the towers are left alone.

    Args:
        tower: The text tower.
        tokens_1L: The text that is the placeholder alone.
        proposed_BE: The words to start from.
        images_BD: Unit features of the images.
        coarse_D: Where the image of the coarse phrase would be, of unit length.
        parameters: Of the optimisation.
    """
    with torch.inference_mode(mode=False), torch.enable_grad():
        images_BD, coarse_D, words_BE = images_BD.clone(), coarse_D.clone(), proposed_BE.clone().requires_grad_()
        optimizer = torch.optim.Adam([words_BE], lr=parameters.lr)
        for _ in range(parameters.steps):
            spoken_BD = tower(tokens_1L.expand(len(words_BE), -1), words_BE)
            losses_B = word_losses(spoken_BD, images_BD, coarse_D, parameters.temperature)
            # A sum, not a mean: the size of a row's gradient must not depend on how many rows there are.
            (words_BE.grad,) = torch.autograd.grad(losses_B.sum(), words_BE)
            optimizer.step()
    return words_BE.detach()


def word_losses(
    spoken_BD: torch.Tensor, images_BD: torch.Tensor, coarse_D: torch.Tensor, temperature: float
) -> torch.Tensor:
    """NT-Xent of each word by itself, (B,): it has to find its image, and the coarse phrase itself, among these.

    Args:
        spoken_BD: What the words say.
        images_BD: Unit features of their images.
        coarse_D: Where the image of the coarse phrase would be, of unit length; it is its own partner.
        temperature: The divisor of the cosines.
    """
    coarse_BD = coarse_D.expand_as(images_BD)
    stack_B4D = torch.stack([images_BD, coarse_BD, functional.normalize(spoken_BD, dim=-1), coarse_BD], dim=1)
    logits_B44 = stack_B4D @ stack_B4D.mT / temperature
    logits_B44 = logits_B44.masked_fill(torch.eye(4, dtype=torch.bool, device=logits_B44.device), -torch.inf)
    partners_B4 = torch.tensor([2, 3, 0, 1], device=logits_B44.device).expand(len(stack_B4D), -1)
    return functional.cross_entropy(logits_B44.mT, partners_B4, reduction="none").mean(dim=1)
