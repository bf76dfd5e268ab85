"""The training of Pic2Word: the word of an image, in a sentence, must find the image again."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from cirbench.backbones.text import PLACEHOLDER, PseudoWords
from cirbench.training.contrastive import contrastive_loss
from cirbench_methods.inversion.phi import Mapping

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
                pixels_B3SS = crop(pixels_B3SS, boxes_B4)
            images_BD = self.backbone.encode_images(pixels_B3SS)
        words_BE = self.mapping(images_BD)
        texts_BD = self.tower(self.sentence_1L.expand(len(words_BE), -1), words_BE)
        return contrastive_loss(images_BD, texts_BD, self.scale, batch.first)


_TRIES = 10
_RATIOS = (3 / 4, 4 / 3)


def draw_boxes(count: int, least: float) -> torch.Tensor:
    """Draw a box for each of ``count`` square images: left, top, width and height as shares of the side, (count, 4).

    The area is uniform between ``least`` and 1, the aspect ratio log-uniform between 3/4 and 4/3; of ten such shapes
    the first that fits into the image is taken, and the whole image where none does.
    """
    drawn = torch.rand(count, _TRIES, 2)
    areas = least + (1 - least) * drawn[..., 0]
    low, high = map(math.log, _RATIOS)
    ratios = (low + (high - low) * drawn[..., 1]).exp()
    shapes = torch.stack([areas * ratios, areas / ratios], dim=-1).sqrt()
    shapes = torch.cat([shapes, torch.ones(count, 1, 2)], dim=1)
    first = (shapes <= 1).all(dim=-1).int().argmax(dim=1)
    sizes = shapes[torch.arange(count), first]
    return torch.cat([torch.rand(count, 2) * (1 - sizes), sizes], dim=1)


def crop(pixels_B3SS: torch.Tensor, boxes_B4: torch.Tensor) -> torch.Tensor:
    """Cut a box out of each image and bring it back to full size, by bicubic interpolation, (B, 3, S, S)."""
    corners_B2, sizes_B2 = boxes_B4[:, :2], boxes_B4[:, 2:]
    shifts_B2 = 2 * corners_B2 + sizes_B2 - 1  # in the coordinates of affine_grid, where images reach from -1 to 1
    affine_B23 = torch.cat([torch.diag_embed(sizes_B2), shifts_B2[:, :, None]], dim=2)
    grid = functional.affine_grid(affine_B23, list(pixels_B3SS.shape), align_corners=False)
    return functional.grid_sample(pixels_B3SS, grid, mode="bicubic", padding_mode="border", align_corners=False)
