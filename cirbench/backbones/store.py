"""The feature store: rows kept by content, in shards that are written once and verified.

A shard is a safetensors file with two tensors, "content" (N, 32) uint8, the sha256 of each item, and "features" (N, D)
float32, or float16 where a space says so; its header names the space, and the batch size, device and versions it was
computed with.

One folder per `FeatureSpace` (everything that fixes what a row means), and in it only whole, immutable shards:

    <root>/<space digest>/space.json             what the folder holds, for people
    <root>/<space digest>/<sha256>.safetensors   a shard, under the checksum of its bytes

The checksum is checked before rows are read from a shard for the first time, and again if the file changes. The index
is derived from the shards, so there is no shared file to keep right: a killed process leaves at most a temporary file,
two processes write shards side by side, and equal shards land on one name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import math
import time
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from cirbench.errors import CorruptFile
from cirbench.support.console import typed
from cirbench.support.files import cache_root, digest, hold_shared, lock_of, sha256_of_file, write_bytes, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cirbench.backbones.interface import BackboneIdentity

Tower = Literal["image", "text"]
Precision = Literal["float32", "float16"]
SCHEMA = 1


@dataclasses.dataclass(frozen=True, slots=True)
class FeatureSpace:
    """What fixes the meaning of a row besides the item itself.

    Attributes:
        backbone: The identity of the model, its preprocessing and precision included.
        tower: Which of its towers.
        dim: D, the length of a row; it follows from the backbone.
    """

    backbone: BackboneIdentity
    tower: Tower
    dim: int

    @property
    def digest(self) -> str:
        """Sha256 over schema, backbone and tower; the backbone's name is not part of it."""
        return digest({"schema": SCHEMA, "backbone": self.backbone.digest, "tower": self.tower})


@dataclasses.dataclass(frozen=True, slots=True)
class OwnSpace:
    """What fixes the meaning of a row that a method makes of its own, from a backbone and an item.

    Attributes:
        backbone: The identity of the model.
        owner: What makes the row, for people.
        recipe: Sha256 of everything else that decides it.
        dim: The length of a row; it follows from the others.
        precision: In which rows are kept; they are read as float32.
    """

    backbone: BackboneIdentity
    owner: str
    recipe: str
    dim: int
    precision: Precision = "float32"

    @property
    def digest(self) -> str:
        """Sha256 over schema, backbone, owner and recipe; the backbone's name is not part of it."""
        own = {"owner": self.owner, "recipe": self.recipe}
        own |= {} if self.precision == "float32" else {"precision": self.precision}
        return digest({"schema": SCHEMA, "backbone": self.backbone.digest, **own})


Space = FeatureSpace | OwnSpace


class Rows(Protocol):
    """An (N, D) float32 matrix that is read as it is sliced; an array is one as well."""

    @property
    def shape(self) -> tuple[int, ...]:
        """N and D."""
        ...

    def __getitem__(self, rows: slice, /) -> NDArray[np.float32]:
        """Read the rows of a slice."""
        ...


class FeatureTable(Protocol):
    """Rows of one space by item content (sha256 in hex)."""

    def missing(self, contents: Sequence[str]) -> list[int]:
        """The positions in ``contents`` that have no row yet."""
        ...

    def write(self, contents: Sequence[str], features_ND: NDArray[np.float32], metadata: Mapping[str, str]) -> None:
        """Keep one row per content, and the metadata of how they were computed."""
        ...

    def rows(self, contents: Sequence[str]) -> Rows:
        """The rows in the order of ``contents``, (N, D); each must be there."""
        ...


class MemoryTable:
    """The rows of one space, for as long as the encoder lives."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._rows: dict[str, NDArray[np.float32]] = {}

    def missing(self, contents: Sequence[str]) -> list[int]:
        """The positions in ``contents`` that have no row yet."""
        return [position for position, content in enumerate(contents) if content not in self._rows]

    def write(self, contents: Sequence[str], features_ND: NDArray[np.float32], metadata: Mapping[str, str]) -> None:
        """Keep one row per content, rounded as on disk."""
        precision = self._space.precision if isinstance(self._space, OwnSpace) else "float32"
        self._rows.update(zip(contents, features_ND.astype(precision, copy=False), strict=True))

    def rows(self, contents: Sequence[str]) -> NDArray[np.float32]:
        """The rows in the order of ``contents``, (N, D)."""
        rows = [self._rows[content] for content in contents]
        return np.stack(rows).astype(np.float32) if rows else np.empty((0, self._space.dim), dtype=np.float32)


SUFFIX = ".safetensors"
_TYPES: Mapping[str, type[np.floating]] = {"F32": np.float32, "F16": np.float16}
_HEADER = "cirbench"


def keys(contents: Sequence[str]) -> NDArray[np.bytes_]:
    """The 32 bytes of each sha256 in hex, as an array that sorts and compares.

    Raises:
        ValueError: A content is not a sha256.
    """
    digests = [bytes.fromhex(content) for content in contents]
    if any(len(digest) != 32 for digest in digests):
        raise ValueError("The content of an item is the sha256 of what determines it, 64 hexadecimal digits.")
    return np.array(digests, dtype="S32")


def write_shard(
    folder: Path,
    contents: Sequence[str],
    features_ND: NDArray[np.float32],
    header: Mapping[str, str],
    precision: Precision = "float32",
) -> None:
    """Write one shard; it appears whole, under the sha256 of its bytes.

    Raises:
        CirbenchError: The disk is full, or the folder cannot be written.
    """
    from safetensors.numpy import save

    content_N32 = np.frombuffer(bytes.fromhex("".join(contents)), dtype=np.uint8).reshape(-1, 32)
    kept_ND = np.ascontiguousarray(features_ND, dtype=precision)
    # One key, because safetensors writes several in random order, and equal shards shall have equal bytes.
    about = {_HEADER: json.dumps(dict(header), sort_keys=True)}
    file = save({"content": np.asarray(content_N32), "features": np.asarray(kept_ND)}, about)
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
        raise CorruptFile(f"The feature shard {path} belongs to another backbone.", hint=f"Remove it: rm {typed(path)}")
    found: NDArray[np.bytes_] = content_N32.view("S32").reshape(-1)
    return found


_READ_BYTES = 8192
"""To begin another read takes as long as to go on reading so many bytes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """Where the features of a shard are in its file."""

    path: Path
    start: int
    shape: tuple[int, ...]
    dtype: np.dtype[np.floating]

    def read(self, rows_n: NDArray[np.int32]) -> NDArray[np.floating]:
        """Read some rows: runs of neighbours at once, or all from the first to the last where the runs are many.

        In a memory map almost every row would cost a page fault.

        Raises:
            CorruptFile: The file has gone, or ends too early.
        """
        size = self.dtype.itemsize * math.prod(self.shape[1:])
        starts = np.flatnonzero(np.diff(rows_n, prepend=-2) != 1).tolist()
        if len(starts) > 1:
            first, last = int(rows_n.min()), int(rows_n.max())
            if len(starts) * _READ_BYTES > (last + 1 - first) * size:
                return self.read(np.arange(first, last + 1, dtype=np.int32))[rows_n - first]
        found_nD = np.empty((len(rows_n), *self.shape[1:]), self.dtype)
        try:
            with self.path.open("rb", buffering=0) as file:
                for start, stop in itertools.pairwise([*starts, len(rows_n)]):
                    file.seek(self.start + int(rows_n[start]) * size)
                    if file.readinto(found_nD[start:stop].data) != (stop - start) * size:
                        raise _damaged(self.path)
        except OSError as error:
            raise _damaged(self.path) from error
        return found_nD


def read_features(path: Path) -> Stored:
    """Check a shard against its name, and find its features.

    Raises:
        CorruptFile: The shard is not the one that was written.
    """
    try:
        if sha256_of_file(path) != path.name.removesuffix(SUFFIX):
            raise _damaged(path)
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            features = json.loads(file.read(length))["features"]
    except OSError as error:
        raise _damaged(path) from error
    dtype = np.dtype(_TYPES[features["dtype"]])
    return Stored(path, 8 + length + features["data_offsets"][0], tuple(features["shape"]), dtype)


def _damaged(path: Path) -> CorruptFile:
    return CorruptFile(
        f"The feature shard {path} is damaged: its content does not match its checksum.",
        hint=f"Remove it and run again; its items are encoded again: rm {typed(path)}",
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


_STALE_SECONDS = 24 * 3600


def default_store() -> FeatureStore:
    """The store under ``CIRBENCH_CACHE``, or under the user's cache directory."""
    return FeatureStore(cache_root() / "features")


@dataclasses.dataclass(frozen=True)
class FeatureStore:
    """Features of every backbone under one folder, shared by all methods and processes."""

    root: Path

    def table(self, space: Space) -> StoredTable:
        """Open the rows of one space."""
        return StoredTable(self.root / space.digest, space)


class StoredTable:
    """The rows of one space on disk."""

    def __init__(self, folder: Path, space: Space) -> None:
        self.folder = folder
        self.space = space
        self._shards: list[Path] = []
        self._index = Index()
        self._checked: dict[Path, tuple[tuple[int, int, int], Stored]] = {}
        self._held = False

    def missing(self, contents: Sequence[str]) -> list[int]:
        """The positions in ``contents`` that have no row yet, in this process or any other's finished shards.

        Raises:
            CorruptFile: A shard is damaged so that it cannot be opened.
        """
        self._refresh()
        shards, _ = self._index.find(keys(contents))
        return [int(position) for position in np.flatnonzero(shards < 0)]

    def write(self, contents: Sequence[str], features_ND: NDArray[np.float32], metadata: Mapping[str, str]) -> None:
        """Add a shard; it is there whole when this returns.

        Raises:
            CirbenchError: The disk is full, or the folder cannot be written.
        """
        if not (self.folder / "space.json").is_file():
            write_json(self.folder / "space.json", {"schema": SCHEMA, **dataclasses.asdict(self.space)})
        self._sweep()
        header = {"schema": str(SCHEMA), "space": self.space.digest, **metadata}
        precision = self.space.precision if isinstance(self.space, OwnSpace) else "float32"
        write_shard(self.folder, contents, features_ND, header, precision)

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

    def shard(self, shard: Path) -> Stored:
        """Where the rows of a shard are, checked against its name once, and again if the file is no longer the same.

        Raises:
            CorruptFile: The shard is damaged.
        """
        try:
            status = shard.stat()
        except OSError as error:
            raise _damaged(shard) from error
        state = (status.st_size, status.st_mtime_ns, status.st_ino)
        known = self._checked.get(shard)
        if known is None or known[0] != state:
            known = self._checked[shard] = state, read_features(shard)
        return known[1]

    def _refresh(self) -> None:
        """Take in the shards that were added since; start over where one was removed."""
        if not self._held and self.folder.is_dir():  # nobody shall remove what is being read
            hold_shared(lock_of(self.folder), self)
            self._held = True
        present = set(self.folder.glob(f"[0-9a-f]*{SUFFIX}"))
        if not present.issuperset(self._shards):
            self._shards, self._index = [], Index()
            self._checked.clear()
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
    """Rows on disk. A slice needs the memory of its result, and reads of each shard what it holds of it."""

    _table: StoredTable
    _shards: tuple[Path, ...]
    _shard_N: NDArray[np.int32]
    _row_N: NDArray[np.int32]

    @property
    def shape(self) -> tuple[int, int]:
        """N and D."""
        return len(self._shard_N), self._table.space.dim

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """Always float32."""
        return np.dtype(np.float32)

    def __len__(self) -> int:
        return len(self._shard_N)

    def __getitem__(self, rows: slice, /) -> NDArray[np.float32]:
        shard_n, row_n = self._shard_N[rows], self._row_N[rows]
        features_nD = np.empty((len(shard_n), self._table.space.dim), dtype=np.float32)
        by_shard = np.argsort(shard_n, kind="stable")
        for wanted in np.split(by_shard, 1 + np.flatnonzero(np.diff(shard_n[by_shard]))):
            if len(wanted):
                features_nD[wanted] = self._table.shard(self._shards[shard_n[wanted[0]]]).read(row_n[wanted])
        return features_nD
