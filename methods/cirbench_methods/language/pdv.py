"""PDV: the direction from a text without the change to the text with it, added to the image and to the text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from cirbench.errors import UsageError
from cirbench.methods.interface import ModifiesText, UsesArtefacts, find_method
from cirbench.methods.loading import build, parse_parameters
from cirbench.ranking import unit_rows
from cirbench.support.parameters import pairs
from cirbench_methods.language import AnswersParameters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cirbench.backbones.encoder import Encoder
    from cirbench.protocol import Item, Query
    from cirbench_methods.language import PdvParameters


class Pdv:
    """(1 - b) (n(v) + i d) + b (u + t d), where d = w - u, by unit text features with and without the change, w and u.

    Raises:
        UsageError: The method that it is to build on has no text without the change.
        CirbenchError: That method cannot be built.
    """

    def __init__(self, encoder: Encoder, parameters: PdvParameters, checkpoint: Path | None = None) -> None:
        self.encoder = encoder
        self.parameters = parameters
        spec = find_method(parameters.base)
        of_base = parse_parameters(
            spec, pairs(filter(None, parameters.settings.split(","))), encoder.backbone.identity.name
        )
        if isinstance(of_base, AnswersParameters):  # not the preset's: what PDV discloses rests on its own
            of_base = msgspec.structs.replace(of_base, answers=parameters.answers, noise=parameters.noise)
        folder = None if parameters.checkpoint is None else Path(parameters.checkpoint)
        base = build(spec, encoder, of_base, folder)
        if not isinstance(base, ModifiesText):
            raise UsageError(
                f"pdv moves a query along the change of its text, and {spec.name} makes no text without the change.",
                hint="Stand it on another method, for instance --set base=cirevl or --set base=searle.",
            )
        self.base = base
        self.artefacts = base.artefacts if isinstance(base, UsesArtefacts) else ()

    def encode_gallery(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """The gallery of the method that it builds on."""
        return self.base.encode_gallery(items)

    def encode_queries(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """The moved images and texts, added."""
        names = [f"query {query.id}" for query in queries]
        images_QD = unit_rows(self.encoder.images([query.reference for query in queries]), names)
        with_QD = unit_rows(self.base.encode_queries(queries), names)
        without_QD = unit_rows(self.base.encode_unmodified(queries), names)
        change_QD = with_QD - without_QD
        beta = self.parameters.beta
        moved_images_QD = images_QD + self.parameters.image * change_QD
        moved_texts_QD = without_QD + self.parameters.text * change_QD
        return ((1 - beta) * moved_images_QD + beta * moved_texts_QD).astype(np.float32)
