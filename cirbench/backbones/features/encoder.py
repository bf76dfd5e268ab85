"""An encoder is a backbone with a memory: raw features as numpy arrays, each item encoded once.

The rule that makes features reproducible to the byte: every forward pass has a fixed shape, and on a CPU one thread. A
batch has `Encoder.batch_size` rows and the last one is filled up; texts share a batch only with texts of the same
padded length; and several cores take a batch each, since threads that share a batch treat the rows at their borders
differently. So a row depends neither on what else was asked for, nor on what was known already, on where a run was
interrupted, or on the number of threads. (In another shape a row differs in the last bits, by about 3e-6 between
batches of 1 and 8.) The batch size is a function of the model and the kind of device, unless it is given, and each
shard records it; it is not part of the feature key.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
import PIL

from cirbench.backbones.features.store import FeatureSpace, MemoryShelf
from cirbench.backbones.text import PseudoWords
from cirbench.errors import CirbenchError, MissingData
from cirbench.support.console import silent
from cirbench.support.distributed import DistributedContext, barrier, broadcast_object, get_context

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

    from cirbench.backbones.features.store import FeatureStore, FeatureTable, OwnSpace, Rows, Space, Tower
    from cirbench.backbones.interface import Backbone
    from cirbench.backbones.text import Occurrences
    from cirbench.protocol import ImageSource, Item
    from cirbench.support.console import Display

Make = Callable[[list[str], Callable[[int], None]], "NDArray[np.float32]"]
"""Makes the rows of some contents, and tells how many more are done."""

S = TypeVar("S")
T = TypeVar("T")

SHARD = 2048
"""Items a shard, and so the most that a killed process loses."""


class Encoder:
    """A backbone with a memory.

    Attributes:
        backbone: What encodes.
        batch_size: Rows of every forward pass; see the module's docstring.

    Features are kept in a store, if one is given; those of other weights (`with_weights`) in another one, if that is
    given too. Processes that have joined (`cirbench.support.distributed`) share what is to be encoded into a store.
    """

    def __init__(
        self,
        backbone: Backbone,
        store: FeatureStore | None,
        *,
        batch_size: int | Literal["auto"] = "auto",
        progress: Display | None = None,
        tuned: FeatureStore | None = None,
    ) -> None:
        self.backbone = backbone
        self.batch_size = sensible_batch_size(backbone) if batch_size == "auto" else batch_size
        self._asked_batch_size = batch_size
        self._store = store
        self._tuned = tuned or store
        self._progress = progress or silent
        self._shelves: dict[str, FeatureTable] = {}
        self._cut: set[str] = set()

    @property
    def truncated_texts(self) -> int:
        """How many different texts were too long for the text tower and were cut."""
        return len(self._cut)

    def with_weights(self, weights: Path) -> Encoder:
        """The same encoder on other weights of the same architecture."""
        backbone = self.backbone.with_weights(weights)
        other = Encoder(backbone, self._tuned, batch_size=self._asked_batch_size, progress=self._progress)
        other._cut = self._cut  # counted together: it is one method that asks
        return other

    def images(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """Encode images, (N, D), not normalised; equal content is encoded once, ever.

        Raises:
            MissingData: An image is absent or cannot be decoded.
            CorruptFile: Kept features are damaged.
            CirbenchError: New features cannot be kept, or one batch does not fit into the device's memory.
        """
        return self.image_rows(items)[:]

    def image_rows(self, items: Sequence[Item]) -> Rows:
        """Encode images like `images`, and leave the rows where they are kept until they are sliced.

        For galleries larger than memory. Raises what `images` raises.
        """
        contents = [item.image.content for item in items]
        sources = dict(zip(contents, (item.image for item in items), strict=True))
        shelf = self._fill(
            self._space("image"),
            list(sources),
            lambda wanted, advance: self._retried(lambda: self._encode_images([sources[c] for c in wanted]), advance),
            title="Encoding images",
            shard=SHARD,
        )
        return shelf.rows(contents)

    def count_new(self, items: Sequence[Item]) -> int:
        """How many different images of ``items`` have no features yet."""
        return len(self._shelf(self._space("image")).missing(list({item.image.content for item in items})))

    def seconds_per_image(self) -> float:
        """Time one warm batch of blank images: a lower bound, since decoding is left out."""
        import torch

        size = self.backbone.image_size
        batch_B3SS = torch.zeros(self.batch_size, 3, size, size)
        with torch.inference_mode():
            for _ in range(2):
                started = time.perf_counter()
                self.backbone.encode_images(batch_B3SS).cpu()
        return (time.perf_counter() - started) / self.batch_size

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode texts, (N, D), not normalised; over-long ones are cut, keeping the end token, and counted.

        Raises:
            CorruptFile: Kept features are damaged.
            CirbenchError: New features cannot be kept, or one batch does not fit into the device's memory.
        """
        contents = [_content(text) for text in texts]
        different = dict(zip(contents, texts, strict=True))
        self._count_cut(list(different.values()))
        shelf = self._fill(
            self._space("text"),
            list(different),
            lambda wanted, advance: self._retried(lambda: self._encode_texts([different[c] for c in wanted]), advance),
            title="Encoding texts",
            shard=SHARD,
        )
        return shelf.rows(contents)[:]

    def composed(
        self, texts: Sequence[str], words_NE: NDArray[np.float32], occurrences: Occurrences = "first"
    ) -> NDArray[np.float32]:
        """Encode texts in each of which a word of its own stands for the placeholder, (N, D), not normalised.

        Nothing of it is kept: such words are a method's own. Over-long texts are cut and counted, as in `texts`.

        Raises:
            UsageError: The text tower cannot read pseudo-words, or a text has no placeholder.
        """
        import torch

        tower = PseudoWords(self.backbone)
        tokens_NL, words = tower.tokenize(texts), torch.from_numpy(words_NE)
        self._count_cut(texts)
        with self._progress("Encoding composed texts", len(texts)) as advance:
            return self.rowwise(
                lambda rows: tower(tokens_NL[rows], words[rows], occurrences), tower.lengths(tokens_NL), advance
            )

    def rowwise(
        self,
        compute: Callable[[NDArray[np.intp]], torch.Tensor],
        shapes_N: NDArray[np.int64],
        advance: Callable[[int], None] = lambda amount: None,
    ) -> NDArray[np.float32]:
        """Compute a row for each of N things, in passes of fixed shape; see the module's docstring.

        Args:
            compute: Turns the numbers of `batch_size` things, some of which may repeat, into their rows; without
                gradients.
            shapes_N: Equal for things that may share a pass.
            advance: Called with the number that is done.
        """
        import torch

        batches = [
            same[start : start + self.batch_size]
            for same in (np.flatnonzero(shapes_N == shape) for shape in np.unique(shapes_N))
            for start in range(0, len(same), self.batch_size)
        ]

        def one_pass(places: NDArray[np.intp]) -> NDArray[np.float32]:
            with torch.inference_mode():
                return compute(np.resize(places, self.batch_size))[: len(places)].cpu().numpy()

        on_cpu = self.backbone.device.type == "cpu"
        rows: list[NDArray[np.float32]] = []
        for computed in _one_thread_each(one_pass, batches) if on_cpu else map(one_pass, batches):
            rows.append(computed)
            advance(len(computed))
        return np.concatenate(rows)[np.argsort(np.concatenate(batches))]

    def _count_cut(self, texts: Sequence[str]) -> None:
        overlong = self.backbone.overlong(texts)
        self._cut.update(_content(text) for text, cut in zip(texts, overlong, strict=True) if cut)

    def own(
        self,
        space: OwnSpace,
        contents: Sequence[str],
        make: Make,
        *,
        shard: int,
    ) -> NDArray[np.float32]:
        """Return rows that a method makes of its own, (N, D), which are kept as features are: each is made once, ever.

        Args:
            space: What fixes their meaning.
            contents: Sha256 of what else decides each row.
            make: Makes the rows of some of ``contents``, and tells how many more are done; a row must not depend on
                the others.
            shard: How many are made before they are kept.

        Raises:
            CorruptFile: Kept rows are damaged.
            CirbenchError: New rows cannot be kept.
        """
        return self._fill(space, list(dict.fromkeys(contents)), make, title=space.owner, shard=shard).rows(contents)[:]

    def _space(self, tower: Tower) -> FeatureSpace:
        return FeatureSpace(self.backbone.identity, tower, self.backbone.dim)

    def _shelf(self, space: Space) -> FeatureTable:
        if space.digest not in self._shelves:
            self._shelves[space.digest] = MemoryShelf(space) if self._store is None else self._store.shelf(space)
        return self._shelves[space.digest]

    def _fill(self, space: Space, contents: Sequence[str], make: Make, *, title: str, shard: int) -> FeatureTable:
        """Make what the shelf lacks, a shard at a time, and keep it."""
        shelf = self._shelf(space)
        plan = _plan(shelf, contents, shard, together=self._store is not None)
        if plan.missing:
            with self._progress(title, sum(map(len, plan.own_shards))) as advance:
                for wanted in plan.own_shards:
                    shelf.write(wanted, make(wanted, advance), self._metadata())
            if plan.together:
                _await_others(shelf, plan)
        return shelf

    def _retried(
        self, encode: Callable[[], Iterator[NDArray[np.float32]]], advance: Callable[[int], None]
    ) -> NDArray[np.float32]:
        """Encode one shard; where the device's memory is too small, again in batches of half the size."""
        import torch

        while True:
            batches: list[NDArray[np.float32]] = []
            try:
                for rows_BD in encode():
                    batches.append(rows_BD)
                    advance(len(rows_BD))
                return np.concatenate(batches)
            except torch.OutOfMemoryError as error:
                if self._asked_batch_size != "auto" or self.batch_size == 1:
                    raise CirbenchError(
                        f"A batch of {self.batch_size} does not fit into the memory of {self.backbone.device}.",
                        hint="Use --batch-size auto, a smaller one, --precision bf16 or --device cpu.",
                    ) from error
                self.batch_size //= 2
                advance(-sum(map(len, batches)))

    def _encode_images(self, sources: Sequence[ImageSource]) -> Iterator[NDArray[np.float32]]:
        batches = [sources[start : start + self.batch_size] for start in range(0, len(sources), self.batch_size)]
        if self.backbone.device.type == "cpu":
            yield from _one_thread_each(lambda batch: self._forward(map(self._pixels, batch), len(batch)), batches)
            return
        workers = min(16, os.cpu_count() or 1)  # a GPU has to be fed
        with contextlib.closing(_ahead(self._pixels, sources, workers, 2 * self.batch_size)) as decoded:
            for batch in batches:
                yield self._forward(decoded, len(batch))

    def _pixels(self, source: ImageSource) -> torch.Tensor:
        return self.backbone.preprocess(source.open())

    def _forward(self, pixels: Iterator[torch.Tensor], count: int) -> NDArray[np.float32]:
        """Encode the next ``count`` images in a batch of the full size."""
        import torch

        size = self.backbone.image_size
        batch_B3SS = torch.zeros((self.batch_size, 3, size, size))
        for row in range(count):
            batch_B3SS[row] = next(pixels)
        with torch.inference_mode():
            return self.backbone.encode_images(batch_B3SS)[:count].cpu().numpy()

    def _encode_texts(self, texts: Sequence[str]) -> Iterator[NDArray[np.float32]]:
        tokens_NL = self.backbone.tokenize(texts)
        yield self.rowwise(
            lambda rows: self.backbone.encode_tokens(tokens_NL[rows]), self.backbone.token_lengths(tokens_NL)
        )

    def _metadata(self) -> dict[str, str]:
        """What could move the last bits of a feature, kept in each shard for whoever has to explain a difference."""
        import torch

        return {
            "batch_size": str(self.batch_size),
            "device": self.backbone.device.type,
            "torch": torch.__version__,
            "pillow": PIL.__version__,
        }


@dataclasses.dataclass(frozen=True)
class _Plan:
    """Which rows have to be made, and by whom.

    Attributes:
        missing: The contents that the shelf lacks, the same list in every process.
        own_shards: The share of this process.
        together: Whether the other processes make the rest. What is held in memory, every process makes whole.
    """

    missing: list[str]
    own_shards: list[list[str]]
    together: bool


def _plan(shelf: FeatureTable, contents: Sequence[str], shard: int, *, together: bool) -> _Plan:
    """Share the shards that one process alone would make, so that the store comes to hold the same bytes."""
    missing = [contents[position] for position in shelf.missing(contents)]
    context = get_context() if together else DistributedContext()
    if together:
        missing = broadcast_object(missing)
    shards = [missing[start : start + shard] for start in range(0, len(missing), shard)]
    return _Plan(missing, shards[context.rank :: context.world_size], together)


def _await_others(shelf: FeatureTable, plan: _Plan) -> None:
    barrier()
    if shelf.missing(plan.missing):
        raise MissingData(
            "What another process has encoded is not in the feature store of this one.",
            hint="Let CIRBENCH_CACHE be a folder that all machines share.",
        )


def sensible_batch_size(backbone: Backbone) -> int:
    """Rows of a forward pass: 256 on a GPU; on a CPU, where a few rows fill the caches, fewer the larger the images."""
    if backbone.device.type != "cpu":
        return 256
    patches = (backbone.image_size / 16) ** 2
    return int(np.clip(2 ** round(np.log2(4096 / patches)), 8, 32))


def _content(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _one_thread_each(work: Callable[[S], T], batches: Sequence[S]) -> Iterator[T]:
    """A `map` in order over batches that are computed by one thread each, on as many cores as torch may use."""
    import torch

    cores = torch.get_num_threads()
    if cores == 1:
        yield from map(work, batches)
        return
    try:
        with contextlib.closing(_ahead(work, batches, cores, 2 * cores, lambda: torch.set_num_threads(1))) as done:
            yield from done
    finally:
        torch.set_num_threads(cores)  # the workers' setting is also that of threads to come


def _ahead(
    work: Callable[[S], T], items: Sequence[S], workers: int, depth: int, start: Callable[[], None] | None = None
) -> Generator[T]:
    """A `map` in order, up to ``depth`` results of which are computed ahead in threads; each begins by ``start``."""
    with ThreadPoolExecutor(max_workers=workers, initializer=start) as pool:
        waiting = deque(pool.submit(work, item) for item in items[:depth])
        try:
            for item in items[depth:]:
                yield waiting.popleft().result()
                waiting.append(pool.submit(work, item))
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
