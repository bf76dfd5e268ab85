"""No field of an entry and no byte of its files can be changed unnoticed; under a new seal, only words can."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cirbench.leaderboard.entry import Entry, sealed
from tests.leaderboard.tampering import another, folder_of, leaves, put, verdict

if TYPE_CHECKING:
    from pathlib import Path

WORDS = {
    ("method", "title"),
    ("method", "parameters", "prompt"),
    ("method", "parameters", "scale"),
    ("method", "trained_on"),
    ("method", "selected_on"),
    ("protocol", "licence"),
    ("backbone", "name"),
    ("counts", "tied_relevant"),
    ("counts", "truncated_texts"),
    ("environment", "cirbench"),
    ("environment", "python"),
    ("environment", "platform"),
    ("environment", "device"),
    ("environment", "command"),
    ("seed",),
    ("note",),
}
"""What a forger who seals the entry again can say: words about where the numbers come from, and no number."""

FREE = {
    ("method", "supervision"),
    ("method", "transductive"),
    ("method", "uses_llm"),
    ("method", "uses_shared_concept"),
    ("method", "uses_triplets"),
    ("method", "training"),
    ("created",),
    ("counts", "gallery"),
    ("counts", "queries"),
}
"""What may be another word of those allowed, or count less, which makes the entry partial and unranked."""


def test_no_field_can_be_changed_unnoticed(entries: Path) -> None:
    path = folder_of(entries) / "entry.json"
    original = path.read_text()
    places = [at for at in leaves(json.loads(original)) if at != ("schema_version",)]
    assert len(places) > 150
    for at in places:
        values = json.loads(original)
        old = values
        for key in at:
            old = old[key]
        put(values, at, another(old))
        path.write_text(json.dumps(values))
        assert not verdict(entries).ok, at


def test_a_new_seal_covers_words_only(entries: Path) -> None:
    path = folder_of(entries) / "entry.json"
    original = json.loads(path.read_text())
    said = set()
    for at in leaves(original):
        if at[0] == "metrics" and at[1] > 0:
            continue  # as the first one
        values = json.loads(json.dumps(original))
        old = values
        for key in at:
            old = old[key]
        put(values, at, another(old))
        try:
            values = msgspec.to_builtins(sealed(msgspec.convert(values, Entry)))
        except msgspec.ValidationError:
            continue
        path.write_text(json.dumps(values))
        if verdict(entries).ok:
            said.add(at)
    assert said - {("seal",)} == WORDS


# Whatever the bytes are.


@settings(max_examples=60)
@given(data=st.data())
def test_any_change_of_any_byte_is_refused_and_nothing_worse(made: Path, tmp_path: Path, data: st.DataObject) -> None:
    shutil.rmtree(tmp_path / "entries", ignore_errors=True)
    entries = shutil.copytree(made, tmp_path / "entries")
    path = folder_of(entries) / data.draw(st.sampled_from(["entry.json", "ranks.npz"]))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    if bytes(content) != (folder_of(made) / path.name).read_bytes():
        same = path.name == "entry.json" and loads(content) == loads((folder_of(made) / path.name).read_bytes())
        assert verdict(entries).ok == same


def loads(content: bytes | bytearray) -> Any:
    try:
        return json.loads(bytes(content))
    except ValueError:
        return None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("name", "nothing"), [("oracle", False), ("overlap", 0), ("overlap", -1), ("stages_selected_on", [])]
)
def test_nothing_to_say_is_said_in_one_way(entries: Path, name: str, nothing: object) -> None:
    path = folder_of(entries) / "entry.json"
    values = json.loads(path.read_text())
    values["method"][name] = nothing
    path.write_text(json.dumps(msgspec.to_builtins(sealed(msgspec.convert(values, Entry)))))
    (problem,) = verdict(entries).problems
    assert f"its {name} is {nothing}, and an entry says null" in problem


@settings(max_examples=80)
@given(data=st.data(), new=JSON)
def test_any_value_in_any_place_is_refused_and_nothing_worse(
    made: Path, tmp_path: Path, data: st.DataObject, new: Any
) -> None:
    shutil.rmtree(tmp_path / "entries", ignore_errors=True)
    entries = shutil.copytree(made, tmp_path / "entries")
    path = folder_of(entries) / "entry.json"
    values = json.loads(path.read_text())
    place = data.draw(st.sampled_from([*leaves(values)]))
    before = json.loads(path.read_text())
    put(values, place, new)
    path.write_text(json.dumps(values))
    assert values == before or not verdict(entries).ok


@pytest.mark.parametrize("text", ['"\\ud800"', "1" * 400, '{"a":' * 900 + "1" + "}" * 900, "[" * 900 + "]" * 900])
def test_values_that_break_readers_break_nothing(text: str, entries: Path) -> None:
    path = folder_of(entries) / "entry.json"
    content = path.read_text()
    for old in ('"training": null', '"note": "as it is"', '"prompt": "{}"', '"seed": 0'):
        assert old in content
        path.write_text(content.replace(old, f"{old.partition(':')[0]}: {text}"))
        assert not verdict(entries).ok


@settings(max_examples=80)
@given(data=st.data(), new=JSON)
def test_any_value_under_a_new_seal_is_words_or_is_refused(
    made: Path, tmp_path: Path, data: st.DataObject, new: Any
) -> None:
    shutil.rmtree(tmp_path / "entries", ignore_errors=True)
    entries = shutil.copytree(made, tmp_path / "entries")
    path = folder_of(entries) / "entry.json"
    values = json.loads(path.read_text())
    place = data.draw(st.sampled_from([*leaves(values)]))
    before = json.loads(path.read_text())
    put(values, place, new)
    try:
        path.write_text(json.dumps(msgspec.to_builtins(sealed(msgspec.convert(values, Entry)))))
    except (msgspec.ValidationError, ValueError):
        return
    rounded = place[0] == "metrics" and isinstance(new, float | int) and abs(new) < 1e-6
    same = values == before or rounded or (place == ("lists",) and new == {})  # no lists, as with null
    assert not verdict(entries).ok or same or place in WORDS | {("seal",), *FREE}
