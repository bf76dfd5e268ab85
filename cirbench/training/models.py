"""A CLIP of one's own design, before its training: a model folder with random weights."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from cirbench.backbones import load_backbone
from cirbench.backbones.catalogue import CONFIG_FILE
from cirbench.backbones.interface import quietly
from cirbench.backbones.source import MERGES_FILE, WEIGHTS_FILE, resolve
from cirbench.errors import MissingData, UsageError
from cirbench.support.files import write_bytes

if TYPE_CHECKING:
    from cirbench.backbones.interface import Backbone


def random_backbone(design: Path, *, seed: int, device: str) -> Backbone:
    """Build the model that a folder describes, its weights drawn from ``seed``.

    Args:
        design: A folder with ``open_clip_config.json`` and, for a tokenizer of its own, ``merges.txt.gz``; or the path
            of such a configuration. Weights in it are left alone.
        seed: Of the weights.
        device: Where it shall run.

    Raises:
        MissingData: There is no such folder.
        CorruptFile: The configuration describes no model.
        UsageError: It is not a configuration, or does not state its activation.
    """
    design = design_folder(design)
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
        raise UsageError(f"{design / CONFIG_FILE} does not state its activation.", hint='Add "activation": "gelu".')
    copy_design(design, folder)
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
    if not (folder / CONFIG_FILE).is_file() or (design.is_file() and design.name != CONFIG_FILE):
        raise MissingData(f"{design} describes no model: a folder with {CONFIG_FILE} is needed.")
    return folder.resolve()


def copy_design(design: Path, folder: Path) -> None:
    """Copy what describes a model, without its weights, into another folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (CONFIG_FILE, MERGES_FILE):
        if (design / name).is_file():
            with contextlib.suppress(shutil.SameFileError):
                shutil.copyfile(design / name, folder / name)
