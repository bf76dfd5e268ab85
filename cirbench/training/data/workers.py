"""Decoding in processes of their own, ahead of the step that needs it.

The processes are spawned, never forked, and import no torch. A batch is shared out among all of them; pixels come back
through memory that is shared, since a pipe would be slower than the decoding.
"""

from __future__ import annotations

import ctypes
import itertools
import multiprocessing
import os
import signal
import threading
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from cirbench.errors import CirbenchError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future
    from types import TracebackType

    import torch
    from numpy.typing import NDArray

    from cirbench.errors import MissingData
    from cirbench.training.data.decoding import Decoder
    from cirbench.training.data.source import Sample

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
        shape: (B, 3, S, S) of the largest batch.
    """

    def __init__(self, count: int, decoder: Decoder, shape: tuple[int, int, int, int]) -> None:
        spawn = multiprocessing.get_context("spawn")
        shape = (AHEAD * shape[0], *shape[1:])
        memory = spawn.RawArray(ctypes.c_float, int(np.prod(shape)))
        self._count = count
        self._rows = shape[0] // AHEAD
        self._pixels_R3SS = _as_array(memory, shape)
        self._begun = 0
        self._pool = ProcessPoolExecutor(count, spawn, initializer=_start, initargs=(decoder, memory, shape))

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def begin(self, samples: Sequence[Sample]) -> Begun:
        """Share out a batch; at most `AHEAD` may be begun and not finished."""
        first = self._begun % AHEAD * self._rows
        self._begun += 1
        bounds = np.linspace(0, len(samples), self._count + 1).astype(int)
        parts = [(int(start), int(stop)) for start, stop in itertools.pairwise(bounds) if start < stop]
        waiting = [self._pool.submit(_decode, first + start, samples[start:stop]) for start, stop in parts]
        return Begun(self._pixels_R3SS[first : first + len(samples)], waiting)


class Begun:
    """A batch on its way."""

    def __init__(self, pixels_B3SS: NDArray[np.float32], waiting: list[Future[list[str | MissingData]]]) -> None:
        self._pixels_B3SS = pixels_B3SS
        self._waiting = waiting

    def finish(self) -> tuple[NDArray[np.float32], list[str | MissingData]]:
        """Wait for the pixels, (B, 3, S, S), and what the decoder says of each sample.

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
        return self._pixels_B3SS.copy(), outcomes


_decoder: Decoder
_pixels_R3SS: NDArray[np.float32]


def _start(decoder: Decoder, memory: Any, shape: tuple[int, ...]) -> None:
    """Make a new process ready, and see to it that it ends with the one that started it, however that ends."""
    global _decoder, _pixels_R3SS
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of the terminal; the parent decides
    threading.Thread(target=_follow_parent, daemon=True).start()
    _decoder, _pixels_R3SS = decoder, _as_array(memory, shape)


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _decode(first: int, samples: Sequence[Sample]) -> list[str | MissingData]:
    return [_decoder(sample, _pixels_R3SS[first + row]) for row, sample in enumerate(samples)]


def _as_array(memory: Any, shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.frombuffer(memory, dtype=np.float32).reshape(shape)
