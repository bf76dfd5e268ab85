"""The page about clusters: its script runs on two nodes, is stopped as SLURM does, and goes on when queued again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cirbench.training.checkpoint import read_card
from tests.guides.page import follow
from tests.side_by_side import environment

pytestmark = pytest.mark.slow

COMMANDS = {
    "torchrun": f'#!/bin/bash\nexec {sys.executable} -m torch.distributed.run "$@"\n',
    # What SLURM's own commands do for a job of two nodes, on one machine.
    "scontrol": "#!/bin/bash\necho localhost\necho localhost\n",
    "srun": '#!/bin/bash\ntrap "" TERM\n'
    'for ((node = 0; node < SLURM_NNODES; node++)); do (trap - TERM; exec "$@") & done\n'
    "failed=0\nfor ((node = 0; node < SLURM_NNODES; node++)); do wait -n || failed=$?; done\nexit $failed\n",
}


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH with these commands."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, script in COMMANDS.items():
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    return os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])


@pytest.fixture
def port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def steps(folder: Path) -> list[int]:
    path = folder / "metrics.jsonl"
    lines = path.read_text().split("\n")[1:-1] if path.is_file() else []
    return [json.loads(line)["step"] for line in lines]


def job(folder: Path, path: str, port: str) -> subprocess.Popen[str]:
    """Start the script of the page as a job of two nodes, whose processes are one group."""
    names = {"SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "here[1-2]", "SLURM_JOB_ID": port, "PORT": port}
    return subprocess.Popen(
        ["bash", "train.sbatch"],
        cwd=folder,
        env=environment(PATH=path, **names),
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_reader_trains_on_two_nodes_and_is_preempted(tmp_path: Path, path: str, port: str) -> None:
    read = follow("cluster", tmp_path, PATH=path, PORT=port, CIRBENCH_CACHE=str(tmp_path / "cache"))
    card = read_card(tmp_path / "checkpoints" / "try")
    assert (card.processes, card.steps) == (2, 4)
    assert steps(tmp_path / "checkpoints" / "try") == [1, 2, 3, 4]
    assert "ok        exact ranks" in read.text

    script = tmp_path / "train.sbatch"
    assert len(script.read_text().splitlines()) == 15
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    folder = tmp_path / "checkpoints" / "pli"
    with job(tmp_path, path, port) as preempted:
        while len(steps(folder)) < 3 and preempted.poll() is None:
            time.sleep(0.2)
        os.killpg(preempted.pid, signal.SIGTERM)
        said, _ = preempted.communicate(timeout=120)
    assert preempted.returncode != 0, said
    assert (folder / "state.safetensors").is_file(), said
    with job(tmp_path, path, port) as again:
        said, _ = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert steps(folder) == [*range(1, 25)]
    assert read_card(folder).processes == 2
