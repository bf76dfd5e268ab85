"""A random, tiny Qwen3-VL with tokenizer and processor, as a model of embeddings and as one that answers."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

from cirbench.backbones import load_backbone
from cirbench.backbones.joint import JointSentenceBackbone, write_joint_model, write_vision_language_model


@functools.cache
def joint_model() -> Path:
    """The folder of the embedding model, which sentence-transformers loads; written once, and not to be changed."""
    return write_joint_model(_folder() / "joint")


@functools.cache
def joint_backbone() -> JointSentenceBackbone:
    """The embedding model as a backbone on the CPU, loaded once and not to be changed."""
    backbone = load_backbone(str(joint_model()), device="cpu")
    assert isinstance(backbone, JointSentenceBackbone)
    return backbone


@functools.cache
def vision_language_model() -> Path:
    """The folder of the model with its head over the vocabulary, in which "yes" and "no" are a token each."""
    return write_vision_language_model(_folder() / "answers")


@functools.cache
def _folder() -> Path:
    folder = tempfile.mkdtemp(prefix="tiny-qwen3vl-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
