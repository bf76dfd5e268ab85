"""One forward pass of a joint model for each query and each item."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench.backbones.encoder import require_joint
from cirbench.errors import UsageError, some
from cirbench.methods.interface import sentences
from cirbench_methods.embedder import CONCEPT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from cirbench.backbones.encoder import Encoder
    from cirbench.protocol import Item, Query
    from cirbench_methods.embedder import EmbedderParameters


class Embedder:
    """f(instruction, image, text) against f(item instruction, image)."""

    def __init__(self, encoder: Encoder, parameters: EmbedderParameters, checkpoint: Path | None = None) -> None:
        backbone = require_joint(encoder.backbone)
        instruction, item_instruction = parameters.instruction, parameters.item_instruction
        self.encoder = encoder
        self.prompt = parameters.prompt
        self.item_prompt = parameters.item_prompt
        self.instruction = backbone.query_instruction if instruction is None else instruction
        self.item_instruction = backbone.item_instruction if item_instruction is None else item_instruction
        sentences((), self.prompt)  # refused before anything is encoded
        backbone.require_readable([self.instruction, self.item_instruction, self.prompt, self.item_prompt])

    def encode_gallery(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """The rows of the images, with the text beside them if there is one."""
        beside = [self.item_prompt] * len(items) if self.item_prompt else None
        return self.encoder.joint(items, beside, self.item_instruction)

    def encode_queries(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """The rows of the references, each with its caption.

        Raises:
            UsageError: The prompt has a place for the shared concept, and the protocol gives none.
        """
        texts = sentences(queries, self.prompt)
        if CONCEPT in self.prompt:
            texts = [self._with_concept(query) for query in queries]
        return self.encoder.joint([query.reference for query in queries], texts, self.instruction)

    def _with_concept(self, query: Query) -> str:
        if query.shared_concept is None:
            raise UsageError(
                f"The prompt has a place for the shared concept, {CONCEPT}, and this protocol gives none (query "
                f"{some([query.id])}).",
                hint="Leave it out of --set prompt=..., or name a protocol that allows it, such as circo/val-concept.",
            )
        before, after = self.prompt.split("{}", 1)
        (caption,) = sentences([query])
        return caption.join(part.replace(CONCEPT, query.shared_concept) for part in (before, after))
