"""What the objectives on triplets share: the loss of retrieval, and features of frozen towers, each encoded once."""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from cirbench.backbones.encoder import Encoder
from cirbench.backbones.store import default_store
from cirbench.errors import MissingData
from cirbench.support.distributed import all_reduce_sum, get_context
from cirbench.training.contrastive import gather_rows, in_full_precision
from cirbench.training.data.triplets import caption_variants

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cirbench.backbones.interface import Backbone
    from cirbench.protocol import Item
    from cirbench.support.console import Display
    from cirbench.training.data import Source
    from cirbench.training.interface import Batch, TripletTraining


@in_full_precision
def composition_loss(
    queries_BD: torch.Tensor,
    targets_BD: torch.Tensor,
    scale: torch.Tensor | float,
    batch: Batch,
    parameters: TripletTraining,
    negatives_BKD: torch.Tensor | None = None,
) -> torch.Tensor:
    """The cross-entropy of scaled cosines from each query to its target, among those of all processes.

    Args:
        queries_BD: The composed queries.
        targets_BD: Their targets.
        scale: The factor of the cosines.
        batch: The triplets.
        parameters: Say what becomes of a target that the batch asks for several times.
        negatives_BKD: Further wrong answers of each query.
    """
    queries_BD = functional.normalize(queries_BD, dim=-1)
    logits_BX = queries_BD @ gather_rows(functional.normalize(targets_BD, dim=-1)).T
    if negatives_BKD is not None and negatives_BKD.shape[1]:
        negatives_BK = torch.einsum("bd,bkd->bk", queries_BD, functional.normalize(negatives_BKD, dim=-1))
        logits_BX = torch.cat([logits_BX, negatives_BK], dim=1)
    return target_loss(scale * logits_BX, batch, parameters)


def target_loss(logits_BX: torch.Tensor, batch: Batch, parameters: TripletTraining) -> torch.Tensor:
    """The cross-entropy from each query to its target, weighted by the triplets.

    Args:
        logits_BX: Scores of the targets of the whole batch, of all processes, and of any others behind them.
        batch: The triplets.
        parameters: Say what becomes of a target that the batch asks for several times.
    """
    own_B = torch.arange(batch.first, batch.first + len(logits_BX), device=logits_BX.device)
    if parameters.duplicates == "mask":
        logits_BX = logits_BX.masked_fill(other_occurrences(batch, own_B, logits_BX.shape[1]), -torch.inf)
    losses_B = functional.cross_entropy(logits_BX, own_B, reduction="none")
    weights = [triplet.weight for triplet in batch.triplets]
    (total,) = all_reduce_sum([sum(weights)])
    # The gradients of the processes are averaged, and these are to be summed.
    return (losses_B * losses_B.new_tensor(weights)).sum() * get_context().world_size / total


def other_occurrences(batch: Batch, own_B: torch.Tensor, columns: int) -> torch.Tensor:
    """Where another query of the whole batch has a query's target, (B, X)."""
    ids = [hashlib.sha256(triplet.target.id.encode()).digest()[:7] for triplet in batch.triplets]
    codes_B = torch.tensor([int.from_bytes(id) for id in ids], device=own_B.device)
    same_BT = codes_B[:, None] == gather_rows(codes_B)[None, :]
    same_BT[torch.arange(len(own_B)), own_B] = False
    return functional.pad(same_BT, (0, columns - same_BT.shape[1]))


class TripletFeatures:
    """Raw features of a source's references, targets, negatives and texts, for objectives on frozen towers.

    They go to the feature store, so that another training on the same triplets finds them.

    Args:
        backbone: What encodes; it is not changed.
        source: The triplets.
        parameters: Say which texts may be drawn.
        display: Shows the progress.

    Raises:
        MissingData: An image cannot be read.
    """

    def __init__(self, backbone: Backbone, source: Source, parameters: TripletTraining, display: Display) -> None:
        encoder = Encoder(backbone, default_store(), progress=display)
        items: dict[str, Item] = {}
        texts: dict[str, None] = {}
        for place, triplet in enumerate(source.triplets):
            if place in source.unusable:  # a step that meets it says so, or skips it
                continue
            negatives = triplet.negatives if parameters.negatives else ()
            items.update((item.id, item) for item in (triplet.reference, triplet.target, *negatives))
            with contextlib.suppress(MissingData):  # likewise
                variants = caption_variants(triplet.captions, parameters.captions, parameters.caption_form)
                texts.update(dict.fromkeys(variants))
        self._row_of_image = {name: row for row, name in enumerate(items)}
        self._row_of_text = {text: row for row, text in enumerate(texts)}
        self._images_MD = torch.from_numpy(encoder.images(list(items.values()))).to(backbone.device)
        self._texts_MD = torch.from_numpy(encoder.texts(list(texts))).to(backbone.device)

    def references(self, batch: Batch) -> torch.Tensor:
        """The references of a batch, (B, D)."""
        return self._images([triplet.reference for triplet in batch.triplets])

    def targets(self, batch: Batch) -> torch.Tensor:
        """Its targets, (B, D)."""
        return self._images([triplet.target for triplet in batch.triplets])

    def negatives(self, batch: Batch) -> torch.Tensor:
        """The negatives that were drawn, (B, K, D)."""
        rows_XD = self._images([item for triplet in batch.triplets for item in triplet.negatives])
        return rows_XD.reshape(len(batch.triplets), -1, self._images_MD.shape[1])

    def texts(self, batch: Batch) -> torch.Tensor:
        """The texts that were drawn, (B, D)."""
        return self._texts_MD[[self._row_of_text[text] for text in batch.captions]]

    def _images(self, items: Sequence[Item]) -> torch.Tensor:
        return self._images_MD[[self._row_of_image[item.id] for item in items]]
