"""Making an entry from a run, with the command that makes the run again."""

from __future__ import annotations

import gzip
import hashlib
import shlex
import shutil
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import msgspec

from cirbench.benchmarks.catalogue import datasets, load_protocol
from cirbench.errors import CheckFailed, CirbenchError, MissingData, UsageError
from cirbench.leaderboard.binding import KnownProtocol, binding_of, known_protocols, register_protocol
from cirbench.leaderboard.check import LISTS_LIMIT, check_entry, command_problem, lists_name
from cirbench.leaderboard.entry import ENTRY, MOST_STORED, RANKS, Entry, EntryMetric, entry_id, pack, sealed
from cirbench.methods.interface import find_method
from cirbench.methods.training import CONVERTED, OF_EMA, data_named, training_parameters
from cirbench.runs.config import NONE, RunConfig
from cirbench.runs.folder import PER_QUERY, load_run
from cirbench.runs.record import NOT_STATED
from cirbench.runs.scored import ScoreConfig, config_of, entry_and_root
from cirbench.submissions.uploads import parse_receipt
from cirbench.support.arrays import read_archive
from cirbench.support.files import exchange, sha256_of_file, write_bytes, write_versioned

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from cirbench.protocol import EvaluationProtocol
    from cirbench.runs.folder import Run
    from cirbench.runs.schema import MethodRecord, Result
    from cirbench.submissions.uploads import Receipt

_OWN_TRAINING = "scenes"
"""What `cirbench run` trains on by itself."""


def commands(result: Result, config: RunConfig | ScoreConfig) -> tuple[str, ...]:
    """What to type to make a run again, one command a line.

    FOLDER stands for your own data, CHECKPOINT for what a training or a conversion writes. What is as usual is left
    out.
    """
    if isinstance(config, ScoreConfig):
        return (_scoring(result, config),)
    if config.first_stage:
        return _reranking(result, config)
    method, backbone = portable_method(result.method), portable(result.backbone.name)
    dataset, protocol = result.protocol.name.partition("/")[0], result.protocol.name.partition("@")[0]
    where = ["--dataset", dataset, "--protocol", protocol] if dataset in datasets() else ["--dataset", "FOLDER"]
    backbone = NONE if backbone == NOT_STATED else backbone
    run = ["cirbench", "run", "--method", method.name, *where, "--backbone", backbone]
    for option, usual in (("preprocessing", None), ("activation", None), ("limit", None), ("precision", "fp32")):
        if (value := getattr(config, option)) != usual:
            run += [f"--{option}", str(value)]
    run += ["--seed", str(result.seed)] if result.seed else []
    parameters, training = _usual(method.name, backbone)
    run += _options("--set", method.parameters, parameters)
    if method.checkpoint is None:
        return (shlex.join(run),)
    taught = method.training or {}
    data = data_named(method.trained_on or "DATA", taught.get("samples"))
    checked = shlex.join([*run, "--checkpoint", "CHECKPOINT"])
    if data.startswith(CONVERTED):
        file = data.removeprefix(CONVERTED)
        convert = ["cirbench", "convert", method.name, file.removesuffix(OF_EMA), "--backbone", backbone]
        convert += ["--ema"] if file.endswith(OF_EMA) else []
        convert += ["--selected-on", method.selected_on] if method.selected_on else []
        return (shlex.join([*convert, *_options("--set", taught, training), "--output", "CHECKPOINT"]), checked)
    if method.selected_on is None:  # `cirbench run` trains with its own seed
        source = [] if data == dataset == _OWN_TRAINING else ["--train-data", data]
        return (shlex.join([*run, *source, *_options("--train", taught, {**training, "seed": result.seed})]),)
    train = ["cirbench", "train", method.name, "--backbone", backbone, "--data", data, "--monitor", method.selected_on]
    train += [*_options("--set", taught, training), "--output", "CHECKPOINT"]
    return (shlex.join(train), checked)


def _reranking(result: Result, config: RunConfig) -> tuple[str, ...]:
    """What to type to make the first stage again, and to re-rank it where it then lies."""
    first = load_run(config.first_stage[0])
    assert config.rerank is not None
    lies_in = PurePath("runs", result.protocol.name.partition("/")[0], first.folder.name)
    again = ["cirbench", "run", "--rerank", portable(config.rerank), "--first-stage", str(lies_in)]
    again += ["--rerank-top", ",".join(map(str, config.rerank_top))]
    usual = _usual(config.rerank, result.backbone.name)[0]
    again += _options("--rerank-set", portable(dict(config.rerank_set)), usual)
    again += ["--limit", str(config.limit)] if config.limit else []
    return (*commands(first.result, config_of(first)), shlex.join(again))


def _scoring(result: Result, config: ScoreConfig) -> str:
    """What to type to score the same files again; what a reader would not be shown of the declarations is left out."""
    dataset, protocol = result.protocol.name.partition("/")[0], result.protocol.name.partition("@")[0]
    where = ["--dataset", dataset, "--protocol", protocol] if dataset in datasets() else ["--dataset", "FOLDER"]
    command = ["cirbench", "score", *where]
    for file in config.predictions:
        command += ["--predictions", portable_file(file)]
    for queries, gallery in config.features:
        command += ["--features", portable_file(queries), portable_file(gallery)]
    for option, files in (("--query-ids", config.query_ids), ("--gallery-ids", config.gallery_ids)):
        for file in files:
            command += [option, portable_file(file)]
    command += ["--trust", config.trust] if config.trust else []
    command += ["--output", "runs", "--name", result.method.name]
    for name in ("supervision", "uses_triplets", "uses_llm", "transductive", "uses_shared_concept", "backbone"):
        value = getattr(config, name)
        declared = [f"--{name.replace('_', '-')}", str(value)]
        if value not in (None, "unknown") and command_problem(shlex.join([*command, *declared])) is None:
            command += declared
    return shlex.join(command)


def portable_file(name: str) -> str:
    """A file without its folder, wherever that is: a reader has it elsewhere."""
    return PurePath(name).name


def portable_method(method: MethodRecord) -> MethodRecord:
    """A method without the folders of the maker's machine."""
    return msgspec.structs.replace(
        method,
        parameters=portable(method.parameters),
        training=portable(method.training),
        trained_on=portable(method.trained_on),
        selected_on=portable(method.selected_on),
        stages_selected_on=portable(method.stages_selected_on),
    )


def portable(value: Any) -> Any:
    """Cut the folders from every path in a value that leads from the root, or out of where it was typed."""
    if isinstance(value, dict):
        return {key: portable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [portable(each) for each in value]
    path = PurePath(value) if isinstance(value, str) else PurePath()
    return path.name if path.is_absolute() or ".." in path.parts else value


def _usual(method: str, backbone: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters of a method and of its training on a backbone where nobody sets any; none of an unknown method."""
    try:
        spec = find_method(method)
        training = {} if spec.training is None else _as_written(training_parameters(spec, backbone, {}))
    except CirbenchError:  # a plug-in that is not installed here
        return {}, {}
    return _as_written(spec.parameters()), training


def _as_written(parameters: msgspec.Struct) -> dict[str, Any]:
    """Parameters as a file holds them, where a tuple is a list."""
    return msgspec.json.decode(msgspec.json.encode(parameters), type=dict[str, Any])


def _options(name: str, values: Mapping[str, Any], usual: Mapping[str, Any]) -> list[str]:
    """``--set key=value`` for each value that is not the usual one."""
    changed = {key: value for key, value in values.items() if value is not None and usual.get(key) != value}
    plain = {key: ",".join(map(str, value)) if isinstance(value, list) else value for key, value in changed.items()}
    return [part for key, value in plain.items() for part in (name, f"{key}={value}")]


def add_run(
    folder: Path,
    entries: Path,
    *,
    note: str = "",
    receipts: Sequence[Path] = (),
    data_root: Path | None = None,
) -> Path:
    """Make an entry of a run and check it; one of the same run is replaced.

    Args:
        folder: The run.
        entries: Where entries lie.
        note: What to say beside the numbers.
        receipts: The answers of a test server, for a run on hidden labels.
        data_root: Where annotations are, if not where the run found them.

    Returns:
        The folder of the entry.

    Raises:
        MissingData: There is no such run, or the annotations are not available.
        UsageError: Labels are hidden and there is no receipt, or the other way round.
        CheckFailed: The entry would not hold; nothing was written.
    """
    run = load_run(folder)
    config = config_of(run)
    protocol = _protocol(run.result, config, data_root)
    answers = [parse_receipt(path) for path in receipts]
    if run.result.metrics and answers:
        raise UsageError(f"{folder} was measured here, so it needs no receipt.", hint="Leave --receipt out.")
    if not run.result.metrics and not answers:
        raise UsageError(
            f"The labels of {run.result.protocol.name} are hidden, so {folder} has no numbers of its own.",
            hint="Add it with the server's answer: --receipt submissions/.../NAME.receipt.json "
            "(`cirbench submit record` writes it).",
        )
    limit = config.limit if isinstance(config, RunConfig) else None
    part = protocol if limit is None else protocol.first(limit)
    files = _of_server(receipts, answers) if answers else {RANKS: pack(_ranks_of(run, protocol), part)}
    return _keep(_entry(run, config, files, answers, note), files, entries, protocol)


def _ranks_of(run: Run, protocol: EvaluationProtocol) -> Mapping[str, NDArray[Any]]:
    """The ranks of a run, all of those that its protocol reports on."""
    arrays = read_archive(run.folder / PER_QUERY)
    if protocol.groups is not None and "group_ranks_Q" not in arrays:
        raise CheckFailed(
            f"{run.folder} does not rank the groups of its queries, so it lacks numbers that {protocol.name} reports.",
            hint="Score it again with lists that rank the groups as well (docs/predictions.md).",
        )
    return arrays


def _protocol(result: Result, config: RunConfig | ScoreConfig, data_root: Path | None) -> EvaluationProtocol:
    """The protocol that the run was evaluated on, which must be the one that lies here."""
    entry, root = entry_and_root(config, data_root)
    protocol = load_protocol(entry.address, root)
    if protocol.digest != result.protocol.digest:
        named = [name for name, value in protocol.fields.items() if result.protocol.fields.get(name) != value]
        raise CheckFailed(
            f"The run was made on {result.protocol.name} with other {', '.join(named)} than the data here have.",
            hint="Run it again on these data, or give --data-root.",
        )
    return protocol


def _entry(
    run: Run, config: RunConfig | ScoreConfig, files: dict[str, bytes], answers: Sequence[Receipt], note: str
) -> Entry:
    result = run.result
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    scores = [
        EntryMetric(label=each.label, value=each.value, low=each.low, high=each.high, n=each.n)
        for each in result.metrics
    ]
    scores += [EntryMetric(label=label, value=value) for answer in answers for label, value in answer.scores.items()]
    return sealed(
        Entry(
            id=entry_id(result.protocol.name, result.method.name, result.digest),
            run=result.digest,
            method=portable_method(result.method),
            protocol=result.protocol,
            backbone=msgspec.structs.replace(result.backbone, name=portable(result.backbone.name)),
            counts=result.counts,
            metrics=tuple(scores),
            seed=result.seed,
            commands=commands(result, config),
            environment=msgspec.structs.replace(result.environment, command=None),
            created=result.created,
            lost=tuple(result.lost),
            ranks=digests.get(RANKS),
            ranks_stored=len(files.get(RANKS, b"")) <= MOST_STORED and RANKS in files,
            receipts={name: digest for name, digest in digests.items() if name.endswith(".json")},
            lists={name: digest for name, digest in digests.items() if name.endswith(".gz")} or None,
            scored=result.scored,
            reranking=result.reranking,
            note=note,
        )
    )


def _keep(entry: Entry, files: dict[str, bytes], entries: Path, protocol: EvaluationProtocol) -> Path:
    """Write an entry under a hidden name, check it there, and exchange it for the one in its place.

    Whenever the process is killed, the earlier entry or the new one is in its place, whole. What else it leaves lies
    under the hidden name, and goes when the same run is added again.
    """
    known = known_protocols(entries)
    aside, final = entries / f".{entry.id}", entries / entry.id
    draft = aside / entry.id
    shutil.rmtree(aside, ignore_errors=True)
    try:
        for name, content in files.items():
            if name != RANKS or entry.ranks_stored:
                write_bytes(draft / name, content)
        write_versioned(draft / ENTRY, entry)
        mine = KnownProtocol(digest=protocol.digest, binding=binding_of(protocol))
        check_entry(draft, {protocol.name: mine, **known}).require()
        if protocol.name not in known:
            register_protocol(entries, protocol)
        exchange(draft, final)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return final


def _of_server(receipts: Sequence[Path], answers: Sequence[Receipt]) -> dict[str, bytes]:
    """Each receipt, and the file that it is about, so that a reader can see what the server scored.

    Raises:
        MissingData: A submitted file does not lie beside its receipt.
        CheckFailed: It has changed since, or is too large.
    """
    files = {}
    for path, answer in zip(receipts, answers, strict=True):
        submission = path.parent / PurePath(answer.file).name
        if not submission.is_file():
            raise MissingData(
                f"{submission} is not there, and an entry keeps the file that the server scored.",
                hint=f"Put it beside {path}.",
            )
        if sha256_of_file(submission) != answer.sha256:
            raise CheckFailed(f"{submission} is not the file that {path} is about: it has changed since.")
        kind = PurePath(answer.file).stem.rpartition(".")[2] if "." in PurePath(answer.file).stem else "server"
        receipt = f"receipt-{kind}.json"
        files[receipt] = msgspec.json.format(msgspec.json.encode(answer), indent=2) + b"\n"
        files[lists_name(receipt)] = gzip.compress(submission.read_bytes(), mtime=0)
        if len(files[lists_name(receipt)]) > LISTS_LIMIT:
            raise CheckFailed(f"{submission} is larger than {LISTS_LIMIT:,} bytes when compressed.")
    return files
