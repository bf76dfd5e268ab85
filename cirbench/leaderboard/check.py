"""Check entries: the numbers follow from the ranks, and the ranks are possible ones of the protocol.

A change of one field is always noticed, because the seal covers all of them. Who makes the seal again still has to fit
the numbers to ranks, the ranks to the shape that binds every entry of a known protocol, and every digest to what it is
of. Titles, notes and disclosures remain words of whoever made the entry, and commands are shown only if they are
commands of cirbench. Whatever is in a folder, it gets one verdict and the others get theirs.
"""

from __future__ import annotations

import dataclasses
import datetime
import gzip
import hashlib
import math
import re
import shlex
import zlib
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import msgspec
import numpy as np

from cirbench.benchmarks.catalogue import protocols
from cirbench.comparison.audit import reference_places
from cirbench.comparison.published import (
    CONTRIBUTED,
    contributed_files,
    load_published,
    problems_of_file,
    with_contribution,
)
from cirbench.errors import CheckFailed, CirbenchError, MissingData, visible
from cirbench.leaderboard.binding import (
    Binding,
    KnownProtocol,
    binding_of,
    expand,
    known_protocols,
    reserved,
    restricted,
    same_here,
)
from cirbench.leaderboard.entry import (
    ENTRY,
    LISTS,
    MOST_STORED,
    RANKS,
    RECEIPTS,
    Entry,
    Evidence,
    entry_folders,
    entry_id,
    read_entry,
    read_evidence,
    seal_of,
)
from cirbench.methods.interface import Disclosure, Supervision
from cirbench.metrics.functions import UNRANKED
from cirbench.metrics.table import measures_of
from cirbench.runs.schema import is_transductive
from cirbench.submissions.check import check_content
from cirbench.submissions.uploads import RECEIPT_LIMIT, parse_receipt, score_labels
from cirbench.support.files import digest, sha256_of_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from cirbench.protocol import EvaluationProtocol
    from cirbench.submissions.uploads import Receipt

    Parser = Callable[[Sequence[str]], str | None]
    """Says what is wrong with the arguments of cirbench, or ``None``."""

T = TypeVar("T")

LISTS_LIMIT = 4 << 20
"""Bytes of a submitted file that lies beside its receipt, compressed."""

_UNPACKED_LISTS = 32 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TOLERANCE = 1e-6  # in percentage points: numbers are recomputed in float64, on whatever machine checks
_ANSWERS = get_args(Disclosure)
_SUPERVISION = get_args(Supervision)
_FIRST_YEAR = 2020
_MOST_PROBLEMS, _LONGEST_PROBLEM, _QUOTED = 20, 400, 120
_LONGEST = {"title": 300, "note": 2000, "command": 4000}
_LONGEST_WORD = 4000  # of any other text
_MOST_COMMANDS = 8


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What became of checking an entry.

    Attributes:
        name: Of its folder.
        problems: What is wrong, in sentences; nothing where it is valid.
        notes: What could not be checked.
    """

    name: str
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the entry is valid."""
        return not self.problems

    def require(self) -> None:
        """Raise where the entry is not valid.

        Raises:
            CheckFailed: Every problem, with the name of the entry.
        """
        if self.problems:
            raise CheckFailed(
                visible(f"The entry {_cut(self.name)} is not valid: {'; '.join(self.problems)}."),
                hint="Make it again from its run: cirbench leaderboard add RUN",
            )


def check_entries(entries: Path, parse: Parser | None = None) -> tuple[Verdict, ...]:
    """Check every entry of a folder.

    Raises:
        MissingData: There is no such folder.
        CorruptFile: The list of known protocols is damaged.
    """
    if not entries.is_dir():
        raise MissingData(f"There is no folder {entries}.", hint="Make an entry: cirbench leaderboard add RUN")
    known = known_protocols(entries)
    return tuple(check_entry(folder, known, parse) for folder in entry_folders(entries))


def check_contributed(folder: Path = CONTRIBUTED) -> tuple[Verdict, ...]:
    """Check every published row that somebody has added.

    Raises:
        CorruptFile: The rows that come with cirbench are damaged.
    """
    verdicts, published = [], load_published(contributed=None)
    for file in contributed_files(folder):
        problems = problems_of_file(published, file)
        verdicts.append(Verdict(file.name, tuple(_cut(problem, _LONGEST_PROBLEM) for problem in problems)))
        if not problems:
            published, _ = with_contribution(published, file)
    return tuple(verdicts)


def check_entry(folder: Path, known: Mapping[str, KnownProtocol], parse: Parser | None = None) -> Verdict:
    """Check one entry.

    Args:
        folder: Where it lies.
        known: Each known protocol; see `cirbench.leaderboard.binding`.
        parse: Says whether the command line takes the arguments of a command; without it, only their form is checked.
    """
    found, failed = checked(folder, lambda: _check(folder, known, parse))
    return failed if found is None else found


def checked(folder: Path, work: Callable[[], T]) -> tuple[T | None, Verdict]:
    """Do something with an entry that may hold anything; what goes wrong is a verdict on this entry alone."""
    try:
        return work(), Verdict(folder.name, ())
    except CirbenchError as error:
        problem = error.message
    except RecursionError:
        problem = f"{ENTRY} is nested deeper than any entry is"
    except Exception as error:
        problem = f"it cannot be read: {type(error).__name__}: {error}"
    return None, Verdict(folder.name, (_cut(problem, _LONGEST_PROBLEM),))


def _check(folder: Path, known: Mapping[str, KnownProtocol], parse: Parser | None) -> Verdict:
    problems = [*_foreign(folder)]
    if problems:
        return _verdict(folder, problems)
    entry = read_entry(folder)
    problems = [*_identity(entry, folder.name), *_words(entry, parse), *_protocol(entry, known), *_percentages(entry)]
    if not problems:
        binding = known[entry.protocol.name].binding
        problems = [*(_by_server(entry, folder) if entry.receipts else _by_ranks(entry, folder, binding))]
    notes = []
    if entry.ranks is not None and not entry.ranks_stored:
        notes.append("its ranks are too large to be stored, so its numbers were not recomputed")
    return _verdict(folder, problems, notes)


def _verdict(folder: Path, problems: Sequence[str], notes: Sequence[str] = ()) -> Verdict:
    more = [f"and {len(problems) - _MOST_PROBLEMS} more problems"] if len(problems) > _MOST_PROBLEMS else []
    cut = [_cut(problem, _LONGEST_PROBLEM) for problem in [*problems[:_MOST_PROBLEMS], *more]]
    return Verdict(folder.name, tuple(cut), tuple(notes))


def _foreign(folder: Path) -> Iterator[str]:
    """What must not lie in the folder of an entry: links, folders, and files that no entry has."""
    if folder.is_symlink():
        yield "it is a link, and an entry must lie in its own folder"
        return
    for path in sorted(folder.iterdir()):
        name = _quote(path.name)
        if path.is_symlink():
            yield f"{name} is a link, which may lead out of the folder"
        elif not path.is_file() or not (path.name in (ENTRY, RANKS) or _of_server(path.name)):
            yield f"{name} is not a file that an entry has"


def _of_server(name: str) -> bool:
    return bool(RECEIPTS.fullmatch(name) or LISTS.fullmatch(name))


def _identity(entry: Entry, folder: str) -> Iterator[str]:
    """Whether the entry is what its names and digests say."""
    if entry.seal != seal_of(entry):
        yield f"{ENTRY} was changed after it was made: its seal does not fit"
    if entry.id != folder or entry.id != entry_id(entry.protocol.name, entry.method.name, entry.run):
        yield f"its id {_quote(entry.id)} does not follow from its folder, protocol, method and run"
    named = {"run": entry.run, "ranks": entry.ranks, "checkpoint": entry.method.checkpoint, "code": entry.method.code}
    named |= {} if entry.reranking is None else {"first stage": entry.reranking.first_stage}
    named |= {} if entry.scored is None else {f"{file.role} file": file.sha256 for file in entry.scored.files}
    for name, value in named.items():
        if value is not None and _SHA256.fullmatch(value) is None:
            yield f"its {name} is not a sha256"
    parts = {name: getattr(entry.backbone, name) for name in entry.backbone.__struct_fields__}
    if parts.pop("digest") != digest({name: value for name, value in parts.items() if name != "name"}):
        yield "the digest of its backbone does not follow from its architecture, weights and preprocessing"


def _words(entry: Entry, parse: Parser | None) -> Iterator[str]:
    """Whether its words are of the kinds that there are, and do no harm to who reads or copies them."""
    method = entry.method
    said = {method.uses_llm, method.uses_shared_concept, method.uses_triplets}
    if not {*said, is_transductive(method, entry.scored)} <= {*_ANSWERS}:
        yield f"a disclosure is not one of {', '.join(_ANSWERS)}"
    if method.supervision not in _SUPERVISION:
        yield f"its supervision is not one of {', '.join(_SUPERVISION)}"
    if method.oracle:
        yield "its method knows the ground truths, so that its numbers are upper bounds and no method's"
    nothing = {"oracle": method.oracle is False, "stages_selected_on": method.stages_selected_on == []}
    nothing["overlap"] = method.overlap is not None and method.overlap < 1
    for name in filter(nothing.__getitem__, nothing):
        yield f"its {name} is {getattr(method, name)}, and an entry says null where there is nothing to say"
    yield from _date("it was created", entry.created)
    if entry.seed < 0:
        yield f"its seed is {entry.seed}, and a seed is not negative"
    for name, text in (("title", method.title), ("title", method.name), ("note", entry.note)):
        if len(text) > _LONGEST[name]:
            yield f"its {name} is longer than {_LONGEST[name]} characters"
    yield from _unseen(msgspec.to_builtins(entry))
    if not 0 < len(entry.commands) <= _MOST_COMMANDS:
        yield f"it has {len(entry.commands)} commands, and must have 1 to {_MOST_COMMANDS}"
    for command in entry.commands[:_MOST_COMMANDS]:
        if (why := command_problem(command, parse)) is not None:
            yield f"the command {_quote(command)} {why}"


def _unseen(values: dict[str, Any], within: str = "") -> Iterator[str]:
    """Whether a text holds what a reader does not see: controls of a terminal, marks that turn or hide letters."""
    for name, value in values.items():
        place = f"{within}{name}"
        plain = value.replace("\n", " ") if isinstance(value, str) and place == "note" else value
        if not name.isprintable() or (isinstance(plain, str) and not plain.isprintable()):
            yield f"its {_cut(place)!r} holds characters that cannot be seen"
        elif len(name) > _LONGEST_WORD or (isinstance(value, str) and len(value) > _LONGEST_WORD):
            yield f"its {_cut(place)!r} is longer than {_LONGEST_WORD} characters"
        elif isinstance(value, dict):
            yield from _unseen(value, f"{place}.")
        elif isinstance(value, list) and name != "commands":  # commands have a rule of their own
            yield from _unseen({str(index): each for index, each in enumerate(value)}, f"{place}.")


def _date(what: str, text: str) -> Iterator[str]:
    """Whether a date is one, and lies between the first entries and now."""
    try:
        day = datetime.datetime.fromisoformat(text).date()
    except ValueError:
        yield f"{what} at {_quote(text)}, which is not a date"
        return
    tomorrow = datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=1)
    if not datetime.date(_FIRST_YEAR, 1, 1) <= day <= tomorrow:
        yield f"{what} at {_quote(text)}, which is not between {_FIRST_YEAR} and today"


_VERBS = ("run", "train", "score", "convert", "caption")
_TORCHRUN = re.compile(r"--standalone|--(nproc[-_]per[-_]node|nnodes|node[-_]rank|master[-_]port)=[a-z0-9]+")


def command_problem(command: str, parse: Parser | None = None) -> str | None:
    """Say why a command must not be shown to be copied, or ``None`` where it may.

    It is ``cirbench VERB ...`` or ``torchrun ... -m cirbench VERB ...``, quoted as a shell needs it and no further, so
    that a shell reads exactly its words: no pipe, no second command, no substitution.
    """
    if len(command) > _LONGEST["command"] or not command.isprintable():
        return "is too long, or holds characters that cannot be seen"
    try:
        words = shlex.split(command)
    except ValueError:
        return "has a quotation mark that is not closed"
    if shlex.join(words) != command:
        return "is not quoted as a shell needs it"
    if words[:1] == ["torchrun"]:
        at = words.index("-m") if "-m" in words else len(words)
        if not all(map(_TORCHRUN.fullmatch, words[1:at])):
            return "gives torchrun other options than how many processes there are"
        words = words[at + 1 :]
    if words[:1] != ["cirbench"] or len(words) < 2 or words[1] not in _VERBS:
        return f"is not one of cirbench {', '.join(_VERBS)}"
    if any(_leads_out(word) for word in words[2:]):
        return "names a file outside the folder in which it is typed"
    return None if parse is None else parse(words[1:])


def _leads_out(word: str) -> bool:
    """Whether a word, or a value in it, is a path from the root, the home folder or upwards.

    Values lie behind an equals sign, between commas, and behind the letter of a short option.
    """
    values = re.split(r"[=,]", word)
    values += [values[0][2:]] if re.match(r"-[A-Za-z]", word) else []
    return any(value.strip().startswith(("/", "~")) or ".." in re.split(r"[/\\]", value.strip()) for value in values)


def _protocol(entry: Entry, known: Mapping[str, KnownProtocol]) -> Iterator[str]:
    """Whether the protocol is one that this leaderboard knows, and was covered as far as the entry says."""
    protocol, counts, fields = entry.protocol, entry.counts, entry.protocol.fields
    name = _quote(protocol.name)
    if protocol.digest != digest(fields):
        yield "the digest of its protocol does not follow from the fields of the protocol"
    if protocol.name != f"{fields.get('id')}@{fields.get('version')}":
        yield f"its protocol {name} is called otherwise in the fields of the protocol"
    if reserved(protocol.name, known) or protocol.name not in known:
        yield f"the digest of its protocol {name} is not known here"
    elif known[protocol.name].digest != protocol.digest:
        yield f"the digest of its protocol {name} is another one here"
    if not (0 < counts.queries <= counts.queries_expected and 0 < counts.gallery <= counts.gallery_expected):
        yield "it counts more queries or images than the protocol has, or none"
    counted = protocols().get(fields.get("id", ""))
    bound = known[protocol.name].binding if protocol.name in known else None
    sizes: list[tuple[int | None, int | None]] = [] if bound is None else [(bound.count, bound.gallery)]
    sizes += [] if counted is None else [(counted.queries, counted.gallery)]
    for queries, gallery in sizes:
        if queries not in (None, counts.queries_expected) or gallery not in (None, counts.gallery_expected):
            yield "it does not count the queries and images that the protocol has"
            break
    if min(counts.tied_relevant, counts.truncated_texts) < 0:
        yield "it counts less than nothing"
    if bound is not None and counts.tied_relevant > bound.total:
        yield f"it counts {counts.tied_relevant} tied ground truths, and the protocol has {bound.total}"
    yield from _kind(entry)


def _kind(entry: Entry) -> Iterator[str]:
    """Whether the numbers come from where those of the protocol can: ranks, or the server that keeps the labels."""
    fields = entry.protocol.fields
    counted = protocols().get(fields.get("id", ""))
    hidden = fields.get("labels") == "hidden"
    if counted is not None and hidden == counted.labelled:
        yield f"the ground truths of its protocol are {'public' if counted.labelled else 'kept by a server'}"
    if (entry.ranks is None) == (not entry.receipts):
        yield "its numbers need either ranks or the receipts of a server"
    elif entry.receipts and (counted is None or counted.labelled):
        yield "it has the receipt of a server, and no server keeps the ground truths of its protocol"
    elif entry.ranks is not None and hidden:
        yield "it has ranks of ground truths that a server keeps"


def _percentages(entry: Entry) -> Iterator[str]:
    """Whether every number can be one."""
    if not entry.metrics:
        yield "it has no number"
    for score in entry.metrics:
        ends = [end for end in (score.low, score.high) if end is not None]
        if len(ends) == 1 or not all(map(_percentage, (score.value, *ends))):
            yield f"{_quote(score.label)}: {score.value} is not a percentage with an interval"


def _percentage(value: float) -> bool:
    return math.isfinite(value) and -_TOLERANCE <= value <= 100 + _TOLERANCE


# Numbers that follow from ranks.


def _by_ranks(entry: Entry, folder: Path, binding: Binding | None) -> Iterator[str]:
    """Whether the numbers follow from the ranks, and the ranks are possible."""
    if present := [path.name for path in folder.iterdir() if _of_server(path.name)]:
        yield f"{present[0]!r} is of a server, and the entry does not name one"
    if (folder / RANKS).is_file() != entry.ranks_stored:
        yield f"{RANKS} is {'missing' if entry.ranks_stored else 'there, and the entry says that it is not'}"
        return
    if not entry.ranks_stored:
        yield from _without_ranks(entry, binding)
        return
    if (folder / RANKS).stat().st_size > MOST_STORED:
        yield f"{RANKS} is larger than {MOST_STORED:,} bytes"
        return
    if sha256_of_file(folder / RANKS) != entry.ranks:
        yield f"{RANKS} is not the file that the entry was made with"
        return
    evidence = read_evidence(folder / RANKS)
    impossible = [*_coverage(entry, evidence), *_possible(entry, evidence, binding)]
    yield from impossible
    if not impossible:
        yield from _numbers(entry, evidence)


def _coverage(entry: Entry, evidence: Evidence) -> Iterator[str]:
    """Whether the ranks are of the protocol's queries and gallery."""
    counts = entry.counts
    queries = len(evidence.query_ids)
    part = entry.partial and counts.queries <= queries <= counts.queries_expected
    if queries != counts.queries_expected and not part:
        yield f"there are ranks of {queries} queries, and the entry counts {counts.queries_expected}"
    if queries == counts.queries_expected and not evidence.belongs_to(entry.protocol.fields):
        yield "the clusters or slices of its queries are not those of the protocol"
    ranks = evidence.relevant_ranks.values
    if ((ranks > counts.gallery_expected) & (ranks != UNRANKED)).any():
        yield f"a rank is beyond the {counts.gallery_expected} images of the gallery"
    if ((evidence.shown_SK < -1) | (evidence.shown_SK >= counts.gallery_expected)).any():
        yield f"an item to show is not one of the {counts.gallery_expected} images of the gallery"
    if evidence.references is not None:
        places_Q = evidence.references.places_Q
        if entry.protocol.fields.get("exclude_reference") == "True":
            yield "it gives ranks of references, and the protocol removes them from lists"
        if ((places_Q > counts.gallery_expected) & (places_Q != UNRANKED)).any():
            yield f"the place of a reference is beyond the {counts.gallery_expected} images of the gallery"
    if _repeats(evidence.shown_SK):
        yield "an item to show is there twice for one query"


def _repeats(shown_SK: np.ndarray) -> bool:
    return any(len(set(row)) < len(row) for row in ([item for item in row if item != -1] for row in shown_SK.tolist()))


def _possible(entry: Entry, evidence: Evidence, bound: Binding | None) -> Iterator[str]:
    """Whether a ranking under the protocol can give these ranks."""
    rows, values = evidence.relevant_ranks.row_of_value, evidence.relevant_ranks.values
    ranked = values != UNRANKED
    order = np.lexsort((values, rows))
    same = (np.diff(rows[order]) == 0) & (np.diff(values[order]) == 0) & ranked[order][1:]
    if same.any():
        yield f"two ground truths of query {_quote(evidence.query_ids[rows[order][1:][same][0]])} have one rank"
    gains = evidence.gains
    if gains is not None and any(abs(gain) > 1 for row in gains for gain in row):
        yield "a soft label is not between -1 and 1"
    if (protocol := same_here(entry.protocol)) is not None:
        part = restricted(protocol, evidence.query_ids)
        if part is None:
            yield "it has queries that the protocol does not have"
            return
        yield from shown_as_ranked(evidence, part)
        bound = binding_of(part) or bound
    if bound is None:
        return
    if bound.count != len(evidence.query_ids):
        yield from _within(evidence, np.array(max(number for _, number in bound.candidates)), "the queries")
        return
    if digest(list(evidence.query_ids)) != bound.queries:
        yield "its queries are not those of the protocol"
        return
    if digest(evidence.relevant_ranks.lengths.tolist()) != bound.truths:
        yield "its queries have other numbers of ground truths than those of the protocol"
        return
    yield from _within(evidence, np.repeat(expand(bound.candidates), evidence.relevant_ranks.lengths), "its query")
    if (evidence.group_ranks_Q is None) != (bound.groups is None):
        yield f"the protocol has {'no groups' if bound.groups is None else 'groups'}, and the ranks say otherwise"
    elif evidence.group_ranks_Q is not None and bound.groups is not None:
        inside = evidence.group_ranks_Q
        if ((inside > expand(bound.groups)) & (inside != UNRANKED)).any():
            yield "a rank inside a group is beyond the images of the group"
    if (None if gains is None else digest(gains)) != bound.gains:
        yield "its soft labels are not those of the protocol"
    labels = tuple(score.label for score in entry.metrics)
    if not entry.partial and labels != bound.labels:
        yield "its numbers are not those that the protocol reports"


def _within(evidence: Evidence, most: np.ndarray, whose: str) -> Iterator[str]:
    values = evidence.relevant_ranks.values
    if ((values > most) & (values != UNRANKED)).any():
        yield f"a rank is beyond the candidates of {whose}"


def shown_as_ranked(evidence: Evidence, protocol: EvaluationProtocol) -> Iterator[str]:
    """Whether the first items of a query have its ground truths at the ranks that they are said to have."""
    if protocol.labels is None or protocol.gallery is None:
        return
    for place, top in zip(evidence.shown_places, evidence.shown_SK.tolist(), strict=True):
        truths, ranks = protocol.labels.relevant[place], evidence.relevant_ranks[place].tolist()
        for name, rank in zip(truths, ranks, strict=False):  # other counts are said below
            at = protocol.gallery.positions.get(name)
            if (at in top) != (rank <= len(top)) or (at in top and top.index(at) != rank - 1):
                query = _quote(evidence.query_ids[place])
                yield f"query {query} retrieved {_quote(name)} at another place than its ranks say"
                return
    if evidence.references is not None and not protocol.exclude_reference:
        places_S = evidence.references.places_Q[evidence.shown_places]
        shown = reference_places(evidence.shown_SK, protocol.only(evidence.shown_places))
        if not np.array_equal(np.where(places_S <= shown.depth, places_S, UNRANKED), shown.places_Q):
            yield "a reference has another rank than the items to show say"


def _numbers(entry: Entry, evidence: Evidence) -> Iterator[str]:
    labels = [score.label for score in entry.metrics]
    try:
        asked = ", ".join(map(str, measures_of(labels)))
        again = evidence.scores(labels)
    except ValueError as error:
        yield f"its numbers cannot be recomputed: {error}"
        return
    reported = [score.label for score in again]
    if asked != entry.protocol.fields.get("measures") or reported != labels or evidence.all_labels(labels) != {*labels}:
        yield "its numbers are not those that the protocol reports"
        return
    earlier = all(score.low is None for score in entry.metrics)  # the intervals of an earlier method were left out
    for claimed, found in zip(entry.metrics, again, strict=True):
        for what in ("value", "n") if earlier else ("value", "low", "high", "n"):
            said, is_ = getattr(claimed, what), getattr(found, what)
            if said is None or abs(said - is_) > _TOLERANCE:
                yield f"{claimed.label}: {what} is given as {said}, and the ranks give {is_}"


_BYTES_OF_TRUTH, _BYTES_OF_QUERY = 8, 128
"""More than what an archive needs for each; ranks of a protocol for which even that fits can be stored."""


def _without_ranks(entry: Entry, binding: Binding | None) -> Iterator[str]:
    """What can be said of numbers without ranks; a row of them is shown without a rank."""
    truths = binding.total if binding is not None else 0
    if _BYTES_OF_TRUTH * truths + _BYTES_OF_QUERY * entry.counts.queries_expected <= MOST_STORED:
        yield "its ranks are not stored, and those of a protocol of this size can be"
    labels = tuple(score.label for score in entry.metrics)
    reported = ", ".join(map(str, _measures(labels)))
    if (binding is not None and labels != binding.labels) or reported != entry.protocol.fields.get("measures"):
        yield "its numbers are not those that the protocol reports"
    for score in entry.metrics:
        if score.low is not None and score.high is not None and not score.low <= score.high:
            yield f"{_quote(score.label)}: {score.value} is not a percentage with an interval"


def _measures(labels: Sequence[str]) -> tuple[object, ...]:
    try:
        return measures_of(labels)
    except ValueError:
        return ()


# Numbers that a server answered.


def _by_server(entry: Entry, folder: Path) -> Iterator[str]:
    """Whether the numbers are those of the receipts, and the lists beside them are what the server scored."""
    named = {**entry.receipts, **(entry.lists or {})}
    if {path.name for path in folder.iterdir()} - {ENTRY} != named.keys() or not all(map(_of_server, named)):
        yield "its receipts and lists are not those that it names"
        return
    scores: dict[str, float] = {}
    protocol = entry.protocol.name.partition("@")[0]
    for name, sha256 in entry.receipts.items():
        if (folder / name).stat().st_size > RECEIPT_LIMIT or sha256_of_file(folder / name) != sha256:
            yield f"{name} is not the receipt that the entry was made with"
            return
        receipt = parse_receipt(folder / name)
        if receipt.protocol != protocol or receipt.run_digest != entry.run:
            yield f"{name} is about another protocol or run"
        yield from _date(f"the answer in {name} was given", receipt.date)
        yield from _submitted(entry, folder, name, receipt)
        scores |= receipt.scores
    if len({*entry.receipts}) != len(entry.lists or {}):
        yield "it does not have the submitted lists of each receipt"
    if foreign := [label for label in scores if label not in score_labels(protocol)]:
        yield f"the server does not report {_quote(foreign[0])}"
    claimed = {score.label: score.value for score in entry.metrics}
    alone = len(claimed) == len(entry.metrics)
    if not alone or claimed != scores or any((each.low, each.high, each.n) != (None,) * 3 for each in entry.metrics):
        yield "its numbers are not those that the server answered"


def _submitted(entry: Entry, folder: Path, name: str, receipt: Receipt) -> Iterator[str]:
    """Whether the file that the server scored lies here, is what the receipt says, and keeps the server's rules."""
    beside = lists_name(name)
    sha256 = (entry.lists or {}).get(beside)
    if sha256 is None:
        yield f"{name} has no submitted lists beside it"
        return
    if (folder / beside).stat().st_size > LISTS_LIMIT or sha256_of_file(folder / beside) != sha256:
        yield f"{beside} is not the file that the entry was made with"
        return
    try:
        with gzip.open(folder / beside) as file:
            content = file.read(_UNPACKED_LISTS + 1)
    except (OSError, EOFError, zlib.error) as error:
        yield f"{beside} is damaged: {error}"
        return
    if len(content) > _UNPACKED_LISTS or hashlib.sha256(content).hexdigest() != receipt.sha256:
        yield f"{beside} is not the file that the server scored"
        return
    protocol = same_here(entry.protocol)
    report = check_content(folder / beside, content, lambda _: protocol, receipt.protocol)
    yield from (f"{beside}: {problem}" for problem in report.problems[:3])


def lists_name(receipt: str) -> str:
    """Name the submitted lists of a receipt."""
    return f"lists-{receipt.removeprefix('receipt-')}.gz"


def _quote(text: str) -> str:
    return repr(_cut(text))


def _cut(text: str, most: int = _QUOTED) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
