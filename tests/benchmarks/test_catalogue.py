"""The catalogue says what can be evaluated without loading it."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from cirbench.benchmarks import choose_protocol, datasets, load_protocol, protocols
from cirbench.benchmarks.catalogue import paper_columns
from cirbench.errors import MissingData, UnknownName, UsageError
from cirbench.metrics.table import parse_label

if TYPE_CHECKING:
    from pathlib import Path


def test_every_protocol_belongs_to_its_data_set_and_every_default_split_exists() -> None:
    for name, entry in datasets().items():
        assert entry.name == name
        assert entry.default_split in entry.splits
        assert all(protocol.dataset == name and protocol.variant for protocol in entry.protocols)
    assert list(protocols()) == [
        "circo/val",
        "circo/val-drop-reference",
        "circo/val-concept",
        "circo/val-circled",
        "circo/test",
        "cirr/val",
        "cirr/val-soft",
        "cirr/val-soft-subset",
        "cirr/val-multi-target",
        "cirr/val-multi-target-judged",
        "cirr/val-circled",
        "cirr/test1",
        "coco/object-composition",
        "fashioniq/val",
        "fashioniq/val-drop-reference",
        "fashioniq/val-union",
        "fashioniq/val-union-drop-reference",
        "fashioniq/val-multi-target",
        "fashioniq/val-multi-target-judged",
        "fashioniq/val-circled",
        "fashioniq/val-pli",
        "genecis/all",
        "genecis/focus-object",
        "genecis/change-object",
        "genecis/focus-attribute",
        "genecis/change-attribute",
        "icir/all",
        "imagenet-r/domain-conversion",
        "imagenet-r/domain-conversion-hit",
        "imagenet-r/freedom",
        "lasco/val",
        "lasco/val-drop-reference",
        "ltll/freedom",
        "macir/full",
        "macir/restricted-remove",
        "macir/restricted-replace",
        "macir/restricted-add",
        "mbeir/cirr",
        "mbeir/fashioniq",
        "minidomainnet/freedom",
        "mmeb/cirr",
        "mmeb/fashioniq",
        "nico/freedom",
        "patterncom/all",
        "scenes/val",
        "scenes/tiny",
    ]


@pytest.mark.parametrize("id", ["scenes/tiny", "scenes/val"])
def test_an_embedded_protocol_is_what_its_entry_says(id: str) -> None:
    entry, protocol = protocols()[id], load_protocol(id)
    assert protocol.gallery is not None
    assert (protocol.id, len(protocol.queries), len(protocol.gallery)) == (id, entry.queries, entry.gallery)
    assert (protocol.labels is not None) == entry.labelled
    assert protocol.licence == datasets()[entry.dataset].licence


@pytest.mark.parametrize("id", [id for id in protocols() if not id.startswith("scenes/")])
def test_a_protocol_of_the_real_files_is_what_its_entry_says(annotation_root: Path, id: str) -> None:
    entry = protocols()[id]
    try:
        protocol = load_protocol(id, annotation_root)
    except MissingData as error:
        pytest.skip(error.message)
    assert (protocol.id, protocol.title) == (id, entry.title)
    assert len(protocol.queries) == (entry.queries or len(protocol.queries))
    if protocol.gallery is not None:
        assert len(protocol.gallery) == (entry.gallery or len(protocol.gallery))
    assert (protocol.labels is not None) == entry.labelled
    assert protocol.licence == datasets()[entry.dataset].licence


def test_the_validation_split_is_the_default() -> None:
    assert choose_protocol("circo").id == "circo/val"
    assert choose_protocol("circo", split="test").id == "circo/test"
    assert choose_protocol("circo", protocol="circo/test").id == "circo/test"
    assert choose_protocol("scenes", split="tiny", protocol="scenes/tiny").id == "scenes/tiny"


def test_unknown_names_are_answered_with_the_nearest_ones() -> None:
    with pytest.raises(UnknownName, match="no data set called 'cirko'") as caught:
        choose_protocol("cirko")
    assert caught.value.hint == "Nearest: circo, icir, cirr."
    with pytest.raises(UnknownName, match="no split of circo called 'vall'") as caught:
        choose_protocol("circo", split="vall")
    assert caught.value.hint == "Nearest: val."
    with pytest.raises(UnknownName, match="no protocol called 'circo/dev'") as caught:
        choose_protocol("circo", protocol="circo/dev")
    assert "circo/val" in str(caught.value)
    with pytest.raises(UnknownName, match="no protocol called 'scene/tiny'"):
        load_protocol("scene/tiny")


def test_a_protocol_of_another_data_set_or_split_is_refused() -> None:
    with pytest.raises(UsageError, match="scenes/val is not one of the data set circo") as caught:
        choose_protocol("circo", protocol="scenes/val")
    assert (
        caught.value.hint
        == "Its protocols are circo/val, circo/val-drop-reference, circo/val-concept, circo/val-circled, circo/test."
    )
    with pytest.raises(UsageError, match="circo/test uses the split test, and --split says val"):
        choose_protocol("circo", split="val", protocol="circo/test")


def test_a_data_set_with_files_asks_for_the_data_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CIRBENCH_DATA", raising=False)
    with pytest.raises(MissingData, match="Nothing says where the data sets are"):
        load_protocol("circo/val")


def test_asking_for_one_benchmark_imports_no_other_and_listing_all_no_torch() -> None:
    code = """
import sys, cirbench.benchmarks as benchmarks
benchmarks.choose_protocol("circo", protocol="circo/test")
print([each for each in ("torch", "cirbench.benchmarks.cirr", "cirbench.benchmarks.scenes") if each in sys.modules])
benchmarks.protocols()
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "False"]


def test_the_columns_of_papers_are_numbers_that_protocols_report() -> None:
    for entry in datasets().values():
        assert entry.columns, entry.name
        for label in entry.columns:
            parse_label(label)
    assert paper_columns("circo/val", ["Recall@5", "mAP@10", "mAP@5"]) == ("mAP@5", "mAP@10")
    assert paper_columns("my-data/all", ["Recall@5", "Recall@1"]) == ("Recall@5", "Recall@1")


@pytest.mark.parametrize("id", [id for id in protocols() if datasets()[id.partition("/")[0]].needs])
def test_each_protocol_reports_some_of_the_columns_of_its_papers(annotation_root: Path, id: str) -> None:
    try:
        protocol = load_protocol(id, annotation_root)
    except MissingData as error:
        pytest.skip(error.message)
    labels = [
        f"{measure.label}[{part}]" if measure.by else measure.label
        for measure in protocol.measures
        for part in (*(f"{measure.by}={name}" for name in measure.labels), f"mean over {measure.by}")
    ]
    declared = datasets()[protocol.id.partition("/")[0]].columns
    assert paper_columns(id, labels) == tuple(label for label in declared if label in labels) != ()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"protocols": ()}, "has no protocol"),
        ({"name": "cirko"}, "'circo/val' of the benchmark cirko is not cirko/VARIANT"),
        ({"default_split": "dev"}, "the default split 'dev' of circo is none of its protocols'"),
    ],
)
def test_a_benchmark_whose_parts_do_not_fit_cannot_be_made(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        dataclasses.replace(datasets()["circo"], **change)
