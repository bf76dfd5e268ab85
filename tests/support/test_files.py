"""Files are whole or absent, and those of an older version are brought up to date."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cirbench.errors import CirbenchError, CorruptFile, MissingData
from cirbench.support.files import (
    atomic_writer,
    digest,
    read_versioned,
    sha256_of_file,
    write_bytes,
    write_json,
    write_text,
    write_versioned,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


def test_a_file_appears_only_when_the_block_ends_well(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file"
    with pytest.raises(ValueError, match="half way"), atomic_writer(target) as file:
        file.write(b"half")
        raise ValueError("half way")
    assert list(target.parent.iterdir()) == []


def test_an_interrupted_write_leaves_the_old_content(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_text(target, "old")
    with pytest.raises(KeyboardInterrupt), atomic_writer(target) as file:
        file.write(b"new")
        raise KeyboardInterrupt
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_written_file_is_readable_by_others_as_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_text(tmp_path / "file", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_a_full_disk_is_one_clear_error() -> None:
    with pytest.raises(CirbenchError, match=r"No space is left on the disk while writing /dev/full"):
        _write_to_full_disk()


def _write_to_full_disk() -> None:
    from cirbench.support.files import writing_failed

    try:
        with Path("/dev/full").open("wb", buffering=0) as file:
            file.write(b"x")
    except OSError as error:
        raise writing_failed(Path("/dev/full"), error) from error


def test_a_place_that_is_no_folder_is_one_clear_error(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "text")
    with pytest.raises(CirbenchError, match="could not be written"):
        write_text(tmp_path / "file" / "below", "text")


def test_nan_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "file", {"value": float("nan")})
    assert list(tmp_path.iterdir()) == []


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_a_digest_does_not_depend_on_the_order_of_keys(value: dict[str, object]) -> None:
    assert digest(value) == digest(dict(reversed(value.items())))


@given(JSON, JSON)
def test_a_digest_differs_when_the_value_does(one: object, other: object) -> None:
    import json

    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (digest(one) == digest(other)) == same


@given(st.binary(max_size=5000))
def test_the_sha256_of_a_file_is_that_of_its_bytes(content: bytes) -> None:
    import hashlib
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        write_bytes(path, content)
        assert sha256_of_file(path) == hashlib.sha256(content).hexdigest()


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
