"""A content-addressed store of features: encode once, whoever asks, and notice damage.

One folder per `FeatureSpace` (everything that fixes what a row means), and in it only whole, immutable shards:

    <root>/<space digest>/space.json             what the folder holds, for people
    <root>/<space digest>/<sha256>.safetensors   "content" (N, 32) uint8: sha256 of each item; "features" (N, D) float32

A shard is named after the sha256 of its bytes, which is checked whenever rows are read from it. The index is derived
from the shards, so there is no shared file to keep right: a killed process leaves at most a temporary file, two
processes write shards side by side, and equal shards land on one name.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from cirbench.errors import CorruptFile
from cirbench.files import digest, write_bytes, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cirbench.backbones.interface import BackboneIdentity

Tower = Literal["image", "text"]
SCHEMA = 1
_STALE_SECONDS = 24 * 3600


@dataclasses.dataclass(frozen=True, slots=True)
class FeatureSpace:
    """What fixes the meaning of a row besides the item itself."""

    backbone: BackboneIdentity
    tower: Tower

    @property
    def digest(self) -> str:
        """Sha256 over schema, backbone and tower; the backbone's name is no part of it."""
        return digest({"schema": SCHEMA, "backbone": self.backbone.digest, "tower": self.tower})


class Shelf(Protocol):
    """Rows of one space by item content (sha256 in hex)."""

    def missing(self, contents: Sequence[str]) -> list[int]:
        """The positions in ``contents`` that have no row yet."""
        ...

    def write(self, contents: Sequence[str], features_ND: NDArray[np.float32]) -> None:
        """Keep one row per content."""
        ...

    def read(self, contents: Sequence[str]) -> NDArray[np.float32]:
        """Gather rows in the order of ``contents``, (N, D); each must be there."""
        ...


def default_store() -> FeatureStore:
    """The store under ``CIRBENCH_CACHE``, or under the user's cache directory."""
    return FeatureStore(cache_root() / "features")


def cache_root() -> Path:
    """The folder of everything that can be computed again."""
    import platformdirs

    chosen = os.environ.get("CIRBENCH_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("cirbench", appauthor=False))


@dataclasses.dataclass(frozen=True)
class FeatureStore:
    """Features of every backbone under one folder, shared by all methods and processes."""

    root: Path

    def shelf(self, space: FeatureSpace) -> StoredShelf:
        """Open the rows of one space."""
        return StoredShelf(self.root / space.digest, space)


class StoredShelf:
    """The rows of one space on disk."""

    def __init__(self, folder: Path, space: FeatureSpace) -> None:
        self.folder = folder
        self._space = space
        self._shards: list[Path] = []
        self._index = _Index()
        self._last: tuple[int, NDArray[np.float32]] | None = None

    def missing(self, contents: Sequence[str]) -> list[int]:
        """The positions in ``contents`` that have no row yet, in this process or any other's finished shards."""
        self._refresh()
        shards, _ = self._index.find(_keys(contents))
        return np.flatnonzero(shards < 0).tolist()

    def write(self, contents: Sequence[str], features_ND: NDArray[np.float32]) -> None:
        """Add a shard; it is there whole when this returns.

        Raises:
            CirbenchError: The disk is full, or the folder cannot be written.
        """
        from safetensors.numpy import save

        if not (self.folder / "space.json").is_file():
            fields = dataclasses.asdict(self._space.backbone)
            write_json(self.folder / "space.json", {"schema": SCHEMA, "backbone": fields, "tower": self._space.tower})
            self._sweep()
        keys_N32 = np.frombuffer(bytes.fromhex("".join(contents)), dtype=np.uint8).reshape(-1, 32)
        metadata = {"schema": str(SCHEMA), "space": self._space.digest}
        content = save({"content": keys_N32, "features": np.ascontiguousarray(features_ND)}, metadata)
        write_bytes(self.folder / f"{hashlib.sha256(content).hexdigest()}.safetensors", content)

    def read(self, contents: Sequence[str]) -> NDArray[np.float32]:
        """Gather rows in the order of ``contents``, (N, D).

        Raises:
            CorruptFile: A shard is damaged.
            KeyError: A content has no row.
        """
        return self.rows(contents)[:]

    def rows(self, contents: Sequence[str]) -> FeatureRows:
        """Rows in the order of ``contents`` that are read from disk as they are sliced.

        Raises:
            KeyError: A content has no row.
        """
        self._refresh()
        shards, rows = self._index.find(_keys(contents))
        if len(shards) and shards.min() < 0:
            raise KeyError(contents[int(np.argmin(shards))])
        dim = self._features(int(shards[0])).shape[1] if len(shards) else 0
        return FeatureRows(self, shards, rows, dim)

    def _features(self, shard: int) -> NDArray[np.float32]:
        """The features of a shard, checked; the last one is kept, for slices that go through it in order."""
        if self._last is None or self._last[0] != shard:
            self._last = (shard, _checked_features(self._shards[shard]))
        return self._last[1]

    def _refresh(self) -> None:
        known = set(self._shards)
        for path in sorted(set(self.folder.glob("*.safetensors")) - known):
            self._index.add(len(self._shards), _contents(path))
            self._shards.append(path)

    def _sweep(self) -> None:
        """Remove what killed processes left, old enough that no living one writes it."""
        for path in self.folder.glob(".*.part"):
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                path.unlink(missing_ok=True)


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureRows:
    """An (N, D) float32 matrix on disk; slicing reads the rows asked for.

    ``rows[a:b]`` needs the memory of its result and of one shard.
    """

    _shelf: StoredShelf
    _shards: NDArray[np.int32]
    _rows: NDArray[np.int32]
    _dim: int

    @property
    def shape(self) -> tuple[int, int]:
        """N and D."""
        return len(self._shards), self._dim

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """Always float32."""
        return np.dtype(np.float32)

    def __len__(self) -> int:
        return len(self._shards)

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        shards, inside = self._shards[rows], self._rows[rows]
        out = np.empty((len(shards), self._dim), dtype=np.float32)
        for shard in np.unique(shards).tolist():
            wanted = shards == shard
            out[wanted] = self._shelf._features(shard)[inside[wanted]]
        return out


class _Index:
    """Content → shard and row, in sorted arrays: 40 bytes an item."""

    def __init__(self) -> None:
        self._keys = np.empty(0, dtype="S32")
        self._shards = np.empty(0, dtype=np.int32)
        self._rows = np.empty(0, dtype=np.int32)
        self._new: list[tuple[int, NDArray[np.bytes_]]] = []

    def add(self, shard: int, keys: NDArray[np.bytes_]) -> None:
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


def _keys(contents: Sequence[str]) -> NDArray[np.bytes_]:
    return np.frombuffer(bytes.fromhex("".join(contents)), dtype="S32")


def _contents(path: Path) -> NDArray[np.bytes_]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as shard:
            keys_N32 = shard.get_tensor("content")
    except (SafetensorError, OSError) as error:
        raise _damaged(path) from error
    return np.ascontiguousarray(keys_N32).view("S32").reshape(-1)


def _checked_features(path: Path) -> NDArray[np.float32]:
    from safetensors.numpy import load

    try:
        content = path.read_bytes()
    except OSError as error:
        raise _damaged(path) from error
    if hashlib.sha256(content).hexdigest() != path.stem:
        raise _damaged(path)
    features: NDArray[np.float32] = load(content)["features"]
    return features


def _damaged(path: Path) -> CorruptFile:
    return CorruptFile(
        f"The feature shard {path} is damaged: its content does not match its checksum.",
        hint=f"Remove it and run again; its items are encoded anew: rm {path}",
    )
