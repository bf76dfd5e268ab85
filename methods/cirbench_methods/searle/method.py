"""SEARLE and SEARLE-OTI in use: the words of the references by the network, or optimised one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench_methods.inversion.method import Inversion, NetworkInverter
from cirbench_methods.inversion.phi import Phi
from cirbench_methods.searle.words import OtiInverter

if TYPE_CHECKING:
    from pathlib import Path

    from cirbench.backbones.encoder import Encoder
    from cirbench_methods.inversion import InversionParameters
    from cirbench_methods.searle import SearleOtiParameters


class Searle(Inversion):
    """Words by the network."""

    def __init__(self, encoder: Encoder, parameters: InversionParameters, checkpoint: Path) -> None:
        network = Phi.for_backbone(encoder.backbone)
        super().__init__(encoder, parameters, NetworkInverter(encoder, network, checkpoint))


class SearleOti(Inversion):
    """Words by optimisation, one for each different reference."""

    def __init__(self, encoder: Encoder, parameters: SearleOtiParameters, checkpoint: Path | None = None) -> None:
        super().__init__(encoder, parameters, OtiInverter(encoder, parameters))
