"""Decoding in processes of its own gives the same batches, and ends with the training however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from cirbench.backbones.images import Preprocessing
from cirbench.errors import CirbenchError, CorruptFile
from cirbench.training.data import Batches, Source
from cirbench.training.data.batches import Decoder, Workers
from cirbench_methods.lincir.keywords import Masking, RuledKeywords
from tests.tiny_clip import some_pairs, tiny_backbone
from tests.training.plain_samples import Deadly, GreySample, Process, process_and_torch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cirbench.training.data import Sample
    from cirbench.training.data.source import Kind

pytestmark = pytest.mark.slow


def greys(count: int, *broken: int) -> Source:
    return Source("greys", [GreySample(grey, grey in broken) for grey in range(count)], "0" * 64)


@contextmanager
def one_worker() -> Iterator[Workers]:
    with Workers(1, Decoder("texts", Preprocessing(size=32)), (4, 1, 3, 32, 32)) as workers:
        yield workers


def captions(workers: Workers, *samples: Sample) -> list[str]:
    return [
        outcome
        for outcome in workers.begin([(sample, (0, 0, 0)) for sample in samples]).finish()[1]
        if isinstance(outcome, str)
    ]


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_workers_give_the_same_batches_to_the_last_bit() -> None:
    order = Batches(some_pairs(), tiny_backbone(), 12, 0, rank=1, world_size=2, grad_accum_steps=2)
    with order.stream(3, 9, workers=2) as stream:
        streamed = list(stream)
    alone = [order.part(step, micro) for step in range(3, 9) for micro in range(2)]
    assert [batch.captions for batch in streamed] == [batch.captions for batch in alone]
    assert all(torch.equal(one.pixels_B3SS, other.pixels_B3SS) for one, other in zip(streamed, alone, strict=True))


@pytest.mark.parametrize("kind", ["pairs", "texts"])
def test_workers_read_captions_for_the_objective(kind: Kind) -> None:
    masking = Masking(RuledKeywords())
    order = Batches(some_pairs(), tiny_backbone(), 12, 0, kind, rank=1, world_size=2, read=masking)
    with order.stream(3, 6, workers=2) as stream:
        streamed = list(stream)
    alone = [order.part(step) for step in range(3, 6)]
    assert [batch.readings for batch in streamed] == [batch.readings for batch in alone]
    assert all(batch.readings == tuple(map(masking, batch.captions)) for batch in streamed)
    assert all(torch.equal(one.pixels_B3SS, other.pixels_B3SS) for one, other in zip(streamed, alone, strict=True))


def test_captions_alone_are_read_in_workers_that_import_no_torch() -> None:
    order = Batches(some_pairs(), tiny_backbone(), 4, 0, "texts", read=process_and_torch)
    with order.stream(0, 1, workers=1) as stream:
        ((process, has_torch),) = set(next(stream).readings)
    assert process != os.getpid()
    assert not has_torch


@pytest.mark.parametrize("workers", [0, 1])
def test_skipped_samples_are_replaced_by_the_next_good_one_whoever_decodes(workers: int) -> None:
    order = Batches(greys(10, 4, 5), tiny_backbone(), 5, 0, skip_broken=2)
    with order.stream(0, 4, workers=workers) as stream:
        seen = [batch.positions_B.tolist() for batch in stream]
    wanted = [[6 if place in (4, 5) else place for place in order.positions(step)] for step in range(4)]
    assert (seen, order.skipped) == (wanted, {4, 5})


def test_an_error_from_a_worker_names_the_sample() -> None:
    order = Batches(greys(10, 4), tiny_backbone(), 10, 0)
    with pytest.raises(CorruptFile, match="Sample 5 of greys cannot be used: square 4 is torn"):  # noqa: SIM117
        with order.stream(0, 1, workers=1) as stream:
            next(stream)


def test_workers_import_no_torch() -> None:
    with one_worker() as workers:
        (said,) = captions(workers, Process())
    assert said.endswith("False")


def test_workers_end_with_the_block() -> None:
    with one_worker() as workers:
        (said,) = captions(workers, Process())
        assert is_alive(int(said.split()[0]))
    assert not is_alive(int(said.split()[0]))


def test_a_worker_that_dies_is_one_clear_error() -> None:
    with one_worker() as workers, pytest.raises(CirbenchError, match="A decoding process died") as caught:
        captions(workers, Deadly())
    assert "--workers 0" in str(caught.value.hint)


PARENT = """
import time
from cirbench.backbones.images import Preprocessing
from cirbench.training.data.batches import Decoder
from cirbench.training.data.batches import Workers
from tests.training.plain_samples import Process
if __name__ == "__main__":
    with Workers(1, Decoder("texts", Preprocessing(size=8)), (1, 1, 3, 8, 8)) as workers:
        print(workers.begin([(Process(), (0, 0, 0))]).finish()[1][0].split()[0], flush=True)
        time.sleep(600)
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.usefixtures("interruptible")
def test_workers_end_with_a_parent_that_is_killed(end: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.send_signal(end)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 120
    while is_alive(worker) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(worker)


def test_a_batch_smaller_than_the_number_of_workers_is_whole() -> None:
    with Workers(3, Decoder("pairs", Preprocessing(size=32)), (2, 1, 3, 32, 32)) as workers:
        samples: list[tuple[Sample, tuple[int, int, int]]] = [(GreySample(0), (0, 0, 0)), (GreySample(255), (0, 0, 1))]
        pixels_BI3SS, outcomes = workers.begin(samples).finish()
    assert outcomes == ["grey 0", "grey 255"]
    assert bool(np.all(pixels_BI3SS[0] < pixels_BI3SS[1]))
