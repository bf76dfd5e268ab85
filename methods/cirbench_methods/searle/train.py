"""The distillation of optimised words into a network that finds them at once (SEARLE, section 3.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from cirbench.backbones.encoder import Encoder
from cirbench.backbones.store import default_store
from cirbench.backbones.text import PseudoWords
from cirbench.errors import MissingData
from cirbench.protocol import Item
from cirbench.training.contrastive import nt_xent
from cirbench_methods.inversion.phi import Phi
from cirbench_methods.inversion.templates import TEMPLATES
from cirbench_methods.searle import SearleOtiParameters
from cirbench_methods.searle.oti import cosine_losses
from cirbench_methods.searle.phrases import Phrases, open_phrases, replaced
from cirbench_methods.searle.words import OtiInverter, near

if TYPE_CHECKING:
    from cirbench.backbones.interface import Backbone
    from cirbench.support.console import Display
    from cirbench.training.data import Source
    from cirbench.training.interface import Batch
    from cirbench_methods.searle import SearleTraining


class Distillation:
    """A network that maps image features to the words of OTI, and keeps those words speakable."""

    def __init__(self, backbone: Backbone, parameters: SearleTraining) -> None:
        backbone.model.requires_grad_(False)
        self.backbone = backbone
        self.parameters = parameters
        self.tower = PseudoWords(backbone)
        self.module = Phi.for_backbone(backbone, parameters.dropout)
        self.phrases: Phrases | None = None
        if parameters.regularisation:
            self.phrases = open_phrases(parameters.phrases)

    def prepare(self, source: Source, display: Display) -> None:
        """Encode the images, invert them, and find what they show; whatever was made before is found again."""
        encoder = Encoder(self.backbone, default_store(), progress=display)
        items = _items(source)
        words_NE = OtiInverter(encoder, teacher(self.parameters))(items)
        self.features = torch.from_numpy(encoder.images(items)).to(self.backbone.device)
        self.words = torch.from_numpy(words_NE).to(self.backbone.device)
        if self.phrases is not None:
            templates = TEMPLATES[self.parameters.oti_templates]
            self.near_NK = near(encoder, self.phrases.concepts, templates, items, self.parameters.concepts)

    def loss(self, batch: Batch) -> torch.Tensor:
        """The distance of the words from those of OTI, and of what they say in phrases from what their concepts do."""
        drawn_T2 = torch.rand(batch.total, 2, dtype=torch.float64)
        predicted_BE = self.module(self.features[batch.positions_B])
        loss = nt_xent(self.words[batch.positions_B], predicted_BE, self.parameters.temperature, batch.first)
        if self.phrases is None:
            return loss
        spoken, plain = self._phrases(self.phrases, batch, batch.local_shard(drawn_T2))
        spoken_BD = self.tower(self.tower.tokenize(spoken), predicted_BE, self.parameters.occurrences)
        plain_BD = self.backbone.encode_tokens(self.backbone.tokenize(plain))
        return loss + self.parameters.regularisation * cosine_losses(spoken_BD, plain_BD).mean()

    def _phrases(self, phrases: Phrases, batch: Batch, drawn_B2: torch.Tensor) -> tuple[list[str], list[str]]:
        """A phrase for each image about one of its concepts: with the placeholder, and as it is."""
        spoken, plain = [], []
        for near_k, (which, place) in zip(self.near_NK[batch.positions_B], drawn_B2.tolist(), strict=True):
            concept = int(near_k[int(which * len(near_k))])
            sentences = phrases.sentences[concept]
            plain.append(sentences[int(place * len(sentences))])
            spoken.append(replaced(plain[-1], phrases.concepts[concept], self.parameters.occurrences))
        return spoken, plain


def teacher(training: SearleTraining) -> SearleOtiParameters:
    """The parameters of the inversion that a training asks for."""
    return SearleOtiParameters(
        steps=training.oti_steps,
        lr=training.oti_lr,
        ema=training.oti_ema,
        regularisation=training.oti_regularisation,
        concepts=training.oti_concepts,
        phrases=training.phrases,
        templates=training.oti_templates,
        seed=training.seed,
    )


def _items(source: Source) -> list[Item]:
    items = []
    for number, sample in enumerate(source.pairs):
        if sample.image is None:
            raise MissingData(f"Sample {number + 1} of {source.name} cannot be used: it has no image.")
        items.append(Item(str(number), sample.image))
    return items
