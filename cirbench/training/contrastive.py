"""Contrastive losses over all processes, and pre-training of a CLIP (Radford et al., ICML 2021, figure 3).

The objective and its recipe follow Radford et al., ICML 2021: figure 3 and section 2.5.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, cast

import torch
from torch import distributed
from torch.nn import functional

from cirbench.backbones import load_backbone
from cirbench.backbones.hub import OPEN_CLIP_CONFIG
from cirbench.backbones.interface import quietly
from cirbench.backbones.openclip import MERGES_FILE, WEIGHTS_FILE, resolve
from cirbench.errors import MissingData, UsageError
from cirbench.support.distributed import get_context
from cirbench.support.files import write_bytes
from cirbench.training.interface import CLIP, TrainingParameters
from cirbench.training.train import Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from cirbench.backbones.interface import Backbone
    from cirbench.training.data import Source
    from cirbench.training.interface import Batch

P = ParamSpec("P")


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


CLIP_TRAINING = TrainingParameters(
    steps=600, batch_size=256, lr=1e-3, weight_decay=0.1, decay="matrices", schedule="cosine", warmup=50
)
"""The parameters that are not set."""

MAX_SCALE = 100.0
"""The logit scale is kept from growing beyond this (section 2.5)."""


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


_DESIGN = (OPEN_CLIP_CONFIG, MERGES_FILE)
"""The files that describe a model."""


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
    import torch
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
