"""Check a method against the rules of the interface, by running it; and what trains it, by a few steps."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from cirbench.errors import CirbenchError, excerpt, some
from cirbench.methods.interface import (
    ComposedQuery,
    Disclosure,
    GalleryFitted,
    Need,
    Picture,
    Scorer,
    Supervision,
)
from cirbench.methods.training import train_method, training_parameters, training_request
from cirbench.ranking import unit_rows
from cirbench.support.parameters import describe
from cirbench.support.plugins import Finding
from cirbench.training.checkpoint import read_card
from cirbench.training.interface import HasParameterGroups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import torch
    from numpy.typing import NDArray

    from cirbench.backbones.interface import Backbone
    from cirbench.methods.interface import Method, MethodSpec
    from cirbench.methods.loading import CheckedReranker
    from cirbench.protocol import Item, Query
    from cirbench.training.data import Source
    from cirbench.training.train import Request

TOLERANCE = 1e-4
"""How far a unit row may move when other items are in its batch: more than rounding, less than a neighbour."""
_IMPORTS_TORCH = 3
"""The exit status of a process that found torch imported."""
_BRIEF: Mapping[str, Any] = {"steps": 2, "batch_size": 8, "precision": "fp32"}
_REPEATED = 10
"""Steps on one batch, with the same random numbers, after which its loss is expected to be smaller."""
_SAME_LOSS = 1e-4
"""How far the losses of one and of two processes may be apart: more than rounding, less than another gradient."""


def check_spec(spec: MethodSpec, reference: str) -> list[Finding]:
    """Check the light half of a method.

    Args:
        spec: The SPEC.
        reference: How it is loaded, ``"package:SPEC"`` or ``"file.py:Class"``.
    """
    return [
        Finding("the SPEC is complete", "; ".join(_gaps(spec)) or None),
        Finding("loading the SPEC does not import torch", _heavy(reference)),
    ]


def check_method(make: Callable[[], Method], items: Sequence[Item], queries: Sequence[Query]) -> list[Finding]:
    """Check what a method returns.

    Args:
        make: Builds a new instance of the method, with nothing remembered.
        items: A few gallery items.
        queries: A few queries.
    """

    def fresh() -> Method:
        method = make()
        if isinstance(method, GalleryFitted):
            method.fit_gallery(items)
        return method

    sides: tuple[tuple[str, Callable[[list[int]], NDArray[np.float32]]], ...] = (
        ("gallery items", lambda rows: fresh().encode_gallery([items[row] for row in rows])[:]),
        ("queries", lambda rows: fresh().encode_queries([queries[row] for row in rows])[:]),
    )
    findings: list[Finding] = []
    whole: list[NDArray[np.float32]] = []
    for (kind, encode), count in zip(sides, (len(items), len(queries)), strict=True):
        try:
            rows_ND = encode(list(range(count)))
            unit_rows(_flat(rows_ND), [f"{kind[:-1]} {number}" for number in range(count)])
        except CirbenchError as error:
            return [*findings, Finding(f"{kind} become finite float32 rows that have a direction", error.message)]
        whole.append(rows_ND)
        findings.append(Finding(f"{kind} become finite float32 rows that have a direction"))
        findings.extend(_stable(kind, encode, rows_ND))
    findings.extend(_scores(fresh, *whole))
    return findings


def check_reranker(
    make: Callable[[], CheckedReranker], items: Sequence[Item], queries: Sequence[Query]
) -> list[Finding]:
    """Check what a re-ranker returns.

    Args:
        make: Builds a new instance of the re-ranker, with nothing remembered.
        items: A few gallery items.
        queries: A few queries.
    """
    pictures = [Picture(item.image) for item in items]
    scores = np.linspace(1, 0, len(items), dtype=np.float32)

    def judged() -> list[NDArray[np.float32]]:
        reranker = make()
        return [reranker.rerank(ComposedQuery.of(query), pictures, scores) for query in queries]

    rule = "items get finite float32 judgements, one each"
    try:
        once = judged()
        make().rerank(ComposedQuery.of(queries[0]), pictures[:1], scores[:1])
    except CirbenchError as error:
        return [Finding(rule, error.message)]
    same = all(np.array_equal(one, other) for one, other in zip(once, judged(), strict=True))
    apart = any((each != each[0]).any() for each in once)
    return [
        Finding(rule),
        Finding(
            "the same items get the same judgements twice", None if same else "two runs differ: is a seed missing?"
        ),
        Finding("items get different judgements", None if apart else "all items of each query get the same judgement"),
    ]


def check_objective(spec: MethodSpec, backbone: Backbone, name: str, backbone_name: str) -> list[Finding]:
    """Check the loss of a method and its gradients, on one batch and on two processes.

    Args:
        spec: The method.
        backbone: What it is trained from; it is copied.
        name: What the command line calls the method.
        backbone_name: And the backbone.
    """
    parameters = training_parameters(spec, backbone.identity.name, _BRIEF)
    request = training_request(spec, backbone, _some_samples(spec), parameters)
    findings = [*check_loss(request)]
    if all(finding.problem is None for finding in findings):
        findings.append(_on_two_processes(spec, backbone, name, backbone_name))
    return findings


def check_loss(request: Request) -> Iterator[Finding]:
    """Check the loss of a batch, its gradients, and that steps on this batch make it smaller."""
    import torch

    from cirbench.training.loop import Step, autocast, optimizer_for
    from cirbench.training.train import built

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
        for number in range(_REPEATED):
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
        course = f"{losses[0]:.6g} to {losses[-1]:.6g} in {_REPEATED} steps"
        yield Finding(
            "the loss falls on one batch that is repeated",
            None if falls else f"it went from {course}: is the learning rate {parameters.lr:g} right, and the sign?",
            course if falls else None,
        )


def train_briefly(spec: MethodSpec, backbone: Backbone, output: Path) -> Path:
    """Train a method for two steps, and return the folder of its checkpoint."""
    parameters = training_parameters(spec, backbone.identity.name, _BRIEF)
    return train_method(spec, backbone, _some_samples(spec), parameters, output=output)


def _samples_for(spec: MethodSpec) -> str:
    """The name of the drawn samples that a method is checked on."""
    return "scenes:triplets:64" if spec.needs_triplets else "scenes:64"


def _some_samples(spec: MethodSpec) -> Source:
    from cirbench.training.data import open_source

    return open_source(_samples_for(spec))


def _stable(
    kind: str, encode: Callable[[list[int]], NDArray[np.float32]], rows_ND: NDArray[np.float32]
) -> Iterator[Finding]:
    count = len(rows_ND)
    again = encode(list(range(count)))
    yield Finding(
        f"the same {kind} give the same bytes twice",
        None if np.array_equal(rows_ND, again) else "two runs differ: is a seed missing?",
    )
    alone = np.concatenate([encode([row]) for row in range(count)])
    yield _close(f"{kind} do not depend on their batch", rows_ND, alone)
    backwards = encode(list(range(count))[::-1])[::-1]
    yield _close(f"{kind} do not depend on their order", rows_ND, backwards)


def _scores(
    make: Callable[[], Method], gallery_ND: NDArray[np.float32], queries_QD: NDArray[np.float32]
) -> Iterator[Finding]:
    method = make()
    rule = "queries can be scored against the gallery"
    if not isinstance(method, Scorer):
        shapes = f"queries have {queries_QD.shape[1]} dimensions and gallery items {gallery_ND.shape[1]}"
        yield Finding(rule, None if gallery_ND.shape[1] == queries_QD.shape[1] else shapes)
        return
    try:
        scores_QN = method.score(queries_QD, gallery_ND)
        parts = np.concatenate([method.score(queries_QD, part) for part in np.array_split(gallery_ND, 3)], axis=1)
    except CirbenchError as error:
        yield Finding(rule, error.message)
        return
    yield Finding(rule)
    same = np.allclose(scores_QN, parts, rtol=TOLERANCE, atol=TOLERANCE)
    yield Finding("scores do not depend on the chunk", None if same else "another chunk of the gallery, other scores")


def _flat(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The several vectors of each query or item behind each other, as one row."""
    return rows.reshape(len(rows), -1)


def _close(rule: str, one_ND: NDArray[np.float32], other_ND: NDArray[np.float32]) -> Finding:
    if one_ND.shape != other_ND.shape:
        return Finding(rule, f"the shape is {other_ND.shape} instead of {one_ND.shape}")
    names = [str(row) for row in range(len(one_ND))]
    moved = float(np.abs(unit_rows(_flat(one_ND), names) - unit_rows(_flat(other_ND), names)).max())
    return Finding(rule, None if moved <= TOLERANCE else f"a unit row moves by {moved:.2g}")


def _gaps(spec: MethodSpec) -> Iterator[str]:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", spec.name):
        yield f"the name {spec.name!r} is not made of a-z, 0-9 and hyphens"
    if not spec.title.strip():
        yield "the title is empty"
    if spec.supervision not in get_args(Supervision):
        yield f"the supervision {spec.supervision!r} is not one of {', '.join(get_args(Supervision))}"
    for field in ("uses_llm", "uses_triplets"):
        if getattr(spec, field) not in get_args(Disclosure):
            yield f"{field} is {getattr(spec, field)!r} instead of yes, no or unknown"
    for field in ("uses_shared_concept", "transductive"):
        if not callable(stated := getattr(spec, field)) and stated not in get_args(Disclosure):
            yield f"{field} is {stated!r} instead of yes, no, unknown or a function of the parameters"
    if unknown := set(spec.needs) - set(get_args(Need)):
        yield f"needs names {', '.join(sorted(unknown))} instead of {' or '.join(get_args(Need))}"
    if spec.trainer is not None and "backbone" not in spec.needs:
        yield "a method with a trainer is trained on a backbone, and needs does not name it"
    if (spec.trainer is None) != (spec.training is None):
        yield "trainer and training belong together"
    if (spec.trainer is None) != (spec.supervision == "training-free"):
        yield f"a method {'without' if spec.trainer is None else 'with'} trainer cannot be {spec.supervision}"
    for kind in filter(None, (spec.parameters, spec.training)):
        yield from (
            f"the docstring of {kind.__name__} does not describe {f.name}" for f in describe(kind) if not f.text
        )


def _heavy(reference: str) -> str | None:
    program = (
        "import sys; from cirbench.support.plugins import load_object; "
        f"load_object(sys.argv[1], owner='the method'); sys.exit({_IMPORTS_TORCH} * ('torch' in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, reference],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == _IMPORTS_TORCH:
        return "torch is imported: move what needs it into the implementation"
    return (done.stderr.strip().splitlines() or ["it failed"])[-1] if done.returncode else None


_REACHED = "gradients reach the weights"


def _gradients(module: torch.nn.Module) -> Finding:
    import torch

    wanted = {name: weights.grad for name, weights in module.named_parameters() if weights.requires_grad}
    wrong = [name for name, grad in wanted.items() if grad is not None and not bool(torch.isfinite(grad).all())]
    if wrong:
        return Finding(_REACHED, f"those of {some(wrong)} are not finite numbers")
    none = [name for name, grad in wanted.items() if grad is None or not bool(grad.any())]
    if len(none) == len(wanted):
        return Finding(_REACHED, "no weight gets any: is the loss computed under no_grad, or detached?")
    note = f"{len(none)} of {len(wanted)} get none: {some(none)}" if none else None
    return Finding(_REACHED, None, note)


def _on_two_processes(spec: MethodSpec, backbone: Backbone, name: str, backbone_name: str) -> Finding:
    rule = "two processes have the loss of one"
    with tempfile.TemporaryDirectory(prefix="cirbench-") as folder:
        one, two = Path(folder) / "one", Path(folder) / "two"
        train_briefly(spec, backbone, one)
        settings = [word for key, value in _BRIEF.items() for word in ("--set", f"{key}={value}")]
        done = subprocess.run(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
                *("-m", "cirbench", "train", name, "--backbone", backbone_name, "--data", _samples_for(spec)),
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
    if apart <= _SAME_LOSS * max(1.0, *map(abs, ours)):
        return Finding(rule, None, f"{apart:.1g} apart after {len(ours)} steps")
    return Finding(
        rule,
        f"{_listed(theirs)} on two and {_listed(ours)} on one: cut random numbers with batch.local_shard, compare with "
        "the rows of all processes with gather_rows, and count from batch.first",
    )


def _listed(losses: list[float]) -> str:
    return ", ".join(f"{loss:.6g}" for loss in losses)


def _kind(value: object) -> str:
    import torch

    return f"a tensor of shape {(*value.shape,)}" if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"
