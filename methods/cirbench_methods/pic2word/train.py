"""The training of Pic2Word: an image's word, in a sentence, must find the image again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from cirbench.backbones.text import PLACEHOLDER, PseudoWords
from cirbench.training.contrastive import contrastive_loss
from cirbench_methods.inversion.phi import Mapping
from cirbench_methods.pic2word.crop import crop, draw_boxes

if TYPE_CHECKING:
    from cirbench.backbones.interface import Backbone
    from cirbench.training.interface import Batch
    from cirbench_methods.pic2word import Pic2WordTraining

SENTENCE = f"a photo of {PLACEHOLDER}"


class WordContrast:
    """The mapping network between frozen towers, by CLIP's own loss and temperature (section 3 of the paper)."""

    def __init__(self, backbone: Backbone, parameters: Pic2WordTraining) -> None:
        backbone.model.requires_grad_(False)
        self.backbone = backbone
        self.parameters = parameters
        self.module = self.mapping = Mapping.for_backbone(backbone, parameters.dropout)
        self.tower = PseudoWords(backbone)
        self.sentence_1L = self.tower.tokenize([SENTENCE])
        self.scale = backbone.model.get_parameter("logit_scale").exp()

    def loss(self, batch: Batch) -> torch.Tensor:
        """The symmetric cross-entropy between the images of a batch and the sentences with their words."""
        pixels_B3SS = batch.pixels_B3SS
        with torch.no_grad():
            if self.parameters.crop < 1:
                boxes_B4 = batch.local_shard(draw_boxes(batch.total, self.parameters.crop))
                pixels_B3SS = crop(pixels_B3SS, boxes_B4.to(pixels_B3SS.device))
            images_BD = self.backbone.encode_images(pixels_B3SS)
        words_BE = self.mapping(images_BD)
        texts_BD = self.tower(self.sentence_1L.expand(len(words_BE), -1), words_BE)
        return contrastive_loss(images_BD, texts_BD, self.scale, batch.first)
