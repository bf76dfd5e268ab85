"""Shards: whole, immutable files of features, each named after its own checksum.

A shard is a safetensors file with two tensors, "content" (N, 32) uint8, the sha256 of each item, and "features" (N, D)
float32; its header tells the space and the circumstances it was computed in.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np

from cirbench.errors import CorruptFile
from cirbench.files import write_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

SUFFIX = ".safetensors"
_HEADER = "cirbench"


def keys(contents: Sequence[str]) -> NDArray[np.bytes_]:
    """The 32 bytes of each sha256 in hex, as an array that sorts and compares.

    Raises:
        ValueError: A content is no sha256.
    """
    digests = [bytes.fromhex(content) for content in contents]
    if any(len(digest) != 32 for digest in digests):
        raise ValueError("The content of an item is the sha256 of what determines it, 64 hexadecimal digits.")
    return np.array(digests, dtype="S32")


def write_shard(
    folder: Path, contents: Sequence[str], features_ND: NDArray[np.float32], header: Mapping[str, str]
) -> None:
    """Write one shard; it appears whole, under the sha256 of its bytes.

    Raises:
        CirbenchError: The disk is full, or the folder cannot be written.
    """
    from safetensors.numpy import save

    content_N32 = np.frombuffer(bytes.fromhex("".join(contents)), dtype=np.uint8).reshape(-1, 32)
    features_ND = np.ascontiguousarray(features_ND, dtype=np.float32)
    # One key, because safetensors writes several in random order, and equal shards shall have equal bytes.
    about = {_HEADER: json.dumps(dict(header), sort_keys=True)}
    file = save({"content": np.asarray(content_N32), "features": np.asarray(features_ND)}, about)
    write_bytes(folder / f"{hashlib.sha256(file).hexdigest()}{SUFFIX}", file)


def read_keys(path: Path, space: str) -> NDArray[np.bytes_]:
    """The keys of a shard, (N,); its features are not read, so its checksum is not checked.

    Raises:
        CorruptFile: The shard cannot be opened, or belongs to another space.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as shard:
            content_N32 = np.ascontiguousarray(shard.get_tensor("content"))
            its_space = json.loads(shard.metadata()[_HEADER])["space"]
    except (SafetensorError, OSError, LookupError, TypeError, ValueError) as error:
        raise _damaged(path) from error
    if its_space != space:
        raise CorruptFile(f"The feature shard {path} belongs to another backbone.", hint=f"Remove it: rm {path}")
    found: NDArray[np.bytes_] = content_N32.view("S32").reshape(-1)
    return found


def read_features(path: Path) -> NDArray[np.float32]:
    """The features of a shard, (N, D).

    Raises:
        CorruptFile: The shard is not the one that was written.
    """
    from safetensors.numpy import load

    try:
        file = path.read_bytes()
    except OSError as error:
        raise _damaged(path) from error
    if hashlib.sha256(file).hexdigest() != path.name.removesuffix(SUFFIX):
        raise _damaged(path)
    features_ND: NDArray[np.float32] = load(file)["features"]
    return features_ND


def _damaged(path: Path) -> CorruptFile:
    return CorruptFile(
        f"The feature shard {path} is damaged: its content does not match its checksum.",
        hint=f"Remove it and run again; its items are encoded anew: rm {path}",
    )


class Index:
    """Content → shard and row, in sorted arrays: 40 bytes an item."""

    def __init__(self) -> None:
        self._keys = np.empty(0, dtype="S32")
        self._shards = np.empty(0, dtype=np.int32)
        self._rows = np.empty(0, dtype=np.int32)
        self._new: list[tuple[int, NDArray[np.bytes_]]] = []

    def add(self, shard: int, keys: NDArray[np.bytes_]) -> None:
        """Take in the keys of a shard, in the order of its rows."""
        self._new.append((shard, keys))

    def find(self, keys: NDArray[np.bytes_]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The shard and row of each key; shard -1 where there is none."""
        self._merge()
        if not len(self._keys):
            return np.full(len(keys), -1, dtype=np.int32), np.zeros(len(keys), dtype=np.int32)
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[at] == keys, self._shards[at], np.int32(-1)), self._rows[at]

    def _merge(self) -> None:
        if not self._new:
            return
        keys = np.concatenate([self._keys, *(keys for _, keys in self._new)])
        shards = np.concatenate([self._shards, *(np.full(len(k), shard, np.int32) for shard, k in self._new)])
        rows = np.concatenate([self._rows, *(np.arange(len(k), dtype=np.int32) for _, k in self._new)])
        order = np.argsort(keys, kind="stable")
        self._keys, self._shards, self._rows = keys[order], shards[order], rows[order]
        self._new.clear()
