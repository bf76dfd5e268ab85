"""An encoder is a backbone with a memory: raw features as numpy arrays, each item encoded once.

The rule that makes features reproducible to the byte: every forward pass has a fixed shape. Batches have
`Encoder.batch_size` rows, the last one is filled up with zeros, and texts share a batch only with texts of the same
padded length. A row therefore does not depend on how many items were asked for, on which of them were known already,
or on where a run was interrupted. (A forward pass in another shape differs in the last bits: about 3e-6 between batches
of 1 and 8.) The batch size belongs to no key: it is a function of the model and the kind of device unless it is given.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal

import numpy as np

from cirbench.features.store import FeatureSpace

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

    from cirbench.backbones.interface import Backbone
    from cirbench.datasets.protocol import ImageSource, Item
    from cirbench.features.store import FeatureStore, Shelf, Tower

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Opens a progress display for a description and a total; yields a function that advances it."""

SHARD = 2048
"""Items a shard, and so the most that a killed process loses."""


class Encoder:
    """A backbone with a memory.

    Attributes:
        backbone: What encodes.
        batch_size: Rows of every forward pass; see the module's docstring.
        truncated_texts: How many different texts were too long for the text tower and were cut.
    """

    def __init__(
        self,
        backbone: Backbone,
        store: FeatureStore | None,
        *,
        batch_size: int | Literal["auto"] = "auto",
        progress: Progress | None = None,
    ) -> None:
        self.backbone = backbone
        self.batch_size = _sensible_batch_size(backbone) if batch_size == "auto" else batch_size
        self._store = store
        self._progress = progress or _silent
        self._shelves: dict[Tower, Shelf] = {}
        self._cut: set[str] = set()

    @property
    def truncated_texts(self) -> int:
        """How many different texts were too long for the text tower and were cut."""
        return len(self._cut)

    def with_weights(self, weights: Path) -> Encoder:
        """The same encoder on other weights of the same architecture."""
        return Encoder(
            self.backbone.with_weights(weights), self._store, batch_size=self.batch_size, progress=self._progress
        )

    def images(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """Encode images, (N, D), not normalised; equal content is encoded once, ever.

        Raises:
            MissingData: An image is absent or cannot be decoded.
            CorruptFile: Kept features are damaged.
        """
        contents = [item.image.content for item in items]
        sources = dict(zip(contents, (item.image for item in items), strict=True))
        shelf = self._fill("image", list(sources), lambda wanted: self._encode_images([sources[c] for c in wanted]))
        return self._gather(shelf, contents)

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode texts, (N, D), not normalised; over-long ones are cut, keeping the end token, and counted.

        Raises:
            CorruptFile: Kept features are damaged.
        """
        contents = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
        by_content = dict(zip(contents, texts, strict=True))
        different = list(by_content.values())
        self._cut.update(text for text, cut in zip(different, self.backbone.overlong(different), strict=True) if cut)
        shelf = self._fill("text", list(by_content), lambda wanted: self._encode_texts([by_content[c] for c in wanted]))
        return self._gather(shelf, contents)

    def _shelf(self, tower: Tower) -> Shelf:
        if tower not in self._shelves:
            space = FeatureSpace(self.backbone.identity, tower)
            self._shelves[tower] = _MemoryShelf() if self._store is None else self._store.shelf(space)
        return self._shelves[tower]

    def _fill(
        self, tower: Tower, contents: Sequence[str], encode: Callable[[Sequence[str]], Iterator[NDArray[np.float32]]]
    ) -> Shelf:
        """Encode what the shelf lacks, a shard at a time."""
        shelf = self._shelf(tower)
        missing = [contents[position] for position in shelf.missing(contents)]
        if missing:
            with self._progress(f"Encoding {tower}s", len(missing)) as advance:
                for start in range(0, len(missing), SHARD):
                    wanted = missing[start : start + SHARD]
                    features = []
                    for rows in encode(wanted):
                        features.append(rows)
                        advance(len(rows))
                    shelf.write(wanted, np.concatenate(features))
        return shelf

    def _gather(self, shelf: Shelf, contents: Sequence[str]) -> NDArray[np.float32]:
        return shelf.read(contents) if contents else np.empty((0, self.backbone.dim), dtype=np.float32)

    def _encode_images(self, sources: Sequence[ImageSource]) -> Iterator[NDArray[np.float32]]:
        import torch

        size = self.backbone.image_size
        with torch.inference_mode(), _decoders(self.backbone.device) as decode:
            pixels = decode(lambda source: self.backbone.preprocess(source.open()), sources)
            for start in range(0, len(sources), self.batch_size):
                count = min(self.batch_size, len(sources) - start)
                batch_B3SS = torch.zeros((self.batch_size, 3, size, size))
                for row in range(count):
                    batch_B3SS[row] = next(pixels)
                yield self.backbone.encode_images(batch_B3SS)[:count].cpu().numpy()

    def _encode_texts(self, texts: Sequence[str]) -> Iterator[NDArray[np.float32]]:
        import torch

        with torch.inference_mode():
            tokens_NL = self.backbone.tokenize(texts)
            lengths_N = self.backbone.token_lengths(tokens_NL)
            features_ND = np.empty((len(texts), self.backbone.dim), dtype=np.float32)
            for length in np.unique(lengths_N):
                same = np.flatnonzero(lengths_N == length)
                for start in range(0, len(same), self.batch_size):
                    rows = same[start : start + self.batch_size]
                    batch_BL = tokens_NL[np.resize(rows, self.batch_size)]
                    features_ND[rows] = self.backbone.encode_tokens(batch_BL)[: len(rows)].cpu().numpy()
            yield features_ND


class _MemoryShelf:
    """Rows that live as long as the encoder."""

    def __init__(self) -> None:
        self._rows: dict[str, NDArray[np.float32]] = {}

    def missing(self, contents: Sequence[str]) -> list[int]:
        return [position for position, content in enumerate(contents) if content not in self._rows]

    def write(self, contents: Sequence[str], features_ND: NDArray[np.float32]) -> None:
        self._rows.update(zip(contents, features_ND, strict=True))

    def read(self, contents: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([self._rows[content] for content in contents])


@contextlib.contextmanager
def _decoders(
    device: torch.device,
) -> Iterator[Callable[[Callable[[ImageSource], torch.Tensor], Sequence[ImageSource]], Iterator[torch.Tensor]]]:
    """A `map` that works ahead in threads where a GPU waits for images; on the CPU the cores are busy already."""
    if device.type == "cpu":
        yield map
        return
    pool = ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1))
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _silent(description: str, total: int) -> Iterator[Callable[[int], None]]:
    yield lambda amount: None


def _sensible_batch_size(backbone: Backbone) -> int:
    """Rows of a forward pass: 256 on a GPU; on a CPU, where a few rows fill the caches, fewer the larger the images."""
    if backbone.device.type != "cpu":
        return 256
    patches = (backbone.image_size / 16) ** 2
    return int(np.clip(2 ** round(np.log2(4096 / patches)), 8, 128))
