"""Ranked lists: read into a ranking under a protocol, and written from one."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING
import numpy as np
from cirbench.support.arrays import Ragged
from cirbench.errors import InvalidPredictions
from cirbench.ranking.task import UNRANKED
import json
from cirbench.errors import CheckFailed, MissingData
from cirbench.support.files import write_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from numpy.typing import NDArray
    from cirbench.protocol import EvaluationProtocol, Query
    from collections.abc import Iterable
    from pathlib import Path
    import numpy as np
    from cirbench.protocol import EvaluationProtocol
    from cirbench.ranking.task import Ranking

@dataclasses.dataclass(frozen=True)
class RankedLists:
    """What somebody ranked, best first, read from a file and not checked yet.

    Attributes:
        source: The file, for messages.
        rankings: Per query id, gallery ids.
        group_rankings: Per query id, the ids of its group without the reference; empty where the file has none.
        exact_length: How long each list must be where the format fixes it (the JSON of CIRCO's server).
    """

    source: str
    rankings: Mapping[str, tuple[str, ...]]
    group_rankings: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    exact_length: int | None = None


@dataclasses.dataclass(frozen=True)
class ListRanks:
    """The ranks of the ground truths in given lists.

    Attributes:
        relevant_ranks: Per query, the 1-based rank of each ground truth, `UNRANKED` for one that is not in the list.
        group_ranks_Q: The same of the target in the ranking of its group; ``None`` where groups were not ranked.
    """

    relevant_ranks: Ragged[np.int64]
    group_ranks_Q: NDArray[np.int64] | None


def list_ranks(lists: RankedLists, protocol: EvaluationProtocol) -> ListRanks:
    """Look up each ground truth of a labelled protocol in lists that keep its rules (`check`)."""
    assert protocol.labels is not None
    rows = list(zip(protocol.queries, protocol.labels.relevant, strict=True))
    relevant = [_ranks_of(wanted, lists.rankings[query.id]) for query, wanted in rows]
    groups = None
    if lists.group_rankings:
        targets = [_ranks_of(wanted[:1], lists.group_rankings[query.id]) for query, wanted in rows]
        groups = np.array([row[0] if row else UNRANKED for row in targets], dtype=np.int64)
    return ListRanks(Ragged.of(relevant, np.int64), groups)


def _ranks_of(wanted: Iterable[str], ranking: Sequence[str]) -> list[int]:
    rank = {name: place for place, name in enumerate(ranking, start=1)}
    return [rank.get(name, UNRANKED) for name in wanted]


def check(lists: RankedLists, protocol: EvaluationProtocol) -> None:
    """Refuse lists that break a rule of ``protocol``.

    There is one list for each query. A list holds no id twice, only candidates of its query, and at least as many as
    the deepest measure looks at (or every candidate, where there are fewer); it may be longer. Where the gallery is
    not available, ids are checked for their form only.

    Raises:
        InvalidPredictions: The message names the file, the query and the rule.
    """
    asked = {query.id for query in protocol.queries}
    check_ids(lists.rankings, asked, "query", lists.source, protocol)
    needed = max((measure.k for measure in protocol.measures if measure.metric != "Recall_subset"), default=0)
    _refuse(lists.source, _broken_lists(lists, protocol, needed))
    if lists.group_rankings:
        check_ids(lists.group_rankings, asked, "group ranking of query", lists.source, protocol)
        _refuse(lists.source, _broken_groups(lists, protocol))


def check_ids(
    given: Collection[str], expected: Collection[str], what: str, source: str, protocol: EvaluationProtocol
) -> None:
    """Refuse ids that are not exactly the expected ones, in any order.

    Raises:
        InvalidPredictions: The message names the file and the ids.
    """
    expected, given = set(expected), set(given)
    hint = f"{protocol.name} has {len(expected)} of them; {example(sorted(expected))}"
    if unknown := sorted(given - expected):
        raise InvalidPredictions(
            f"{source}: {len(unknown)} unknown {what} ids ({some(unknown)}): not in {protocol.name}.", hint=hint
        )
    if missing := sorted(expected - given):
        raise InvalidPredictions(f"{source}: {len(missing)} {what} ids are missing: {some(missing)}.", hint=hint)


def check_form(names: Iterable[str], protocol: EvaluationProtocol) -> str | None:
    """Name the first id that cannot be one of the gallery's, judged by its form alone.

    Zero padding and file suffixes are the usual slips; without a gallery to check against, each would be a miss.
    """
    known = [query.reference.id for query in protocol.queries]
    if not all(_is_number(name) for name in known):
        return None
    return next((name for name in names if not _is_number(name)), None)


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal() and (name == "0" or name[0] != "0")


def _broken_lists(lists: RankedLists, protocol: EvaluationProtocol, needed: int) -> Iterator[tuple[str, str]]:
    """Yield each query whose list breaks a rule, with the rule."""
    pools = [frozenset(pool) for pool in protocol.pools or ()]
    gallery = protocol.gallery.positions if protocol.gallery is not None else None
    for place, query in enumerate(protocol.queries):
        candidates: Collection[str] | None = gallery
        if protocol.pool_of_query is not None:
            candidates = pools[protocol.pool_of_query[place]]
        rule = _broken_rule(lists.rankings[query.id], query, candidates, protocol, needed, lists.exact_length)
        if rule is not None:
            yield query.id, rule


def _broken_rule(
    ranking: tuple[str, ...],
    query: Query,
    candidates: Collection[str] | None,
    protocol: EvaluationProtocol,
    needed: int,
    exact: int | None,
) -> str | None:
    if (twice := _first_repeated(ranking)) is not None:
        return f"the id {twice!r} occurs twice in its list"
    if protocol.exclude_reference and query.reference.id in ranking:
        return f"its list holds its own reference image {query.reference.id!r}, which this protocol excludes"
    if candidates is None:
        if (odd := check_form(ranking, protocol)) is not None:
            return f"{odd!r} cannot be a gallery id; {example([query.reference.id])}"
    elif outside := [name for name in ranking if name not in candidates]:
        return f"{len(outside)} ids are not in the gallery ({some(outside)}); {example(candidates)}"
    if candidates is not None:
        excluded = protocol.exclude_reference and query.reference.id in candidates
        available = len(candidates) - excluded
        needed, exact = min(needed, available), None if exact is None else min(exact, available)
    if exact is not None and len(ranking) != exact:
        return f"its list holds {len(ranking)} ids, and this format takes exactly {exact}"
    if len(ranking) < needed:
        return f"its list holds {len(ranking)} ids, and the deepest measure needs {needed}"
    return None


def _broken_groups(lists: RankedLists, protocol: EvaluationProtocol) -> Iterator[tuple[str, str]]:
    if protocol.groups is None:
        yield protocol.queries[0].id, f"it has a group ranking, and {protocol.name} has no groups"
        return
    needed = max((measure.k for measure in protocol.measures if measure.metric == "Recall_subset"), default=0)
    for query, group in zip(protocol.queries, protocol.groups, strict=True):
        ranking, members = lists.group_rankings[query.id], set(group) - {query.reference.id}
        if (twice := _first_repeated(ranking)) is not None:
            yield query.id, f"the id {twice!r} occurs twice in its group ranking"
        elif outside := [name for name in ranking if name not in members]:
            yield query.id, f"its group ranking holds ids that are not in the group: {some(outside)}"
        elif len(ranking) < min(needed, len(members)):
            yield query.id, f"its group ranking holds {len(ranking)} ids, and {min(needed, len(members))} are needed"


def _first_repeated(ranking: Sequence[str]) -> str | None:
    if len(set(ranking)) == len(ranking):
        return None
    return next(name for name, count in Counter(ranking).items() if count > 1)


def _refuse(source: str, broken: Iterable[tuple[str, str]]) -> None:
    if not (found := list(broken)):
        return
    query, rule = found[0]
    others = f" {len(found) - 1} other queries break a rule as well." if len(found) > 1 else ""
    raise InvalidPredictions(
        f"{source}: query {query!r}: {rule}.{others}", hint="docs/predictions.md has the formats and their rules."
    )


def example(names: Iterable[str]) -> str:
    """Show what an id looks like."""
    return f"an id looks like {next(iter(names), '')!r}"


def some(names: Sequence[str], limit: int = 5) -> str:
    """List the first of ``names``."""
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def write_jsonl(path: Path, protocol: EvaluationProtocol, ranking: Ranking) -> None:
    """Write one line per query: its id, the first gallery ids, and the ranking of its group where there is one."""
    ids = _gallery_ids(protocol)
    lines = []
    for place, query in enumerate(protocol.queries):
        row: dict[str, object] = {"query_id": query.id, "ranking": _names(ranking.top_QK[place], ids)}
        if ranking.group_top_QK is not None:
            row["group_ranking"] = _names(ranking.group_top_QK[place], ids)
        lines.append(json.dumps(row, ensure_ascii=False))
    write_text(path, _joined(lines))


def write_trec(path: Path, protocol: EvaluationProtocol, ranking: Ranking, *, tag: str = "cirbench") -> None:
    """Write a TREC run: ``query Q0 item rank score tag``, scores with the nine digits that keep a float32.

    Raises:
        CheckFailed: An id holds white space, which separates the fields of this format.
    """
    ids = _gallery_ids(protocol)
    lines = []
    for place, query in enumerate(protocol.queries):
        names = _names(ranking.top_QK[place], ids)
        _refuse_spaces([query.id, *names], path)
        scores = ranking.scores_QK[place].tolist()
        lines += [
            f"{query.id} Q0 {name} {rank} {score:.9g} {tag}"
            for rank, (name, score) in enumerate(zip(names, scores, strict=False), start=1)
        ]
    write_text(path, _joined(lines))


def write_qrels(path: Path, protocol: EvaluationProtocol) -> None:
    """Write the ground truths as TREC qrels: ``query 0 item 1``.

    Raises:
        MissingData: The protocol has no public labels.
        CheckFailed: An id holds white space, which separates the fields of this format.
    """
    if protocol.labels is None:
        raise MissingData(f"The ground truths of {protocol.name} are not public.")
    lines = []
    for query, names in zip(protocol.queries, protocol.labels.relevant, strict=True):
        _refuse_spaces([query.id, *names], path)
        lines += [f"{query.id} 0 {name} 1" for name in names]
    write_text(path, _joined(lines))


def _gallery_ids(protocol: EvaluationProtocol) -> tuple[str, ...]:
    if protocol.gallery is None:
        raise MissingData(f"The gallery of {protocol.name} is not available, so positions cannot be named.")
    return protocol.gallery.ids


def _names(top_K: NDArray[np.int64], ids: tuple[str, ...]) -> list[str]:
    return [ids[position] for position in top_K.tolist() if position >= 0]


def _joined(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _refuse_spaces(names: Iterable[str], path: Path) -> None:
    for name in names:
        if not name or name.split() != [name]:
            raise CheckFailed(
                f"The id {name!r} cannot be written to {path}: white space separates the fields of a TREC file.",
                hint="Give the items ids without white space.",
            )
