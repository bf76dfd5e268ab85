"""The order in which samples are seen, and its batches, each made from its number alone, decoded by worker processes.

The processes are spawned, never forked, and import no torch. A batch is shared out among all of them; pixels come back
through memory that is shared, since a pipe would be slower than the decoding.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import dataclasses
import functools
import itertools
import multiprocessing
import os
import signal
import threading
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from cirbench.errors import CirbenchError, MissingData, UsageError
from cirbench.protocol import Triplet
from cirbench.support.device import send
from cirbench.training.data import triplets
from cirbench.training.data.source import OPENED
from cirbench.training.interface import Batch, TripletImageTraining

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future
    from types import TracebackType

    import torch
    from numpy.typing import NDArray

    from cirbench.backbones.images import Preprocessing
    from cirbench.backbones.interface import Backbone
    from cirbench.training.data.source import Kind, Sample, Source
    from cirbench.training.interface import TripletTraining


Usable: TypeAlias = "str | Triplet"
"""What a step sees of a sample beside its pixels: its caption, or the triplet with what was drawn of it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Read:
    """A sample, and what the objective wants of its caption."""

    sample: Usable
    reading: Any


Outcome: TypeAlias = "Usable | Read | MissingData"
"""What came of a sample, or why it cannot be used."""

Draw: TypeAlias = "tuple[int, int, int]"
"""Seed, step and place in the whole batch, from which everything random of a sample is drawn."""


@dataclasses.dataclass(frozen=True, slots=True)
class Decoder:
    """Makes samples ready; light enough to be sent to another process.

    Attributes:
        kind: What is looked at of a sample.
        preprocessing: The backbone's.
        view: How triplets are looked at.
        read: What else is made of each caption, if anything.
    """

    kind: Kind
    preprocessing: Preprocessing
    view: TripletTraining | None = None
    read: Callable[[str], Any] | None = None

    @property
    def images(self) -> int:
        """How many images a sample has, I."""
        return 1 if self.view is None else 2 + self.view.negatives

    def __call__(self, sample: Sample, draw: Draw, levels_I3SS: NDArray[np.uint8]) -> Outcome:
        """Write the pixels of a sample, and return its caption or drawn triplet, or why the sample cannot be used.

        Without images or without captions the pixels are left alone or the caption is empty.
        """
        outcome = self._opened(sample, draw, levels_I3SS)
        if self.read is None or isinstance(outcome, MissingData):
            return outcome
        return Read(outcome, self.read(_caption(outcome)))

    def _opened(self, sample: Sample, draw: Draw, levels_I3SS: NDArray[np.uint8]) -> Usable | MissingData:
        try:
            if isinstance(sample, Triplet):
                return self._triplet(sample, draw, levels_I3SS)
            caption = sample.caption if "caption" in OPENED[self.kind] else ""
            if caption is None or ("caption" in OPENED[self.kind] and not caption.strip()):
                return MissingData("it has no caption.")
            if "image" in OPENED[self.kind]:
                if sample.image is None:
                    return MissingData("it has no image.")
                levels_I3SS[0] = self.preprocessing.levels(sample.image.open())
        except MissingData as error:
            return error
        return caption

    def _triplet(self, triplet: Triplet, draw: Draw, levels_I3SS: NDArray[np.uint8]) -> Triplet:
        assert self.view is not None
        generator = np.random.default_rng(draw)
        drawn = triplets.draw(triplet, self.view, generator)
        if isinstance(self.view, TripletImageTraining):
            for place, image in enumerate(triplets.open_images(drawn, self.view, generator)):
                levels_I3SS[place] = self.preprocessing.levels(image)
        return drawn


def _caption(sample: Usable) -> str:
    return sample.captions[0] if isinstance(sample, Triplet) else sample


AHEAD = 2
"""Batches that are decoded while a step runs."""


def sensible_workers(device: torch.device) -> int:
    """How many processes shall decode: none beside a CPU, which the step needs itself; a share of the cores a GPU."""
    cores = (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun's
    return 0 if device.type == "cpu" else max(1, min(16, cores - 1))


class Workers:
    """Processes that decode batches of up to ``shape[0]`` samples; to be used in a ``with`` block.

    Args:
        count: How many processes.
        decoder: What they do with a sample.
        shape: (B, I, 3, S, S) of the largest batch.
    """

    def __init__(self, count: int, decoder: Decoder, shape: tuple[int, ...]) -> None:
        spawn = multiprocessing.get_context("spawn")
        _start_resource_tracker()
        shape = (AHEAD * shape[0], *shape[1:])
        memory = spawn.RawArray(ctypes.c_uint8, int(np.prod(shape)))
        self._count = count
        self._rows = shape[0] // AHEAD
        self._levels_RI3SS = _as_array(memory, shape)
        self._begun = 0
        self._pool = ProcessPoolExecutor(count, spawn, initializer=_start, initargs=(decoder, memory, shape))

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def begin(self, samples: Sequence[tuple[Sample, Draw]]) -> Begun:
        """Share out a batch; at most `AHEAD` may be begun and not finished."""
        first = self._begun % AHEAD * self._rows
        self._begun += 1
        bounds = np.linspace(0, len(samples), self._count + 1).astype(int)
        parts = [(int(start), int(stop)) for start, stop in itertools.pairwise(bounds) if start < stop]
        waiting = [self._pool.submit(_decode, first + start, samples[start:stop]) for start, stop in parts]
        return Begun(self._levels_RI3SS[first : first + len(samples)], waiting)


def _start_resource_tracker() -> None:
    """Start the process that cleans up after multiprocessing so that a terminal that closes does not end it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])  # inherited
    try:
        resource_tracker.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Begun:
    """A batch on its way."""

    def __init__(self, levels_BI3SS: NDArray[np.uint8], waiting: list[Future[list[Outcome]]]) -> None:
        self._levels_BI3SS = levels_BI3SS
        self._waiting = waiting

    def finish(self) -> tuple[NDArray[np.uint8], list[Outcome]]:
        """Wait for the pixels, (B, I, 3, S, S), and what the decoder says of each sample.

        Raises:
            CirbenchError: A process died.
        """
        try:
            outcomes = [outcome for part in self._waiting for outcome in part.result()]
        except BrokenExecutor as error:
            raise CirbenchError(
                "A decoding process died; most likely the memory did not suffice.",
                hint="Run again with fewer of them: --workers 1, or --workers 0 for none.",
            ) from error
        return self._levels_BI3SS.copy(), outcomes


_decoder: Decoder
_levels_RI3SS: NDArray[np.uint8]


_GRACE = 20.0
"""Seconds in which a process that was asked to stop still decodes, so that its parent can finish a step."""


def _start(decoder: Decoder, memory: Any, shape: tuple[int, ...]) -> None:
    """Make a new process ready, and end it with the process that started it, even where that one is killed."""
    global _decoder, _levels_RI3SS
    # These reach every process of a terminal or job, and the parent decides. The pool sends SIGTERM where one has died.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: threading.Timer(_GRACE, os._exit, (1,)).start())
    threading.Thread(target=_follow_parent, daemon=True).start()
    _decoder, _levels_RI3SS = decoder, _as_array(memory, shape)


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _decode(first: int, samples: Sequence[tuple[Sample, Draw]]) -> list[Outcome]:
    return [_decoder(sample, draw, _levels_RI3SS[first + row]) for row, (sample, draw) in enumerate(samples)]


def _as_array(memory: Any, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.frombuffer(memory, dtype=np.uint8).reshape(shape)


_TARGETS = 1
"""Distinguishes the draw of the triplets of targets from the others of a step."""


@dataclasses.dataclass(frozen=True, slots=True)
class Chosen:
    """The samples that a process looks at in a micro-batch.

    Attributes:
        positions_B: Their positions in the source.
        seed: Of the training.
        step: The step.
        first: The place of the first of them in the whole batch.
    """

    positions_B: NDArray[np.int64]
    seed: int
    step: int
    first: int

    def draw(self, row: int) -> Draw:
        """What everything random of a sample is drawn from."""
        return self.seed, self.step, self.first + row


@dataclasses.dataclass(frozen=True)
class Batches:
    """The batches of a training, each made from its number alone, so that a training resumes anywhere.

    Every epoch visits the samples in an order of its own, drawn from seed and epoch; an incomplete last batch is left
    out. A batch may be split into micro-batches, one after the other, and each of them into equal parts, one a process.

    Attributes:
        source: The samples.
        backbone: Whose preprocessing and device they get.
        batch_size: Samples a step, over all micro-batches and processes.
        seed: Of the order.
        kind: What is looked at of a sample.
        rank: Which part of a micro-batch this process takes.
        world_size: How many processes there are.
        grad_accum_steps: How many micro-batches a batch is split into.
        skip_broken: How many samples that cannot be used are left out. The next one in the source takes the place of
            such a sample, whatever the order, so that a batch stays the same wherever a training is resumed.
        view: How triplets are looked at.
        read: What else is made of each caption; see `cirbench.training.interface.ReadsCaptions`.
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
    world_size: int = 1
    grad_accum_steps: int = 1
    skip_broken: int = 0
    view: TripletTraining | None = None
    read: Callable[[str], Any] | None = None
    skipped: set[int] = dataclasses.field(default_factory=set, compare=False)

    def __post_init__(self) -> None:
        held = self._held
        if not self.per_epoch:
            what = ("distinct target" if self._asks_for_targets else "sample") + ("s" if held > 1 else "")
            raise UsageError(
                f"{self.source.name} holds {held} {what}, fewer than one batch of {self.batch_size}.",
                hint=f"For instance: --set batch_size={held}",
            )
        self.source.require_parts(self.kind, allowed=self.skip_broken)
        parts = self.world_size * self.grad_accum_steps
        if self.batch_size % parts:
            ways = f"{self.world_size} processes"
            if self.grad_accum_steps > 1:
                ways = f"{self.grad_accum_steps} micro-batches on {ways}"
            raise UsageError(
                f"A batch of {self.batch_size} cannot be split into equal parts for {ways}.",
                hint=f"For instance: --set batch_size={max(1, self.batch_size // parts) * parts}",
            )

    @property
    def per_epoch(self) -> int:
        """Whole batches an epoch."""
        return self._held // self.batch_size

    @property
    def _asks_for_targets(self) -> bool:
        return self.view is not None and self.view.duplicates == "once"

    @functools.cached_property
    def _triplets_of_targets(self) -> tuple[tuple[int, ...], ...]:
        """The positions of the triplets of each target."""
        members: dict[str, list[int]] = {}
        for position, sample in enumerate(self.source.samples):
            assert isinstance(sample, Triplet)
            members.setdefault(sample.target.id, []).append(position)
        return tuple(map(tuple, members.values()))

    @property
    def _held(self) -> int:
        """How many samples an epoch has."""
        return len(self._triplets_of_targets if self._asks_for_targets else self.source.samples)

    def positions(self, step: int) -> NDArray[np.int64]:
        """The positions of the samples of a step, (B,)."""
        epoch, batch = divmod(step, self.per_epoch)
        order = _order(self.seed, epoch, self._held)
        chosen_B = order[batch * self.batch_size : (batch + 1) * self.batch_size]
        if not self._asks_for_targets:
            return chosen_B
        drawn_B = np.random.default_rng([self.seed, step, _TARGETS]).random(len(chosen_B))
        members = [self._triplets_of_targets[int(target)] for target in chosen_B]
        return np.array([m[int(drawn * len(m))] for m, drawn in zip(members, drawn_B, strict=True)], dtype=np.int64)

    def __getitem__(self, step: int) -> Batch:
        """This process's part of the first micro-batch of a step; the whole batch, where there is one of each."""
        return self.part(step)

    def part(self, step: int, micro_batch: int = 0) -> Batch:
        """This process's part of a micro-batch of a step.

        Raises:
            MissingData: A sample cannot be used, and no more may be skipped; the message names it.
        """
        chosen = self._chosen(step, micro_batch)
        shape = (self._count, *self._shape)
        # Where no images are opened, no memory for any: a batch may hold thousands of samples.
        levels_BI3SS = np.empty(shape, np.uint8) if self._opens_images else np.broadcast_to(np.uint8(0), shape)
        outcomes = [
            self._decoder(*each, levels_I3SS)
            for each, levels_I3SS in zip(self._samples(chosen), levels_BI3SS, strict=True)
        ]
        return self._whole(chosen, levels_BI3SS, outcomes)

    @contextlib.contextmanager
    def stream(self, start: int, stop: int, *, workers: int = 0) -> Iterator[Iterator[Batch]]:
        """The parts of this process from one step to before another, all micro-batches of a step in turn.

        Args:
            start: The first step.
            stop: The step after the last.
            workers: How many processes decode ahead of the step; the batches are the same to the last bit.

        Raises:
            MissingData: A sample cannot be used, and no more may be skipped; the message names it.
            CirbenchError: One of the processes died.
        """
        wanted = [(step, micro) for step in range(start, stop) for micro in range(self.grad_accum_steps)]
        if not workers or not (self._opens_images or self.read):
            yield itertools.starmap(self.part, wanted)
            return
        images, *pixels = self._shape
        shape = (self._count, images if self._opens_images else 0, *pixels)  # no memory where none are opened
        with Workers(workers, self._decoder, shape) as pool:
            yield self._ahead(wanted, pool)

    def _ahead(self, wanted: Sequence[tuple[int, int]], pool: Workers) -> Iterator[Batch]:
        parts = itertools.starmap(self._chosen, wanted)
        begun = collections.deque(
            (chosen, pool.begin(self._samples(chosen))) for chosen in itertools.islice(parts, AHEAD)
        )
        while begun:
            chosen, batch = begun.popleft()
            levels_BI3SS, outcomes = batch.finish()
            begun.extend((after, pool.begin(self._samples(after))) for after in itertools.islice(parts, 1))
            yield self._whole(chosen, levels_BI3SS, outcomes)

    @property
    def _decoder(self) -> Decoder:
        return Decoder(self.kind, self.backbone.preprocessing, self.view, self.read)

    @property
    def _opens_images(self) -> bool:
        return "image" in OPENED[self.kind]

    @property
    def _shape(self) -> tuple[int, int, int, int]:
        size = self.backbone.image_size
        return self._decoder.images, 3, size, size

    @property
    def _count(self) -> int:
        return self.batch_size // (self.world_size * self.grad_accum_steps)

    def _chosen(self, step: int, micro_batch: int) -> Chosen:
        """What this process looks at in a micro-batch of a step."""
        first = (micro_batch * self.world_size + self.rank) * self._count
        return Chosen(self.positions(step)[first : first + self._count], self.seed, step, first)

    def _samples(self, chosen: Chosen) -> list[tuple[Sample, Draw]]:
        return [
            (self.source.samples[int(position)], chosen.draw(row)) for row, position in enumerate(chosen.positions_B)
        ]

    def _whole(self, chosen: Chosen, levels_BI3SS: NDArray[np.uint8], outcomes: Sequence[Outcome]) -> Batch:
        """A batch of what was decoded, once every sample that cannot be used has been replaced."""
        import torch

        positions_B, usable, readings = chosen.positions_B.copy(), list[str | Triplet](), list[Any]()
        for row, decoded in enumerate(outcomes):
            outcome = self._known_flaw(positions_B[row]) or decoded
            while isinstance(outcome, MissingData):
                self._skip(int(positions_B[row]), outcome)
                positions_B[row] = (positions_B[row] + 1) % len(self.source.samples)
                sample = self.source.samples[int(positions_B[row])]
                outcome = self._known_flaw(positions_B[row]) or self._decoder(
                    sample, chosen.draw(row), levels_BI3SS[row]
                )
            if isinstance(outcome, Read):
                readings.append(outcome.reading)
                outcome = outcome.sample
            usable.append(outcome)
        drawn = tuple(outcome for outcome in usable if isinstance(outcome, Triplet))
        captions = tuple(map(_caption, usable))
        shown = levels_BI3SS if self._opens_images else np.empty((0, *self._shape), np.uint8)
        images = self.backbone.preprocessing.normalize(send(torch.from_numpy(shown), self.backbone.device))
        return Batch(
            pixels_B3SS=images[:, 0].contiguous(),
            captions=captions if "caption" in OPENED[self.kind] else (),
            positions_B=positions_B,
            first=self.rank * len(usable),
            total=self.world_size * len(usable),
            triplets=drawn,
            target_pixels_B3SS=images[:, 1].contiguous() if drawn else None,
            negative_pixels_BK3SS=images[:, 2:].contiguous() if drawn else None,
            readings=tuple(readings),
        )

    def _known_flaw(self, position: np.int64) -> MissingData | None:
        why = self.source.unusable.get(int(position))
        return None if why is None else MissingData(f"{why}.")

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
        hint = f"Repair it; or with --skip-broken {allowed}, up to {allowed} such samples are left out and counted."
        raise type(why)(message, hint=hint) from why


@functools.lru_cache(maxsize=1)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(count)
