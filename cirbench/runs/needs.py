"""What a run rests on, in the order in which it is got: annotations, images, weights, training data and checkpoints."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

from cirbench.backbones.families import locate_weights
from cirbench.benchmarks.annotation_files import VARIABLE
from cirbench.benchmarks.catalogue import load_protocol as load_annotations
from cirbench.benchmarks.files import plan as planning
from cirbench.benchmarks.images import image_files
from cirbench.errors import CirbenchError, MissingData
from cirbench.runs.config import to_command
from cirbench.support.console import typed
from cirbench.support.needs import UNKNOWN, Need, is_command, need_lines, size_of
from cirbench.training.checkpoint import read_card
from cirbench.training.data.named import find_named, named_sources
from cirbench.training.data.shards import are_fetched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cirbench.methods.interface import MethodSpec
    from cirbench.protocol import EvaluationProtocol
    from cirbench.runs.config import Entrant, Resolved
    from cirbench.training.data import Kind, NamedSource, Source

DATA = Path("data")
"""The data root that commands name where none is set."""
OUTPUT = "CHECKPOINT"


def needs_of_run(
    resolved: Resolved,
    load_protocol: Callable[[], EvaluationProtocol],
    open_source: Callable[[str, Kind], Source],
    *,
    backbone_is_loaded: bool = False,
) -> tuple[Need, ...]:
    """List everything that a run rests on, there or missing, each thing once; no network is asked.

    Args:
        resolved: The run.
        load_protocol: Loads its protocol.
        open_source: Opens training data for what a method looks at.
        backbone_is_loaded: Whether the backbone is in memory.
    """
    found = [*_needs_of_data(resolved, load_protocol)]
    if not backbone_is_loaded and resolved.backbone is not None:
        found.append(_weights(resolved, resolved.backbone))
    for entrant in resolved.entrants:
        found += _needs_of_training(resolved, entrant, open_source)
    return tuple(dict.fromkeys(found))


def incomplete(resolved: Resolved, needs: tuple[Need, ...]) -> MissingData | None:
    """The error that lists all that is missing; ``None`` where nothing stops the run."""
    missing = [need for need in needs if not need.there]
    if not any(need.blocks for need in needs):
        return None
    count = "One thing is" if len(missing) == 1 else f"{len(missing)} things are"
    return MissingData(
        f"{count} missing for a run on {resolved.entry.id}{_with(resolved.backbone)}:",
        hint="\n".join([*need_lines(missing), *then_lines(resolved, needs)]),
    )


def _with(backbone: str | None) -> str:
    return "" if backbone is None else f" with {backbone}"


def then_lines(resolved: Resolved, needs: tuple[Need, ...]) -> list[str]:
    """The command that follows the others: the run's own, unless a way to a checkpoint has to be chosen first."""
    if any(need.what == "checkpoint" and need.blocks for need in needs):
        return []
    return ["Then:", f"    {_command(resolved)}"]


def _command(resolved: Resolved, **changes: object) -> str:
    """The command of this run, with the data root that the commands before it name."""
    given = {} if _named_root(resolved) is not None else {"data_root": str(DATA.absolute())}
    return to_command(resolved.config, **given, **changes)


def _named_root(resolved: Resolved) -> Path | None:
    if resolved.data_root is not None:
        return resolved.data_root
    return Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None


def _root(resolved: Resolved) -> Path | None:
    """The data root, if there is one."""
    root = _named_root(resolved)
    return root if root is not None and root.is_dir() else None


def _needs_of_data(resolved: Resolved, load_protocol: Callable[[], EvaluationProtocol]) -> Iterator[Need]:
    entry, root = resolved.entry, _root(resolved)
    try:
        protocol = load_protocol()
    except MissingData as error:
        planned: list[Need] = []
        if entry.folder is None and planning.dataset_files(entry.id).annotations:
            plan = planning.plan(entry.id, root=root)
            wanted = ("annotations", "images") if resolved.needs_images else ("annotations",)
            of_data = planning.needs_of(plan, _named_root(resolved) or DATA)
            planned = [need for need in of_data if need.what in wanted]
        if root is not None and not any(need.blocks and need.what == "annotations" for need in planned):
            try:
                load_annotations(entry.address, root)
            except MissingData as unread:  # damaged, or what no plan knows of
                planned.insert(0, Need("annotations", unread.message, False, how=_hint(unread)))
        if not any(need.blocks for need in planned):
            planned.append(Need("images", error.message, False, how=_hint(error)))
        elif planned[-1].blocks and not any(need.blocks and need.what == "annotations" for need in planned):
            # The annotations are read: the error names the images, where they were looked for, and how to go without.
            how = (*planned[-1].how, error.message, *_hint(error)[-1:])
            planned[-1] = dataclasses.replace(planned[-1], how=how)
        yield from planned
        return
    yield Need("annotations", f"{protocol.name} ({protocol.digest[:8]}): {len(protocol.queries):,} queries", True)
    for files in image_files(protocol) if resolved.needs_images else ():
        left = len(files.missing)
        which = f"{files.collection}: {len(files.names):,} images"
        yield Need("images", which if not left else f"{which}, {left:,} of them missing, as allowed", True)


def _weights(resolved: Resolved, backbone: str) -> Need:
    config = resolved.config
    file = None if config.weights is None else Path(config.weights)
    located = locate_weights(backbone, file)
    which = backbone if file is None else f"{backbone}, from {file}"
    if located.there:
        return Need("weights", which, True)
    if located.command is None:
        return Need("weights", f"{which}: there is no such file", False)
    how = ("The run fetches them by itself where a network is; to fetch them now:", located.command)
    return Need("weights", which, False, size_of([located.size]), how, automatic=True)


def _needs_of_training(
    resolved: Resolved, entrant: Entrant, open_source: Callable[[str, Kind], Source]
) -> Iterator[Need]:
    spec, checkpoint = entrant.spec, resolved.config.checkpoint
    if spec.trainer is None:
        return
    if checkpoint is not None:
        try:
            card = read_card(Path(checkpoint))
            yield Need("checkpoint", f"{checkpoint}: {card.method}, trained on {card.data}", True)
        except MissingData as error:
            how = (*_hint(error), *_ways(resolved, entrant))
            yield Need("checkpoint", error.message, False, how=how)
    elif (data := resolved.data_for(spec)) is None:
        yield Need(
            "checkpoint", f"{spec.name} is trained, and no checkpoint is given", False, how=_ways(resolved, entrant)
        )
    else:
        yield from _needs_of_source(resolved, data, spec.trains_on, open_source)


def _needs_of_source(
    resolved: Resolved, data: str, kind: Kind, open_source: Callable[[str, Kind], Source]
) -> Iterator[Need]:
    named = find_named(data)
    if named is not None:
        planned = named[0].needs(_named_root(resolved), kind)
        yield from (need for need in planned if not need.there)
        if any(need.blocks for need in planned):
            return
    elif data.startswith(("http://", "https://")) and not are_fetched(data):
        how = ("They are fetched into the cache when the training begins.",)
        yield Need("training data", data, False, UNKNOWN, how, automatic=True)
        return
    try:
        source = open_source(data, kind)
        yield Need("training data", f"{source.name}: {len(source.samples):,} samples", True)
    except MissingData as error:
        yield Need("training data", error.message, False, how=_hint(error))


def _ways(resolved: Resolved, entrant: Entrant) -> tuple[str, ...]:
    """How to get a checkpoint: trained in the same run, or as its authors have it."""
    spec = entrant.spec
    example = _example(spec)
    root = _named_root(resolved)
    lines = [f"Train it in the same run, for instance on {example.name}; the checkpoint is kept:"]
    left = [need for need in example.needs(root, spec.trains_on) if need.blocks]
    if left and example.corpus:
        plan = example.plan(root)
        files = plan.annotations if spec.trains_on == "texts" else plan.left
        size = size_of(file.bytes for file in files)
        lines = [f"Train it in the same run, for instance on {example.name} ({size}); the checkpoint is kept:"]
        lines.append(f"cirbench data get {example.name} --data-root {typed(root or DATA)}")
        lines[-1] += " --annotations-only" if spec.trains_on == "texts" else ""
    lines.append(_command(resolved, train_data=example.name, checkpoint=None))
    training = "".join(f" --set {typed(f'{name}={value}')}" for name, value in resolved.config.train.items())
    ways = ways_to_checkpoint(spec, resolved.backbone or "NAME", training)
    return (*lines, *ways, f"Then add --checkpoint {OUTPUT}.")


def ways_to_checkpoint(spec: MethodSpec, backbone: str, training: str = "") -> tuple[str, ...]:
    """The lines by which a method's SPEC says how to get a checkpoint for a backbone."""
    usual = "Train one by itself:\ncirbench train {method} --backbone {backbone} --data DATA{training}"
    usual += f" --output {OUTPUT}"
    way = spec.checkpoints.get(backbone, spec.checkpoints.get("*", usual))
    return tuple(way.format(method=typed(spec.name), backbone=typed(backbone), training=training).split("\n"))


def _example(spec: MethodSpec) -> NamedSource:
    """A named source that the method can be trained on: the first that is not drawn."""
    fitting = [source for source in named_sources().values() if spec.trains_on in source.kinds]
    return next((source for source in fitting if not source.counted), fitting[0])


def _hint(error: CirbenchError) -> tuple[str, ...]:
    lines = (error.hint or "").split("\n")
    return tuple(line.strip() if is_command(line.strip()) else line for line in lines if line.strip())
