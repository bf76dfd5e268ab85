"""Images: decoding and preprocessing by declared rules."""

from __future__ import annotations

from cirbench.backbones.images.decode import FileImage, decode
from cirbench.backbones.images.preprocess import Preprocessing

__all__ = ["FileImage", "Preprocessing", "decode"]
