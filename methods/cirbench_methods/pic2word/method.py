"""Pic2Word in use: the mapping network makes the word of a reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench_methods.inversion.method import Inversion, NetworkInverter
from cirbench_methods.inversion.phi import Mapping

if TYPE_CHECKING:
    from pathlib import Path

    from cirbench.backbones.encoder import Encoder
    from cirbench_methods.pic2word import Pic2WordParameters


class Pic2Word(Inversion):
    """n(t("a photo of $ , caption")), where $ is the image's word."""

    def __init__(self, encoder: Encoder, parameters: Pic2WordParameters, checkpoint: Path) -> None:
        network = Mapping.for_backbone(encoder.backbone)
        super().__init__(encoder, parameters, NetworkInverter(encoder, network, checkpoint))
