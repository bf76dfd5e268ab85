"""The catalogue says what can be evaluated without loading it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from cirbench.benchmarks import choose_protocol, datasets, load_protocol, protocols
from cirbench.errors import MissingData, UnknownName, UsageError

if TYPE_CHECKING:
    from pathlib import Path


def test_every_protocol_belongs_to_its_data_set_and_every_default_split_exists() -> None:
    for name, entry in datasets().items():
        assert entry.name == name
        assert entry.default_split in entry.splits
        assert all(protocol.dataset == name and protocol.variant for protocol in entry.protocols)
    assert list(protocols()) == [
        "scenes/val",
        "scenes/tiny",
        "circo/val",
        "circo/val-drop-reference",
        "circo/val-concept",
        "circo/test",
        "cirr/val",
        "cirr/val-soft",
        "cirr/val-soft-subset",
        "cirr/test1",
        "fashioniq/val",
        "fashioniq/val-drop-reference",
        "fashioniq/val-union",
        "fashioniq/val-union-drop-reference",
        "fashioniq/val-pli",
        "genecis/all",
        "genecis/focus-object",
        "genecis/change-object",
        "genecis/focus-attribute",
        "genecis/change-attribute",
        "imagenet-r/domain-conversion",
        "imagenet-r/domain-conversion-hit",
        "coco/object-composition",
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
    assert caught.value.hint == "Nearest: circo, cirr."
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
    assert caught.value.hint == "Its protocols are circo/val, circo/val-drop-reference, circo/val-concept, circo/test."
    with pytest.raises(UsageError, match="circo/test uses the split test, and --split says val"):
        choose_protocol("circo", split="val", protocol="circo/test")


def test_a_data_set_with_files_asks_for_the_data_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CIRBENCH_DATA", raising=False)
    with pytest.raises(MissingData, match="Nothing says where the data sets are"):
        load_protocol("circo/val")


def test_reading_the_catalogue_imports_neither_numpy_nor_a_data_set() -> None:
    code = "import sys, cirbench.benchmarks as d; d.protocols(); print([m for m in ('numpy', 'torch', 'msgspec', "
    code += "'cirbench.benchmarks.circo', 'cirbench.benchmarks.scenes') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
