"""From a configuration to finished runs: plan each method's job, evaluate what is not finished, record it.

A sweep is a session for each value of a parameter: expanded, checked as a whole, and then run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import os
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import msgspec

from cirbench.backbones.interface import settle_precision
from cirbench.errors import UnknownName, UsageError
from cirbench.methods.evaluate import evaluate
from cirbench.methods.interface import GalleryFitted, MethodSpec, find_method
from cirbench.methods.loading import build, checked
from cirbench.runs.config import Entrant, Resolved, parse_seeds, resolve, to_toml
from cirbench.runs.folder import Run, backbone_of, choose_label, combine, finished, load_baselines, load_run, save_run
from cirbench.runs.ground import Ground, incomplete, needs_of_run, then_lines
from cirbench.runs.record import (
    NOT_STATED,
    RESULT,
    Identity,
    Job,
    backbone_record,
    configuration_of,
    device_name,
    result_of,
)
from cirbench.support import console, memo
from cirbench.support.code import Code, current_code
from cirbench.support.console import typed
from cirbench.support.distributed import get_context
from cirbench.support.files import digest, lock_of, locked
from cirbench.support.memo import files_read
from cirbench.support.needs import Need, entry_lines, need_lines
from cirbench.support.parameters import named_files, takes_list
from cirbench.training.checkpoint import count_overlap, open_checkpoint, read_seen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cirbench.benchmarks.interface import ProtocolEntry
    from cirbench.methods.evaluate import Evaluation
    from cirbench.methods.interface import Disclosure, Method
    from cirbench.protocol import EvaluationProtocol
    from cirbench.runs.config import RunConfig
    from cirbench.runs.reranking import Second
    from cirbench.runs.schema import BackboneRecord
    from cirbench.support.memo import Signature
    from cirbench.training.checkpoint import Card
    from cirbench.training.data import Kind, Source
    from cirbench.training.train import Request


class Session:
    """One configuration: resolved when it is made, loaded when it is planned or run.

    Args:
        config: What was asked for, or that resolved already.
        ground: The protocol and the backbone, where they are loaded already.

    Raises:
        CirbenchError: See `resolve`.
    """

    _made: ClassVar[bool] = False

    def __init__(self, config: RunConfig | Resolved, ground: Ground | None = None) -> None:
        # What is given, or was loaded by an earlier session of this process, was read from files that nobody noted.
        first = not Session._made and ground is None and not isinstance(config, Resolved)
        self._files: dict[str, Signature] | None = {} if first else None
        Session._made = True
        with files_read(self._files):
            self.resolved = config if isinstance(config, Resolved) else resolve(config)
        self.ground = ground or Ground(self.resolved)
        self._overlap: dict[str, int] = {}
        self._sources: dict[tuple[str, Kind], Source] = {}

    @cached_property
    def needs(self) -> tuple[Need, ...]:
        """Everything that the run rests on, there or missing."""
        return needs_of_run(
            self.resolved,
            lambda: self.ground.protocol,
            self._source,
            backbone_is_loaded="backbone" in self.ground.__dict__,
        )

    def plan(self) -> list[str]:
        """Say what is there, what is missing with its commands, and what `run` would do; and do none of it."""
        self._files = None  # what is read from here on is not written down
        entrants, same = self.resolved.entrants, self._same_for_every_seed()
        if all(need.there for need in self.needs):
            others = need_lines(need for need in self.needs if need.what not in ("annotations", "weights"))
            given = (
                line for run in self.baselines for line in entry_lines("there", run.result.method.name, str(run.folder))
            )
            planned = (line for each in entrants for line in self._planned(each))
            second = self._planned_second()
            return [*self.ground.describe(), *others, *given, *planned, *second, *([same] if same else [])]
        to_do = (line for each in entrants for line in self._to_do(each))
        return [*need_lines(self.needs), *to_do, *([same] if same else []), *then_lines(self.resolved, self.needs)]

    @cached_property
    def baselines(self) -> tuple[Run, ...]:
        """The runs that are given as baselines.

        Raises:
            MissingData: There is no finished run, or it is damaged.
            UsageError: They are of another protocol, or of another backbone than this one or than each other.
        """
        runs = load_baselines(self.resolved.baseline_runs, self.ground.protocol)
        shared = backbone_of(runs)
        if shared is not None and self.ground.has_backbone:
            mine = self.ground.backbone.identity
            if mine.digest != shared.digest:
                raise UsageError(
                    f"The baselines ran on {shared.name}, and this is {mine.name}.",
                    hint="Give runs on the same backbone, or --baselines none.",
                )
        return runs

    @cached_property
    def _second(self) -> Second | None:
        """The second stage, where there is one."""
        from cirbench.runs.reranking import Second

        return None if self.resolved.reranker is None else Second(self.resolved, self.ground)

    @cached_property
    def backbone(self) -> BackboneRecord:
        """What runs say of their backbone: of the one they run on, or else of the one of the given baselines."""
        if self.ground.has_backbone:
            return backbone_record(self.ground.backbone)
        return backbone_of(self.baselines) or backbone_record(None)

    def run(self, *, force: bool = False, verify: bool = False) -> tuple[Run, ...]:
        """Evaluate what is not finished yet; return every run, the baselines first.

        Args:
            force: Evaluate what is finished, too.
            verify: Recognise what is finished by the content of all files, not by their sizes and times.

        Raises:
            MissingData: Something is missing; the message lists all of it, each with its command.
        """
        key = None if force or self._files is None else self._key()
        if key is not None and not verify and (known := self._recalled(key)):
            return known
        with memo.by_content() if verify else contextlib.nullcontext():
            with files_read(self._files):
                if (error := incomplete(self.resolved, self.needs)) is not None:
                    raise error
                if same := self._same_for_every_seed():
                    console.say(same)
                # Everything is planned, and trained, before anything is evaluated: a mistake costs no time.
                given = self.baselines
                if self._second is not None:
                    self._second.require_depth()
                    given = (*given, *self._second.first_stages)
                jobs = [self.job(entrant, self._checkpoint(entrant)) for entrant in self.resolved.entrants]
            runs = (*given, *(self._finished(job, force=force) for job in jobs))
            if self._second is not None:
                asked = [run for run in runs if run.result.method.name in self.resolved.asked]
                runs += tuple(self._second.run([*self._second.first_stages, *asked], force=force))
        if key is not None and self._files is not None:
            memo.keep(key, [[str(run.folder), run.result.digest] for run in runs], self._files)
        return runs

    def _key(self) -> str | None:
        """What decides which runs are meant, but for the content of files; ``None`` where that is more than this."""
        if get_context().world_size > 1 or self.resolved.config.allow_missing or self._second is not None:
            return None
        entrants = [(each.reference, each.parameters, each.training, each.seed) for each in self.resolved.entrants]
        asked = [self.resolved.config, self.resolved.entry.id, self.resolved.backbone, entrants]
        codes = [_code_of(each.spec).digest for each in self.resolved.entrants]
        surroundings = {
            name: value
            for name, value in os.environ.items()
            if name.startswith(("CIRBENCH_", "HF_", "CUDA_", "TORCH_", "XDG_CACHE_")) or name == "HOME"
        }
        where = [str(Path.cwd()), surroundings, Path("/dev/nvidiactl").exists()]
        return digest(msgspec.to_builtins([asked, codes, where]))

    def _recalled(self, key: str) -> tuple[Run, ...]:
        """The runs that the same question led to before, if all is as it was then; nothing else is loaded."""
        known = [(Path(folder), digest) for folder, digest in memo.recall(key) or []]
        if not all((folder / RESULT).is_file() for folder, _ in known):
            return ()
        given = len(self.resolved.baseline_runs)
        runs = [load_run(folder) for folder, _ in known]
        if [run.result.digest for run in runs] != [digest for _, digest in known]:
            return ()
        if runs and (same := self._same_for_every_seed()):
            console.say(same)
        for run in runs[given:]:
            console.say(f"reused {run.folder}")
        return (*runs[:given], *(dataclasses.replace(run, reused=True) for run in runs[given:]))

    def job(self, entrant: Entrant, checkpoint: Path | None) -> Job:
        """Plan the evaluation of one method.

        Raises:
            CirbenchError: The checkpoint is damaged, or belongs to another method or backbone.
        """
        config, spec, card = self.resolved.config, entrant.spec, None
        if "joint backbone" in spec.needs:
            from cirbench.backbones.encoder import require_joint

            require_joint(self.ground.backbone)
        if checkpoint is not None:
            card = open_checkpoint(checkpoint, method=spec.name, backbone=self.ground.backbone.identity)
        identity = Identity(
            protocol=self.ground.protocol.digest,
            method=spec.name,
            parameters=msgspec.to_builtins(entrant.parameters),
            backbone=self.backbone.digest,
            checkpoint=None if card is None else card.weights,
            limit=config.limit,
            seed=entrant.seed,
            code=_code_of(spec),
            files=named_files(entrant.parameters),
            lost=sorted(self.ground.lost.images),
        )
        folder = identity.folder(config.output, self.resolved.entry.dataset)
        trained_here = spec.name in self._overlap  # which counted what it looks at
        overlap = self._overlap[spec.name] if trained_here else self._overlap_of(checkpoint, card)
        return Job(entrant, checkpoint, identity, folder, overlap)

    def _overlap_of(self, checkpoint: Path | None, card: Card | None) -> int:
        """Count the images of the protocol that a checkpoint was trained on, as far as it says which those were.

        Raises:
            CheckFailed: There are such images, and they are not allowed.
        """
        if checkpoint is None or card is None:
            return 0
        protocol, known = self.ground.protocol, read_seen(checkpoint)
        if known is None:
            return card.overlap.get(protocol.name, 0)
        allowed = self.resolved.config.allow_overlap or protocol.name in card.overlap
        return count_overlap(
            known,
            protocol,
            allowed=allowed,
            trained=f"those that {checkpoint} was trained on ({card.data})",
            hint="Evaluate another checkpoint",
        )

    def _same_for_every_seed(self) -> str:
        """Name the methods of several seeds that run once, since nothing random is left in them; or nothing."""
        asked = Counter(each.spec.name for each in self.resolved.entrants if each.spec.name in self.resolved.asked)
        once = [name for name, runs in asked.items() if runs < len(self.resolved.config.seeds)]
        return f"Seeds make no difference to {', '.join(once)}: one run is enough." if once else ""

    def _to_do(self, entrant: Entrant) -> Iterator[str]:
        """Say what will be done with a method once everything is there."""
        spec = entrant.spec
        data = self.resolved.data_for(spec)
        trains = f"trains{f' on {data}' if data else ''}, then " if entrant.training else ""
        yield from entry_lines(
            "to do", spec.name, f"{self._seed(entrant)}{trains}evaluates on {self.resolved.entry.id}"
        )

    def _seed(self, entrant: Entrant) -> str:
        return f"seed {entrant.seed}: " if len(self.resolved.config.seeds) > 1 else ""

    def _source(self, data: str, kind: Kind) -> Source:
        """Open training data, once for all methods that look at the same of it."""
        from cirbench.training.data import open_source

        if (data, kind) not in self._sources:
            self._sources[data, kind] = open_source(data, data_root=self.resolved.data_root, kind=kind)
        return self._sources[data, kind]

    def _planned(self, entrant: Entrant) -> Iterator[str]:
        """Say what will be done with a method, everything being there."""
        name, seed, job = entrant.spec.name, self._seed(entrant), self._known_job(entrant)
        if job is None:
            text = f"trains first, into {self._training(entrant).folder}; then encodes the gallery and evaluates"
            yield from entry_lines("to do", name, f"{seed}{text}")
        elif job.done:
            yield from entry_lines("there", name, f"{seed}finished, in {job.folder}")
        else:
            yield from entry_lines("to do", name, f"{seed}evaluates, into {job.folder}")

    def _planned_second(self) -> Iterator[str]:
        """Say what will be re-ranked, everything being there."""
        if self._second is None:
            return
        self._second.require_depth()
        asked = [each for each in self.resolved.entrants if each.spec.name in self.resolved.asked]
        jobs = [self._known_job(each) for each in asked]
        finished = [load_run(job.folder) for job in jobs if job is not None and job.done]
        left = [each.spec.name for each, job in zip(asked, jobs, strict=True) if job is None or not job.done]
        yield from self._second.plan([*self._second.first_stages, *finished], left)

    def _known_job(self, entrant: Entrant) -> Job | None:
        """The evaluation of a method; ``None`` where it has to be trained first."""
        if entrant.training is None:
            return self.job(entrant, self._given_checkpoint(entrant))
        request = self._training(entrant)
        return self.job(entrant, request.folder) if request.is_done else None

    def _checkpoint(self, entrant: Entrant) -> Path | None:
        """The checkpoint of a trained method: the given one, or one that is trained now and kept."""
        if entrant.training is None:
            return self._given_checkpoint(entrant)
        from cirbench.training.train import train

        request = self._training(entrant)
        if not request.is_done:
            self._files = None  # a training reads more files than a finished run rests on
        return train(request, display=console.progress)

    def _given_checkpoint(self, entrant: Entrant) -> Path | None:
        given = self.resolved.config.checkpoint
        return None if given is None or entrant.spec.trainer is None else Path(given)

    def _training(self, entrant: Entrant) -> Request:
        from cirbench.methods.training import training_request

        assert entrant.training is not None
        data = self.resolved.data_for(entrant.spec)
        assert data is not None
        source = self._source(data, entrant.spec.trains_on)
        request = training_request(entrant.spec, self.ground.backbone, source, entrant.training)
        from cirbench.runs.training import refuse_overlap

        allowed = self.resolved.config.allow_overlap
        overlap = refuse_overlap(request, [self.ground.protocol], allowed=allowed)
        self._overlap.update(dict.fromkeys([entrant.spec.name], sum(overlap.values())))
        return dataclasses.replace(request, overlap=overlap)

    def _finished(self, job: Job, *, force: bool) -> Run:
        """The run of a job: the one that is there, or one that is made now."""

        def make() -> None:
            evaluation, truncated_texts = self._executed(job)
            if truncated_texts:
                console.say(self.ground.describe_truncation(job.entrant.spec.name, truncated_texts))
            if get_context().is_main_process:  # the others have encoded their share
                self._recorded(job, evaluation, truncated_texts)

        on = self.ground.backbone.identity.name if self.ground.has_backbone else "no backbone"
        what = f"{job.entrant.spec.name} on {self.ground.protocol.name}, {on}"
        return finished(job.folder, job.identity, what, make, force=force)

    def _executed(self, job: Job) -> tuple[Evaluation, int]:
        """The method's answer to what is left of the protocol, and how many texts it had to cut."""
        encoder, spec = self.ground.encoder() if self.ground.has_backbone else None, job.entrant.spec
        method = build(spec, encoder, job.entrant.parameters, job.checkpoint)
        if _code_of(spec) != job.identity.code:
            raise UsageError(f"The code of {spec.name} was edited while it was being loaded.", hint="Run it again.")
        if encoder is None:
            return evaluate(method, self.ground.lost.available), 0
        return evaluate(method, self.ground.lost.available, encoder.backbone.device), encoder.truncated_texts

    def _recorded(self, job: Job, evaluation: Evaluation, truncated_texts: int) -> None:
        device = device_name(self.ground.backbone if self.ground.has_backbone else None)
        whole, result = result_of(job, self.ground, self.backbone, evaluation, truncated_texts, device)
        configuration = configuration_of(job, self.resolved, self.ground)
        save_run(job.folder, result, whole, self.ground.lost.protocol, configuration, identity=job.identity)


def run_object(
    method: Method,
    config: RunConfig,
    entry: ProtocolEntry,
    protocol: EvaluationProtocol | None = None,
    ground: Ground | None = None,
    baselines: Sequence[Run] = (),
) -> Run:
    """Evaluate an object that encodes by itself, and keep the run by its answers: what it holds is not known.

    Args:
        method: The object.
        config: Where and on what; ``method`` has the name that the object gets.
        entry: The protocol.
        protocol: The same, loaded; for one that no benchmark has.
        ground: The protocol, and the backbone that the object is built on; ``None`` where that is not stated.
        baselines: Runs on the same backbone, where that is not stated otherwise.
    """
    kind = type(method)
    reference = f"{kind.__module__}:{kind.__qualname__}"
    unknown: Disclosure = "unknown"
    spec = MethodSpec(
        name=config.method[0],
        title=kind.__name__,
        implementation=reference,
        supervision="unknown",
        uses_shared_concept=unknown,
        uses_llm=unknown,
        uses_triplets=unknown,
        transductive="yes" if isinstance(method, GalleryFitted) else unknown,
    )
    config = msgspec.structs.replace(config, precision=settle_precision(config.precision, config.device))
    entrant = Entrant(reference, spec, spec.parameters(), None)
    resolved = Resolved(config, entry, config.backbone or NOT_STATED, (entrant,), (spec.name,), None)
    backbone = None if ground is None else ground.backbone
    record = backbone_record(backbone) if backbone is not None else backbone_of(baselines) or backbone_record(None)
    ground = ground or Ground(resolved, protocol)
    console.say(f"{spec.name} on {ground.protocol.name}")
    evaluation = evaluate(checked(method, spec.name), ground.lost.available)
    identity = Identity(
        protocol=ground.protocol.digest,
        method=spec.name,
        parameters={},
        backbone=record.digest,
        checkpoint=None,
        limit=config.limit,
        seed=config.seed,
        code=current_code(),
        files={"answers": _digest_of_answers(evaluation)},
        lost=sorted(ground.lost.images),
    )
    job = Job(entrant, None, identity, identity.folder(config.output, entry.dataset))
    with locked(lock_of(job.folder)):
        if not job.done:
            whole, result = result_of(job, ground, record, evaluation, 0, device_name(backbone))
            save_run(job.folder, result, whole, ground.lost.protocol, to_toml(config), identity=identity)
    return load_run(job.folder)


def _digest_of_answers(evaluation: Evaluation) -> str:
    ranking = evaluation.ranking
    hasher = hashlib.sha256()
    for array in (ranking.top_QK, ranking.scores_QK, ranking.relevant_ranks.values, ranking.relevant_ranks.offsets):
        hasher.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
    return hasher.hexdigest()


def _code_of(spec: MethodSpec) -> Code:
    return current_code(spec.implementation, spec.parameters.__module__)


Setting: TypeAlias = float | str


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Runs of one method on one protocol.

    Attributes:
        label: The number to look at.
        keys: The parameters that were swept.
        settings: Per run, the value of each key.
        runs: The runs, in the order of their settings; over several seeds, the mean of each setting.
        beside: The untrained baselines on the same backbone.
    """

    label: str
    keys: tuple[str, ...]
    settings: tuple[tuple[Setting, ...], ...]
    runs: tuple[Run, ...]
    beside: tuple[Run, ...]


TRAIN = "train."
"""Before a name that a method has both for running and for training, it means the one for training."""


@dataclasses.dataclass(frozen=True)
class _Parameter:
    """One parameter with the values that it takes in turn."""

    key: str
    name: str
    of_training: bool
    values: tuple[str, ...]


def run_sweep(
    config: RunConfig, assignments: Mapping[str, str], *, label: str | None = None, force: bool = False
) -> Sweep:
    """Run a method once for each combination of values, trained again where a parameter of its training is among them.

    Everything is checked before anything runs; what has been run before is recognised.

    Args:
        config: What to run, with one method.
        assignments: Per parameter its values, separated by commas; one with a single value is the same in all runs.
            Several values of ``seed`` are replicates, as ``config.seeds`` are.
        label: The number to look at; the headline if not given.
        force: Run again what has been run before.

    Raises:
        UnknownName: There is no such parameter, or no such number.
        UsageError: No parameter has several values, or a value does not fit.
    """
    spec = find_method(config.method[0])
    parameters = [_parameter(spec, key, text) for key, text in assignments.items()]
    for seeds in [each for each in parameters if each.name == "seed" and len(each.values) > 1]:
        if config.seeds:
            raise UsageError("--seeds and --set seed=... exclude each other.", hint="Leave out one of them.")
        config = msgspec.structs.replace(config, seeds=parse_seeds(",".join(seeds.values)))
        parameters.remove(seeds)
    swept = tuple(parameter for parameter in parameters if len(parameter.values) > 1)
    if not swept and config.seeds:
        raise UsageError(
            "Nothing is swept: seeds alone make replicates of one setting.",
            hint=f"Run it: cirbench run --method {typed(spec.name)} --seeds {','.join(map(str, config.seeds))}",
        )
    if not swept:
        raise UsageError(
            "Nothing is swept: no parameter has several values.",
            hint=f"For instance: cirbench sweep {typed(spec.name)} --set {_example_key(spec)}=VALUE,VALUE",
        )
    combinations = [*itertools.product(*(parameter.values for parameter in parameters))]
    sessions: list[Session] = []
    for values in combinations:  # on the same data and backbone, so each is loaded once
        sessions.append(Session(_configured(config, parameters, values), sessions[0].ground if sessions else None))
    results: list[tuple[Run, ...]] = []
    for session in sessions:
        results.append(session.run(force=force))
        label = choose_label(results[-1], label)
    assert label is not None
    given = len(sessions[0].baselines)  # runs to compare every setting with, which come first
    swept_runs = [runs[given:] for runs in results]
    return Sweep(
        label=label,
        keys=tuple(parameter.key for parameter in swept),
        settings=tuple(
            tuple(_setting(value) for parameter, value in zip(parameters, values, strict=True) if parameter in swept)
            for values in combinations
        ),
        runs=tuple(combine([run for run in runs if run.result.method.name == spec.name])[0][0] for runs in swept_runs),
        beside=tuple(combine(results[0])[0]),
    )


def _parameter(spec: MethodSpec, key: str, text: str) -> _Parameter:
    name = key.removeprefix(TRAIN)
    for_running = () if key != name else spec.parameters.__struct_fields__
    for_training = () if spec.training is None else spec.training.__struct_fields__
    if name not in (*for_running, *for_training):
        known = {*spec.parameters.__struct_fields__, *for_training}
        raise UnknownName(f"parameter of {spec.name}", key, known)
    of_training = name not in for_running
    kind = spec.training if of_training else spec.parameters
    assert kind is not None
    values = (text,) if takes_list(kind, name) else tuple(part.strip() for part in text.split(",") if part.strip())
    if len(set(values)) < len(values) or not values:
        raise UsageError(f"--set {key}={text} needs different values, separated by commas.")
    return _Parameter(key, name, of_training, values)


def _configured(config: RunConfig, parameters: list[_Parameter], values: tuple[str, ...]) -> RunConfig:
    chosen = [*zip(parameters, values, strict=True)]
    return msgspec.structs.replace(
        config,
        set={**config.set, **{each.name: value for each, value in chosen if not each.of_training}},
        train={**config.train, **{each.name: value for each, value in chosen if each.of_training}},
    )


def _setting(text: str) -> Setting:
    try:
        return float(text)
    except ValueError:
        return text


def _example_key(spec: MethodSpec) -> str:
    names = [*spec.parameters.__struct_fields__, *(() if spec.training is None else spec.training.__struct_fields__)]
    return names[0] if names else "KEY"
