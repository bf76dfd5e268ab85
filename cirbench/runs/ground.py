"""What a run rests on: listed in the order in which it is got, and what all its methods share, loaded.

Needs are annotations, images, weights, training data and checkpoints, there or missing. What methods share is the
protocol with its images, and the backbone with its weights. A finished run is recognised without either, so what looks
for needs is imported where they are listed.
"""

from __future__ import annotations

import dataclasses
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cirbench.benchmarks.annotation_files import VARIABLE
from cirbench.benchmarks.catalogue import load_protocol
from cirbench.benchmarks.images import Lost, find_lost, image_files, require_images
from cirbench.errors import CirbenchError, MissingData
from cirbench.runs.config import to_command
from cirbench.support import console
from cirbench.support.console import typed
from cirbench.support.needs import UNKNOWN, Need, entry_lines, is_command, need_lines, size_of
from cirbench.training.checkpoint import read_card

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cirbench.backbones.encoder import Encoder
    from cirbench.backbones.interface import Backbone
    from cirbench.methods.interface import MethodSpec
    from cirbench.protocol import EvaluationProtocol
    from cirbench.runs.config import Entrant, Resolved
    from cirbench.training.data import Kind, NamedSource, Source


class Ground:
    """The protocol and the backbone of a resolved configuration, each loaded when it is first needed.

    Configurations that differ in methods and parameters alone may share one.
    """

    def __init__(
        self, resolved: Resolved, protocol: EvaluationProtocol | None = None, backbone: Backbone | None = None
    ) -> None:
        self._resolved = resolved
        self._given = protocol
        self.has_backbone = resolved.backbone is not None or backbone is not None
        if backbone is not None:
            self.backbone = backbone

    @cached_property
    def protocol(self) -> EvaluationProtocol:
        """The protocol, loaded, whole, with the file of every image unless some may be missing.

        Raises:
            MissingData: Annotations or images are missing; the message lists the images.
        """
        config = self._resolved.config
        protocol = self._given or load_protocol(self._resolved.entry.address, self._resolved.data_root)
        if self._resolved.needs_images:
            require_images(protocol, allow_missing=config.allow_missing)
        elif protocol.gallery is None:
            raise MissingData(
                f"The gallery of {protocol.name} is not available, so nothing can be ranked against it.",
                hint=f"Get the list of its images: cirbench data plan {self._resolved.entry.dataset}",
            )
        return protocol

    @cached_property
    def lost(self) -> Lost:
        """What cannot be evaluated of what was asked for; nothing, unless images are allowed to miss."""
        config = self._resolved.config
        asked = self.protocol if config.limit is None else self.protocol.first(config.limit)
        if not config.allow_missing:
            return Lost(asked, frozenset())
        lost = find_lost(asked, console.progress)
        if lost.images:
            console.say(
                f"{len(lost.images)} images are missing or broken; {len(lost.queries)} of {len(asked.queries)} queries "
                "lose one that they need and count as misses."
            )
        return lost

    @cached_property
    def backbone(self) -> Backbone:
        """The backbone, with its weights; only where the methods run on one (`has_backbone`)."""
        from cirbench.backbones import load_backbone

        config = self._resolved.config
        assert self._resolved.backbone is not None
        return load_backbone(
            self._resolved.backbone,
            weights=None if config.weights is None else Path(config.weights),
            ema=config.ema,
            activation=config.activation,
            preprocessing=config.preprocessing,
            precision=config.precision,
            device=config.device,
        )

    def encoder(self) -> Encoder:
        """The backbone with the feature store, one for each method, so that each method's own texts are counted."""
        from cirbench.backbones.encoder import Encoder
        from cirbench.backbones.store import default_store

        return Encoder(
            self.backbone,
            default_store(),
            batch_size=self._resolved.config.batch_size or "auto",
            progress=console.progress,
        )

    def describe_truncation(self, method: str, texts: int) -> str:
        """Say how many of a method's texts were cut, how many queries have captions that are, and by how much."""
        backbone = self.backbone
        sentences = [" and ".join(query.captions).split() for query in self.lost.available.queries]
        cut = [_words_cut(backbone, words) for words in sentences]
        queries = sum(number > 0 for number in cut)
        return (
            f"{method}: {texts} different texts are longer than the {backbone.context_length} tokens that "
            f"{backbone.identity.name} reads, and were cut at their ends. The captions of {queries} of {len(cut)} "
            f"queries are too long by themselves, by up to {max(cut, default=0)} words."
        )

    def describe(self) -> Iterator[str]:
        """Say what is loaded, and how much is to be encoded, line by line."""
        whole, protocol = self.protocol, self.lost.available
        gallery = 0 if protocol.gallery is None else len(protocol.gallery)
        queries = f"{len(protocol.queries)} of {len(whole.queries)} queries, gallery {gallery}"
        yield from entry_lines("there", "protocol", f"{whole.name} ({whole.digest[:8]}): {queries}")
        if not self.has_backbone:
            yield from entry_lines("there", "backbone", "none is needed")
            return
        encoder = self.encoder()
        backbone = encoder.backbone
        identity = f"{backbone.identity.precision} on {backbone.device}, weights {backbone.identity.weights[:12]}"
        yield from entry_lines("there", "backbone", f"{backbone.identity.name}, {identity}")
        if protocol.gallery is not None and protocol.gallery.images is not None:
            new = encoder.count_new(protocol.gallery.items)
            seconds = f", at least {new * encoder.seconds_per_image():.0f} s" if new else ""
            encoded = f"{gallery - new} gallery images are cached, {new} are to be encoded"
            size = f"{new * backbone.dim * 4 / 1e6:.1f} MB{seconds}"
            yield from entry_lines("to do" if new else "there", "features", f"{encoded} ({size})")


def _words_cut(backbone: Backbone, words: Sequence[str]) -> int:
    """How many words at the end of a caption the text tower does not read, by halving what may be."""
    if not backbone.overlong([" ".join(words)])[0]:
        return 0
    fits, too_many = 0, len(words)
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if backbone.overlong([" ".join(words[:middle])])[0]:
            too_many = middle
        else:
            fits = middle
    return len(words) - fits


DATA = Path("data")
"""The data root that commands name where none is set."""
OUTPUT = "CHECKPOINT"


def needs_of_run(
    resolved: Resolved,
    load: Callable[[], EvaluationProtocol],
    open_source: Callable[[str, Kind], Source],
    *,
    backbone_is_loaded: bool = False,
) -> tuple[Need, ...]:
    """List everything that a run rests on, there or missing, each thing once; no network is asked.

    Args:
        resolved: The run.
        load: Loads its protocol.
        open_source: Opens training data for what a method looks at.
        backbone_is_loaded: Whether the backbone is in memory.
    """
    found = [*_needs_of_data(resolved, load)]
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


def _needs_of_data(resolved: Resolved, load: Callable[[], EvaluationProtocol]) -> Iterator[Need]:
    from cirbench.benchmarks.files import plan as planning

    entry, root = resolved.entry, _root(resolved)
    try:
        protocol = load()
    except MissingData as error:
        planned: list[Need] = []
        if entry.folder is None and planning.dataset_files(entry.id).annotations:
            plan = planning.plan(entry.id, root=root)
            wanted = ("annotations", "images") if resolved.needs_images else ("annotations",)
            of_data = planning.needs_of(plan, _named_root(resolved) or DATA)
            planned = [need for need in of_data if need.what in wanted]
        if root is not None and not any(need.blocks and need.what == "annotations" for need in planned):
            try:
                load_protocol(entry.address, root)
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
    from cirbench.backbones.families import locate_weights

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
    from cirbench.training.data.named import find_named
    from cirbench.training.data.shards import are_fetched

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
    example = _example_source(spec)
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


def _example_source(spec: MethodSpec) -> NamedSource:
    """A named source that the method can be trained on: the first that is not drawn."""
    from cirbench.training.data.named import named_sources

    fitting = [source for source in named_sources().values() if spec.trains_on in source.kinds]
    return next((source for source in fitting if not source.counted), fitting[0])


def _hint(error: CirbenchError) -> tuple[str, ...]:
    lines = (error.hint or "").split("\n")
    return tuple(line.strip() if is_command(line.strip()) else line for line in lines if line.strip())
