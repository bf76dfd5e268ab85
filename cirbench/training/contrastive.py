"""Contrastive losses over all processes, of pairs and of triplets, and what else objectives share.

The pre-training of a CLIP, its objective and its recipe follow Radford et al., ICML 2021: figure 3 and section 2.5.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import math
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, cast

import torch
from torch import distributed
from torch.nn import functional

from cirbench.backbones import load_backbone
from cirbench.backbones.encoder import Encoder
from cirbench.backbones.hub import OPEN_CLIP_CONFIG
from cirbench.backbones.interface import quietly
from cirbench.backbones.openclip import MERGES_FILE, WEIGHTS_FILE, resolve
from cirbench.backbones.store import default_store
from cirbench.errors import MissingData, UsageError
from cirbench.support.distributed import all_reduce_sum, get_context
from cirbench.support.files import write_bytes
from cirbench.training.data.triplets import caption_variants
from cirbench.training.interface import CLIP, TrainingParameters
from cirbench.training.train import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cirbench.backbones.interface import Backbone
    from cirbench.protocol import Item
    from cirbench.support.console import Display
    from cirbench.training.data import Source
    from cirbench.training.interface import Batch, TripletTraining

P = ParamSpec("P")

CLIP_TRAINING = TrainingParameters(
    steps=600, batch_size=256, lr=1e-3, weight_decay=0.1, decay="matrices", schedule="cosine", warmup=50
)
"""The parameters of the pre-training of a CLIP, where none are set."""
MAX_SCALE = 100.0
"""The logit scale is kept from growing beyond this (section 2.5)."""
_DESIGN = (OPEN_CLIP_CONFIG, MERGES_FILE)
"""The files that describe a model."""


def gather_rows(rows_BD: torch.Tensor) -> torch.Tensor:
    """The rows of all processes in the order of the whole batch, (T, D); the same rows where there is one process.

    Gradients flow back to the process that a row came from, summed over all that used it. So where each process
    compares its own rows with those of all, its own being the rows from `Batch.first` on, and the gradients of the
    processes are averaged, the gradient is that of one process with the whole batch.
    """
    if get_context().world_size == 1:
        return rows_BD
    gathered: torch.Tensor = _Gather.apply(rows_BD)
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, rows_BD: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(rows_BD) for _ in range(get_context().world_size)]
        distributed.all_gather(parts, rows_BD.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, gradient_TD: torch.Tensor) -> torch.Tensor:
        summed_TD = gradient_TD.contiguous().clone()
        distributed.all_reduce(summed_TD)
        return summed_TD.chunk(get_context().world_size)[get_context().rank]


class Dropout(torch.nn.Dropout):
    """Dropout that is drawn for the whole batch, so that it is the same on one process and on many.

    All processes draw the same numbers in a step; with torch's own dropout, the rows of each would get those of the
    first rows. The first dimension of the input is this process's part of the batch.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Drop and scale as torch does."""
        if get_context().world_size == 1 or not self.training:
            return super().forward(input)
        rows, place = len(input), get_context()
        scales_T = super().forward(input.new_ones((rows * place.world_size, *input.shape[1:])))
        return input * scales_T[rows * place.rank : rows * (place.rank + 1)]


class BatchNorm(torch.nn.BatchNorm1d):
    """Batch normalisation over the whole batch, so that it is the same on one process and on many."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise rows, (B, C)."""
        if get_context().world_size == 1 or not self.training:
            return super().forward(input)
        rows, rank = len(input), get_context().rank
        return super().forward(gather_rows(input))[rows * rank : rows * (rank + 1)]


def in_full_precision(loss: Callable[P, torch.Tensor]) -> Callable[P, torch.Tensor]:
    """Compute a loss of features in fp32, also where the features were computed in bf16."""

    def widened(value: Any) -> Any:
        return value.float() if isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16 else value

    @functools.wraps(loss)
    def computed(*arguments: P.args, **named: P.kwargs) -> torch.Tensor:
        device = next(value.device for value in (*arguments, *named.values()) if isinstance(value, torch.Tensor))
        with torch.autocast(device.type, enabled=False):
            positional = [widened(value) for value in arguments]
            return loss(
                *cast("Any", positional), **cast("Any", {name: widened(value) for name, value in named.items()})
            )

    return computed


@in_full_precision
def contrastive_loss(images_BD: torch.Tensor, texts_BD: torch.Tensor, scale: torch.Tensor, first: int) -> torch.Tensor:
    """CLIP's loss: cosine similarities times ``scale``, cross-entropy over rows and over columns, averaged.

    The other images and texts are those of all processes; the ones here are theirs from ``first`` on.
    """
    images_BD, texts_BD = functional.normalize(images_BD, dim=-1), functional.normalize(texts_BD, dim=-1)
    images_TD, texts_TD = gather_rows(images_BD), gather_rows(texts_BD)
    own_B = torch.arange(first, first + len(images_BD), device=images_BD.device)
    to_texts = functional.cross_entropy(scale * images_BD @ texts_TD.T, own_B)
    return (to_texts + functional.cross_entropy(scale * texts_BD @ images_TD.T, own_B)) / 2


@in_full_precision
def nt_xent(ones_BD: torch.Tensor, others_BD: torch.Tensor, temperature: float, first: int = 0) -> torch.Tensor:
    """The loss of SimCLR (arXiv:2002.05709): each row has to find its partner among all rows of both kinds but itself.

    By cosines. The rows of all processes are compared; those of this process begin at ``first``.
    """
    sides = [functional.normalize(side_BD, dim=-1) for side_BD in (ones_BD, others_BD)]
    all_XD = torch.cat([gather_rows(side_BD) for side_BD in sides])
    count = len(all_XD) // 2
    own_B = torch.arange(first, first + len(ones_BD), device=all_XD.device)
    itself_Y, partner_Y = torch.cat([own_B, own_B + count]), torch.cat([own_B + count, own_B])
    logits_YX = torch.cat(sides) @ all_XD.T / temperature
    logits_YX = logits_YX.scatter(1, itself_Y[:, None], -torch.inf)
    return functional.cross_entropy(logits_YX, partner_Y)


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


class Contrastive:
    """Both towers and the temperature, trained to match images with their captions."""

    def __init__(self, backbone: Backbone, parameters: TrainingParameters) -> None:
        self.backbone = backbone
        self.module = backbone.model

    def loss(self, batch: Batch) -> torch.Tensor:
        """The symmetric cross-entropy of a batch."""
        images_BD = self.backbone.encode_images(batch.pixels_B3SS)
        texts_BD = self.backbone.encode_tokens(self.backbone.tokenize(batch.captions))
        log_scale = self.module.get_parameter("logit_scale")
        return contrastive_loss(images_BD, texts_BD, log_scale.clamp(max=math.log(MAX_SCALE)).exp(), batch.first)


def clip_request(design: Path, source: Source, parameters: TrainingParameters, *, device: str = "auto") -> Request:
    """Plan the pre-training of the model that a folder describes; its checkpoint is a model folder.

    Raises:
        MissingData: The folder describes no model.
        CorruptFile: The configuration describes no model.
        UsageError: It is not a valid configuration, or does not state its activation.
    """
    design = design_folder(design)
    return Request(
        method=CLIP,
        objective=Contrastive,
        parameters=parameters,
        backbone=random_backbone(design, seed=parameters.seed, device=device),
        source=source,
        weights_file=WEIGHTS_FILE,
        model_files=tuple(design / name for name in _DESIGN if (design / name).is_file()),
    )


def random_backbone(design: Path, *, seed: int, device: str) -> Backbone:
    """Build the model that a folder describes, with random weights.

    Args:
        design: A folder with ``open_clip_config.json`` and, for a tokenizer of its own, ``merges.txt.gz``; weights in
            it are left alone.
        seed: Random seed of the weights.
        device: Device it runs on.

    Raises:
        CorruptFile: The configuration describes no model.
        UsageError: It is not a valid configuration, or does not state its activation.
    """
    with tempfile.TemporaryDirectory(prefix="cirbench-") as folder:
        write_random_model(design, Path(folder), seed=seed)
        backbone = load_backbone(folder, device=device)
    backbone.identity = dataclasses.replace(backbone.identity, name=f"{design.name} with random weights")
    return backbone


def write_random_model(design: Path, folder: Path, *, seed: int) -> None:
    """Write a model folder with random weights; see `random_backbone`."""
    import open_clip
    from safetensors.torch import save

    source = resolve(str(design))
    activation = next((stated for stated in source.activation.values() if stated is not None), None)
    if activation is None:
        raise UsageError(
            f"{design / OPEN_CLIP_CONFIG} does not state its activation.", hint='Add "activation": "gelu".'
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name in _DESIGN:
        if (design / name).is_file():
            with contextlib.suppress(shutil.SameFileError):
                shutil.copyfile(design / name, folder / name)
    with quietly(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.create_model(source.spec, load_weights=False, quick_gelu=activation == "quick_gelu")
    write_bytes(folder / WEIGHTS_FILE, save(model.state_dict(), {"format": "pt"}))


def design_folder(design: Path) -> Path:
    """The folder of a design that was given as a folder or as its configuration file.

    Raises:
        MissingData: There is no configuration.
    """
    folder = design.parent if design.is_file() else design
    if not (folder / OPEN_CLIP_CONFIG).is_file() or (design.is_file() and design.name != OPEN_CLIP_CONFIG):
        raise MissingData(f"{design} describes no model: a folder with {OPEN_CLIP_CONFIG} is needed.")
    return folder.resolve()
