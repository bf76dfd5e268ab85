"""The training of a network on the features of frozen towers, each encoded once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from cirbench.training.contrastive import TripletFeatures, composition_loss

if TYPE_CHECKING:
    import torch

    from cirbench.backbones.interface import Backbone
    from cirbench.support.console import Display
    from cirbench.training.data import Source
    from cirbench.training.interface import Batch, TripletTraining


class Composer(Protocol):
    """A network that composes."""

    def __call__(self, images_BD: torch.Tensor, texts_BD: torch.Tensor) -> torch.Tensor:
        """Compose the raw features of references and texts, (B, D)."""
        ...


class HeadTraining:
    """A network that composes features of frozen towers, trained to find the feature of the target.

    Args:
        backbone: The towers.
        parameters: How it is trained.
        network: What is trained; a `Composer`.
        scale: The factor of the cosines in the loss.
    """

    features: TripletFeatures

    def __init__(
        self,
        backbone: Backbone,
        parameters: TripletTraining,
        network: torch.nn.Module,
        scale: float | torch.Tensor,
    ) -> None:
        backbone.model.requires_grad_(False)
        self.backbone = backbone
        self.parameters = parameters
        self.module = network.to(backbone.device)
        self.scale = scale

    def prepare(self, source: Source, display: Display) -> None:
        """Encode every image and every text that may be drawn; whatever was encoded before is found again."""
        self.features = TripletFeatures(self.backbone, source, self.parameters, display)

    def loss(self, batch: Batch) -> torch.Tensor:
        """The cross-entropy from each composed query to its target, by cosines."""
        queries_BD = self.module(self.features.references(batch), self.features.texts(batch))
        targets_BD, negatives_BKD = self.features.targets(batch), self.features.negatives(batch)
        return composition_loss(queries_BD, targets_BD, self.scale, batch, self.parameters, negatives_BKD)
