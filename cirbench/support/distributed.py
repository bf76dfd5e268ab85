"""This process among those that torchrun started; alone, where it did not.

All processes of a run do the same in the same order, and each takes its part of what is expensive: of a batch, of the
features to be encoded. The first one writes files and speaks to the person.

    torchrun --nproc-per-node 4 -m cirbench train ...
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import os
import signal
import socket
import stat
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar, cast

from cirbench.errors import CirbenchError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

T = TypeVar("T")

TIMEOUT = datetime.timedelta(minutes=30)
"""How long one process waits for another that is alive and busy. The end of a process is noticed at once, and that of a
host within `SILENCE`."""


GRACE = 20.0
"""Seconds after a signal until one of several processes ends even if it waits for another; torchrun kills after 30."""

_STOPPING = (signal.SIGTERM, signal.SIGHUP)

SILENCE = 60
"""Seconds without a sign of life after which a host is taken to have vanished."""


@dataclasses.dataclass(frozen=True, slots=True)
class DistributedContext:
    """This process among all processes of a run.

    Attributes:
        rank: Its number, from 0.
        world_size: How many processes there are.
        local_rank: Its number on its machine, and so the GPU that it uses.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def is_main_process(self) -> bool:
        """Whether it is the one that writes files and prints."""
        return self.rank == 0


_context = DistributedContext()
_stderr: TextIO | None = None


def get_context() -> DistributedContext:
    """The place of this process among those that have joined."""
    return _context


@contextlib.contextmanager
def init_distributed() -> Iterator[None]:
    """Join the processes that torchrun started, for as long as the block lasts; do nothing where it did not.

    All but the first are silent meanwhile, and only speak through `log_once`.

    Raises:
        CirbenchError: The others cannot be reached.
    """
    global _context, _stderr
    place = _announced()
    if place.world_size == 1 or _context.world_size > 1:  # alone, or joined already
        yield
        return
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # else each process prints torch's remarks on its options
    import torch
    from torch import distributed

    on_gpu = torch.cuda.is_available() and distributed.is_nccl_available()
    if on_gpu and place.local_rank < torch.cuda.device_count():
        torch.cuda.set_device(place.local_rank)
    with _lost_as_error():
        distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=TIMEOUT)
    _context, _stderr = place, sys.stderr
    try:
        with contextlib.ExitStack() as stack:
            detect_vanished_hosts()
            if not place.is_main_process:
                nowhere = stack.enter_context(open(os.devnull, "w"))  # noqa: PTH123
                stack.enter_context(contextlib.redirect_stdout(nowhere))
                stack.enter_context(contextlib.redirect_stderr(nowhere))
            yield
    finally:
        _context, _stderr = DistributedContext(), None
        with contextlib.suppress(RuntimeError):  # some of the others may have gone
            distributed.destroy_process_group()


def broadcast_object(value: T) -> T:
    """The first process's value, in all of them; each waits for it. Plain values only.

    Raises:
        CirbenchError: Another process has ended.
    """
    if _context.world_size == 1:
        return value
    import torch
    from torch import distributed

    held: list[Any] = [value]
    with _lost_as_error():
        distributed.broadcast_object_list(held, src=0, device=torch.device("cpu"))
    return cast("T", held[0])


def barrier() -> None:
    """Go on when every process has come here.

    Raises:
        CirbenchError: Another process has ended.
    """
    all_reduce_sum([])


def all_reduce_sum(numbers: Sequence[float]) -> list[float]:
    """Sums over the processes, in float64.

    Raises:
        CirbenchError: Another process has ended.
    """
    if _context.world_size == 1:
        return list(numbers)
    import torch
    from torch import distributed

    sums = torch.tensor([*numbers, 0.0], dtype=torch.float64)
    with _lost_as_error():
        distributed.all_reduce(sums)
    return cast("list[float]", sums[:-1].tolist())


def all_gather_union(places: set[int]) -> set[int]:
    """What is in the set of any process.

    Raises:
        CirbenchError: Another process has ended.
    """
    if _context.world_size == 1:
        return places
    from torch import distributed

    held: list[Any] = [None] * _context.world_size
    with _lost_as_error():
        distributed.all_gather_object(held, places)
    return set().union(*held)


def log_once(text: str) -> None:
    """Tell the person why this run ends; of several processes only the first one that has something to say does."""
    if _context.world_size == 1 or _is_first_to_report():
        print(text, file=_stderr or sys.stderr, flush=True)


@contextlib.contextmanager
def _lost_as_error() -> Iterator[None]:
    """Turn what torch says when another process has ended into one sentence."""
    try:
        yield
    except RuntimeError as error:
        if not is_lost(error):
            raise
        raise PeerFailure(error) from error


def is_lost(error: RuntimeError) -> bool:
    """Whether an error of torch means that another process has ended or cannot be reached."""
    from torch import distributed

    return isinstance(error, distributed.DistError) or "gloo" in str(error)


class PeerFailure(CirbenchError):
    """Another process of this run has ended or cannot be reached."""

    def __init__(self, error: RuntimeError) -> None:
        reason = "Another process of this run has ended or cannot be reached"
        if any(text in str(error) for text in _VANISHED):
            reason = f"The host of another process of this run has not answered for {SILENCE} seconds"
        super().__init__(
            f"{reason}, so this one stops too.",
            hint="Look above for what it said. What was finished is kept: run the same command again to resume.",
        )


_VANISHED = (os.strerror(errno.ETIMEDOUT), os.strerror(errno.EHOSTUNREACH), os.strerror(errno.ENETUNREACH))
"""What the kernel calls the end of a connection to a host that has vanished."""


def _announced() -> DistributedContext:
    """The place that torchrun gave this process."""
    given = {name: os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    if not all(number.isdecimal() for number in given.values()):
        return DistributedContext()
    return DistributedContext(
        rank=int(given["RANK"]), world_size=int(given["WORLD_SIZE"]), local_rank=int(given["LOCAL_RANK"])
    )


def _is_first_to_report() -> bool:
    from torch import distributed

    try:
        return bool(distributed.distributed_c10d._get_default_store().add("cirbench/reports", 1) == 1)
    except (RuntimeError, ValueError):  # there is nobody left to ask
        return True


def detect_vanished_hosts() -> None:
    """Have the kernel watch every connection of this process, so that a host that vanishes without a word is noticed.

    The kernels on both sides exchange the signs of life. So a process that is busy or stopped, however long, is never
    mistaken for one that is gone. Does nothing on systems other than Linux.
    """
    if not sys.platform.startswith("linux"):
        return
    for descriptor in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
        with contextlib.suppress(OSError):  # closed meanwhile
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                with socket.socket(fileno=os.dup(descriptor)) as connection:
                    _keep_alive(connection)


def _keep_alive(connection: socket.socket) -> None:
    if connection.family not in (socket.AF_INET, socket.AF_INET6) or connection.type != socket.SOCK_STREAM:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENCE // 3)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, SILENCE // 6)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * SILENCE)  # where data is on its way


class Terminated(KeyboardInterrupt):
    """A signal asked this process to stop, as a scheduler does before it takes the machine; handled like Ctrl-C."""

    def __init__(self, number: int) -> None:
        name = signal.Signals(number).name
        super().__init__(f"Stopped by {name}. What was finished is kept: run the same command again to resume.")
        self.exit_code = 128 + number


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Raise `Terminated` on SIGTERM and on SIGHUP, so that they keep the state as Ctrl-C does, while the block lasts.

    A signal that is ignored, as nohup does with SIGHUP, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        if stopping:  # schedulers send several; the first one is being handled
            return
        stopping = True
        if _context.world_size > 1:
            # Another thread may wait for a process that has failed, for ever.
            timer = threading.Timer(GRACE, os._exit, (128 + number,))
            timer.daemon = True
            timer.start()
        raise Terminated(number)

    before = {number: signal.getsignal(number) for number in _STOPPING}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
