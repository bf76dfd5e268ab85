"""The order in which samples are seen, and the batches of it, each made from its number alone."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import itertools
from typing import TYPE_CHECKING

import numpy as np

from cirbench.errors import MissingData, UsageError
from cirbench.training.data.decoding import Decoder
from cirbench.training.data.source import OPENED
from cirbench.training.data.workers import AHEAD, Workers
from cirbench.training.objective import Batch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from cirbench.backbones.interface import Backbone
    from cirbench.training.data.source import Kind, Sample, Source


@dataclasses.dataclass(frozen=True)
class Batches:
    """The batches of a training, each made from its number alone, so that a training resumes anywhere.

    Every epoch visits the samples in an order of its own, drawn from seed and epoch; an incomplete last batch is left
    out. A batch may be cut into pieces, one after the other, and each piece into equal parts, one a process.

    Attributes:
        source: The samples.
        backbone: Whose preprocessing and device they get.
        batch_size: Samples a step, over all pieces and processes.
        seed: Of the order.
        kind: What is looked at of a sample.
        rank: Which part of a piece this process takes.
        world: How many processes there are.
        pieces: How many pieces a batch is cut into.
        skip_broken: How many samples that cannot be used are left out. The next one in the source takes the place of
            such a sample, whatever the order, so that a batch stays the same wherever a training is resumed.
        skipped: The positions of those that were left out so far.

    Raises:
        UsageError: There are fewer samples than one batch needs, or a batch cannot be cut into equal parts.
        MissingData: More samples than may be skipped are known to have no image or no caption.
    """

    source: Source
    backbone: Backbone
    batch_size: int
    seed: int
    kind: Kind = "pairs"
    rank: int = 0
    world: int = 1
    pieces: int = 1
    skip_broken: int = 0
    skipped: set[int] = dataclasses.field(default_factory=set, compare=False)

    def __post_init__(self) -> None:
        held = len(self.source.samples)
        if not self.per_epoch:
            raise UsageError(
                f"{self.source.name} holds {held} samples, fewer than one batch of {self.batch_size}.",
                hint=f"For instance: --set batch_size={held}",
            )
        self.source.require_parts(self.kind, allowed=self.skip_broken)
        parts = self.world * self.pieces
        if self.batch_size % parts:
            ways = f"{self.world} processes" if self.pieces == 1 else f"{self.pieces} pieces on {self.world} processes"
            raise UsageError(
                f"A batch of {self.batch_size} cannot be cut into equal parts for {ways}.",
                hint=f"For instance: --set batch_size={max(1, self.batch_size // parts) * parts}",
            )

    @property
    def per_epoch(self) -> int:
        """Whole batches an epoch."""
        return len(self.source.samples) // self.batch_size

    def positions(self, step: int) -> NDArray[np.int64]:
        """The positions of the samples of a step, (B,)."""
        epoch, batch = divmod(step, self.per_epoch)
        order = _order(self.seed, epoch, len(self.source.samples))
        return order[batch * self.batch_size : (batch + 1) * self.batch_size]

    def __getitem__(self, step: int) -> Batch:
        """This process's part of the first piece of a step; the whole batch, where there is one of each."""
        return self.part(step)

    def part(self, step: int, piece: int = 0) -> Batch:
        """This process's part of a piece of a step.

        Raises:
            MissingData: A sample cannot be used, and no more may be skipped; the message names it.
        """
        positions_B = self._own(step, piece)
        pixels_B3SS = np.empty((len(positions_B), *self._shape), np.float32)
        samples = self._samples(positions_B)
        outcomes = [self._decoder(*each) for each in zip(samples, pixels_B3SS, strict=True)]
        return self._whole(positions_B, pixels_B3SS, outcomes)

    @contextlib.contextmanager
    def stream(self, start: int, stop: int, *, workers: int = 0) -> Iterator[Iterator[Batch]]:
        """The parts of this process from one step to before another, all pieces of a step one after the other.

        Args:
            start: The first step.
            stop: The step after the last.
            workers: How many processes decode ahead of the step; the batches are the same to the last bit.

        Raises:
            MissingData: A sample cannot be used, and no more may be skipped; the message names it.
            CirbenchError: One of the processes died.
        """
        wanted = [(step, piece) for step in range(start, stop) for piece in range(self.pieces)]
        if not workers or "image" not in OPENED[self.kind]:
            yield itertools.starmap(self.part, wanted)
            return
        with Workers(workers, self._decoder, (self._count, *self._shape)) as pool:
            yield self._ahead(wanted, pool)

    def _ahead(self, wanted: Sequence[tuple[int, int]], pool: Workers) -> Iterator[Batch]:
        parts = itertools.starmap(self._own, wanted)
        begun = collections.deque(
            (positions_B, pool.begin(self._samples(positions_B))) for positions_B in itertools.islice(parts, AHEAD)
        )
        while begun:
            positions_B, batch = begun.popleft()
            pixels_B3SS, outcomes = batch.finish()
            begun.extend((after_B, pool.begin(self._samples(after_B))) for after_B in itertools.islice(parts, 1))
            yield self._whole(positions_B, pixels_B3SS, outcomes)

    @property
    def _decoder(self) -> Decoder:
        return Decoder(self.kind, self.backbone.preprocessing)

    @property
    def _shape(self) -> tuple[int, int, int]:
        size = self.backbone.image_size
        return 3, size, size

    @property
    def _count(self) -> int:
        return self.batch_size // (self.world * self.pieces)

    def _own(self, step: int, piece: int) -> NDArray[np.int64]:
        first = (piece * self.world + self.rank) * self._count
        return self.positions(step)[first : first + self._count]

    def _samples(self, positions_B: NDArray[np.int64]) -> list[Sample]:
        return [self.source.samples[int(position)] for position in positions_B]

    def _whole(
        self, positions_B: NDArray[np.int64], pixels_B3SS: NDArray[np.float32], outcomes: Sequence[str | MissingData]
    ) -> Batch:
        """A batch of what was decoded, once every sample that cannot be used has been replaced."""
        import torch

        positions_B, captions = positions_B.copy(), []
        for row, outcome in enumerate(outcomes):
            while isinstance(outcome, MissingData):
                self._skip(int(positions_B[row]), outcome)
                positions_B[row] = (positions_B[row] + 1) % len(self.source.samples)
                outcome = self._decoder(self.source.samples[int(positions_B[row])], pixels_B3SS[row])
            captions.append(outcome)
        count = len(captions) if "image" in OPENED[self.kind] else 0
        return Batch(
            pixels_B3SS=torch.from_numpy(pixels_B3SS[:count]).to(self.backbone.device),
            captions=tuple(captions) if "caption" in OPENED[self.kind] else (),
            positions_B=positions_B,
            first=self.rank * len(captions),
            total=self.world * len(captions),
        )

    def skip(self, positions: Iterable[int]) -> None:
        """Take in what was skipped before a training was resumed, or by other processes.

        Raises:
            MissingData: More samples than may be skipped cannot be used.
        """
        self.skipped.update(positions)
        if len(self.skipped) > self.skip_broken:
            raise MissingData(
                f"{len(self.skipped)} samples of {self.source.name} cannot be used, and --skip-broken "
                f"{self.skip_broken} allows fewer; the last of them is sample {max(self.skipped) + 1}."
            )

    def _skip(self, position: int, why: MissingData) -> None:
        self.skipped.add(position)
        if len(self.skipped) <= self.skip_broken and len(self.skipped) < len(self.source.samples):
            return
        message = f"Sample {position + 1} of {self.source.name} cannot be used: {why.message}"
        if self.skip_broken:
            message += f" {self.skip_broken} others were skipped before, and no more are allowed."
        allowed = max(10, 10 * self.skip_broken)
        hint = f"Mend it; or with --skip-broken {allowed}, up to {allowed} such samples are left out and counted."
        raise type(why)(message, hint=hint) from why


@functools.lru_cache(maxsize=1)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(count)
