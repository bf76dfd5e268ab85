"""A scene as an image of a gallery, a query or a training pair."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

    from cirbench.datasets.scenes.world import Scene


@dataclasses.dataclass(frozen=True, slots=True)
class SceneImage:
    """An image that is rendered when it is opened."""

    scene: Scene

    @property
    def content(self) -> str:
        """Sha256 of the scene's description and of the renderer's version."""
        from cirbench.datasets.scenes.draw import RENDERER, SIZE

        return hashlib.sha256(f"scenes renderer {RENDERER} at {SIZE}: {self.scene.digest}".encode()).hexdigest()

    def open(self) -> Image.Image:
        """Render the scene, 64 x 64 RGB."""
        from PIL import Image

        from cirbench.datasets.scenes.draw import render

        return Image.fromarray(render(self.scene))

    def __str__(self) -> str:
        return f"scene {self.scene.digest[:12]} ({self.scene.structure})"
