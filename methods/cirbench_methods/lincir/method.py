"""LinCIR in use: phi, which has only seen texts, makes the word of a reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench_methods.inversion.method import Inversion, NetworkInverter
from cirbench_methods.inversion.phi import Phi

if TYPE_CHECKING:
    from pathlib import Path

    from cirbench.backbones.encoder import Encoder
    from cirbench_methods.inversion import InversionParameters


class LinCIR(Inversion):
    """n(t("a photo of $ that caption")), where $ is the image's word."""

    def __init__(self, encoder: Encoder, parameters: InversionParameters, checkpoint: Path) -> None:
        network = Phi.for_backbone(encoder.backbone)
        super().__init__(encoder, parameters, NetworkInverter(encoder, network, checkpoint))
