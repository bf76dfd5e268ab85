"""What is kept of a file holds for as long as the file is the same, for every process, and never costs a result."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cirbench.support import memo

COUNT = """
import sys
from pathlib import Path
opened = []
sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
from cirbench.backbones.images import FileImage
images = sorted(Path(sys.argv[1]).iterdir())
contents = [FileImage(path).content for path in images]
print(len({*map(str, images)} & {*opened}), *contents)
"""
WRITE = """
import sys
from pathlib import Path
from cirbench.support import memo
for path in sorted(Path(sys.argv[1]).iterdir()):
    memo.sha256(path)
    memo.keep(path.name, [path.name], {})
"""


@pytest.fixture(autouse=True)
def own_memo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIRBENCH_CACHE", str(tmp_path / "cache"))


def settled(path: Path, content: str, seconds: int = 60) -> Path:
    """A file that was last changed some time ago."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    then = time.time_ns() - seconds * 10**9
    os.utime(path, ns=(then, then))
    return path


def another_process() -> None:
    memo._memo().flush()
    memo._open.clear()


def reads(path: Path) -> list[str]:
    """What is known of a file, and the file's text if it had to be read for that."""
    read: list[str] = []

    def find() -> str:
        read.append(path.read_text())
        return f"found in {read[-1]}"

    return [memo.fact(path, "a test", find), *read]


def test_a_file_is_read_once_by_all_processes(tmp_path: Path) -> None:
    path = settled(tmp_path / "a", "one")
    assert reads(path) == ["found in one", "one"]
    assert reads(path) == ["found in one"]
    another_process()
    assert reads(path) == ["found in one"]
    assert memo.sha256(path) == hashlib.sha256(b"one").hexdigest()


@pytest.mark.parametrize("change", ["size", "time", "inode"])
def test_a_changed_file_is_read_again(change: str, tmp_path: Path) -> None:
    path = settled(tmp_path / "a", "one")
    reads(path)
    if change == "size":
        settled(path, "four")
    elif change == "time":
        settled(path, "two", seconds=59)
    else:
        before = path.stat()
        other = settled(tmp_path / "b", "two")
        os.utime(other, ns=(before.st_mtime_ns, before.st_mtime_ns))
        other.replace(path)
    assert reads(path) == [f"found in {path.read_text()}", path.read_text()]


def test_a_file_that_has_just_changed_is_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("one")
    assert [reads(path), reads(path)] == [["found in one", "one"]] * 2


def test_by_content_every_file_is_read_and_the_memo_brought_up_to_date(tmp_path: Path) -> None:
    path = settled(tmp_path / "a", "one")
    reads(path)
    before = path.stat()
    with path.open("r+") as file:  # the change that cannot be seen from outside
        file.write("two")
    os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))
    assert reads(path) == ["found in one"]
    with memo.by_content():
        assert reads(path) == ["found in two", "two"]
    assert reads(path) == ["found in two"]


def test_a_result_is_kept_until_one_of_its_files_changes(tmp_path: Path) -> None:
    one, two = settled(tmp_path / "one", "1"), settled(tmp_path / "two", "2")
    for change in (lambda: settled(two, "3", seconds=50), two.unlink):
        files: dict[str, memo.Signature] = {}
        with memo.files_read(files):
            assert one.read_text() and two.read_text()
        memo.keep("sum", [1, {"of": 2}], files)
        another_process()
        assert memo.recall("sum") == [1, {"of": 2}]
        assert memo.recall("another") is None
        with memo.by_content():
            assert memo.recall("sum") is None
        change()
        assert memo.recall("sum") is None


def test_a_result_that_was_kept_long_ago_is_dropped_when_another_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    for key, days in (("old", 91), ("recent", 89), ("new", 0)):
        monkeypatch.setattr(time, "time", lambda days=days: now - days * 86400)
        memo.keep(key, key, {})
        another_process()
    with sqlite3.connect(tmp_path / "cache" / memo.NAME) as database:
        assert database.execute("SELECT key FROM dated_results").fetchall() == [("new",), ("recent",)]
    assert memo.recall("old") is None
    assert memo.recall("recent") == "recent"


def test_facts_of_files_that_are_gone_are_dropped_a_month_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    gone, stays = (settled(tmp_path / "folder" / name, name) for name in ("gone", "stays"))
    for path in (gone, stays):
        reads(path)
    another_process()
    gone.unlink()
    known = []
    for days in (1, 31):
        monkeypatch.setattr(time, "time", lambda days=days: now + days * 86400)
        memo.keep(f"after {days} days", "", {})
        another_process()
        with sqlite3.connect(tmp_path / "cache" / memo.NAME) as database:
            known.append(database.execute("SELECT path FROM facts ORDER BY path").fetchall())
    assert known == [[(str(gone),), (str(stays),)], [(str(stays),)]]
    assert reads(stays) == ["found in stays"]


def test_what_is_read_and_listed_is_noted_and_what_is_written_is_not(tmp_path: Path) -> None:
    read, digested = settled(tmp_path / "read", "r"), settled(tmp_path / "folder" / "digested", "d")
    memo.sha256(digested)
    files: dict[str, memo.Signature] = {}
    with memo.files_read(files):
        read.read_text()
        memo.sha256(digested)  # though it is known, and not opened
        (tmp_path / "written").write_text("w")
        assert [*(tmp_path / "folder").iterdir()]
        Path(memo.__file__).read_text()
        Path(pytest.__file__).read_text()
    read.with_name("later").write_text("l")
    read.with_name("later").read_text()
    assert {*files} == {str(read), str(digested), str(tmp_path / "folder")}


def test_a_damaged_memo_costs_time_and_nothing_else(tmp_path: Path) -> None:
    path = settled(tmp_path / "a", "one")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / memo.NAME).write_bytes(b"no database" * 1000)
    assert [reads(path), reads(path)][0] == ["found in one", "one"]
    memo.keep("key", 1, {})
    another_process()
    assert reads(path) == ["found in one", "one"]
    assert memo.recall("key") is None


@pytest.mark.slow
def test_a_second_process_on_the_same_gallery_reads_no_image(tmp_path: Path) -> None:
    folder = tmp_path / "gallery"
    expected = [hashlib.sha256(settled(folder / f"{n:03}.png", f"{n}").read_bytes()).hexdigest() for n in range(300)]
    for opened in (300, 0):
        command = [sys.executable, "-c", COUNT, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.split() == [str(opened), *expected]


@pytest.mark.slow
def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "gallery"
    paths = [settled(folder / f"{n:03}", f"{n}") for n in range(600)]
    command = [sys.executable, "-c", WRITE, str(folder)]
    writers = [subprocess.Popen(command) for _ in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    assert all(memo.recall(path.name) == [path.name] for path in paths)
    with sqlite3.connect(tmp_path / "cache" / memo.NAME) as database:
        kept = database.execute("SELECT path, value FROM facts WHERE what = 'sha256' ORDER BY path").fetchall()
    assert kept == [(str(path), hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths]
