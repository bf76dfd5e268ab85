"""A content-addressed store of features: encode once, whoever asks, and notice damage.

One folder per `FeatureSpace` (everything that fixes what a row means), and in it only whole, immutable shards:

    <root>/<space digest>/space.json             what the folder holds, for people
    <root>/<space digest>/<sha256>.safetensors   a shard, under the checksum of its bytes

The checksum is checked whenever rows are read. The index is derived from the shards, so there is no shared file to keep
right: a killed process leaves at most a temporary file, two processes write shards side by side, and equal shards land
on one name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cirbench.features.shards import SUFFIX, Index, keys, read_features, read_keys, write_shard
from cirbench.features.space import SCHEMA
from cirbench.files import write_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from cirbench.features.space import Space

_STALE_SECONDS = 24 * 3600
_SHARDS_IN_MEMORY = 4


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

    def shelf(self, space: Space) -> StoredShelf:
        """Open the rows of one space."""
        return StoredShelf(self.root / space.digest, space)


class StoredShelf:
    """The rows of one space on disk."""

    def __init__(self, folder: Path, space: Space) -> None:
        self.folder = folder
        self.space = space
        self._shards: list[Path] = []
        self._index = Index()
        self._recent: OrderedDict[Path, NDArray[np.float32]] = OrderedDict()

    def missing(self, contents: Sequence[str]) -> list[int]:
        """The positions in ``contents`` that have no row yet, in this process or any other's finished shards.

        Raises:
            CorruptFile: A shard is damaged so that it cannot be opened.
        """
        self._refresh()
        shards, _ = self._index.find(keys(contents))
        return [int(position) for position in np.flatnonzero(shards < 0)]

    def write(
        self, contents: Sequence[str], features_ND: NDArray[np.float32], circumstances: Mapping[str, str]
    ) -> None:
        """Add a shard; it is there whole when this returns.

        Raises:
            CirbenchError: The disk is full, or the folder cannot be written.
        """
        if not (self.folder / "space.json").is_file():
            write_json(self.folder / "space.json", {"schema": SCHEMA, **dataclasses.asdict(self.space)})
        self._sweep()
        header = {"schema": str(SCHEMA), "space": self.space.digest, **circumstances}
        write_shard(self.folder, contents, features_ND, header)

    def rows(self, contents: Sequence[str]) -> StoredRows:
        """The rows in the order of ``contents``, (N, D), read from disk as they are sliced.

        Raises:
            KeyError: A content has no row.
        """
        self._refresh()
        shards, rows = self._index.find(keys(contents))
        if (shards < 0).any():
            raise KeyError(contents[int(np.argmin(shards))])
        return StoredRows(self, tuple(self._shards), shards, rows)

    def features(self, shard: Path) -> NDArray[np.float32]:
        """The rows of a shard, checked against its name; the last few are kept for slices that walk through them.

        Raises:
            CorruptFile: The shard is damaged.
        """
        if shard not in self._recent:
            self._recent[shard] = read_features(shard)
            if len(self._recent) > _SHARDS_IN_MEMORY:
                self._recent.popitem(last=False)
        self._recent.move_to_end(shard)
        return self._recent[shard]

    def _refresh(self) -> None:
        """Take in the shards that were added since; start anew where one was removed."""
        present = set(self.folder.glob(f"[0-9a-f]*{SUFFIX}"))
        if not present.issuperset(self._shards):
            self._shards, self._index = [], Index()
            self._recent.clear()
        for path in sorted(present.difference(self._shards)):
            self._index.add(len(self._shards), read_keys(path, self.space.digest))
            self._shards.append(path)

    def _sweep(self) -> None:
        """Remove what killed processes left, old enough that no living one writes it."""
        for path in self.folder.glob(".*.part"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                    path.unlink()


@dataclasses.dataclass(frozen=True, eq=False)
class StoredRows:
    """Rows on disk. A slice needs the memory of its result and of a few shards, whatever the size of the whole."""

    _shelf: StoredShelf
    _shards: tuple[Path, ...]
    _shard_N: NDArray[np.int32]
    _row_N: NDArray[np.int32]

    @property
    def shape(self) -> tuple[int, int]:
        """N and D."""
        return len(self._shard_N), self._shelf.space.dim

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """Always float32."""
        return np.dtype(np.float32)

    def __len__(self) -> int:
        return len(self._shard_N)

    def __getitem__(self, rows: slice, /) -> NDArray[np.float32]:
        shard_n, row_n = self._shard_N[rows], self._row_N[rows]
        features_nD = np.empty((len(shard_n), self._shelf.space.dim), dtype=np.float32)
        for shard in np.unique(shard_n):
            wanted = np.flatnonzero(shard_n == shard)
            features_nD[wanted] = self._shelf.features(self._shards[shard])[row_n[wanted]]
        return features_nD
