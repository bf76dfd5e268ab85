"""The second stage of a run: what a first stage found, in a re-ranker's order, kept as a run of its own.

Any finished run is a first stage, one of lists that were made elsewhere too. The new run says what that one says of its
method, training and backbone, with the re-ranker added, and names it by its digest.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import TYPE_CHECKING, Any, get_args

import msgspec
import numpy as np

from cirbench.errors import MissingData, UsageError
from cirbench.methods.evaluate import SecondStage
from cirbench.methods.interface import Disclosure, Supervision
from cirbench.methods.loading import build_reranker
from cirbench.metrics import Measure
from cirbench.metrics.measure import measure, per_query
from cirbench.ranking.reranking import only, rerank
from cirbench.ranking.task import ranking_task
from cirbench.runs.config import to_toml
from cirbench.runs.folder import PER_QUERY, Run, finished, load_ranking, load_runs, save_run
from cirbench.runs.record import (
    RESULT,
    Identity,
    circumstances,
    device_name,
    values_of,
)
from cirbench.runs.schema import Counts, MethodRecord, Reranking, Result, is_transductive
from cirbench.support.code import current_code
from cirbench.support.distributed import get_context
from cirbench.support.needs import entry_lines
from cirbench.support.parameters import named_files, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from cirbench.methods.evaluate import Reranked
    from cirbench.methods.loading import CheckedReranker
    from cirbench.protocol import EvaluationProtocol
    from cirbench.ranking.task import Ranking
    from cirbench.runs.config import Entrant, Resolved
    from cirbench.runs.ground import Ground


class Second:
    """The second stage of a configuration, for any number of first stages."""

    def __init__(self, resolved: Resolved, ground: Ground) -> None:
        assert resolved.reranker is not None
        self._resolved = resolved
        self._ground = ground
        self._entrant: Entrant = resolved.reranker

    @cached_property
    def first_stages(self) -> tuple[Run, ...]:
        """The finished runs that are named as first stages.

        Raises:
            MissingData: There is no finished run, or it is damaged.
            UsageError: They are of another protocol, or of different backbones.
        """
        runs = load_runs(self._resolved.config.first_stage, self._ground.protocol)
        if len({run.result.backbone.digest for run in runs}) > 1:
            raise UsageError(
                f"{runs[0].folder} and other first stages ran on different backbones, which one table cannot hold.",
                hint="Re-rank the runs of each backbone by a command of its own.",
            )
        return tuple(runs)

    def require_depth(self) -> None:
        """Refuse to re-rank more items of a query than a run keeps.

        Raises:
            UsageError: More are asked for.
        """
        depth, asked = self._ground.protocol.depth, max(self._resolved.config.rerank_top)
        if asked > depth:
            raise UsageError(
                f"Runs on {self._ground.protocol.name} keep the first {depth} items of each query, and {asked} are to "
                "be re-ranked.",
                hint=f"Re-rank at most those: --rerank-top {depth}",
            )

    def run(self, firsts: Sequence[Run], *, force: bool) -> list[Run]:
        """Re-rank each first stage at each depth; what is finished is read."""
        jobs = [self._job(first, k) for first in firsts for k in self._resolved.config.rerank_top]
        for job in jobs:
            job.require_lists()
        return [self._finished(job, force=force) for job in jobs]

    def plan(self, firsts: Sequence[Run], unfinished: Sequence[str]) -> Iterator[str]:
        """Say what would be done, with the calls of a model that it takes."""
        name = self._entrant.spec.name
        for k in self._resolved.config.rerank_top:
            for first in firsts:
                job = self._job(first, k)
                job.require_lists()
                if job.done:
                    yield from entry_lines("there", name, f"finished, in {job.folder}")
                    continue
                try:
                    calls = job.stage.count_calls(self._reranker)
                except MissingData as error:
                    yield from entry_lines("missing", name, error.message)
                    yield from (f"    {line}" for line in (error.hint or "").split("\n"))
                    continue
                yield from entry_lines(
                    "to do",
                    name,
                    f"re-ranks the first {k} of {first.folder}: {calls.asked:,} answers for {job.stage.queries:,} "
                    f"queries, {calls.recorded:,} of them recorded, at most {calls.new:,} to ask for",
                )
            for method in unfinished:
                yield from entry_lines(
                    "to do", name, f"re-ranks the first {k} of {method}, once it is evaluated; then --plan counts calls"
                )

    @cached_property
    def _reranker(self) -> CheckedReranker:
        needs_backbone = "backbone" in self._entrant.spec.needs
        encoder = self._ground.encoder() if needs_backbone and self._ground.has_backbone else None
        return build_reranker(
            self._entrant.spec, encoder, self._entrant.parameters, device=self._resolved.config.device
        )

    def _job(self, first: Run, k: int) -> RerankJob:
        limit = self._resolved.config.limit
        count = min(len(first.query_ids), limit or len(first.query_ids))
        whole = self._ground.protocol
        partial = count < len(whole.queries)
        protocol = whole.first(count) if partial else whole
        ranking = only(load_ranking(first, whole), np.arange(count))
        spec = self._entrant.spec
        code = current_code(spec.implementation, spec.parameters.__module__)
        method = _composed(first.result, self._entrant, k, code.method_digest)
        identity = Identity(
            protocol=whole.digest,
            method=method.name,
            parameters=method.parameters,
            backbone=first.result.backbone.digest,
            checkpoint=method.checkpoint,
            limit=count if partial else None,
            seed=first.result.seed,
            code=code,
            files={
                "first stage": first.result.digest,
                "ranking of the first stage": first.result.files[PER_QUERY],
                **named_files(self._entrant.parameters),
            },
            lost=first.result.lost,
        )
        folder = identity.folder(self._resolved.config.output, self._resolved.entry.dataset)
        return RerankJob(first, k, ranking, protocol, method, identity, folder)

    def _finished(self, job: RerankJob, *, force: bool) -> Run:
        def make() -> None:
            job.stage.require_images()
            self._recorded(job, job.stage.judged(self._reranker))

        what = f"{job.method.name} on {job.protocol.name}, the first {job.k} of {job.first.folder}"
        return finished(job.folder, job.identity, what, make if get_context().is_main_process else None, force=force)

    def _recorded(self, job: RerankJob, reranked: Reranked) -> None:
        config = msgspec.structs.replace(
            self._resolved.config,
            method=(),
            dataset=self._resolved.config.dataset,
            split=None,
            protocol=self._resolved.entry.id,
            baselines=(),
            checkpoint=None,
            set={},
            train={},
            train_data=None,
            rerank=self._entrant.reference,
            first_stage=(str(job.first.folder),),
            rerank_top=(job.k,),
            rerank_set=settings_of(self._entrant.parameters),
            allow_missing=False,
            seed=0,
            seeds=(),
        )
        backbone = self._ground.backbone if "backbone" in self._entrant.spec.needs else None
        result = job.result(reranked, self._entrant.spec.name, device_name(backbone))
        save_run(job.folder, result, reranked.evaluation, job.protocol, to_toml(config), identity=job.identity)


@dataclasses.dataclass(frozen=True)
class RerankJob:
    """One first stage to be re-ranked at one depth.

    Attributes:
        first: The run.
        k: How many items of each query are judged.
        ranking: What the run found, for the queries that are asked for.
        protocol: With these queries.
        method: What the new run says of its method.
        identity: What decides the numbers.
        folder: Where the new run goes.
    """

    first: Run
    k: int
    ranking: Ranking
    protocol: EvaluationProtocol
    method: MethodRecord
    identity: Identity
    folder: Path

    @property
    def done(self) -> bool:
        """Whether a finished run of exactly this lies in the folder."""
        return (self.folder / RESULT).is_file()

    @cached_property
    def stage(self) -> SecondStage:
        """What is judged."""
        return SecondStage(self.ranking, self.protocol, self.k)

    def require_lists(self) -> None:
        """Refuse lists that were made elsewhere and are shorter than what is to be judged, where there is more to list.

        Raises:
            UsageError: Some are.
        """
        if self.first.depth is None:
            return
        gallery, pools = self.protocol.gallery, self.protocol.pools
        assert gallery is not None
        sizes = [len(gallery)] if pools is None else [len(pool) for pool in pools]
        of_query = self.protocol.pool_of_query or (0,) * len(self.protocol.queries)
        excluded = int(self.protocol.exclude_reference)
        listed = (self.ranking.top_QK >= 0).sum(axis=1).tolist()
        wanted = [min(self.k, sizes[pool] - excluded) for pool in of_query]
        short = [at for at, (has, wants) in enumerate(zip(listed, wanted, strict=True)) if has < wants]
        if short:
            raise UsageError(
                f"The lists of {self.first.folder} are shorter than the {self.k} items that are to be re-ranked for "
                f"{len(short)} of {len(listed)} queries; the shortest has {min(listed)}.",
                hint=f"Re-rank what they hold, --rerank-top {min(listed)}, or score longer lists.",
            )

    def result(self, reranked: Reranked, reranker: str, device: str) -> Result:
        """Describe what came out."""
        first, whole = self.first.result, self.first.result.counts
        lost = np.flatnonzero((self.ranking.top_QK < 0).all(axis=1)) if first.lost else np.empty(0, np.int64)
        left = np.setdiff1d(np.arange(len(self.protocol.queries)), lost)
        ranking = reranked.evaluation.ranking
        optimistic = {}
        if len(lost) and self.protocol.labels is not None:
            seen = measure(only(ranking, left), self.protocol.only(left.tolist()))
            optimistic = {each.label: 100 * each.value for each in seen}
        recall, at_most = self._ceilings()
        return Result(
            digest=self.identity.digest,
            method=self.method,
            protocol=first.protocol,
            backbone=first.backbone,
            counts=Counts(
                queries=len(left),
                queries_expected=whole.queries_expected,
                gallery=whole.gallery,
                gallery_expected=whole.gallery_expected,
                tied_relevant=ranking.tied_relevant,
                truncated_texts=whole.truncated_texts,
            ),
            metrics=values_of(reranked.evaluation.measurements, self.protocol, optimistic),
            seed=first.seed,
            seconds={phase: round(seconds, 3) for phase, seconds in reranked.evaluation.seconds.items()},
            **circumstances(device),
            lost=first.lost,
            scored=first.scored,
            artefacts=[*first.artefacts, *reranked.artefacts],
            reranking=Reranking(
                reranker=reranker,
                k=self.k,
                first_stage=first.digest,
                recall=recall,
                at_most=at_most,
                queries=reranked.queries,
                calls=reranked.calls.asked,
                recorded=reranked.calls.recorded,
                seconds=round(reranked.seconds, 3),
                undecided=reranked.undecided,
            ),
        )

    def _ceilings(self) -> tuple[float | None, float | None]:
        """Recall@k of the first stage, and the headline of the best order of its first k items, in percent."""
        if self.protocol.labels is None:
            return None, None
        task = ranking_task(self.protocol)

        def right(query: int, items: Any, scores: Any) -> Any:
            return np.isin(items, task.relevant[query]).astype(np.float32)

        found_Q = per_query(self.ranking, Measure("Recall", self.k))
        assert found_Q is not None
        best = measure(rerank(self.ranking, task, self.k, right), self.protocol)
        return 100 * float(np.nanmean(found_Q)), 100 * best[0].value


def _composed(result: Result, entrant: Entrant, k: int, code: str) -> MethodRecord:
    """What a run says of its method where a re-ranker came behind: both names, parameters and disclosures."""
    spec, first = entrant.spec, result.method
    own = {**msgspec.to_builtins(entrant.parameters), "top": k}
    strength: tuple[str, ...] = get_args(Supervision)
    return msgspec.structs.replace(
        first,
        name=f"{first.name}+{spec.name}",
        title=f"{first.title}, re-ranked by {spec.name}",
        parameters={**first.parameters, **{f"{spec.name}.{key}": value for key, value in own.items()}},
        code=code,
        supervision=max(first.supervision, spec.supervision, key=strength.index),
        uses_shared_concept=_either(first.uses_shared_concept, spec.uses_shared_concept_with(entrant.parameters)),
        uses_llm=_either(first.uses_llm, spec.uses_llm),
        uses_triplets=_either(first.uses_triplets, spec.uses_triplets),
        transductive=_either(is_transductive(first, result.scored), spec.transductive_with(entrant.parameters)),
        oracle=first.oracle or spec.oracle_with(entrant.parameters) or None,
    )


def _either(one: str, other: Disclosure) -> str:
    """Disclose a property of two stages: it is the whole's where it is one's, and unknown where it may be."""
    return next((answer for answer in ("yes", "unknown") if answer in (one, other)), "no")
