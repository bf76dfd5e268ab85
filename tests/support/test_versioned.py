from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from cirbench.errors import CorruptFile, MissingData
from cirbench.support.files import read_versioned, write_versioned

if TYPE_CHECKING:
    from pathlib import Path


class Thing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema_version: int
    name: str


def second_to_third(values: dict[str, Any]) -> dict[str, Any]:
    return {"schema_version": 3, "name": values["title"]}


def first_to_second(values: dict[str, Any]) -> dict[str, Any]:
    return {"schema_version": 2, "title": values["called"]}


MIGRATIONS = {1: first_to_second, 2: second_to_third}


@pytest.mark.parametrize(
    "content",
    [
        {"schema_version": 1, "called": "a"},
        {"schema_version": 2, "title": "a"},
        {"schema_version": 3, "name": "a"},
    ],
)
def test_every_earlier_version_is_brought_up_to_date_step_by_step(content: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "thing.json"
    path.write_text(json.dumps(content))
    assert read_versioned(path, Thing, version=3, migrations=MIGRATIONS) == Thing(3, "a")


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write_versioned(tmp_path / "thing.json", Thing(3, "é"))
    assert read_versioned(tmp_path / "thing.json", Thing, version=3) == Thing(3, "é")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"schema_version": 4, "name": "a"}', "has schema version 4; this cirbench reads up to 3"),
        (b'{"schema_version": 0, "name": "a"}', "damaged: Expected `int` >= 1"),
        (b'{"schema_version": true, "name": "a"}', "damaged: Expected `int`"),
        (b'{"name": "a"}', "missing required field `schema_version`"),
        (b'{"schema_version": 3, "name": "a", "extra": 1}', "unknown field `extra`"),
        (b'{"schema_version": 3, "name": "a"', "damaged"),
        (b'{"schema_version": 3, "name": "\xff"}', "damaged"),
        (b"[]", "damaged: Expected `object`"),
        (b"[" * 100_000, "damaged"),
        (b'{"schema_version": 3, "name": "' + b"a" * 1000 + b'"}', "larger than 500 bytes"),
    ],
)
def test_a_file_of_another_form_is_refused_with_the_reason(content: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "thing.json"
    path.write_bytes(content)
    limit = 500 if len(content) < 10_000 else 1 << 20
    with pytest.raises(CorruptFile) as caught:
        read_versioned(path, Thing, version=3, limit=limit, hint="Make it again.")
    assert told in caught.value.message
    assert str(path) in caught.value.message


def test_a_file_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="cannot be read: No such file"):
        read_versioned(tmp_path / "none.json", Thing, version=3)
