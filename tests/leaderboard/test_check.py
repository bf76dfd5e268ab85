"""An entry holds, or check says what does not fit; a change that was sealed again is noticed as well."""

from __future__ import annotations

import hashlib
import os
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cirbench.errors import CheckFailed, MissingData
from cirbench.leaderboard.check import check_entries
from cirbench.leaderboard.entry import SCHEMA_VERSION, SHOWN_ITEMS, SHOWN_QUERIES
from cirbench.support.arrays import read_archive, to_archive
from cirbench.support.files import digest
from tests.leaderboard.runs import sha
from tests.leaderboard.tampering import Values, folder_of, rewrite, verdict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_an_untouched_entry_holds(entries: Path) -> None:
    assert verdict(entries).problems == ()
    verdict(entries).require()


def with_metric(name: str, change: float) -> Callable[[Values], object]:
    return lambda values: values["metrics"][0].update({name: values["metrics"][0][name] + change})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (with_metric("value", 0.01), "mAP@5: value is given as"),
        (with_metric("low", 1), "mAP@5: low is given as"),
        (with_metric("high", -1), "mAP@5: high is given as"),
        (with_metric("n", -1), "mAP@5: n is given as 59, and the ranks give 60"),
        (lambda v: v["metrics"][0].update(low=None), "is not a percentage with an interval"),
        (lambda v: v["metrics"].pop(), "its numbers are not those that the protocol reports"),
        (lambda v: v["metrics"].clear(), "it has no number"),
        (lambda v: v["metrics"].reverse(), "its numbers are not those that the protocol reports"),
        (lambda v: v["metrics"][0].update(label="mAP@6"), "its numbers are not those that the protocol reports"),
        (lambda v: v["metrics"][0].update(label="<b>"), "its numbers are not those that the protocol reports"),
        (lambda v: v["metrics"][0].update(label="mAP@5[x=y]"), "its numbers are not those that the protocol reports"),
        (lambda v: v.update(ranks=sha("x")), "ranks.npz is not the file that the entry was made with"),
        (lambda v: v.update(ranks_stored=False), "ranks.npz is there, and the entry says that it is not"),
        (lambda v: v.update(ranks=None), "its numbers need either ranks or the receipts of a server"),
        (lambda v: v["protocol"].update(digest=sha("x")), "does not follow from the fields of the protocol"),
        (lambda v: v["protocol"]["fields"].update(captions="x"), "does not follow from the fields of the protocol"),
        (lambda v: v["protocol"].update(name="circo/val@1"), "is called otherwise in the fields"),
        (lambda v: v["backbone"].update(weights=sha("x")), "the digest of its backbone does not follow"),
        (lambda v: v["backbone"].update(precision="bf16"), "the digest of its backbone does not follow"),
        (lambda v: v.update(id="../../etc"), "its id '../../etc' does not follow"),
        (lambda v: v.update(run=sha("x")), "does not follow from its folder, protocol, method and run"),
        (lambda v: v["method"].update(name="best"), "does not follow from its folder, protocol, method and run"),
        (lambda v: v["method"].update(code="x"), "its code is not a sha256"),
        (lambda v: v["method"].update(uses_llm="maybe"), "a disclosure is not one of yes, no, unknown"),
        (lambda v: v["method"].update(supervision="magic"), "its supervision is not one of"),
        (lambda v: v["counts"].update(queries=61), "it counts more queries or images than the protocol has"),
        (lambda v: v["counts"].update(queries=0), "it counts more queries or images than the protocol has, or none"),
        (
            lambda v: v["counts"].update(queries_expected=61),
            "it does not count the queries and images that the protocol has",
        ),
        (lambda v: v["counts"].update(gallery=5, gallery_expected=5), "does not count the queries and images"),
        (lambda v: v.update(created="yesterday"), "which is not a date"),
        (lambda v: v.update(receipts={"receipt-x.json": sha("x")}), "either ranks or the receipts"),
    ],
)
def test_a_forger_who_seals_again_is_told_what_does_not_fit(
    change: Callable[[Values], object], told: str, entries: Path
) -> None:
    rewrite(entries, change)
    assert told in "; ".join(verdict(entries).problems)
    with pytest.raises(CheckFailed, match="is not valid"):
        verdict(entries).require()


def test_a_protocol_with_other_fields_and_a_fitting_digest_is_not_known(entries: Path) -> None:
    def easier(values: Values) -> None:
        fields = values["protocol"]["fields"]
        fields["exclude_reference"] = "False"
        values["protocol"]["digest"] = digest(fields)

    rewrite(entries, easier)
    assert verdict(entries).problems == ("the digest of its protocol 'scenes/tiny@1' is another one here",)


def forged(entries: Path, **arrays: Any) -> None:
    """Replace arrays of the ranks, and their digest in the entry."""
    path = folder_of(entries) / "ranks.npz"
    kept = {name: array for name, array in {**read_archive(path), **arrays}.items() if array is not None}
    content = to_archive(kept)
    path.write_bytes(content)
    rewrite(entries, lambda values: values.update(ranks=hashlib.sha256(content).hexdigest()))


def test_better_ranks_do_not_give_the_old_numbers(entries: Path) -> None:
    forged(entries, group_ranks_Q=np.ones(60, dtype=np.int64))
    assert "and the ranks give" in verdict(entries).problems[0]


IDS = np.array([str(number) for number in range(60)])


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"clusters": IDS}, "the clusters or slices of its queries are not those of the protocol"),
        ({"slices": np.array("{}")}, "the clusters or slices of its queries are not those of the protocol"),
        ({"slices": np.array("[")}, "does not fit together"),
        ({"slices": np.array('{"aspect": [["a"]]}')}, "does not say each thing once for each query"),
        ({"query_ids": np.array(["1"] * 60)}, "does not say each thing once for each query"),
        ({"query_ids": np.arange(60)}, "query_ids are not texts"),
        ({"query_ids": None}, "does not fit together: 'query_ids'"),
        ({"group_ranks_Q": None}, "the protocol has groups, and the ranks say otherwise"),
        ({"group_ranks_Q": np.zeros(60, dtype=np.int64)}, "ranks inside groups start at 1"),
        ({"relevant_ranks": np.zeros(187, dtype=np.int64)}, "ranks start at 1"),
        ({"relevant_ranks": np.full(187, 601)}, "a rank is beyond the 600 images"),
        ({"relevant_ranks": np.ones(187)}, "ranks are not whole numbers"),
        ({"relevant_offsets": np.arange(61)}, "the offsets do not divide the ranks"),
        ({"gains": np.ones(3)}, "not one soft label for each ground truth"),
        ({"shown_SK": np.full((SHOWN_QUERIES, SHOWN_ITEMS), 600)}, "an item to show is not one of the 600 images"),
        ({"shown_SK": np.full((SHOWN_QUERIES, SHOWN_ITEMS), -2)}, "an item to show is not one of the 600 images"),
        (
            {"shown_SK": np.zeros((SHOWN_QUERIES + 1, SHOWN_ITEMS), dtype=np.int64)},
            "the items to show are not those of a few queries",
        ),
        (
            {"reference_places_Q": np.ones(60, dtype=np.int64), "list_depth": np.array(50)},
            "it gives ranks of references, and the protocol removes them from lists",
        ),
        (
            {"reference_places_Q": np.ones(59, dtype=np.int64), "list_depth": np.array(50)},
            "not one place of the reference for each query",
        ),
        (
            {"reference_places_Q": np.full(60, 51), "list_depth": np.array(50)},
            "the place of a reference is not one in a list",
        ),
        ({"list_depth": np.array(50)}, "does not fit together: 'reference_places_Q'"),
        ({"extra": np.ones(3)}, "nobody knows an array called 'extra'"),
    ],
)
def test_ranks_that_are_not_the_protocols_are_refused(arrays: Values, told: str, entries: Path) -> None:
    forged(entries, **arrays)
    assert told in "; ".join(verdict(entries).problems)


# Files.


def test_a_change_of_the_ranks_alone_is_noticed(entries: Path) -> None:
    path = folder_of(entries) / "ranks.npz"
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(bytes(content))
    assert verdict(entries).problems == ("ranks.npz is not the file that the entry was made with",)


def test_missing_ranks_are_noticed(entries: Path) -> None:
    (folder_of(entries) / "ranks.npz").unlink()
    assert verdict(entries).problems == ("ranks.npz is missing",)


def test_a_link_is_not_followed(entries: Path, tmp_path: Path) -> None:
    ranks = folder_of(entries) / "ranks.npz"
    shutil.move(ranks, tmp_path / "elsewhere.npz")
    ranks.symlink_to(tmp_path / "elsewhere.npz")
    assert verdict(entries).problems == ("'ranks.npz' is a link, which may lead out of the folder",)


def test_a_folder_that_is_a_link_is_not_followed(entries: Path, tmp_path: Path) -> None:
    folder = folder_of(entries)
    shutil.move(folder, tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert verdict(entries).problems == ("it is a link, and an entry must lie in its own folder",)


@pytest.mark.parametrize("name", ["evil.html", "receipt-../x.json", "Receipt-x.json", "ranks.npz.bak"])
def test_a_foreign_file_is_refused(name: str, entries: Path) -> None:
    path = folder_of(entries) / name.replace("/", "_")
    path.write_text("x")
    assert verdict(entries).problems == (f"{path.name!r} is not a file that an entry has",)


def test_the_name_of_a_folder_does_nothing_to_a_terminal(entries: Path) -> None:
    folder_of(entries).rename(entries / "odd\x1b[31m\u202ename")
    with pytest.raises(CheckFailed, match=r"The entry odd\\x1b\[31m\\u202ename is not valid") as caught:
        verdict(entries).require()
    assert caught.value.message.isprintable()


def test_a_folder_inside_is_refused(entries: Path) -> None:
    (folder_of(entries) / "more").mkdir()
    assert verdict(entries).problems == ("'more' is not a file that an entry has",)


def test_a_pipe_is_not_waited_for(entries: Path) -> None:
    path = folder_of(entries) / "ranks.npz"
    path.unlink()
    os.mkfifo(path)
    assert verdict(entries).problems == ("'ranks.npz' is not a file that an entry has",)


def test_another_folder_name_is_refused(entries: Path) -> None:
    folder_of(entries).rename(entries / "scenes-tiny--best--00000000")
    assert "does not follow from its folder" in verdict(entries).problems[0]


def test_files_larger_than_their_kind_are_not_read(entries: Path) -> None:
    rewrite(entries, lambda values: values.update(note="a" * (300 << 10)))
    assert "is larger than 262,144 bytes" in verdict(entries).problems[0]
    rewrite(entries, lambda values: values.update(note=""))
    with (folder_of(entries) / "ranks.npz").open("ab") as file:
        file.write(bytes(2 << 20))
    assert verdict(entries).problems == ("ranks.npz is larger than 1,048,576 bytes",)


def test_ranks_that_unpack_to_too_much_are_not_unpacked(entries: Path) -> None:
    forged(entries, clusters=np.zeros(1 << 25, dtype=np.int32))
    assert "unpacks to more than 67,108,864 bytes" in verdict(entries).problems[0]


def test_a_foreign_key_is_refused(entries: Path) -> None:
    rewrite(entries, lambda values: values.update(surprise=1), seal=False)
    assert "unknown field `surprise`" in verdict(entries).problems[0]


def test_an_entry_of_a_later_version_asks_for_an_upgrade(entries: Path) -> None:
    rewrite(entries, lambda values: values.update(schema_version=SCHEMA_VERSION + 1), seal=False)
    assert f"has schema version {SCHEMA_VERSION + 1}" in verdict(entries).problems[0]


def test_one_broken_entry_does_not_hide_the_others(entries: Path) -> None:
    (entries / "broken").mkdir()
    assert [each.ok for each in check_entries(entries)] == [False, True]


def test_a_folder_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="There is no folder"):
        check_entries(tmp_path / "none")
