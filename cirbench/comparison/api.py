"""What programs and notebooks call: evaluate, score and compare, with what there is to choose from."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

from cirbench.benchmarks import load_protocol
from cirbench.benchmarks.catalogue import choose_protocol, datasets, protocols
from cirbench.benchmarks.interface import ProtocolEntry
from cirbench.comparison.paper import Paper, compare_on_paper, paper_table
from cirbench.comparison.standings import Standings, compare_runs
from cirbench.comparison.tables import standings_table
from cirbench.errors import UnknownName, UsageError
from cirbench.methods.interface import MethodSpec, find_baselines
from cirbench.protocol import EvaluationProtocol
from cirbench.runs.config import RunConfig, read_config
from cirbench.runs.folder import Run, load_baselines, load_run
from cirbench.support.console import typed
from cirbench.support.files import slug
from cirbench.support.needs import data_frame
from cirbench.support.tables.formats import render

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas
    from numpy.typing import ArrayLike

    from cirbench.backbones.interface import AskedPrecision, Backbone
    from cirbench.comparison.report import Report
    from cirbench.comparison.standings import Against
    from cirbench.methods.interface import Disclosure, Method, Supervision
    from cirbench.runs.predictions.features import Features
    from cirbench.runs.predictions.score import Score
    from cirbench.support.tables import Table

    AnyMethod: TypeAlias = str | MethodSpec | type[Any] | Method
    Rows: TypeAlias = ArrayLike | str | Path
    Pairs: TypeAlias = list[tuple[Rows, Rows]]
    Ids: TypeAlias = Iterable[str | int] | str | Path


@dataclasses.dataclass(frozen=True, repr=False)
class Comparison:
    """Runs compared on one or several numbers; displays as a table, and becomes a data frame.

    Attributes:
        several: Whether these are several protocols or metrics, or published rows are among them.
    """

    several: bool
    _one: Standings | None
    _lay_out: Callable[[], Paper]

    @cached_property
    def paper(self) -> Paper:
        """Every number of every protocol; tested when it is first asked for."""
        return self._lay_out()

    @property
    def standings(self) -> Standings:
        """The runs of the one protocol compared on the one number.

        Raises:
            UsageError: There are several protocols or numbers.
        """
        if self._one is None:
            protocols, first = ", ".join(self.paper.protocols), self.paper.columns[0]
            raise UsageError(
                f"Ranks and differences are those of one number; these are {len(self.paper.columns)}, on {protocols}.",
                hint=f"Choose one: --protocol {typed(first.protocol)} --metric {typed(first.label)}",
            )
        return self._one

    @property
    def paper_table(self) -> Table:
        """Methods by backbone, with a column for each number."""
        return paper_table(self.paper)

    @property
    def table(self) -> Table:
        """What is displayed: the ranks and differences of one number, or the table of a paper."""
        return self.paper_table if self.several else standings_table(self.standings)

    def to_frame(self) -> pandas.DataFrame:
        """Return one row for each method; percent, points, and p-values after Holm's correction.

        For one number, the best comes first, with its interval and its difference to the baseline. For several, a
        column is ``"circo/val:mAP@5"``, beside it ``"circo/val:mAP@5 sd"`` over seeds.

        Raises:
            MissingData: pandas is not installed.
        """
        if self.several:
            return self._paper_frame()
        rows = self.standings.by_value()
        seen = [row.against for row in rows]
        return data_frame(
            {
                "run": [row.name for row in rows],
                "method": [row.run.result.method.name for row in rows],
                self.standings.label: [row.value.value for row in rows],
                "low": [row.value.low for row in rows],
                "high": [row.value.high for row in rows],
                "sd": [row.run.sd(self.standings.label) for row in rows],
                "difference": [None if pair is None else 100 * pair.difference for pair in seen],
                "p": [None if pair is None else pair.corrected for pair in seen],
                "folder": [str(row.run.folder) for row in rows],
            }
        ).set_index("run")

    def _paper_frame(self) -> pandas.DataFrame:
        rows = self.paper.rows
        columns: dict[str, list[Any]] = {
            "method": [row.name for row in rows],
            "backbone": [row.backbone for row in rows],
        }
        for column in self.paper.columns:
            numbers = [row.number(column) for row in rows]
            columns[column.key] = [None if number is None else number.value for number in numbers]
            columns[f"{column.key} sd"] = [None if number is None else number.sd for number in numbers]
        return data_frame(columns).set_index("method")

    def __repr__(self) -> str:
        return render(self.table, "rich")

    def _repr_html_(self) -> str:
        return render(self.table, "html")


def evaluate(
    method: AnyMethod | Sequence[str | MethodSpec | type[Any]] | None = None,
    benchmark: str | Path | EvaluationProtocol | None = None,
    *,
    split: str | None = None,
    protocol: str | None = None,
    backbone: str | Path | Backbone | None = None,
    baselines: Sequence[Run | str | Path] | Literal["none"] | None = None,
    weights: str | Path | None = None,
    ema: bool = False,
    activation: Literal["gelu", "quick_gelu"] | None = None,
    preprocessing: str | None = None,
    checkpoint: str | Path | None = None,
    parameters: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    train_data: str | Path | None = None,
    rerank: str | MethodSpec | type[Any] | None = None,
    first_stage: Run | str | Path | Sequence[Run | str | Path] | None = None,
    rerank_top: int | Sequence[int] | None = None,
    rerank_parameters: Mapping[str, Any] | None = None,
    name: str | None = None,
    device: str = "auto",
    precision: AskedPrecision = "fp32",
    batch_size: int | None = None,
    limit: int | None = None,
    allow_missing: bool = False,
    allow_overlap: bool = False,
    seed: int = 0,
    seeds: Sequence[int] = (),
    output: str | Path = "runs",
    data_root: str | Path | None = None,
    force: bool = False,
) -> Report:
    """Evaluate methods on a benchmark, beside the untrained baselines on the same backbone.

    A run that is finished already, on the same code, is read and not made again. An object is always evaluated, since
    what it holds cannot be seen from outside; it is kept by its answers.

    Args:
        method: A name, ``package.module:Class`` or ``file.py:Class``; a `MethodSpec`, or a class with one as ``SPEC``;
            several of these; or one object with ``encode_gallery`` and ``encode_queries``. None beside first_stage.
        benchmark: A data set, a protocol id as ``"circo/val"``, the folder of your own data, or a protocol; that of
            first_stage if not given.
        split: Split of the data set; its default one if not given.
        protocol: Protocol id, for a data set with several.
        backbone: A name, ``MODEL/TAG``, a model folder, or a backbone that is loaded; the usual one of the data set if
            not given. For an object: the backbone that it is built on, on which the baselines are evaluated beside it.
            ``"none"`` for methods whose SPEC needs none.
        baselines: Runs on the same backbone to compare the methods with, or ``"none"``; the untrained baselines are
            evaluated if not given.
        weights: A file with the backbone's weights.
        ema: Take the averaged weights (EMA) of that file.
        activation: Activation that a weights file was trained with.
        preprocessing: Preprocessing of images: clip, targetpad(1.25) or squash.
        checkpoint: Folder of a trained method's checkpoint.
        parameters: Parameters of the methods.
        training: Parameters of the training, for a method that is trained first.
        train_data: Training data, for a method that is trained first.
        rerank: A re-ranker of what the methods, or the first stages, found: its name, or what has its SPEC.
        first_stage: Finished runs that are re-ranked, in place of methods.
        rerank_top: How many items of each query are re-ranked, 50 if not given; of several numbers a run for each.
        rerank_parameters: Parameters of the re-ranker.
        name: What an object is called; the name of its class if not given.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: In which the towers compute: ``fp32``, ``bf16`` (the weights, too), ``bf16-autocast``, or ``auto``
            for the latter on a GPU that has bf16 and ``fp32`` elsewhere.
        batch_size: Images or texts at once; chosen if not given.
        limit: How many queries are evaluated, the first ones; the result is marked partial.
        allow_missing: Go on without images that are missing or broken; the result is marked partial.
        allow_overlap: Go on where triplets that a method is trained on show images of the protocol; it is recorded.
        seed: Random seed for training and intervals.
        seeds: Several seeds in place of one: a method with a random part runs once for each, and its row is their mean.
        output: Folder for the runs.
        data_root: Folder of the annotations; ``CIRBENCH_DATA`` if not given.
        force: Run again what has been run before.

    Returns:
        The runs, the baselines first; displays as a table.

    Raises:
        CirbenchError: As ``cirbench run`` would say; see `cirbench.errors`.
    """
    from cirbench.comparison.report import Report
    from cirbench.runs.config import resolve
    from cirbench.runs.ground import Ground
    from cirbench.runs.session import Session

    methods = [] if method is None else _methods(method)
    objects = [each for each in methods if _is_object(each)]
    if objects and len(methods) > 1:
        raise UsageError("An object is evaluated by itself.", hint="Call evaluate once for each.")
    if objects and seeds:
        raise UsageError(
            "What is random in an object cannot be seen from outside.",
            hint="Make one object for each seed, evaluate each with a seed of its own, and compare the runs.",
        )
    if objects and rerank is not None:
        raise UsageError("An object is evaluated by itself.", hint="Then give its run: evaluate(first_stage=run, ...).")
    specs = {} if objects else dict(map(_named, methods))
    reranker = None if rerank is None else _named(rerank)
    dataset, protocol = (None, protocol) if benchmark is None else _names(benchmark, protocol)
    given = benchmark if isinstance(benchmark, EvaluationProtocol) else None
    loaded = backbone if backbone is not None and not isinstance(backbone, str | Path) else None
    options = {
        "method": [_method_name(name or type(objects[0]).__name__)] if objects else [*specs],
        "dataset": dataset,
        "split": split,
        "protocol": protocol,
        "backbone": loaded.identity.name if loaded is not None else _text(backbone),
        "baselines": _folders_of(baselines),
        "weights": _text(weights),
        "ema": ema,
        "activation": activation,
        "preprocessing": preprocessing,
        "checkpoint": _text(checkpoint),
        "set": dict(parameters or {}),
        "train": dict(training or {}),
        "train_data": _text(train_data),
        "rerank": None if reranker is None else reranker[0],
        "first_stage": None if first_stage is None else _folders_of(_listed(first_stage)),
        "rerank_top": [rerank_top] if isinstance(rerank_top, int) else rerank_top,
        "rerank_set": dict(rerank_parameters or {}),
        "device": device,
        "precision": precision,
        "batch_size": batch_size or 0,
        "limit": limit,
        "allow_missing": allow_missing,
        "allow_overlap": allow_overlap,
        "seed": None if seeds else seed,
        "seeds": list(seeds) or None,
        "output": str(output),
        "data_root": _text(data_root),
    }
    config = read_config(None, options)
    if objects:
        return _evaluate_object(objects[0], config, given, loaded, force=force)
    named = [*specs.items(), *([] if reranker is None else [reranker])]
    found = {name: spec for name, spec in named if spec is not None}
    resolved = resolve(config, found, None if given is None else _entry(given))
    session = Session(resolved, Ground(resolved, given, loaded))
    return Report(session.run(force=force), resolved.asked)


def score(
    predictions: str | Path | Mapping[str, Sequence[str] | Mapping[str, float]] | tuple[Rows, Rows] | Pairs,
    benchmark: str | Path | EvaluationProtocol,
    *,
    query_ids: Ids | Sequence[Ids] | None = None,
    gallery_ids: Ids | Sequence[Ids] | None = None,
    split: str | None = None,
    protocol: str | None = None,
    trust: Literal["ranks", "scores"] | None = None,
    data_root: str | Path | None = None,
    output: str | Path | None = None,
    name: str | None = None,
    backbone: str | None = None,
    supervision: Supervision = "unknown",
    uses_triplets: Disclosure = "unknown",
    uses_llm: Disclosure = "unknown",
    transductive: Disclosure = "unknown",
    uses_shared_concept: Disclosure = "unknown",
    trained_on: str | None = None,
    selected_on: str | None = None,
    baselines: Sequence[Run | str | Path] = (),
) -> Score:
    """Score ranked lists or features that were made elsewhere, and keep them as a run; needs no torch.

    Args:
        predictions: A file as ``cirbench score --predictions`` takes it; or per query id the ids of the gallery, best
            first, or their scores; or the features ``(queries, gallery)``, two arrays (N, D) or files, which are ranked
            by cosine similarity; or a list of such pairs, each of which is ranked by itself.
        benchmark: As for `evaluate`.
        query_ids: The query id of each row of the first features, or a file with them; rows may be in any order. For
            several pairs, one of these for each. Not needed where the file of the features holds them.
        gallery_ids: The gallery id of each row of the second.
        split: Split of the data set; its default one if not given.
        protocol: Protocol id, for a data set with several.
        trust: Column that orders a file whose ranks contradict its scores.
        data_root: Folder of the annotations; ``CIRBENCH_DATA`` if not given.
        output: Folder to keep a run in (`Score.run`); none is kept if not given.
        name: What the run is called; by the file if not given.
        backbone: The backbone that they were made with, in words.
        supervision: What the method was trained with.
        uses_triplets: Whether it was trained on composed triplets.
        uses_llm: Whether a large language model takes part.
        transductive: Whether an answer depends on other gallery items or queries than its own.
        uses_shared_concept: Whether it reads CIRCO's shared concepts.
        trained_on: What it was trained on, in words.
        selected_on: What its settings were selected on, in words.
        baselines: Runs on the same backbone, whose name for it the run takes over.

    Raises:
        UsageError: Labels are hidden and no run is kept; or ids are missing, or given for ranked lists.
        InvalidPredictions: The lists break a rule of the protocol, or the features do not fit it.
        MissingData: A file is missing.
    """
    from cirbench.runs.predictions.lists import lists_of
    from cirbench.runs.predictions.score import require_labels
    from cirbench.runs.scored import Given, ScoreConfig, keep, require_gallery

    if isinstance(benchmark, EvaluationProtocol):
        opened, entry = benchmark, _entry(benchmark)
    else:
        dataset, protocol = _names(benchmark, protocol)
        entry = choose_protocol(dataset, split=split, protocol=protocol)
        opened = load_protocol(entry.address, None if data_root is None else Path(data_root))
    if output is None:
        require_labels(opened)
    if trust is not None and not isinstance(predictions, str | Path):
        raise UsageError("trust is for a TREC run or a table in a file.", hint="Leave it out.")
    if not isinstance(predictions, str | Path | Mapping):
        given = Given(pairs=_features(predictions, query_ids, gallery_ids))
    elif query_ids is not None or gallery_ids is not None:
        raise UsageError("query_ids and gallery_ids are for features; ranked lists have ids.", hint="Leave them out.")
    elif isinstance(predictions, str | Path):
        given = Given((Path(predictions),), trust=trust)
    else:
        given = Given((lists_of("the given lists", predictions),))
    config = ScoreConfig(
        dataset=entry.folder or entry.dataset,
        predictions=tuple(map(str, given.lists)) if isinstance(predictions, str | Path) else (),
        trust=trust,
        name=name,
        backbone=backbone,
        supervision=supervision,
        uses_triplets=uses_triplets,
        uses_llm=uses_llm,
        transductive=transductive,
        uses_shared_concept=uses_shared_concept,
        trained_on=trained_on,
        selected_on=selected_on,
        baselines=_folders_of(baselines) or (),
        output=_text(output),
        data_root=_text(data_root),
    )
    if output is None and config.declares:
        raise UsageError(f"{', '.join(config.declares)} belong to a run, and none is kept.", hint="Give output.")
    if output is not None:
        require_gallery(opened, entry)
    beside = load_baselines(config.baselines, opened)
    scored = given.answer(opened).measured()
    return scored if output is None else scored.kept_as(keep(scored, given, config, entry, opened, beside))


def compare(
    runs: Sequence[Run | str | Path],
    *,
    metric: str | Sequence[str] | None = None,
    protocol: str | Sequence[str] | None = None,
    baseline: int | Run | str | Path | None = None,
    against: Against = "all",
    published: Sequence[str] = (),
) -> Comparison:
    """Compare runs, with corrected paired tests; runs that differ by nothing but the seed are one row.

    Args:
        runs: Runs, or their folders, of one or several protocols.
        metric: The number to compare on, or several; for one protocol the headline if not given, for several those that
            papers print.
        protocol: Compare the runs of this protocol, or of these, only.
        baseline: The run that differences are taken to, or its place among ``runs``; the first if not given.
        against: ``"all"`` tests every two runs; ``"best"`` too, with differences to the highest; ``"baseline"`` tests
            each against a baseline that was chosen beforehand, and corrects over these tests alone.
        published: Published rows to show beside the runs, such as ``"circo/test:SEARLE"``.

    Raises:
        UsageError: There are fewer than two runs, or they were not obtained in the same way.
        UnknownName: A run does not report the number, or there is no such protocol or published row.
    """
    loaded = [run if isinstance(run, Run) else load_run(run) for run in runs]
    base = _baseline(loaded, baseline)
    chosen = _of_protocols(loaded, [protocol] if isinstance(protocol, str) else protocol)
    labels = [metric] if isinstance(metric, str) else [*(metric or ())]
    names = {run.result.protocol.name for run in chosen}
    several = len(names) > 1 or len(labels) > 1 or bool(published)
    if against == "baseline" and base is None and chosen:
        base = chosen[0]
    lay_out = partial(compare_on_paper, chosen, labels=labels, baseline=base, against=against, published=published)
    if several:
        comparison = Comparison(several, None, lay_out)
        _ = comparison.paper  # what is wrong with it is said now
        return comparison
    places = [place for place, run in enumerate(chosen) if run is base]
    if base is not None and not places:
        raise UsageError(f"The baseline {base.folder} is of another protocol.", hint="Choose one of these runs.")
    label, place = (labels[0] if labels else None), (places[0] if places else 0)
    return Comparison(several, compare_runs(chosen, label=label, baseline=place, against=against), lay_out)


def _baseline(runs: Sequence[Run], given: int | Run | str | Path | None) -> Run | None:
    if given is None or isinstance(given, int):
        return None if given is None else runs[given]
    folder = Path(given.folder if isinstance(given, Run) else given).resolve()
    for run in runs:
        if run.folder.resolve() == folder:
            return run
    raise UsageError(f"The baseline {folder} is not one of the runs.", hint="Add it to them.")


def _of_protocols(runs: Sequence[Run], asked: Sequence[str] | None) -> list[Run]:
    """The runs whose protocol has one of these names, with or without a version."""
    if not asked:
        return [*runs]
    known = {name for run in runs for name in (run.result.protocol.name, run.result.protocol.name.partition("@")[0])}
    for name in asked:
        if name not in known:
            raise UnknownName("protocol of these runs", name, {each for each in known if "@" not in each})
    return [run for run in runs if {run.result.protocol.name, run.result.protocol.name.partition("@")[0]} & {*asked}]


def list_benchmarks() -> list[str]:
    """Name every installed benchmark."""
    return [*datasets()]


def list_backbones() -> list[str]:
    """Name every backbone that is known by a name."""
    from cirbench.backbones import list_backbones

    return [entry.name for entry in list_backbones()]


def list_metrics() -> list[str]:
    """Name every metric."""
    from cirbench.metrics.table import METRICS

    return METRICS.names()


def _features(given: Any, query_ids: Any, gallery_ids: Any) -> tuple[tuple[Features, Features], ...]:
    """One pair of features with its ids, or several."""
    from cirbench.runs.predictions.features import Features

    several = isinstance(given, list) and all(isinstance(pair, tuple) for pair in given)
    pairs = given if several else [given]
    ids = [(list(each) if several and each is not None else [each] * len(pairs)) for each in (query_ids, gallery_ids)]
    found = []
    for pair, query_id, gallery_id in zip(pairs, *ids, strict=True):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise UsageError(
                f"An object of type {type(pair).__name__} is not something to score.",
                hint="Give a file, ranked lists by query id, or features as a pair (queries, gallery).",
            )
        in_files = all(isinstance(each, str | Path) for each in pair)
        if not in_files and (query_id is None or gallery_id is None):
            raise UsageError(
                "Features need query_ids and gallery_ids.", hint="They say what the rows are: one id for each row."
            )
        found.append(
            (
                Features(pair[0], _path_or_data(query_id), "queries", "query_ids"),
                Features(pair[1], _path_or_data(gallery_id), "gallery", "gallery_ids"),
            )
        )
    return tuple(found)


def _path_or_data(given: Any) -> Any:
    return Path(given) if isinstance(given, str) else given


def _evaluate_object(
    method: Method,
    config: RunConfig,
    protocol: EvaluationProtocol | None,
    backbone: Backbone | None,
    *,
    force: bool,
) -> Report:
    """Evaluate an object and, where its backbone is given, the untrained baselines on that."""
    from cirbench.comparison.report import Report
    from cirbench.runs.config import NONE, resolve
    from cirbench.runs.ground import Ground
    from cirbench.runs.session import Session, run_object

    if protocol is None:
        entry = choose_protocol(config.dataset, split=config.split, protocol=config.protocol)
    else:
        entry = _entry(protocol)
    runs: tuple[Run, ...] = ()
    ground = None
    if config.baselines and config.baselines != (NONE,):
        protocol = protocol or load_protocol(
            entry.address, None if config.data_root is None else Path(config.data_root)
        )
        runs = load_baselines(config.baselines, protocol)
    if config.backbone not in (None, NONE) and entry.labelled and (baselines := find_baselines()):
        names = tuple(spec.name for spec in baselines.values())
        resolved = resolve(msgspec.structs.replace(config, method=names, baselines=(), set={}), entry=entry)
        ground = Ground(resolved, protocol, backbone)
        if not config.baselines:
            runs = Session(resolved, ground).run(force=force)
    return Report((*runs, run_object(method, config, entry, protocol, ground, runs)), config.method)


def _entry(protocol: EvaluationProtocol) -> ProtocolEntry:
    """What the catalogue would say of a protocol."""
    return ProtocolEntry(
        id=protocol.id,
        title=protocol.title,
        split=protocol.id.partition("/")[2],
        queries=len(protocol.queries),
        gallery=None if protocol.gallery is None else len(protocol.gallery),
        labelled=protocol.labels is not None,
    )


def _names(benchmark: str | Path | EvaluationProtocol, protocol: str | None) -> tuple[str, str | None]:
    """The data set, and the protocol where ``benchmark`` is the id of one."""
    if isinstance(benchmark, EvaluationProtocol):
        return benchmark.id.partition("/")[0], benchmark.id
    known = protocols().get(str(benchmark))
    return (str(benchmark), protocol) if known is None else (known.dataset, known.id)


def _named(method: str | MethodSpec | type[Any]) -> tuple[str, MethodSpec | None]:
    """What finds a method, and the method itself where it need not be found."""
    if isinstance(method, str):
        return method, None
    if isinstance(method, MethodSpec):
        return method.name, method
    if not isinstance(spec := getattr(method, "SPEC", None), MethodSpec):
        raise UsageError(
            f"The class {method.__name__} has no SPEC, so nothing says what its parameters are.",
            hint="Give it a MethodSpec as SPEC (docs/adding-a-method.md), or evaluate an object of it.",
        )
    return spec.name, spec


def _folders_of(runs: Sequence[Run | str | Path] | None) -> tuple[str, ...] | None:
    """Runs by their folders, or what stands for them; ``None`` for nothing given."""
    given = [runs] if isinstance(runs, str) else runs or ()
    return tuple(str(each.folder if isinstance(each, Run) else each) for each in given) or None


def _listed(runs: Any) -> list[Any]:
    return [runs] if isinstance(runs, str | Path | Run) else [*runs]


def _is_object(method: object) -> bool:
    return not isinstance(method, type) and hasattr(method, "encode_gallery") and hasattr(method, "encode_queries")


def _methods(given: Any) -> list[Any]:
    """The methods that are given, one or several."""
    if isinstance(given, str | MethodSpec | type) or _is_object(given):
        return [given]
    try:
        return list(given)
    except TypeError as error:
        raise UsageError(
            f"An object of type {type(given).__name__} is not a method: it has no encode_gallery and encode_queries.",
            hint="Give a name, a MethodSpec, a class with one as SPEC, or an object with these two functions.",
        ) from error


def _method_name(name: str) -> str:
    """``MyMethod`` as ``my-method``."""
    return slug(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name))


def _text(value: object) -> str | None:
    return None if value is None else str(value)
