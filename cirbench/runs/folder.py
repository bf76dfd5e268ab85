"""A run on disk: ``result.json`` and the evidence beside it.

``result.json`` is written last and names the sha256 of every other file, so a folder that has one is whole, and a
folder that was touched since is noticed.

    result.json         numbers, intervals, identities; see `cirbench.runs.schema`
    per_query.npz       per query: top ids as positions, scores, exact ranks of the ground truths, metric values, labels
    predictions.jsonl   per query: the top ids
    run.trec            the same as a TREC run
    qrels.trec          the ground truths, where they are public
    config.toml         what to pass to ``cirbench run --config`` to do it again
    identity.json       what the digest of the run is over, with a digest of each module of code; see `Identity`

Replicates are runs that differ by nothing but the seed. They are one method, and never each other's rivals: `combine`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import numpy as np

from cirbench.errors import CorruptFile, MissingData, UnknownName, UsageError, quoted, some
from cirbench.methods.interface import find_baselines
from cirbench.metrics import METRICS, Measure, Measurement
from cirbench.metrics.intervals import intervals
from cirbench.metrics.measure import KnownRanks, per_query, soft_labels
from cirbench.metrics.table import parse_label, parts_of
from cirbench.ranking.task import Ranking
from cirbench.runs.predictions.lists import read_rankings, write_jsonl, write_qrels, write_trec
from cirbench.runs.record import IDENTITY, RESULT, Identity, latest_otherwise_equal
from cirbench.runs.schema import MIGRATIONS, SCHEMA_VERSION, Result, edited_field, seal
from cirbench.support import console
from cirbench.support.arrays import Ragged, read_archive, to_archive
from cirbench.support.distributed import barrier, broadcast_object, get_context
from cirbench.support.files import (
    digest,
    lock_of,
    locked,
    read_versioned,
    sha256_of_file,
    write_bytes,
    write_json,
    write_text,
    write_versioned,
)
from cirbench.support.needs import data_frame
from cirbench.support.tables import Column, Number, Table
from cirbench.support.tables.formats import render

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas
    from numpy.typing import NDArray

    from cirbench.methods.evaluate import Evaluation
    from cirbench.protocol import EvaluationProtocol
    from cirbench.runs.schema import BackboneRecord


PER_QUERY = "per_query.npz"
PREDICTIONS = "predictions.jsonl"
CONFIG = "config.toml"


Slices: TypeAlias = "tuple[tuple[str, ...], ...]"
"""Per query, the labels of one kind that it carries."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run, or the mean of several that differ by nothing but the seed (`combine`).

    Attributes:
        folder: Where it lies.
        result: What it found.
        values: Per metric label, one fraction per query; NaN where the metric does not apply to the query.
        clusters: Per query, the name of its cluster; queries of one cluster are not independent.
        query_ids: The queries, in order.
        ranks: Per query, the exact 1-based rank of each ground truth, the target first.
        group_ranks_Q: Per query, the rank of the target inside its group; ``None`` where groups were not ranked.
        slices: Per kind, the labels that each query carries; empty for a run that was made before they were kept.
        gains: Per query, the soft label of each ground truth; ``None`` where all are equally right, and for a run that
            was made before they were kept.
        depth: How many ids the shortest list holds, where lists were scored; ``None`` where every rank is known.
        reused: Whether it was finished before it was asked for.
        replicates: The runs that it is the mean of, by seed; empty for a run of its own.
    """

    folder: Path
    result: Result
    values: Mapping[str, NDArray[np.float64]]
    clusters: tuple[str, ...]
    query_ids: tuple[str, ...]
    ranks: Ragged[np.int64]
    group_ranks_Q: NDArray[np.int64] | None = None
    depth: int | None = None
    slices: Mapping[str, Slices] = dataclasses.field(default_factory=dict)
    gains: tuple[tuple[float, ...], ...] | None = None
    reused: bool = False
    replicates: tuple[Run, ...] = ()

    @property
    def relevant_ranks(self) -> Ragged[np.int64]:
        """The ranks, as metrics ask for them."""
        return self.ranks

    def measured(self, label: str) -> list[Measurement]:
        """Return a number and, where it is an unweighted mean over slices, after it the numbers that it averages."""
        parts = parts_of(label, self.values)
        return [
            Measurement(
                name,
                self.values[name],
                self.result[name].value / 100,
                parts if name == label else (),
                tuple(each.result[name].value / 100 for each in self.replicates),
            )
            for name in (label, *parts)
        ]

    def sd(self, label: str) -> float | None:
        """Return the standard deviation of a number over replicates, in percent; ``None`` for a run of its own."""
        return statistics.stdev(each.result[label].value for each in self.replicates) if self.replicates else None

    def per_query(self) -> pandas.DataFrame:
        """Return one row for each query: its cluster, the best rank of its ground truths, each metric as a fraction.

        Raises:
            MissingData: pandas is not installed.
        """
        offsets = self.ranks.offsets
        best_Q = [int(self.ranks.values[a:b].min()) if b > a else 0 for a, b in itertools.pairwise(offsets)]
        columns = {"query": self.query_ids, "cluster": self.clusters, "best_rank": best_Q or [0] * len(self.query_ids)}
        return data_frame({**columns, **self.values}).set_index("query")

    def to_frame(self) -> pandas.DataFrame:
        """Return one row for each metric, in percent, with its interval and the number of queries.

        Raises:
            MissingData: pandas is not installed.
        """
        fields = ("label", "value", "low", "high", "n", "at_most")
        columns = {name: [getattr(metric, name) for metric in self.result.metrics] for name in fields}
        return data_frame(columns).set_index("label")

    @property
    def table(self) -> Table:
        """The numbers with their intervals, for people."""
        result = self.result
        counts = f"queries {result.counts.queries}/{result.counts.queries_expected}"
        columns = (Column("metric", "metric"), Column("value", "%  [95 % interval]"), Column("n", "queries"))
        rows = tuple(
            (metric.label, Number(metric.value, metric.low, metric.high), Number(metric.n, digits=0))
            for metric in result.metrics
        )
        title = f"{result.method.name} on {result.protocol.name}, {result.backbone.name}, {counts}"
        return Table(title, columns, rows, caption=f"Run {self.folder}.")

    def _repr_html_(self) -> str:
        return render(self.table, "html")


def save_run(
    folder: Path,
    result: Result,
    evaluation: Evaluation,
    protocol: EvaluationProtocol,
    configuration: str,
    *,
    identity: Identity | None = None,
) -> Run:
    """Write a run and read it back.

    Raises:
        CirbenchError: The folder cannot be written, or the disk is full.
    """
    write_bytes(folder / PER_QUERY, _per_query(evaluation, protocol))
    write_jsonl(folder / PREDICTIONS, protocol, evaluation.ranking)
    write_trec(folder / "run.trec", protocol, evaluation.ranking)
    if protocol.labels is not None:
        write_qrels(folder / "qrels.trec", protocol)
    write_text(folder / CONFIG, configuration)
    if identity is not None:
        write_json(folder / IDENTITY, msgspec.to_builtins(identity))
    files = {
        path.name: sha256_of_file(path)
        for path in sorted(folder.iterdir())
        if path.name != RESULT and not path.name.startswith(".")
    }
    write_versioned(folder / RESULT, seal(msgspec.structs.replace(result, files=files)))
    return load_run(folder)


def finished(
    folder: Path, identity: Identity, what: str, make: Callable[[], object] | None, *, force: bool = False
) -> Run:
    """Return the run of a folder: the one that is there, or one that is made now, by one command at a time.

    Args:
        folder: Where it goes.
        identity: What decides its numbers; it is said which other run has all of it but the code.
        what: What is said before it is made.
        make: Makes and saves it; ``None`` in a process that waits for another one to do so.
        force: Make it although it is there.
    """
    with locked(lock_of(folder)) if get_context().is_main_process else contextlib.nullcontext():
        if broadcast_object((folder / RESULT).is_file() and not force):
            console.say(f"reused {folder}")
            return dataclasses.replace(load_run(folder), reused=True)
        console.say(what)
        if (before := latest_otherwise_equal(identity, folder.parent)) is not None:
            console.say(f"{before[0]} is not reused: {'; '.join(before[1])}")
        if make is not None:
            make()
        barrier()
        return load_run(folder)


def load_run(folder: str | Path) -> Run:
    """Read a run and check that it is what was written: its files, its fields, and its numbers by the ranks.

    Raises:
        MissingData: There is no finished run in ``folder``.
        CorruptFile: A file is damaged, changed or missing, or was written by a newer version; the message names the
            file and, in ``result.json``, the field.
    """
    folder = Path(folder)
    if not (folder / RESULT).is_file():
        raise MissingData(f"There is no finished run in {folder}.", hint="See `cirbench list runs`.")
    _check_fields(folder / RESULT)
    result = read_versioned(folder / RESULT, Result, version=SCHEMA_VERSION, migrations=MIGRATIONS, hint=_AGAIN)
    for name, expected in result.files.items():
        path = folder / name
        if path.name != name or not path.is_file() or sha256_of_file(path) != expected:
            raise CorruptFile(f"{path} is missing or is not the file this run was written with.", hint=_AGAIN)
    if IDENTITY in result.files:
        _check_identity(folder, result)
    arrays = read_archive(folder / PER_QUERY, hint=_AGAIN)
    try:
        values = dict(zip(map(str, arrays["labels"]), arrays["values_MQ"], strict=True))
        ranks = Ragged(arrays["relevant_ranks"], arrays["relevant_offsets"])
        clusters, query_ids = tuple(arrays["clusters"].tolist()), tuple(arrays["query_ids"].tolist())
        gains = tuple(tuple(row.tolist()) for row in ranks.like(arrays["gains"])) if "gains" in arrays else None
        _check_values(folder / PER_QUERY, values, KnownRanks(ranks, arrays.get("group_ranks_Q"), gains))
    except (KeyError, ValueError, IndexError) as error:
        raise CorruptFile(f"{folder / PER_QUERY} is damaged: {error}.", hint=_AGAIN) from error
    _check_metrics(folder / RESULT, result, values)
    lists = result.scored is not None and any(file.role == "lists" for file in result.scored.files)
    depth = int((arrays["top_QK"] >= 0).sum(axis=1).min()) if lists and len(query_ids) else None
    slices = {
        name.removeprefix(_SLICE): tuple(tuple(filter(None, row.split("\n"))) for row in rows.tolist())
        for name, rows in arrays.items()
        if name.startswith(_SLICE)
    }
    run = Run(folder, result, values, clusters, query_ids, ranks, arrays.get("group_ranks_Q"), depth, slices, gains)
    return run if all(math.isfinite(metric.low) for metric in result.metrics) else _with_intervals(run)


_SLICE = "slice "
"""Begins the names of the arrays that hold the labels of queries, a line each."""

_AGAIN = "Run it again with --force to replace it."


def _check_fields(path: Path) -> None:
    """Refuse a ``result.json`` with a field that is not what it was written with."""
    try:
        content = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        edited = edited_field(content)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, AttributeError, RecursionError):
        return  # reading it says what is wrong
    if edited is None and not content.get("digests") and IDENTITY in content.get("files", ()):
        edited = "digests"
    if edited is not None:
        raise CorruptFile(f"{path} was edited: {quoted(edited)} is not what it was written with.", hint=_AGAIN)


def _check_identity(folder: Path, result: Result) -> None:
    """Refuse a result that says of its configuration what its identity does not."""
    try:
        identity = msgspec.json.decode((folder / IDENTITY).read_bytes(), type=Identity)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptFile(f"{folder / IDENTITY} is damaged: {error}.", hint=_AGAIN) from error
    said = {
        "digest": (result.digest, identity.digest),
        "protocol.digest": (result.protocol.digest, identity.protocol),
        "method.name": (result.method.name, identity.method),
        "method.parameters": (result.method.parameters, identity.parameters),
        "method.code": (result.method.code, identity.code.method_digest),
        "method.checkpoint": (result.method.checkpoint, identity.checkpoint),
        "backbone.digest": (result.backbone.digest, identity.backbone),
        "seed": (result.seed, identity.seed),
        "lost": (result.lost, identity.lost),
    }
    for field, (here, there) in said.items():
        if here != there:
            raise CorruptFile(f"{folder / RESULT} was edited: {field} is not that of {IDENTITY}.", hint=_AGAIN)


def _check_values(path: Path, values: Mapping[str, NDArray[np.float64]], ranks: KnownRanks) -> None:
    """Refuse per-query values that do not follow from the ranks, except by soft labels that an old run did not keep."""
    for label, values_Q in values.items():
        part = parse_label(label)
        if METRICS.find(part.metric).needs in ("gains", "negatives") and ranks.gains is None:
            continue
        found_Q = per_query(ranks, Measure(part.metric, part.k), ranks)
        counted_Q = ~np.isnan(values_Q)
        if found_Q is None or found_Q.shape != values_Q.shape:
            raise CorruptFile(f"{path} is damaged: it has no ranks for {quoted(label)}.", hint=_AGAIN)
        same = np.array_equal(values_Q[counted_Q], found_Q[counted_Q])
        if not same or (part.by is None and not np.array_equal(counted_Q, ~np.isnan(found_Q))):
            raise CorruptFile(
                f"{path} was edited: the values of {quoted(label)} are not those of its ranks.", hint=_AGAIN
            )


def _check_metrics(path: Path, result: Result, values: Mapping[str, NDArray[np.float64]]) -> None:
    """Refuse a number that is not the mean of its queries, or of its slices."""
    if [metric.label for metric in result.metrics] != [*values]:
        raise CorruptFile(f"{path} was edited: the labels of metrics are not those of {PER_QUERY}.", hint=_AGAIN)
    means = {label: 100 * float(np.nanmean(values_Q)) for label, values_Q in values.items()}
    for metric in result.metrics:
        part = parse_label(metric.label)
        mean = means[metric.label]
        if part.by is not None and part.part is None:
            begins = metric.label.partition("[")[0] + f"[{part.by}="
            mean = float(np.mean([value for label, value in means.items() if label.startswith(begins)]))
        counted = int(np.count_nonzero(~np.isnan(values[metric.label])))
        checked: dict[str, tuple[float, float]] = {"value": (metric.value, mean), "n": (metric.n, counted)}
        for field, (here, there) in checked.items():
            if not math.isclose(here, there, rel_tol=1e-9, abs_tol=1e-9):
                raise CorruptFile(
                    f"{path} was edited: {field} of {metric.label} is {here}, and by the ranks {there}.", hint=_AGAIN
                )


def _with_intervals(run: Run) -> Run:
    """Compute the intervals again: of a mean, or of a run of an earlier schema version, which had others."""
    found = intervals([run.measured(metric.label)[0] for metric in run.result.metrics], run.clusters)
    metrics = [
        msgspec.structs.replace(metric, low=100 * interval.low, high=100 * interval.high)
        for metric, interval in zip(run.result.metrics, found, strict=True)
    ]
    return dataclasses.replace(run, result=msgspec.structs.replace(run.result, metrics=metrics))


def _per_query(evaluation: Evaluation, protocol: EvaluationProtocol) -> bytes:
    ranking = evaluation.ranking
    clusters = protocol.clusters or tuple(query.id for query in protocol.queries)
    arrays: dict[str, Any] = {
        "query_ids": np.array([query.id for query in protocol.queries]),
        "clusters": np.array(clusters),
        "labels": np.array([measurement.label for measurement in evaluation.measurements], dtype=np.str_),
        "values_MQ": np.array([measurement.values_Q for measurement in evaluation.measurements], dtype=np.float64),
        "top_QK": ranking.top_QK.astype(np.int32),
        "scores_QK": ranking.scores_QK,
        "relevant_ranks": ranking.relevant_ranks.values,
        "relevant_ties": ranking.relevant_ties.values,
        "relevant_offsets": ranking.relevant_ranks.offsets,
    }
    arrays |= {
        f"{_SLICE}{kind}": np.array(["\n".join(labels) for labels in rows], dtype=np.str_)
        for kind, rows in protocol.slices.items()
    }
    if ranking.group_ranks_Q is not None:
        arrays["group_ranks_Q"] = ranking.group_ranks_Q
    if (gains := soft_labels(protocol.labels)) is not None:
        arrays["gains"] = gains
    return to_archive(arrays)


def load_baselines(names: Sequence[str | Path], protocol: EvaluationProtocol) -> tuple[Run, ...]:
    """Load runs that others are compared with, since they share a backbone.

    Args:
        names: Their folders, or patterns of them.
        protocol: On which they must be.

    Returns:
        The untrained baselines first, image, text, image and text; then the others as they were named.

    Raises:
        MissingData: There is no finished run, or it is damaged.
        UsageError: They are of another protocol, of a part of it, or of different backbones.
    """
    runs = load_runs(names, protocol)
    for run in runs:
        if run.result.counts.partial:
            raise UsageError(f"{run.folder} is a partial run.", hint="Run it again on everything.")
    backbones = {run.result.backbone.digest: run.result.backbone.name for run in runs}
    if len(backbones) > 1:
        raise UsageError(
            f"The baselines ran on different backbones: {some([*backbones.values()])}.",
            hint="Give those on the backbone of what is compared with them.",
        )
    order = [spec.name for spec in find_baselines().values()]
    return tuple(sorted(runs, key=lambda run: [*order, run.result.method.name].index(run.result.method.name)))


def load_runs(names: Sequence[str | Path], protocol: EvaluationProtocol) -> list[Run]:
    """Load runs by their folders, or patterns of them, which must be on ``protocol``, as it is here.

    Raises:
        MissingData: There is no finished run, or it is damaged.
        UsageError: One is of another protocol, or of another version of it.
    """
    runs = [load_run(folder) for name in names for folder in _folders(name)]
    for run in runs:
        if run.result.protocol.digest != protocol.digest:
            raise UsageError(
                f"{run.folder} is a run on {run.result.protocol.name} ({run.result.protocol.digest[:8]}), and this is "
                f"{protocol.name} ({protocol.digest[:8]}).",
                hint="Give runs on the same protocol.",
            )
    return runs


def load_ranking(run: Run, protocol: EvaluationProtocol) -> Ranking:
    """Read the ranking that a run keeps: of each query the first items, and the exact ranks of the ground truths.

    Args:
        run: On the protocol, or on its first queries.
        protocol: With the gallery that was ranked.

    Raises:
        CorruptFile: A file is damaged.
    """
    assert protocol.gallery is not None
    arrays = read_archive(run.folder / PER_QUERY, hint=_AGAIN)
    lists = {} if protocol.groups is None else read_rankings(run.folder / PREDICTIONS).group_rankings
    groups = [lists[query] for query in run.query_ids] if lists else []
    group_top_QK = None
    if groups:
        group_top_QK = np.full((len(groups), max(map(len, groups))), -1, dtype=np.int64)
        for place, names in enumerate(groups):
            group_top_QK[place, : len(names)] = [protocol.gallery.positions[name] for name in names]
    offsets = arrays["relevant_offsets"]
    return Ranking(
        top_QK=arrays["top_QK"].astype(np.int64),
        scores_QK=arrays["scores_QK"],
        relevant_ranks=Ragged(arrays["relevant_ranks"], offsets),
        relevant_ties=Ragged(arrays["relevant_ties"], offsets),
        group_ranks_Q=run.group_ranks_Q,
        group_top_QK=group_top_QK,
    )


def backbone_of(runs: Sequence[Run]) -> BackboneRecord | None:
    """The backbone that runs share; ``None`` where there are no runs."""
    return runs[0].result.backbone if runs else None


def _folders(name: str | Path) -> list[Path]:
    path = Path(name)
    if path.exists() or not any(sign in str(name) for sign in "*?["):
        return [path]
    base = Path(path.anchor or ".")
    found = sorted(base.glob(str(path.relative_to(path.anchor) if path.anchor else path)))
    return [folder for folder in found if (folder / RESULT).is_file()] or [path]


def choose_label(runs: Sequence[Run], label: str | None) -> str:
    """Return the number to compare runs on: the given one, or the headline.

    Raises:
        UnknownName: A run does not report it; the nearest ones are named.
        UsageError: A run has no numbers, because its ground truths are not available.
    """
    for run in runs:
        if not run.result.metrics:
            raise UsageError(
                f"{run.folder} has no numbers: the ground truths of {run.result.protocol.name} are not available.",
                hint="Its files for the test server: cirbench submit build.",
            )
    label = label or runs[0].result.metrics[0].label
    for run in runs:
        if label not in run.values:
            raise UnknownName(f"metric of {run.folder}", label, run.values)
    return label


def seeds_of(run: Run) -> tuple[int, ...]:
    """Return the seeds of a run: its own, or those of its replicates."""
    return tuple(_seed(each.result)[0] for each in run.replicates or (run,))


def combine(runs: Sequence[Run]) -> tuple[list[Run], list[int]]:
    """Put the mean in the place of runs that differ by nothing but the seed.

    Runs with equal values are not several: what has no random part gives the same under every seed, and the first of
    them is taken.

    Returns:
        The rows of a comparison, in the order of their first runs; and for each run the row that it is in.
    """
    groups: dict[str, list[list[int]]] = {}
    for at, run in enumerate(runs):
        kin = groups.setdefault(_kind(run), [])
        # Two runs with one seed are not replicates, whatever keeps them apart: each begins a group, or joins the next.
        open_groups = (
            group for group in kin if _seed(run.result) not in [_seed(runs[other].result) for other in group]
        )
        if (group := next(open_groups, None)) is None:
            kin.append([at])
        else:
            group.append(at)
    ordered = sorted(group for kin in groups.values() for group in kin)
    rows = [_mean([runs[at] for at in group]) for group in ordered]
    return rows, [next(row for row, group in enumerate(ordered) if at in group) for at in range(len(runs))]


def _kind(run: Run) -> str:
    """A digest over everything that was asked of a run but the seed."""
    result, method = run.result, run.result.method
    return digest(
        [
            result.protocol.digest,
            run.query_ids,
            result.backbone.digest,
            result.counts.gallery,
            result.lost,
            msgspec.to_builtins(
                msgspec.structs.replace(
                    method,
                    parameters=_without_seed(method.parameters),
                    training=None if method.training is None else _without_seed(method.training),
                    checkpoint=None if method.checkpoint is None else "trained",
                )
            ),
        ]
    )


def _seed(result: Result) -> tuple[int, int, int]:
    """The seeds of a run, the one that its randomness comes from first: of training, of the method, of the run."""
    training, parameter = (result.method.training or {}).get("seed"), result.method.parameters.get("seed")
    found = [seed for seed in (training, parameter, result.seed) if isinstance(seed, int)]
    return found[0], found[min(1, len(found) - 1)], result.seed


def _without_seed(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != "seed"}


def _mean(runs: Sequence[Run]) -> Run:
    """The mean of replicates, with intervals over queries and seeds; the first where all are the same."""
    first, *others = runs
    same = all(
        np.array_equal(first.values[label], other.values[label], equal_nan=True)
        for other in others
        for label in first.values
    )
    if same:
        return first
    runs = sorted(runs, key=lambda run: _seed(run.result))
    first = runs[0]
    metrics = [
        msgspec.structs.replace(metric, value=float(np.mean([run.result[metric.label].value for run in runs])))
        for metric in first.result.metrics
    ]
    mean = dataclasses.replace(
        first,
        result=msgspec.structs.replace(first.result, metrics=metrics, additional=[]),
        values={label: np.mean([run.values[label] for run in runs], axis=0) for label in first.values},
        replicates=tuple(runs),
    )
    return _with_intervals(mean) if metrics else mean
