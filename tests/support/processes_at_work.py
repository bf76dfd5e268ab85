"""What two processes do in the tests of `cirbench.support.distributed`; prints what the first one finds.

python processes_at_work.py whole|fails|told
python processes_at_work.py meets FOLDER SECONDS    exchanges numbers until FOLDER/enough is there
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from cirbench.errors import CirbenchError, MissingData
from cirbench.support import distributed
from cirbench.support.distributed import (
    Terminated,
    all_gather_union,
    all_reduce_sum,
    barrier,
    broadcast_object,
    get_context,
    init_distributed,
    log_once,
    stopped_by_signals,
)
from cirbench.training.contrastive import Dropout, gather_rows
from cirbench.training.train import resume


def gathered() -> list[list[float]]:
    """The gradient at the first process's rows, where process r weighs the gathered rows by r + 1."""
    rows_BD = torch.full((2, 1), float(get_context().rank), requires_grad=True)
    all_TD = gather_rows(rows_BD)
    weights_T1 = torch.arange(1.0, 5.0)[:, None]
    (all_TD * weights_T1 * (get_context().rank + 1)).sum().backward()  # type: ignore[no-untyped-call]
    assert rows_BD.grad is not None
    return [all_TD.flatten().tolist(), rows_BD.grad.flatten().tolist()]


def dropped() -> list[float]:
    """The rows of all processes after dropout."""
    torch.manual_seed(0)
    rows: list[float] = gather_rows(Dropout(0.5)(torch.ones(4, 3))).flatten().tolist()
    return rows


def apart() -> str:
    """What is said when the processes would continue from different states."""
    progress: Any = SimpleNamespace(step=get_context().rank)
    try:
        resume(progress, Path("absent"))
    except MissingData as error:
        return str(error)
    return ""


def meet(folder: Path) -> None:
    """Exchange numbers until it is enough, and leave a file after the first exchanges and one at the end."""
    rank = get_context().rank
    for number in itertools.count():
        if all_reduce_sum([(folder / "enough").exists()])[0]:
            break
        if number == 20:
            (folder / f"begun-{rank}").touch()
        time.sleep(0.05)
    (folder / f"done-{rank}").touch()


def main(kind: str) -> None:
    """Do it; in the second process, fail or be told to stop."""
    barrier()
    if kind == "meets":
        meet(Path(sys.argv[2]))
        return
    if kind == "fails" and get_context().rank == 1:
        raise CirbenchError("The cable is out.", hint="Put it in.")
    if kind == "told" and get_context().rank == 1:
        os.kill(os.getpid(), signal.SIGTERM)
    found = {
        "leads": get_context().is_main_process,
        "agreed": broadcast_object(f"of {get_context().rank}"),
        "total": all_reduce_sum([1.5, get_context().rank]),
        "union": sorted(all_gather_union({get_context().rank, 7})),
        "gathered": gathered(),
        "dropped": dropped(),
        "apart": apart(),
    }
    print(json.dumps(found))


if len(sys.argv) > 3:
    distributed.SILENCE = int(sys.argv[3])
with stopped_by_signals(), init_distributed():
    try:
        main(sys.argv[1])
    except Terminated as stopped:
        log_once(str(stopped))
        sys.exit(stopped.exit_code)
    except CirbenchError as error:
        log_once(f"error: {error}")
        sys.exit(1)
