"""The rules of a protocol for rankings that were made elsewhere: ids as it writes them, every query, enough items."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from cirbench.errors import InvalidPredictions, quoted, some
from cirbench.metrics.table import NO_CUTOFF
from cirbench.runs.predictions.lists import first_repeated
from cirbench.support.textfiles import nfc

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from cirbench.protocol import EvaluationProtocol, Query
    from cirbench.runs.predictions.lists import RankedLists

_IMAGE_SUFFIX = re.compile(r"\.(jpe?g|png|webp|bmp|gif|tiff?)$", re.IGNORECASE)


class Speller:
    """Writes ids as a protocol does: in its Unicode form, and items without the folder, suffix or zeros of a file name.

    Args:
        known: The ids of the protocol.
        files: Whether file names are understood; one is read as an id only if exactly that id is known.
    """

    def __init__(self, known: Collection[str], *, files: bool = False) -> None:
        self._exact = set(known)
        self._by_form = {nfc(name): name for name in self._exact if not name.isascii()}
        self._files = files
        self._read: tuple[str, str] | None = None

    def __call__(self, name: str) -> str:
        """Return the known id that a name stands for, or the name itself."""
        if name in self._exact:
            return name
        if not name.isascii() and (form := self._by_form.get(nfc(name), nfc(name))) in self._exact:
            return form
        if not self._files:
            return name
        stem = _IMAGE_SUFFIX.sub("", name.replace("\\", "/").rpartition("/")[2])
        plain = stem.lstrip("0") or "0"
        found = stem if stem in self._exact else plain if stem.isdecimal() and plain in self._exact else None
        if found is None:
            return name
        self._read = self._read or (name, found)
        return found

    def notes(self, source: str) -> tuple[str, ...]:
        """What was read as something else."""
        if self._read is None:
            return ()
        name, found = self._read
        return (f"{source}: names of files are read as the ids that they hold, {quoted(name)} as {quoted(found)}",)


def spelled_as(protocol: EvaluationProtocol, lists: RankedLists) -> RankedLists:
    """Write the ids of lists as the protocol does; see `Speller`."""
    queries, items = (
        Speller([query.id for query in protocol.queries]),
        Speller(item_ids(protocol), files=protocol.gallery is not None),
    )

    def respelled(rankings: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        spelled = {queries(name): tuple(map(items, ids)) for name, ids in rankings.items()}
        if len(spelled) < len(rankings):
            raise InvalidPredictions(f"{lists.source} has a query twice, in two spellings of its id.")
        return spelled

    return dataclasses.replace(
        lists,
        rankings=respelled(lists.rankings),
        group_rankings=respelled(lists.group_rankings),
        scores={queries(name): scores for name, scores in lists.scores.items()},
        notes=(*lists.notes, *items.notes(lists.source)),
    )


def item_ids(protocol: EvaluationProtocol) -> Collection[str]:
    """The ids of the gallery; where it is not available, those that queries and labels name."""
    if protocol.gallery is not None:
        return protocol.gallery.ids
    labelled = () if protocol.labels is None else protocol.labels.relevant
    return {query.reference.id for query in protocol.queries} | {name for row in labelled for name in row}


def group_members(protocol: EvaluationProtocol) -> tuple[frozenset[str], ...]:
    """Per query, the ids of its group without the reference."""
    assert protocol.groups is not None
    return tuple(
        frozenset(group) - {query.reference.id} for group, query in zip(protocol.groups, protocol.queries, strict=True)
    )


def with_groups_of_lists(lists: RankedLists, protocol: EvaluationProtocol) -> RankedLists:
    """Rank the groups as the lists rank their members, where a file ranks no groups and its lists are long enough.

    The members that a list holds come before those that it does not hold, so the first ones of a group are known where
    a list holds as many as the deepest measure on groups looks at.
    """
    if protocol.groups is None or lists.group_rankings:
        return lists
    found: dict[str, tuple[str, ...]] = {}
    for query, members in zip(protocol.queries, group_members(protocol), strict=True):
        found[query.id] = tuple(name for name in lists.rankings[query.id] if name in members)
        if len(found[query.id]) < min(_group_depth(protocol), len(members)):
            return lists
    note = f"{lists.source}: groups are ranked in the order in which the lists hold their members"
    return dataclasses.replace(lists, group_rankings=found, notes=(*lists.notes, note))


def _group_depth(protocol: EvaluationProtocol) -> int:
    return max((measure.k for measure in protocol.measures if measure.metric == "Recall_subset"), default=0)


def check(lists: RankedLists, protocol: EvaluationProtocol) -> None:
    """Refuse lists that break a rule of ``protocol``.

    There is one list for each query. A list holds no id twice, only candidates of its query, and at least as many as
    the deepest measure looks at (or every candidate, where there are fewer); it may be longer. Where the gallery is
    not available, ids are checked for their form only.

    Raises:
        InvalidPredictions: The message names the file, the query and the rule.
    """
    asked = {query.id for query in protocol.queries}
    if lists.group_rankings and not lists.rankings:
        raise InvalidPredictions(
            f"{lists.source} ranks the groups alone.", hint="Give the file that ranks the gallery as well."
        )
    check_ids(lists.rankings, asked, "query", lists.source, protocol)
    cutoffs = (each.k for each in protocol.measures if each.metric != "Recall_subset" and each.k != NO_CUTOFF)
    needed = max(cutoffs, default=0)
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
    if (twice := first_repeated([*given])) is not None:
        raise InvalidPredictions(f"{source}: the {what} id {quoted(twice)} is there twice.")
    expected, given = set(expected), set(given)
    hint = f"{protocol.name} has {len(expected)} of them; {example(sorted(expected))}"
    if unknown := sorted(given - expected):
        raise InvalidPredictions(
            f"{source}: {len(unknown)} unknown {what} ids ({some(unknown, 5, quoted)}): not in {protocol.name}.",
            hint=hint,
        )
    if missing := sorted(expected - given):
        raise InvalidPredictions(
            f"{source}: {len(missing)} {what} ids are missing: {some(missing, 5, quoted)}.", hint=hint
        )


def check_form(names: Iterable[str], protocol: EvaluationProtocol) -> str | None:
    """Name the first id that cannot be one of the gallery's, judged by its form alone.

    Zero padding and file suffixes are the usual slips; without a gallery to check against, each would be a miss.
    """
    return _first_odd(names) if _has_numbers(protocol) else None


def _has_numbers(protocol: EvaluationProtocol) -> bool:
    return all(_is_number(query.reference.id) for query in protocol.queries)


def _first_odd(names: Iterable[str]) -> str | None:
    return next((name for name in names if not _is_number(name)), None)


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal() and (name == "0" or name[0] != "0")


def _broken_lists(lists: RankedLists, protocol: EvaluationProtocol, needed: int) -> Iterator[tuple[str, str]]:
    """Yield each query whose list breaks a rule, with the rule."""
    pools = [frozenset(pool) for pool in protocol.pools or ()]
    gallery = protocol.gallery.positions if protocol.gallery is not None else None
    numbers = gallery is None and _has_numbers(protocol)
    for place, query in enumerate(protocol.queries):
        candidates: Collection[str] | None = gallery
        if protocol.pool_of_query is not None:
            candidates = pools[protocol.pool_of_query[place]]
        rule = _broken_rule(lists.rankings[query.id], query, candidates, protocol, needed, numbers=numbers)
        if rule is not None:
            yield query.id, rule


def _broken_rule(
    ranking: tuple[str, ...],
    query: Query,
    candidates: Collection[str] | None,
    protocol: EvaluationProtocol,
    needed: int,
    *,
    numbers: bool,
) -> str | None:
    if (twice := first_repeated(ranking)) is not None:
        return f"the id {quoted(twice)} occurs twice in its list"
    if protocol.exclude_reference and query.reference.id in ranking:
        return f"its list holds its own reference image {quoted(query.reference.id)}, which this protocol excludes"
    if candidates is None:
        if numbers and (odd := _first_odd(ranking)) is not None:
            return f"{quoted(odd)} cannot be a gallery id; {example([query.reference.id])}"
    elif outside := [name for name in ranking if name not in candidates]:
        fractions = outside[0].endswith(".0") and outside[0][:-2] in candidates
        hint = "; pandas writes whole numbers with a fraction where some are missing" if fractions else ""
        return f"{len(outside)} ids are not in the gallery ({some(outside, 5, quoted)}){hint}; {example(candidates)}"
    if candidates is not None:
        excluded = protocol.exclude_reference and query.reference.id in candidates
        available = len(candidates) - excluded
        needed = min(needed, available)
    if len(ranking) < needed:
        return f"its list holds {len(ranking)} ids, and the deepest measure needs {needed}"
    return None


def _broken_groups(lists: RankedLists, protocol: EvaluationProtocol) -> Iterator[tuple[str, str]]:
    if protocol.groups is None:
        yield protocol.queries[0].id, f"it has a group ranking, and {protocol.name} has no groups"
        return
    needed = _group_depth(protocol)
    for query, members in zip(protocol.queries, group_members(protocol), strict=True):
        ranking = lists.group_rankings[query.id]
        if (twice := first_repeated(ranking)) is not None:
            yield query.id, f"the id {quoted(twice)} occurs twice in its group ranking"
        elif outside := [name for name in ranking if name not in members]:
            yield query.id, f"its group ranking holds ids that are not in the group: {some(outside, 5, quoted)}"
        elif len(ranking) < min(needed, len(members)):
            yield query.id, f"its group ranking holds {len(ranking)} ids, and {min(needed, len(members))} are needed"


def _refuse(source: str, broken: Iterable[tuple[str, str]]) -> None:
    if not (found := list(broken)):
        return
    query, rule = found[0]
    others = f" {len(found) - 1} other queries break a rule as well." if len(found) > 1 else ""
    raise InvalidPredictions(
        f"{source}: query {quoted(query)}: {rule}.{others}", hint="docs/predictions.md has the formats and their rules."
    )


def example(names: Iterable[str]) -> str:
    """Show what an id looks like."""
    return f"an id looks like {quoted(next(iter(names), ''))}"
