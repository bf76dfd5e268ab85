"""The store returns what was put in, byte for byte, or says which file is damaged."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cirbench.backbones import BackboneIdentity
from cirbench.backbones.store import FeatureSpace, FeatureStore, MemoryTable, default_store, read_features
from cirbench.errors import CirbenchError, CorruptFile
from cirbench.support.files import cache_root, sha256_of_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cirbench.backbones.store import StoredTable

IDENTITY = BackboneIdentity("small", "small@0", "gelu", "f" * 64, "clip(32)", "fp32")
DIM = 5


def space(**changes: Any) -> FeatureSpace:
    return FeatureSpace(dataclasses.replace(IDENTITY, **changes), "image", DIM)


def contents(numbers: Sequence[int]) -> list[str]:
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in numbers]


def features(numbers: Sequence[int], dim: int = DIM) -> NDArray[np.float32]:
    return np.array([np.random.default_rng(n).standard_normal(dim, dtype=np.float32) for n in numbers]).reshape(-1, dim)


def put(table: StoredTable | MemoryTable, numbers: Sequence[int]) -> None:
    table.write(contents(numbers), features(numbers), {"batch_size": "8"})


@pytest.fixture
def table(tmp_path: Path) -> StoredTable:
    return FeatureStore(tmp_path).table(space())


def shards(table: StoredTable) -> list[Path]:
    return sorted(table.folder.glob("*.safetensors"))


operations = st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=8, unique=True), max_size=6)


@settings(max_examples=40)
@given(writes=operations, asked=st.lists(st.integers(0, 40), max_size=30))
def test_the_store_behaves_like_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory, writes: list[list[int]], asked: list[int]
) -> None:
    stored = FeatureStore(tmp_path_factory.mktemp("store")).table(space())
    memory = MemoryTable(space())
    for numbers in writes:
        put(stored, numbers)
        put(memory, numbers)
    for table in (stored, memory):
        known = {number for numbers in writes for number in numbers}
        assert table.missing(contents(asked)) == [at for at, number in enumerate(asked) if number not in known]
        there = [number for number in asked if number in known]
        assert table.rows(contents(there)).shape == (len(there), DIM)
        assert np.array_equal(table.rows(contents(there))[:], features(there))


def test_a_row_that_is_not_there_is_a_key_error(table: StoredTable) -> None:
    put(table, [1, 2])
    with pytest.raises(KeyError, match=contents([3])[0]):
        table.rows(contents([1, 3]))


def test_a_content_that_is_no_digest_is_refused(table: StoredTable) -> None:
    for content in ("abc", "ab", "z" * 64):
        with pytest.raises(ValueError, match="hexadecimal"):
            table.missing([content])


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": "0" * 64},
        {"activation": "quick_gelu"},
        {"architecture": "other@0"},
        {"preprocessing": "squash(32)"},
        {"precision": "bf16"},
    ],
)
def test_everything_that_fixes_a_feature_is_in_the_key(changes: dict[str, str]) -> None:
    assert space(**changes).digest != space().digest


def test_towers_are_kept_apart_and_names_do_not_matter() -> None:
    assert dataclasses.replace(space(), tower="text").digest != space().digest
    assert space(name="the same by another name").digest == space().digest


def test_another_process_sees_a_shard_as_soon_as_it_is_whole(tmp_path: Path) -> None:
    writer, reader = FeatureStore(tmp_path).table(space()), FeatureStore(tmp_path).table(space())
    assert reader.missing(contents([1])) == [0]
    put(writer, [1, 2])
    assert reader.missing(contents([1, 2, 3])) == [2]
    put(reader, [3])
    assert np.array_equal(writer.rows(contents([3, 1]))[:], features([3, 1]))


def test_equal_shards_land_on_one_name(table: StoredTable) -> None:
    put(table, [1, 2])
    put(table, [1, 2])
    assert len(shards(table)) == 1


def test_the_folder_says_what_it_holds(table: StoredTable) -> None:
    put(table, [1])
    told = json.loads((table.folder / "space.json").read_text())
    assert told["backbone"]["preprocessing"] == "clip(32)"
    assert told["tower"] == "image"


@pytest.mark.parametrize("part", np.linspace(0, 0.999, 24).tolist())
def test_a_flipped_byte_is_detected_and_the_file_is_named(table: StoredTable, part: float) -> None:
    put(table, [1, 2, 3])
    (path,) = shards(table)
    content = bytearray(path.read_bytes())
    content[int(len(content) * part)] ^= 1
    path.write_bytes(content)
    damaged = FeatureStore(table.folder.parent).table(space())
    with pytest.raises(CorruptFile, match=str(path)) as caught:
        # A flipped key hides its item, which is then encoded again; the others still lead to the damaged shard.
        here = [number for number in (1, 2, 3) if not damaged.missing(contents([number]))]
        damaged.rows(contents(here))[:]
    assert f"rm {path}" in str(caught.value.hint)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_truncated_shard_is_detected(table: StoredTable, keep: int) -> None:
    put(table, [1, 2, 3])
    (path,) = shards(table)
    path.write_bytes(path.read_bytes()[:keep])
    damaged = FeatureStore(table.folder.parent).table(space())
    with pytest.raises(CorruptFile, match=str(path)):
        damaged.missing(contents([1]))


def test_after_a_damaged_shard_is_removed_its_items_are_missing_again(table: StoredTable) -> None:
    put(table, [1, 2])
    put(table, [3])
    assert table.missing(contents([1, 2, 3])) == []
    next(path for path in shards(table) if path.stat().st_size == max(p.stat().st_size for p in shards(table))).unlink()
    assert table.missing(contents([1, 2, 3])) == [0, 1]
    put(table, [1, 2])
    assert np.array_equal(table.rows(contents([3, 2, 1]))[:], features([3, 2, 1]))


def test_a_shard_of_another_space_is_refused(tmp_path: Path) -> None:
    here, there = FeatureStore(tmp_path).table(space()), FeatureStore(tmp_path).table(space(precision="bf16"))
    put(here, [1])
    put(there, [2])
    shards(there)[0].rename(here.folder / shards(there)[0].name)
    with pytest.raises(CorruptFile, match="belongs to another backbone"):
        here.missing(contents([1]))


def test_what_a_killed_process_left_is_ignored_and_swept_after_a_day(table: StoredTable) -> None:
    put(table, [1])
    old, fresh = table.folder / f".{'a' * 64}.safetensors.x.part", table.folder / f".{'b' * 64}.safetensors.y.part"
    old.write_bytes(b"half a sh")
    fresh.write_bytes(b"half a sh")
    os.utime(old, (0, 0))
    assert table.missing(contents([1, 2])) == [1]
    put(table, [2])
    assert not old.exists()
    assert fresh.exists()


@pytest.mark.parametrize(
    ("code", "message"), [(errno.ENOSPC, "No space is left"), (errno.EACCES, "No permission"), (errno.EIO, "could not")]
)
def test_a_disk_that_cannot_be_written_is_one_clear_error(
    table: StoredTable, monkeypatch: pytest.MonkeyPatch, code: int, message: str
) -> None:
    put(table, [1])

    def full(handle: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CirbenchError, match=message):
        put(table, [2])
    assert [path.suffix for path in table.folder.iterdir() if path.name != "space.json"] == [".safetensors"]


def test_slices_read_what_the_whole_holds(table: StoredTable) -> None:
    for start in range(0, 60, 7):
        put(table, range(start, start + 7))
    order = np.random.default_rng(0).integers(0, 60, 200).tolist()
    rows = table.rows(contents(order))
    assert rows.shape == (200, DIM)
    assert len(rows) == 200
    assert rows.dtype == np.float32
    for part in (slice(0, 10), slice(190, 300), slice(None), slice(5, 100, 3), slice(-4, None), slice(3, 3)):
        assert np.array_equal(rows[part], features(order)[part])


def test_rows_stay_right_while_shards_come_and_go(table: StoredTable) -> None:
    put(table, [1, 2])
    rows = table.rows(contents([2, 1]))
    put(table, [3])
    table.missing(contents([3]))
    assert np.array_equal(rows[:], features([2, 1]))


def test_reading_needs_the_memory_of_the_result_and_of_a_few_shards(tmp_path: Path) -> None:
    wide = FeatureSpace(IDENTITY, "image", 512)
    table = FeatureStore(tmp_path).table(wide)
    for start in range(0, 8000, 500):
        table.write(contents(range(start, start + 500)), np.zeros((500, 512), np.float32), {})
    asked = contents(range(8000))
    rows = FeatureStore(tmp_path).table(wide).rows(asked)
    shard = 500 * 512 * 4
    for part, result in ((slice(None), 8000 * 512 * 4), (slice(0, 500), shard)):
        tracemalloc.start()
        rows[part]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < result + 8 * shard


def test_shuffled_slices_check_each_shard_once(table: StoredTable, monkeypatch: pytest.MonkeyPatch) -> None:
    for start in range(0, 60, 5):
        put(table, range(start, start + 5))
    checked: list[Path] = []

    def counted(path: Path) -> str:
        checked.append(path)
        return sha256_of_file(path)

    monkeypatch.setattr("cirbench.backbones.store.sha256_of_file", counted)
    order = np.random.default_rng(0).permutation(60).tolist()
    rows = table.rows(contents(order))
    found = [rows[start : start + 7] for start in range(0, 60, 7)]
    assert np.array_equal(np.concatenate(found), features(order))
    assert sorted(checked) == shards(table)


@given(rows=st.lists(st.integers(0, 11), max_size=20))
def test_rows_of_a_shard_are_read_in_any_order_and_as_often_as_asked_for(rows: list[int], tmp_path: Path) -> None:
    own = FeatureStore(tmp_path).table(space())
    if not shards(own):
        put(own, range(12))
    [shard] = shards(own)
    found = read_features(shard).read(np.array(rows, dtype=np.int32))
    assert np.array_equal(found, features(range(12))[rows])


def test_a_shard_that_ends_too_early_or_has_gone_is_damaged(table: StoredTable) -> None:
    put(table, range(12))
    [shard] = shards(table)
    stored = read_features(shard)
    shard.write_bytes(shard.read_bytes()[: stored.start + 12 * 4 * DIM - 1])
    assert np.array_equal(stored.read(np.arange(11, dtype=np.int32)), features(range(11)))
    with pytest.raises(CorruptFile, match="is damaged"):
        stored.read(np.arange(10, 12, dtype=np.int32))
    shard.unlink()
    with pytest.raises(CorruptFile, match="is damaged"):
        stored.read(np.arange(2, dtype=np.int32))


def test_the_cache_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CIRBENCH_CACHE", str(tmp_path))
    assert default_store() == FeatureStore(tmp_path / "features")
    monkeypatch.delenv("CIRBENCH_CACHE")
    assert cache_root().name == "cirbench"
    monkeypatch.setenv("CIRBENCH_CACHE", "~/elsewhere")
    assert cache_root() == Path.home() / "elsewhere"
