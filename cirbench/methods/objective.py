"""Check the objective of a trained method, by taking a few steps of its training."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cirbench.errors import CirbenchError, excerpt, some
from cirbench.methods.training import train_method, training_parameters, training_request
from cirbench.support.plugins import Finding
from cirbench.training.checkpoint import read_card
from cirbench.training.data import open_source
from cirbench.training.interface import HasParameterGroups
from cirbench.training.loop import Step, autocast, optimizer_for
from cirbench.training.train import built

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cirbench.backbones.interface import Backbone
    from cirbench.methods.interface import MethodSpec
    from cirbench.training.train import Request

BRIEF: Mapping[str, Any] = {"steps": 2, "batch_size": 8, "precision": "fp32"}
REPEATED = 10
"""Steps on one batch, with the same random numbers, after which its loss is expected to be smaller."""
SAME_LOSS = 1e-4
"""How far the losses of one and of two processes may be apart: more than rounding, less than another gradient."""


def samples_for(spec: MethodSpec) -> str:
    """The drawn samples that a method is checked on."""
    return "scenes:triplets:64" if spec.needs_triplets else "scenes:64"


def train_briefly(spec: MethodSpec, backbone: Backbone, output: Path) -> Path:
    """Train a method for two steps, and return the folder of its checkpoint."""
    parameters = training_parameters(spec, backbone.identity.name, BRIEF)
    return train_method(spec, backbone, open_source(samples_for(spec)), parameters, output=output)


def check_objective(spec: MethodSpec, backbone: Backbone, name: str, backbone_name: str) -> list[Finding]:
    """Check the loss of a method and its gradients, on one batch and on two processes.

    Args:
        spec: The method.
        backbone: What it is trained from; it is copied.
        name: What the command line calls the method.
        backbone_name: And the backbone.
    """
    parameters = training_parameters(spec, backbone.identity.name, BRIEF)
    request = training_request(spec, backbone, open_source(samples_for(spec)), parameters)
    findings = [*check_loss(request)]
    if all(finding.problem is None for finding in findings):
        findings.append(_on_two_processes(spec, backbone, name, backbone_name))
    return findings


def check_loss(request: Request) -> Iterator[Finding]:
    """Check the loss of a batch, its gradients, and that steps on this batch make it smaller."""
    with built(request) as (objective, batches), batches.stream(0, 1) as stream:
        batch, device, parameters = next(stream), request.backbone.device, request.parameters
        with torch.no_grad(), autocast(parameters, device):
            loss = objective.loss(batch)
        rule = "the loss of a batch is one finite number"
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            yield Finding(rule, f"it is {_kind(loss)}: take the mean over the batch")
            return
        yield Finding(rule, None if math.isfinite(float(loss)) else f"it is {float(loss)}")

        groups = objective.parameter_groups if isinstance(objective, HasParameterGroups) else None
        step, optimizer = Step(objective, parameters, device), optimizer_for(objective.module, parameters, groups)
        losses = []
        for number in range(REPEATED):
            optimizer.zero_grad(set_to_none=True)
            try:
                losses.append(step(iter([batch]), 0).read())
            except RuntimeError as error:  # nothing in the loss requires a gradient
                yield Finding(_REACHED, excerpt(error))
                return
            if number == 0:
                found = _gradients(objective.module)
                yield found
                if found.problem is not None:
                    return
            optimizer.step()
        falls = losses[-1] < losses[0]
        told = f"{losses[0]:.6g} to {losses[-1]:.6g} in {REPEATED} steps"
        yield Finding(
            "the loss falls on one batch that is repeated",
            None if falls else f"it went from {told}: is the learning rate {parameters.lr:g} right, and the sign?",
            told if falls else None,
        )


_REACHED = "gradients reach the weights"


def _gradients(module: torch.nn.Module) -> Finding:
    wanted = {name: weights.grad for name, weights in module.named_parameters() if weights.requires_grad}
    wrong = [name for name, grad in wanted.items() if grad is not None and not bool(torch.isfinite(grad).all())]
    if wrong:
        return Finding(_REACHED, f"those of {some(wrong)} are not finite numbers")
    none = [name for name, grad in wanted.items() if grad is None or not bool(grad.any())]
    if len(none) == len(wanted):
        return Finding(_REACHED, "no weight gets any: is the loss computed under no_grad, or detached?")
    told = f"{len(none)} of {len(wanted)} get none: {some(none)}" if none else None
    return Finding(_REACHED, None, told)


def _on_two_processes(spec: MethodSpec, backbone: Backbone, name: str, backbone_name: str) -> Finding:
    rule = "two processes have the loss of one"
    with tempfile.TemporaryDirectory(prefix="cirbench-") as folder:
        one, two = Path(folder) / "one", Path(folder) / "two"
        train_briefly(spec, backbone, one)
        settings = [word for key, value in BRIEF.items() for word in ("--set", f"{key}={value}")]
        done = subprocess.run(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
                *("-m", "cirbench", "train", name, "--backbone", backbone_name, "--data", samples_for(spec)),
                *(*settings, "--device", str(backbone.device.type), "--output", str(two)),
            ],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["they failed"]
            return Finding(rule, excerpt(next((line for line in said if line.startswith("error: ")), said[-1])))
        try:
            ours, theirs = read_card(one).losses, read_card(two).losses
        except CirbenchError as error:
            return Finding(rule, error.message)
    apart = max(abs(mine - other) for mine, other in zip(ours, theirs, strict=True))
    if apart <= SAME_LOSS * max(1.0, *map(abs, ours)):
        return Finding(rule, None, f"{apart:.1g} apart after {len(ours)} steps")
    return Finding(
        rule,
        f"{_listed(theirs)} on two and {_listed(ours)} on one: cut random numbers with batch.local_shard, compare with "
        "the rows of all processes with gather_rows, and count from batch.first",
    )


def _listed(losses: list[float]) -> str:
    return ", ".join(f"{loss:.6g}" for loss in losses)


def _kind(value: object) -> str:
    return f"a tensor of shape {(*value.shape,)}" if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"
