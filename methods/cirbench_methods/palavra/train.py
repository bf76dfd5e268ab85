"""The first stage of PALAVRA: words that say, in a sentence, what the caption of their image says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from cirbench.backbones.encoder import Encoder
from cirbench.backbones.store import default_store
from cirbench.backbones.text import PLACEHOLDER, PseudoWords
from cirbench.errors import MissingData
from cirbench.protocol import Item
from cirbench.training.contrastive import in_full_precision, nt_xent
from cirbench_methods.inversion.templates import TEMPLATES
from cirbench_methods.palavra.networks import PalavraNetworks

if TYPE_CHECKING:
    from cirbench.backbones.interface import Backbone
    from cirbench.support.console import Display
    from cirbench.training.data import Source
    from cirbench.training.interface import Batch
    from cirbench_methods.palavra import PalavraTraining


class WordProposal:
    """The set encoder and the map, between frozen towers; every image is a set of one."""

    def __init__(self, backbone: Backbone, parameters: PalavraTraining) -> None:
        backbone.model.requires_grad_(False)
        self.backbone = backbone
        self.parameters = parameters
        self.tower = PseudoWords(backbone)
        self.module = PalavraNetworks.for_backbone(backbone, parameters.hidden, parameters.dropout)
        self.sentences_TL = self.tower.tokenize([template.format(PLACEHOLDER) for template in TEMPLATES["palavra"]])

    def prepare(self, source: Source, display: Display) -> None:
        """Encode every image and every caption; whatever was encoded before is found again."""
        items, captions = [], []
        for number, sample in enumerate(source.pairs):
            if sample.image is None or sample.caption is None:
                what = "image" if sample.image is None else "caption"
                raise MissingData(f"Sample {number + 1} of {source.name} cannot be used: it has no {what}.")
            items.append(Item(str(number), sample.image))
            captions.append(sample.caption)
        encoder = Encoder(self.backbone, default_store(), progress=display)
        device = self.backbone.device
        self.images = functional.normalize(torch.from_numpy(encoder.images(items)), dim=-1).to(device)
        self.texts = functional.normalize(torch.from_numpy(encoder.texts(captions)), dim=-1).to(device)

    def loss(self, batch: Batch) -> torch.Tensor:
        """The distance of mapped captions from their images, and of what the words say from the captions."""
        images_BD, texts_BD = self.images[batch.positions_B], self.texts[batch.positions_B]
        chosen = batch.local_shard(torch.rand(batch.total, 1)).to(images_BD) < self.parameters.mapped
        sentence_L = self.sentences_TL[int(torch.randint(len(self.sentences_TL), ()))]
        mapped_BD = self.module.map(texts_BD)
        # The map learns from its own loss alone, as in the public code, where it has an optimiser of its own.
        words_BE = self.module.encoder(torch.where(chosen, mapped_BD.detach(), images_BD)[:, None])
        spoken_BD = self.tower(sentence_L.expand(len(words_BE), -1), words_BE)
        said = nt_xent(texts_BD, spoken_BD, self.parameters.temperature, batch.first)
        return said + map_loss(mapped_BD, images_BD)


@in_full_precision
def map_loss(mapped_BD: torch.Tensor, images_BD: torch.Tensor) -> torch.Tensor:
    """The mean squared error between unit vectors, over rows and dimensions."""
    return functional.mse_loss(mapped_BD, images_BD)
