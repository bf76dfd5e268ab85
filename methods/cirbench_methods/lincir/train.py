"""The training of LinCIR: a caption's feature becomes a word that must restore what was masked in the caption."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from cirbench.backbones.text import PseudoWords
from cirbench.training.contrastive import in_full_precision
from cirbench_methods.inversion.phi import Phi
from cirbench_methods.lincir.keywords import BARE, Masking, RuledKeywords, TaggedKeywords

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cirbench.backbones.interface import Backbone
    from cirbench.training.interface import Batch
    from cirbench_methods.lincir import LinCirTraining


class SelfMasking:
    """Phi between the features and the words of a frozen text tower (the paper's self-masking projection)."""

    def __init__(self, backbone: Backbone, parameters: LinCirTraining) -> None:
        backbone.model.requires_grad_(False)
        self.backbone = backbone
        self.noise = parameters.noise
        self.module = self.phi = Phi.for_backbone(backbone, parameters.dropout)
        self.tower = PseudoWords(backbone)
        keywords = TaggedKeywords(parameters.pipeline) if parameters.keywords == "spacy" else RuledKeywords()
        self.read_caption = Masking(keywords)

    def loss(self, batch: Batch) -> torch.Tensor:
        """How far the masked captions with their words are from the captions."""
        readings = batch.readings or map(self.read_caption, batch.captions)  # none in a batch that is made by hand
        captions, masked = zip(*readings, strict=True)
        with torch.no_grad():
            texts_BD = self.backbone.encode_tokens(self.backbone.tokenize(captions))
        share_B1 = batch.local_shard(torch.rand(batch.total, 1)).to(texts_BD)
        normal_BD = batch.local_shard(torch.randn(batch.total, texts_BD.shape[1])).to(texts_BD)
        words_BE = self.phi(texts_BD + self.noise * share_B1 * normal_BD)
        return projection_loss(self.tower(self.masked_tokens(masked), words_BE, "all"), texts_BD)

    def masked_tokens(self, masked: Sequence[str]) -> torch.Tensor:
        """The tokens of masked captions, (B, context length); where every mask is cut off, those of the bare prompt."""
        tokens_BL = self.backbone.tokenize(masked)
        bare_1L = self.backbone.tokenize([BARE])
        return torch.where(torch.from_numpy(self.tower.holds(tokens_BL))[:, None], tokens_BL, bare_1L)


@in_full_precision
def projection_loss(masked_BD: torch.Tensor, texts_BD: torch.Tensor) -> torch.Tensor:
    """The mean squared error between features as they are, not normalised."""
    return functional.mse_loss(masked_BD, texts_BD)
