"""The configuration of a run, and what its names mean."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import msgspec

from cirbench.backbones.interface import AskedPrecision, settle_precision
from cirbench.benchmarks.catalogue import choose_protocol, find_dataset
from cirbench.errors import MissingData, UnknownName, UsageError, quoted
from cirbench.methods.interface import find_baselines, find_method, load_methods
from cirbench.methods.loading import parse_parameters
from cirbench.methods.training import training_parameters
from cirbench.support.console import typed
from cirbench.support.parameters import read_options, read_toml, require_numbers

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from cirbench.benchmarks.interface import ProtocolEntry
    from cirbench.methods.interface import MethodSpec, Parameters
    from cirbench.training.interface import TrainingParameters

Natural = Annotated[int, msgspec.Meta(ge=0)]
Settings: TypeAlias = dict[str, str | int | float | bool]

_SECTIONS = ("set", "train", "rerank_set")


class RunConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Everything that can be asked of ``cirbench run``; field names are the option names.

    Attributes:
        method: Names of methods, or ``package.module:Class``, or ``file.py:Class``; none beside ``first_stage``.
        dataset: Name of a data set, or the folder of your own.
        split: Split of the data set; its default one if not given.
        protocol: A protocol id, instead of the data set's default one for the split.
        backbone: Name, ``model/tag``, or a model folder; the data set's default one if not given; ``none`` for methods
            that need none, whose default it is.
        baselines: Folders of runs on the same backbone to compare the methods with, or ``none``; if not given, the
            installed untrained baselines are run on the backbone.
        weights: A local file with the backbone's weights.
        ema: Take the averaged weights (EMA) of that file.
        activation: Activation that a local weights file was trained with, where nothing beside it says so.
        preprocessing: Preprocessing of images; the one the backbone was trained with if not given.
        checkpoint: Folder of a trained method's checkpoint.
        set: Parameters of the methods; of one of several by ``METHOD.KEY``.
        train: Parameters of the training, for a method that is trained first.
        train_data: What it is trained on; what comes with ``scenes`` if not given there.
        rerank: Name of a re-ranker that re-orders what the methods, or the first stages, found.
        first_stage: Folders of finished runs, or patterns of them, that are re-ranked in place of the methods' runs.
        rerank_top: How many items of each query the re-ranker is shown; for several numbers a run for each.
        rerank_set: Parameters of the re-ranker.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: In which the towers compute: ``fp32``; ``bf16`` with weights in bf16; ``bf16-autocast`` with weights
            in fp32; or ``auto``, the latter on a GPU that has bf16 and ``fp32`` elsewhere, which is then recorded.
        batch_size: Images or texts at once; 0 chooses one.
        limit: How many queries are evaluated, the first ones; the result is marked partial.
        allow_missing: Go on without images that are missing or broken; the result is marked partial.
        allow_overlap: Go on where triplets that a method is trained on show images of the protocol; it is recorded.
        seed: Random seed for training and bootstrap.
        seeds: Several of them in place of one: a method with a random part is run once for each.
        output: Folder for the runs.
        data_root: Folder with the annotations; CIRBENCH_DATA if not given.
    """

    method: tuple[str, ...] = ()
    dataset: str
    split: str | None = None
    protocol: str | None = None
    backbone: str | None = None
    baselines: tuple[str, ...] = ()
    weights: str | None = None
    ema: bool = False
    activation: Literal["gelu", "quick_gelu"] | None = None
    preprocessing: str | None = None
    checkpoint: str | None = None
    set: Settings = {}
    train: Settings = {}
    train_data: str | None = None
    rerank: str | None = None
    first_stage: tuple[str, ...] = ()
    rerank_top: tuple[Annotated[int, msgspec.Meta(ge=1)], ...] = (50,)
    rerank_set: Settings = {}
    device: str = "auto"
    precision: AskedPrecision = "fp32"
    batch_size: Annotated[int, msgspec.Meta(ge=0)] = 0
    limit: Annotated[int, msgspec.Meta(ge=1)] | None = None
    allow_missing: bool = False
    allow_overlap: bool = False
    seed: Natural = 0
    seeds: tuple[Natural, ...] = ()
    output: str = "runs"
    data_root: str | None = None


_DEFAULTS = {field.name: field.default for field in msgspec.structs.fields(RunConfig)}


def read_config(file: Path | None, options: dict[str, Any]) -> RunConfig:
    """Combine a TOML file with command-line options; an option wins over the file.

    Raises:
        MissingData: The file does not exist.
        UsageError: It is not TOML, has an unknown key, or a value of the wrong type.
    """
    values = read_options(file, options, fields=RunConfig.__struct_fields__, sections=_SECTIONS)
    if isinstance(values.get("method"), str):
        values["method"] = [name.strip() for name in values["method"].split(",") if name.strip()]
    if isinstance(values.get("seeds"), str):
        values["seeds"] = parse_seeds(values["seeds"])
    values = _rerank_options(values)
    if values.get("seeds") and values.get("seed") is not None:
        raise UsageError("--seed and --seeds exclude each other.", hint="Leave out one of them.")
    for required, example in (("method", "pli"), ("dataset", "scenes")):
        if not values.get(required) and not (required == "method" and values.get("first_stage")):
            raise UsageError(f"--{required} is missing.", hint=f"For instance: --{required} {example}")
    try:
        require_numbers(values)
        return msgspec.convert(values, RunConfig)
    except msgspec.ValidationError as error:
        raise UsageError(f"The configuration does not fit: {error}.", hint="See `cirbench run --help`.") from error


def _rerank_options(values: dict[str, Any]) -> dict[str, Any]:
    """Check the options of a second stage against each other, and take from its first one on what that was run.

    Raises:
        UsageError: They do not belong together.
        MissingData: There is no such run.
    """
    if isinstance(top := values.get("rerank_top"), str):
        values = {**values, "rerank_top": _parse_tops(top)}
    elif isinstance(top, int):
        values = {**values, "rerank_top": [top]}
    if not values.get("rerank"):
        for name in ("first_stage", "rerank_top", "rerank_set"):
            if values.get(name):
                option = name.replace("_", "-")
                raise UsageError(f"--{option} goes with --rerank.", hint="Name a re-ranker: --rerank judge")
        return values
    if not values.get("first_stage"):
        return values
    for name in ("method", "checkpoint", "set", "train", "train_data", "seeds", "allow_missing"):
        if values.get(name):
            option = name.replace("_", "-")
            raise UsageError(
                f"--{option} is for methods that are run here, and --first-stage names finished runs.",
                hint="Leave out one of them.",
            )
    if isinstance(values["first_stage"], str):
        values = {**values, "first_stage": [values["first_stage"]]}
    if values.get("dataset"):
        return values
    said = _configuration(values["first_stage"][0])
    taken = {name: said.get(name) for name in ("dataset", "protocol", "data_root")}
    return {**taken, **{name: value for name, value in values.items() if value is not None}}


def _configuration(run: str) -> dict[str, Any]:
    """What a run, or the first of a pattern of runs, was asked for by.

    Raises:
        MissingData: There is no finished run.
    """
    path = Path(run, "config.toml")
    base = Path(path.anchor or ".")
    found = [path] if path.is_file() else sorted(base.glob(str(path.relative_to(path.anchor) if path.anchor else path)))
    if not found:
        raise MissingData(f"There is no finished run in {run}.", hint="See `cirbench list runs`.")
    return read_toml(found[0])


def _parse_tops(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and int(part) for part in parts):
        raise UsageError(
            f"--rerank-top takes numbers from 1 on, separated by commas, not {quoted(text)}.",
            hint="For instance: --rerank-top 50, or --rerank-top 10,25,50 for three runs.",
        )
    return tuple(dict.fromkeys(map(int, parts)))


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read ``"0,1,2"``.

    Raises:
        UsageError: It is something else, or a seed occurs twice.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts) or len(set(map(int, parts))) < len(parts):
        raise UsageError(
            f"--seeds takes different whole numbers, separated by commas, not {quoted(text)}.",
            hint="For instance: --seeds 0,1,2",
        )
    return tuple(map(int, parts))


def to_toml(config: msgspec.Struct) -> str:
    """Write a configuration so that ``--config`` reads it back."""
    values = msgspec.to_builtins(config)
    sections = {section: values.pop(section, {}) for section in _SECTIONS}
    lines = _assignments(values)
    for section, settings in sections.items():
        if settings:
            lines += ["", f"[{section}]", *_assignments({_toml(key): value for key, value in settings.items()})]
    return "\n".join(lines) + "\n"


def to_command(config: RunConfig, **changes: object) -> str:
    """Write a configuration as the command that asks for it, with some of its options changed."""
    values = {**msgspec.to_builtins(config), **changes}
    words = ["cirbench", "run"]
    for name, value in values.items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, dict):
            for key, setting in value.items():
                words += [option, typed(f"{key}={setting}")]
        elif name in ("baselines", "first_stage"):
            words += [word for folder in value for word in (option, typed(folder))]
        elif value is True:
            words.append(option)
        elif value not in (None, False):
            words += [option, typed(",".join(map(str, value)) if isinstance(value, list | tuple) else str(value))]
    return " ".join(words)


def _assignments(values: dict[str, Any]) -> list[str]:
    return [f"{key} = {_toml(value)}" for key, value in values.items()]


def _toml(value: Any) -> str:
    """Write a plain value: TOML contains JSON, but for one control character that it wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


NONE = "none"
"""What is typed for no backbone, and for no baselines."""

TRAINABLE_DATASET = "scenes"
"""The data set that brings training data of its own, pairs and triplets, so that `run` can train a method by itself."""


@dataclasses.dataclass(frozen=True)
class Entrant:
    """One method of a configuration.

    Attributes:
        reference: What finds the method: its name, ``package.module:Class`` or ``file.py:Class``.
        spec: The method.
        parameters: Its parameters on the backbone that was asked for.
        training: How it is trained before it is evaluated; ``None`` for no training, or for a checkpoint.
        seed: Random seed of its training, and of the tests that compare it.
    """

    reference: str
    spec: MethodSpec
    parameters: Parameters
    training: TrainingParameters | None
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Resolved:
    """A configuration of which every name is known.

    Attributes:
        config: What was asked for.
        entry: The protocol, not loaded.
        backbone: The name of the backbone that was asked for, or of the data set's usual one; ``None`` for none.
        entrants: The untrained baselines, which everything else is compared with, and then what was asked for.
        asked: The names of the methods that were asked for.
        training_data: What methods are trained on; ``None`` where there is nothing but what the data set brings.
        reranker: The second stage; ``None`` for none.
    """

    config: RunConfig
    entry: ProtocolEntry
    backbone: str | None
    entrants: tuple[Entrant, ...]
    asked: tuple[str, ...]
    training_data: str | None
    reranker: Entrant | None = None

    @property
    def needs_images(self) -> bool:
        """Whether any method looks at the images of the benchmark."""
        return any("images" in each.spec.needs for each in self.entrants)

    @property
    def baseline_runs(self) -> tuple[str, ...]:
        """The folders of runs that are given as baselines."""
        return () if self.config.baselines == (NONE,) else self.config.baselines

    @property
    def data_root(self) -> Path | None:
        """The folder of the data sets that was asked for; ``None`` for the one that ``CIRBENCH_DATA`` names."""
        return None if self.config.data_root is None else Path(self.config.data_root)

    def data_for(self, spec: MethodSpec) -> str | None:
        """What a method is trained on: what was asked for, or what the data set brings; ``None`` for nothing."""
        return self.training_data or _brought(self.config.dataset, spec)


def _brought(dataset: str, spec: MethodSpec) -> str | None:
    if dataset != TRAINABLE_DATASET:
        return None
    return f"{dataset}:triplets" if spec.needs_triplets else dataset


def resolve(
    config: RunConfig, given: Mapping[str, MethodSpec] | None = None, entry: ProtocolEntry | None = None
) -> Resolved:
    """Find everything that a configuration names, and check that it fits together.

    Args:
        config: What was asked for.
        given: Methods that need not be installed, by the reference in ``config.method``.
        entry: The protocol, where it is not one of an installed benchmark.

    Raises:
        UnknownName: A method, data set, protocol or parameter does not exist.
        UsageError: The options contradict each other.
    """
    entry = entry or choose_protocol(config.dataset, split=config.split, protocol=config.protocol)
    asked = {name: (given or {}).get(name) or find_method(name) for name in config.method}
    references = {spec.name: name for name, spec in asked.items()}
    reranker = _reranker(config, given or {})
    for spec in asked.values():
        if spec.reranks:
            raise UsageError(
                f"{spec.name} re-ranks what another method found, and finds nothing by itself.",
                hint=f"Give --rerank {typed(spec.name)} beside another --method, or with --first-stage RUN.",
            )
    backbone = _backbone(config, [*asked.values(), *([] if reranker is None else [reranker.spec])])
    usual = entry.labelled and backbone is not None and not config.baselines and bool(asked)
    baselines = [spec for spec in find_baselines().values() if usual or spec.name in references]
    specs = {spec.name: spec for spec in [*baselines, *asked.values()]}
    trained = [spec for spec in specs.values() if spec.trainer is not None and config.checkpoint is None]
    if config.train and not any(spec.name in references for spec in trained):
        raise UsageError(
            "--train sets how a method is trained, and nothing is trained here.",
            hint="Leave it out, or ask for a trained method without --checkpoint.",
        )
    of_all, of_one = _by_method(config.set, references)
    entrants = []
    for spec in specs.values():
        own = {**of_all, **of_one.get(spec.name, {})}
        inference, training = (own, config.train) if spec.name in references else ({}, {})
        for seed, of_method, of_training in _seeded(config, spec, inference, training, trained=spec in trained):
            entrants.append(
                Entrant(
                    references.get(spec.name, spec.name),
                    spec,
                    parse_parameters(spec, of_method, backbone),
                    training_parameters(spec, backbone, of_training) if spec in trained and backbone else None,
                    seed,
                )
            )
    # Before a finished run is looked for: identity, configuration and commands name the precision that is used.
    config = msgspec.structs.replace(config, precision=settle_precision(config.precision, config.device))
    return Resolved(config, entry, backbone, tuple(entrants), tuple(references), config.train_data, reranker)


def _by_method(settings: Settings, asked: Collection[str]) -> tuple[Settings, dict[str, Settings]]:
    """Divide parameters into those of all methods and, by its name, those of one: ``METHOD.KEY``.

    Raises:
        UnknownName: That method is not asked for.
    """
    of_one: dict[str, Settings] = {}
    for name, value in settings.items():
        method, dot, key = name.rpartition(".")
        if dot and method not in asked:
            raise UnknownName("method of this run", method, asked, hint=f"--set {typed(f'{name}={value}')} names it.")
        if dot:
            of_one.setdefault(method, {})[key] = value
    return {name: value for name, value in settings.items() if "." not in name}, of_one


def _reranker(config: RunConfig, given: Mapping[str, MethodSpec]) -> Entrant | None:
    """The second stage that is asked for.

    Raises:
        UnknownName: There is no such re-ranker, or it has no such parameter.
        UsageError: It is a method of the first stage.
    """
    if config.rerank is None:
        return None
    spec = given.get(config.rerank) or find_method(config.rerank)
    if not spec.reranks:
        able = [each.name for each in load_methods()[0].values() if each.reranks]
        raise UsageError(
            f"{spec.name} finds items by itself, and does not re-rank what another method found.",
            hint=f"Re-rankers: {', '.join(able) or 'none are installed'}.",
        )
    return Entrant(config.rerank, spec, parse_parameters(spec, config.rerank_set), None, config.seed)


def _backbone(config: RunConfig, asked: Sequence[MethodSpec]) -> str | None:
    """The backbone that methods run on, by name; ``None`` where none of them needs one and none is asked for.

    Raises:
        UsageError: A method needs one and ``none`` is asked for, or options are given that nothing is left to use.
    """
    needing = [spec.name for spec in asked if "backbone" in spec.needs]
    if config.baselines and NONE in config.baselines and len(config.baselines) > 1:
        raise UsageError("--baselines names runs and none.", hint="Give either runs or none.")
    if config.backbone not in (None, NONE) or (config.backbone is None and needing):
        return config.backbone or find_dataset(config.dataset).default_backbone
    if needing:
        raise UsageError(
            f"The method {needing[0]} needs a backbone, and --backbone is none.",
            hint="Only methods whose SPEC says that they need none run without (docs/adding-a-method.md).",
        )
    for option in ("weights", "ema", "activation", "preprocessing", "precision", "batch_size"):
        if getattr(config, option) != _DEFAULTS[option]:
            name = option.replace("_", "-")
            raise UsageError(f"--{name} is of a backbone, and {asked[0].name} runs without one.", hint="Leave it out.")
    if config.allow_missing and not any("images" in spec.needs for spec in asked):
        raise UsageError(f"--allow-missing is about images, and {asked[0].name} needs none.", hint="Leave it out.")
    return None


def _seeded(
    config: RunConfig, spec: MethodSpec, inference: Settings, training: Settings, *, trained: bool
) -> Iterator[tuple[int, Settings, Settings]]:
    """Each seed of a method with the parameters of its run and of its training; one where nothing in it is random.

    Raises:
        UsageError: Seeds are given twice.
    """
    has_seed = "seed" in spec.parameters.__struct_fields__
    if config.seeds and ("seed" in inference or "seed" in config.train):
        raise UsageError("--seeds sets the seed of each run, and so does seed=...", hint="Leave out one of them.")
    for seed in config.seeds if trained or has_seed else config.seeds[:1]:
        yield seed, {**inference, "seed": seed} if has_seed else inference, {**training, "seed": seed}
    if not config.seeds:
        yield config.seed, inference, {"seed": config.seed, **training}
