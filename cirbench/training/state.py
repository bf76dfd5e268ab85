"""An unfinished training on disk: enough to continue it bit for bit.

Everything random in a step comes from the seed and the number of the step, and so does the order of the pairs. So the
state is the module, the optimiser, the losses and evaluations so far, and how long they took.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from cirbench.errors import CorruptFile, UsageError
from cirbench.support.files import write_bytes
from cirbench.training.checkpoint import Evaluated

if TYPE_CHECKING:
    from pathlib import Path


STATE = "state.safetensors"
SCHEMA = 1
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class TrainState:
    """A module with its optimiser, how far they are, and what was seen on the way."""

    def __init__(self, module: torch.nn.Module, optimizer: torch.optim.AdamW, request: str) -> None:
        self.module = module
        self.optimizer = optimizer
        self.request = request
        self.losses: list[float] = []
        self.evaluations: list[Evaluated] = []
        self.skipped: set[int] = set()
        self.seconds = 0.0

    @property
    def step(self) -> int:
        """How many steps are done."""
        return len(self.losses)

    def is_finite(self) -> bool:
        """Whether every weight is a finite number."""
        return all(bool(torch.isfinite(weights).all()) for weights in self.module.parameters())

    def save(self, folder: Path) -> None:
        """Write the state atomically."""
        tensors = {f"module.{name}": tensor for name, tensor in weights(self.module).items()}
        for name, parameter in self.module.named_parameters():
            for moment, tensor in self.optimizer.state.get(parameter, {}).items():
                tensors[f"{moment}.{name}"] = tensor.detach().cpu().contiguous()
        tensors["losses"] = torch.tensor(self.losses, dtype=torch.float64)
        header = {
            "schema": str(SCHEMA),
            "request": self.request,
            "seconds": str(self.seconds),
            "evaluations": msgspec.json.encode(self.evaluations).decode(),
            "skipped": msgspec.json.encode(sorted(self.skipped)).decode(),
        }
        write_bytes(folder / STATE, save(tensors, header))

    def load(self, folder: Path) -> None:
        """Continue from the state in ``folder``.

        Raises:
            CorruptFile: The file is damaged.
            UsageError: It belongs to another training.
        """
        path = folder / STATE
        try:
            with safe_open(path, framework="pt") as file:
                header: dict[str, str] = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise CorruptFile(f"{path} is damaged: {error}.", hint="Start over with --restart.") from error
        if header.get("request") != self.request or header.get("schema") != str(SCHEMA):
            raise other_training(folder)
        self.losses = tensors.pop("losses").tolist()
        self.seconds = float(header["seconds"])
        self.evaluations = msgspec.json.decode(header["evaluations"], type=list[Evaluated])
        self.skipped = msgspec.json.decode(header["skipped"], type=set[int])
        self.module.load_state_dict(
            {name.removeprefix("module."): tensor for name, tensor in tensors.items() if name.startswith("module.")}
        )
        for name, parameter in self.module.named_parameters():
            if f"step.{name}" in tensors:
                self.optimizer.state[parameter] = {
                    moment: tensors[f"{moment}.{name}"].to(parameter.device) for moment in _MOMENTS
                }


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A module's tensors on the CPU, by name."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}


def other_training(folder: Path) -> UsageError:
    """Say that ``folder`` is taken."""
    return UsageError(
        f"{folder} holds another training: other parameters, backbone, data or code.",
        hint="Choose another --output, or give --restart to replace it.",
    )
