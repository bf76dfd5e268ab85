"""Runs of rankings and features that were made elsewhere: measured here, kept with what is declared of them.

Nobody here knows what made them. A scored run says so (`cirbench.runs.schema.Scored`), names every file by its digest,
and keeps ranks, values and rankings as any other run does, so that it is compared, shown and published in the same way.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from cirbench.benchmarks.catalogue import choose_protocol
from cirbench.errors import MissingData, UsageError
from cirbench.methods.evaluate import Evaluation
from cirbench.methods.interface import Disclosure, Supervision
from cirbench.runs.config import RunConfig, read_config, to_toml
from cirbench.runs.folder import CONFIG, Run, backbone_of, load_run, save_run
from cirbench.runs.predictions.features import Features
from cirbench.runs.predictions.lists import merge, read_rankings
from cirbench.runs.predictions.score import answer_of_features, answer_of_lists
from cirbench.runs.record import (
    NOT_STATED,
    RESULT,
    Identity,
    circumstances,
    declared_backbone,
    values_of,
)
from cirbench.runs.schema import (
    BackboneRecord,
    Counts,
    MethodRecord,
    ProtocolRecord,
    Result,
    Scored,
    ScoredFile,
)
from cirbench.support.code import current_code
from cirbench.support.files import digest, lock_of, locked, sha256_of_file, slug
from cirbench.support.parameters import read_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cirbench.benchmarks.interface import ProtocolEntry
    from cirbench.protocol import EvaluationProtocol
    from cirbench.runs.predictions.lists import RankedLists
    from cirbench.runs.predictions.score import Answer, Score


class ScoreConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Everything that can be asked of ``cirbench score``; field names are the option names.

    Attributes:
        dataset: Name of a data set, or the folder of your own.
        split: Split of the data set; its default one if not given.
        protocol: A protocol id, instead of the data set's default one for the split.
        predictions: Files of ranked lists; several hold different queries, or CIRR's two metrics.
        trust: What orders a file whose ranks contradict its scores.
        features: Pairs of files, queries and gallery; of several pairs each is ranked by itself.
        query_ids: Per pair, the file with the ids of the queries.
        gallery_ids: Per pair, the file with the ids of the gallery.
        name: What the run is called; by the first file if not given.
        backbone: The backbone that they were made with, in words.
        supervision: What the method is trained with.
        uses_triplets: Whether it was trained on composed triplets.
        uses_llm: Whether a large language model takes part.
        transductive: Whether an answer depends on other gallery items or queries than its own.
        uses_shared_concept: Whether the method reads CIRCO's shared concepts.
        trained_on: What it was trained on, in words.
        selected_on: What its settings were selected on, in words.
        baselines: Folders of runs on the same backbone, which this one is compared with.
        output: Folder for the run; none is kept if not given.
        data_root: Folder with the annotations; CIRBENCH_DATA if not given.
    """

    dataset: str
    split: str | None = None
    protocol: str | None = None
    predictions: tuple[str, ...] = ()
    trust: Literal["ranks", "scores"] | None = None
    features: tuple[tuple[str, str], ...] = ()
    query_ids: tuple[str, ...] = ()
    gallery_ids: tuple[str, ...] = ()
    name: str | None = None
    backbone: str | None = None
    supervision: Supervision = "unknown"
    uses_triplets: Disclosure = "unknown"
    uses_llm: Disclosure = "unknown"
    transductive: Disclosure = "unknown"
    uses_shared_concept: Disclosure = "unknown"
    trained_on: str | None = None
    selected_on: str | None = None
    baselines: tuple[str, ...] = ()
    output: str | None = None
    data_root: str | None = None

    @property
    def declares(self) -> list[str]:
        """The options that say something of a run, and nothing where none is kept."""
        return [name for name in (*_DECLARED, "name", "baselines") if getattr(self, name) != _DEFAULTS[name]]


_DECLARED = (
    "backbone",
    "supervision",
    "uses_triplets",
    "uses_llm",
    "transductive",
    "uses_shared_concept",
    "trained_on",
    "selected_on",
)
_DEFAULTS = {field.name: field.default for field in msgspec.structs.fields(ScoreConfig)}


def read_score_config(file: Path | None, options: dict[str, Any]) -> ScoreConfig:
    """Combine a TOML file with command-line options; an option wins over the file.

    Raises:
        MissingData: The file does not exist.
        UsageError: It is not TOML, has an unknown key, or options that do not belong together.
    """
    values = read_options(file, options, fields=ScoreConfig.__struct_fields__, sections=())
    if not values.get("dataset"):
        raise UsageError("--dataset is missing.", hint="For instance: --dataset circo")
    try:
        config = msgspec.convert(values, ScoreConfig)
    except msgspec.ValidationError as error:
        raise UsageError(f"The options do not fit: {error}.", hint="See `cirbench score --help`.") from error
    see = "See `cirbench score --help`."
    if bool(config.predictions) == bool(config.features):
        raise UsageError("Give either --predictions or --features.", hint=see)
    if config.trust is not None and not config.predictions:
        raise UsageError("--trust goes with --predictions.", hint=see)
    for option, ids in (("--query-ids", config.query_ids), ("--gallery-ids", config.gallery_ids)):
        if ids and not config.features:
            raise UsageError(f"--features and {option} belong together.", hint="Ranked lists hold their ids.")
        if ids and len(ids) != len(config.features):
            raise UsageError(
                f"There are {len(config.features)} pairs of --features and {len(ids)} files of {option}.",
                hint=f"Give {option} once for each pair, in the same order.",
            )
    return config


def config_of(run: Run) -> RunConfig | ScoreConfig:
    """What a run was asked for by."""
    if run.result.scored is None or run.result.reranking is not None:
        return read_config(run.folder / CONFIG, {})
    return msgspec.convert(
        read_options(run.folder / CONFIG, {}, fields=ScoreConfig.__struct_fields__, sections=()), ScoreConfig
    )


def entry_and_root(config: RunConfig | ScoreConfig, data_root: Path | None) -> tuple[ProtocolEntry, Path | None]:
    """Return what the catalogue says of a run's protocol, and the folder of its data: the run's own if not given."""
    root = data_root or (None if config.data_root is None else Path(config.data_root))
    return choose_protocol(config.dataset, protocol=config.protocol), root


@dataclasses.dataclass(frozen=True)
class Given:
    """What somebody has: ranked lists, or features.

    Attributes:
        lists: Lists, or their files.
        pairs: Features of queries and gallery; of several pairs each is ranked by itself.
        trust: See `read_rankings`.
    """

    lists: tuple[Path | RankedLists, ...] = ()
    pairs: tuple[tuple[Features, Features], ...] = ()
    trust: Literal["ranks", "scores"] | None = None

    @classmethod
    def of(cls, config: ScoreConfig) -> Given:
        """What a configuration names."""
        query_ids = config.query_ids or (None,) * len(config.features)
        gallery_ids = config.gallery_ids or (None,) * len(config.features)
        return cls(
            tuple(map(Path, config.predictions)),
            tuple(
                (
                    Features(queries, None if query_id is None else Path(query_id)),
                    Features(gallery, None if gallery_id is None else Path(gallery_id)),
                )
                for (queries, gallery), query_id, gallery_id in zip(
                    config.features, query_ids, gallery_ids, strict=True
                )
            ),
            config.trust,
        )

    def answer(self, protocol: EvaluationProtocol) -> Answer:
        """Check it against a protocol, and rank features.

        Raises:
            MissingData: A file is not there or cannot be read.
            InvalidPredictions: It breaks a rule of the protocol.
        """
        if self.pairs:
            return answer_of_features(self.pairs, protocol)
        read = [read_rankings(each, trust=self.trust) if isinstance(each, Path) else each for each in self.lists]
        return answer_of_lists(merge(read), protocol)

    @property
    def stem(self) -> str:
        """A name for it."""
        first = next((file.name for file in self.files if file.name), "")
        return slug(Path(first).stem) if first else "scored"

    @property
    def files(self) -> list[ScoredFile]:
        """Everything that it consists of, with the digest of each file, or of what is in memory."""
        found = []
        for each in self.lists:
            name, sha256 = (each.name, sha256_of_file(each)) if isinstance(each, Path) else ("", _digest_of_lists(each))
            found.append(ScoredFile(role="lists", name=name, sha256=sha256))
        for pair in self.pairs:
            for role, side in zip(("queries", "gallery"), pair, strict=True):
                for kind, path, array in side.parts:
                    name = "" if path is None else path.name
                    sha256 = _digest_in_memory(side, kind) if path is None else sha256_of_file(path)
                    what = role if kind == "rows" else f"ids of {role}"
                    found.append(ScoredFile(role=what, name=name, sha256=sha256, array=array))
        return found


def _digest_of_lists(lists: RankedLists) -> str:
    return digest([dict(lists.rankings), dict(lists.group_rankings), dict(lists.scores)])


def _digest_in_memory(features: Features, kind: str) -> str:
    if kind == "ids":
        return digest(list(features.ids()))
    rows_ND = np.ascontiguousarray(features.stored.rows_ND[:])
    return hashlib.sha256(f"{rows_ND.dtype.str}{rows_ND.shape}".encode() + rows_ND.tobytes()).hexdigest()


def require_gallery(protocol: EvaluationProtocol, entry: ProtocolEntry) -> None:
    """Refuse to keep a run where the gallery is not available, since what it ranks could not be checked.

    Raises:
        MissingData: It is not.
    """
    if protocol.gallery is None:
        raise MissingData(
            f"The gallery of {protocol.name} is not available, so no run can be kept.",
            hint=f"Get the list of its images: cirbench data plan {entry.dataset}",
        )


def keep(
    score: Score,
    given: Given,
    config: ScoreConfig,
    entry: ProtocolEntry,
    protocol: EvaluationProtocol,
    baselines: Sequence[Run] = (),
) -> Run:
    """Keep what was scored as a run; the same files with the same declarations are the same run.

    Args:
        score: What was measured; nothing where labels are hidden.
        given: What it was measured of.
        config: What is declared, and where the run goes.
        entry: The protocol in the catalogue.
        protocol: The protocol as loaded.
        baselines: Runs on the same backbone (`load_baselines`); the run takes over how they name it.

    Raises:
        MissingData: The gallery is not available, so that what is kept could not be checked.
        UsageError: The declared backbone is not that of the baselines.
    """
    require_gallery(protocol, entry)
    assert score.ranking is not None
    name = slug(config.name) if config.name else given.stem
    backbone = _backbone(config.backbone, baselines)
    files = given.files
    declared = {field: getattr(config, field) for field in _DECLARED if field != "backbone"}
    identity = Identity(
        protocol=protocol.digest,
        method=name,
        parameters={} if config.trust is None else {"trust": config.trust},
        backbone=backbone.digest,
        checkpoint=None,
        limit=None,
        seed=0,
        code=current_code(),
        files={
            "declared": digest({**declared, "title": config.name or name}),
            **{f"{at} {file.role} {file.array}".rstrip(): file.sha256 for at, file in enumerate(files, start=1)},
        },
        lost=[],
    )
    folder = identity.folder(config.output or "runs", entry.dataset)
    with locked(lock_of(folder)):
        if (folder / RESULT).is_file():
            return dataclasses.replace(load_run(folder), reused=True)
        evaluation = Evaluation(score.ranking, score.measurements, {})
        result = _result(score, config, identity, backbone, protocol, Scored(files=files, notes=[*score.notes]))
        return save_run(folder, result, evaluation, protocol, to_toml(_portable(config, entry)), identity=identity)


def _backbone(declared: str | None, baselines: Sequence[Run]) -> BackboneRecord:
    """The backbone that is declared, in words or by runs on it."""
    if (record := backbone_of(baselines)) is not None:
        if declared is not None and declared != record.name:
            raise UsageError(
                f"--backbone says {declared!r}, and the baselines ran on {record.name!r}.",
                hint="Leave --backbone out: runs that are named with --baselines share the backbone of what is scored.",
            )
        return record
    return declared_backbone(declared)


def _result(
    score: Score,
    config: ScoreConfig,
    identity: Identity,
    backbone: BackboneRecord,
    protocol: EvaluationProtocol,
    scored: Scored,
) -> Result:
    assert protocol.gallery is not None
    return Result(
        digest=identity.digest,
        method=MethodRecord(
            name=identity.method,
            title=config.name or identity.method,
            parameters=identity.parameters,
            code=identity.code.method_digest,
            supervision=config.supervision,
            uses_shared_concept=config.uses_shared_concept,
            uses_llm=config.uses_llm,
            uses_triplets=config.uses_triplets,
            transductive=config.transductive,
            trained_on=config.trained_on,
            selected_on=config.selected_on,
        ),
        protocol=ProtocolRecord.of(protocol),
        backbone=backbone,
        counts=Counts(
            queries=len(protocol.queries),
            queries_expected=len(protocol.queries),
            gallery=len(protocol.gallery),
            gallery_expected=len(protocol.gallery),
            tied_relevant=score.tied_relevant or 0,
            truncated_texts=0,
        ),
        metrics=values_of(score.measurements, protocol),
        seed=identity.seed,
        seconds={},
        **circumstances(NOT_STATED),
        scored=scored,
    )


def _portable(config: ScoreConfig, entry: ProtocolEntry) -> ScoreConfig:
    """The configuration with the protocol by its id."""
    return msgspec.structs.replace(config, split=None, protocol=entry.id)
