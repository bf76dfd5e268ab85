"""Downloads survive what networks do to them, and never place a file that is not whole and right."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import random
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from cirbench.errors import CirbenchError, CorruptFile, MissingData
from cirbench.support.download import Fetched, RetryPolicy, fetch
from tests.benchmarks.files.server import Behaviour, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.benchmarks.files.server import Server

CONTENT = random.Random(0).randbytes(1_500_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HASTY = RetryPolicy(attempts=4, first_wait=0.001, longest_wait=0.01, read=0.3)


@pytest.fixture
def url(server: Server) -> str:
    server.files["/data/file.zip"] = CONTENT
    return f"{server.url}/data/file.zip"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "place" / "file.zip"


def hidden(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir() if path != target)


def test_a_file_arrives_whole_with_its_digest_and_leaves_nothing_beside_it(url: str, target: Path) -> None:
    assert fetch(url, target, size=len(CONTENT), sha256=SHA256) == Fetched(len(CONTENT), SHA256, 0)
    assert target.read_bytes() == CONTENT
    assert hidden(target) == []


def test_the_digest_of_an_unknown_file_is_told(url: str, target: Path) -> None:
    assert fetch(url, target).sha256 == SHA256


def test_an_empty_file_arrives_empty(server: Server, target: Path) -> None:
    server.files["/empty"] = b""
    assert fetch(f"{server.url}/empty", target, size=0) == Fetched(0, hashlib.sha256(b"").hexdigest(), 0)
    assert target.read_bytes() == b""


def test_a_dropped_connection_is_resumed_where_it_broke_off(server: Server, url: str, target: Path) -> None:
    server.script = [Behaviour(drop_after=600_000), Behaviour(drop_after=500_000)]
    told: list[str] = []
    fetch(url, target, sha256=SHA256, patience=HASTY, say=told.append)
    assert target.read_bytes() == CONTENT
    assert server.ranges[0] is None
    starts = [int(part.removeprefix("bytes=").removesuffix("-")) for part in server.ranges[1:] if part]
    assert len(starts) == 2
    assert 0 < starts[0] <= 600_000 < starts[1] <= 1_100_000
    assert all("file.zip: the connection broke off; trying again in 0 s." in line for line in told)


def test_a_server_that_ignores_ranges_is_read_again_from_the_start(server: Server, url: str, target: Path) -> None:
    server.script = [Behaviour(drop_after=700_000), Behaviour(ignore_range=True)]
    fetch(url, target, sha256=SHA256, patience=HASTY)
    assert target.read_bytes() == CONTENT
    assert server.ranges[1] is not None


def test_a_server_that_sends_another_part_than_asked_is_not_believed(server: Server, url: str, target: Path) -> None:
    server.script = [Behaviour(drop_after=700_000), Behaviour(wrong_range=5)]
    fetch(url, target, sha256=SHA256, patience=HASTY)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_passing_trouble_of_the_server_is_waited_for(status: int, server: Server, url: str, target: Path) -> None:
    server.script = [Behaviour(status=status), Behaviour(status=status)]
    told: list[str] = []
    fetch(url, target, patience=HASTY, say=told.append)
    assert target.read_bytes() == CONTENT
    assert len(told) == 2
    assert f"the server answers {status}" in told[0]


def test_a_server_is_given_the_time_it_asks_for(server: Server, url: str, target: Path) -> None:
    server.script = [Behaviour(status=429, headers=(("Retry-After", "7"),))]
    told: list[str] = []
    fetch(url, target, patience=RetryPolicy(longest_wait=0.2), say=told.append)
    assert RetryPolicy().wait(1, asked=7.0) == 7.0
    server.script = [Behaviour(status=503, headers=(("Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT"),))]
    fetch(url, target.with_name("other"), patience=HASTY, say=told.append)
    assert len(told) == 2


def test_waits_double_and_stay_bounded() -> None:
    waits = [RetryPolicy().wait(fruitless) for fruitless in range(9)]
    assert waits == [1, 1, 2, 4, 8, 16, 32, 60, 60]


def test_trouble_without_end_is_given_up_and_the_beginning_kept(server: Server, url: str, target: Path) -> None:
    server.script = [Behaviour(drop_after=300_000), *[Behaviour(status=500)] * 4]
    with pytest.raises(MissingData, match=r"cannot be fetched: the server answers 500 .*, 4 times in a row") as caught:
        fetch(url, target, sha256=SHA256, patience=HASTY)
    assert "is kept: run the same command again to resume" in str(caught.value.hint)
    assert not target.exists()
    fetched = fetch(url, target, sha256=SHA256, patience=HASTY)
    assert fetched.resumed_at > 0
    assert target.read_bytes() == CONTENT


def test_a_slow_but_steady_server_is_never_given_up(server: Server, url: str, target: Path) -> None:
    server.script = [Behaviour(drop_after=100_000)] * 12
    fetch(url, target, sha256=SHA256, patience=HASTY)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_file_that_is_not_there_is_said_at_once(status: int, server: Server, url: str, target: Path) -> None:
    server.script = [Behaviour(status=status)]
    with pytest.raises(MissingData, match=f"the server answers {status}") as caught:
        fetch(url, target, patience=HASTY)
    assert f"Fetch it by other means, put it at {target}" in str(caught.value.hint)
    assert len(server.requests) == 1
    assert list(target.parent.iterdir()) == []


def test_a_stalled_connection_times_out_and_is_resumed(server: Server, url: str, target: Path) -> None:
    server.script = [Behaviour(stall_after=600_000)]
    told: list[str] = []
    fetch(url, target, sha256=SHA256, patience=HASTY, say=told.append)
    assert target.read_bytes() == CONTENT
    assert "the connection stalled" in told[0]


def test_a_server_that_is_not_there_is_named(target: Path) -> None:
    with serving() as gone:
        url = f"{gone.url}/file"
    with pytest.raises(MissingData, match=r"the connection failed \(.*refused.*\), 4 times in a row"):
        fetch(url, target, patience=HASTY)


def test_wrong_bytes_are_never_placed(server: Server, url: str, target: Path) -> None:
    server.script = [Behaviour(content=CONTENT[:-1] + b"!")]
    with pytest.raises(CorruptFile, match=f"not {len(CONTENT)} bytes with sha256 {SHA256}"):
        fetch(url, target, size=len(CONTENT), sha256=SHA256, patience=HASTY)
    assert list(target.parent.iterdir()) == [] or not target.exists()
    fetch(url, target, size=len(CONTENT), sha256=SHA256, patience=HASTY)
    assert target.read_bytes() == CONTENT


def test_a_file_of_another_size_is_refused_before_it_is_read(server: Server, url: str, target: Path) -> None:
    with pytest.raises(CorruptFile, match="it offers 1500000 bytes, and 17 were published"):
        fetch(url, target, size=17, patience=HASTY)
    assert len(server.requests) == 1


def test_a_damaged_beginning_is_thrown_away_and_everything_fetched_again(
    server: Server, url: str, target: Path
) -> None:
    target.parent.mkdir()
    target.with_name(".file.zip.part").write_bytes(b"x" * 1000)
    told: list[str] = []
    assert fetch(url, target, sha256=SHA256, patience=HASTY, say=told.append).resumed_at == 0
    assert target.read_bytes() == CONTENT
    assert told == ["What an earlier download had left of file.zip does not fit; starting again."]


def test_a_beginning_longer_than_the_file_is_thrown_away(server: Server, url: str, target: Path) -> None:
    target.parent.mkdir()
    target.with_name(".file.zip.part").write_bytes(CONTENT + b"more")
    fetch(url, target, sha256=SHA256, patience=HASTY)
    assert target.read_bytes() == CONTENT


def test_a_file_that_changed_on_the_server_is_not_glued_to_its_old_beginning(
    server: Server, url: str, target: Path
) -> None:
    server.etags["/data/file.zip"] = '"one"'
    server.script = [Behaviour(drop_after=600_000), *[Behaviour(status=500)] * 4]
    with pytest.raises(MissingData):
        fetch(url, target, patience=HASTY)
    changed = random.Random(1).randbytes(1_200_000)
    server.files["/data/file.zip"], server.etags["/data/file.zip"] = changed, '"two"'
    fetch(url, target, patience=HASTY)
    assert target.read_bytes() == changed
    assert server.requests[-1][1]["If-Range"] == '"one"'


def test_an_unchanged_file_without_known_digest_is_resumed(server: Server, url: str, target: Path) -> None:
    server.etags["/data/file.zip"] = '"one"'
    server.script = [Behaviour(drop_after=600_000), *[Behaviour(status=500)] * 4]
    with pytest.raises(MissingData):
        fetch(url, target, patience=HASTY)
    assert fetch(url, target, patience=HASTY).resumed_at > 0
    assert target.read_bytes() == CONTENT


CHANGED = random.Random(1).randbytes(1_200_000)


def begun(server: Server, url: str, target: Path) -> None:
    """Leave the beginning of the file behind, and change it on the server."""
    server.etags["/data/file.zip"] = '"one"'
    server.script = [Behaviour(drop_after=600_000), *[Behaviour(status=500)] * 4]
    with pytest.raises(MissingData):
        fetch(url, target, patience=HASTY)
    server.files["/data/file.zip"] = CHANGED


def test_another_validator_starts_again_from_zero_though_the_server_sends_the_rest(
    server: Server, url: str, target: Path
) -> None:
    begun(server, url, target)
    server.etags["/data/file.zip"] = '"two"'
    server.script = [Behaviour(ignore_condition=True)]
    said: list[str] = []
    assert fetch(url, target, patience=HASTY, say=said.append).resumed_at == 0
    assert target.read_bytes() == CHANGED
    assert "the file has changed on the server since it was begun" in said[0]


def test_another_total_starts_again_from_zero(server: Server, url: str, target: Path) -> None:
    begun(server, url, target)
    said: list[str] = []
    assert fetch(url, target, patience=HASTY, say=said.append).resumed_at == 0
    assert target.read_bytes() == CHANGED
    assert "the file has 1,200,000 bytes on the server now, and had 1,500,000" in said[0]


def test_another_total_within_one_download_starts_again_from_zero(server: Server, url: str, target: Path) -> None:
    server.script = [Behaviour(content=CHANGED, drop_after=600_000)]
    fetch(url, target, patience=HASTY)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("digest", [None, SHA256])
@pytest.mark.parametrize("length", ["", "abc", "-5", "1.5", "0x10", "\u0661"])
def test_a_length_that_is_not_a_number_is_refused_and_said(
    length: str, digest: str | None, server: Server, url: str, target: Path
) -> None:
    server.script = [Behaviour(length=length.encode().decode("latin-1"))]
    with pytest.raises(CorruptFile, match=r"its Content-Length is '.*', not a number of bytes"):
        fetch(url, target, sha256=digest, patience=HASTY)
    assert not target.exists()


@pytest.mark.parametrize(
    "stated", ["", "abc", "bytes 5", "bytes a-b/c", "items 600000-1499999/1500000", "bytes */1500000"]
)
def test_a_range_that_cannot_be_read_is_refused_and_said(stated: str, server: Server, url: str, target: Path) -> None:
    server.etags["/data/file.zip"] = '"one"'
    server.script = [Behaviour(drop_after=600_000), Behaviour(range=stated)]
    with pytest.raises(CorruptFile, match=r"its Content-Range is '.*', not a range of bytes"):
        fetch(url, target, patience=HASTY)
    assert not target.exists()


def test_a_part_that_ends_before_the_file_does_is_not_the_file(server: Server, url: str, target: Path) -> None:
    server.etags["/data/file.zip"] = '"one"'
    server.script = [Behaviour(drop_after=600_000), Behaviour(stop_after=1000), Behaviour(stop_after=0)]
    fetch(url, target, patience=HASTY)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"<!DOCTYPE html><title>Sign in</title>", "it sent a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n", "it sent a pointer of git-lfs"),
    ],
)
@pytest.mark.parametrize("digest", [None, SHA256])
def test_what_is_sent_in_place_of_the_file_is_told_by_its_content(
    content: bytes, told: str, digest: str | None, server: Server, url: str, target: Path
) -> None:
    server.script = [Behaviour(content=content)]
    with pytest.raises(CorruptFile, match=told):
        fetch(url, target, sha256=digest, patience=HASTY)
    assert not target.exists()
    assert hidden(target) == []


def test_a_length_that_nobody_states_is_said_where_no_digest_would_notice_a_loss(
    server: Server, url: str, target: Path
) -> None:
    said: list[str] = []
    for digest in (None, SHA256):
        server.script = [Behaviour(no_length=True)]
        fetch(url, target.with_suffix(f".{digest}"), sha256=digest, patience=HASTY, say=said.append)
    assert len(said) == 1
    assert "does not say how long it is" in said[0]


def test_without_digest_and_validator_nothing_is_resumed(server: Server, url: str, target: Path) -> None:
    target.parent.mkdir()
    target.with_name(".file.zip.part").write_bytes(b"old")
    assert fetch(url, target, patience=HASTY).resumed_at == 0
    assert server.ranges == [None]


def test_redirects_are_followed(server: Server, url: str, target: Path) -> None:
    server.files["/old"] = b""
    server.script = [
        Behaviour(status=302, headers=(("Location", "/older"),)),
        Behaviour(status=301, headers=(("Location", "/data/file.zip"),)),
    ]
    fetch(f"{server.url}/old", target, patience=HASTY)
    assert target.read_bytes() == CONTENT


def test_redirects_in_a_circle_end(server: Server, url: str, target: Path) -> None:
    server.script = [Behaviour(status=302, headers=(("Location", "/data/file.zip"),))] * 40
    with pytest.raises(MissingData, match="redirects"):
        fetch(url, target, patience=HASTY)


def test_a_login_page_is_not_taken_for_the_file(server: Server, url: str, target: Path) -> None:
    server.script = [Behaviour(content=b"<html>Sign in</html>", type="text/html; charset=utf-8")]
    with pytest.raises(CorruptFile, match="a web page, as login pages of networks do"):
        fetch(url, target, patience=HASTY)


def test_a_file_of_unknown_length_arrives(server: Server, url: str, target: Path) -> None:
    server.script = [Behaviour(no_length=True)]
    fetch(url, target, patience=HASTY)
    assert target.read_bytes() == CONTENT


def test_a_file_of_unknown_length_that_breaks_off_is_caught_by_its_digest(
    server: Server, url: str, target: Path
) -> None:
    server.script = [Behaviour(no_length=True, drop_after=1000)]
    with pytest.raises(CorruptFile, match="it sent 1000 bytes"):
        fetch(url, target, sha256=SHA256, patience=HASTY)
    assert not target.exists()


def test_an_address_that_is_none_is_refused(target: Path) -> None:
    with pytest.raises(MissingData, match="cannot be fetched"):
        fetch("no-address", target, patience=HASTY)


def test_a_full_disk_is_seen_before_anything_is_written(
    url: str, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(
        CirbenchError, match=r"not enough space for file.zip in .*: 1,500,000 bytes are needed, 1,000 are free"
    ):
        fetch(url, target, patience=HASTY)
    assert list(target.parent.iterdir()) == []


def test_a_place_without_permission_is_said(url: str, tmp_path: Path) -> None:
    place = Path("/sys") if os.geteuid() == 0 else tmp_path  # root may write anywhere but into a kernel
    tmp_path.chmod(0o500)
    with pytest.raises(CirbenchError, match="No permission to write"):
        fetch(url, place / "folder" / "file", patience=HASTY)


def test_an_encrypted_address_that_leads_to_an_open_one_is_refused(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    response = requests.Response()
    response.status_code, response.url, response.raw = 200, "http://elsewhere/file", io.BytesIO()
    monkeypatch.setattr(requests.Session, "get", lambda *arguments, **options: response)
    with pytest.raises(CorruptFile, match="it leads to http://elsewhere/file, which is not encrypted"):
        fetch("https://here/file", target, patience=HASTY)


def test_a_file_where_a_folder_should_be_is_said(url: str, tmp_path: Path) -> None:
    (tmp_path / "place").write_text("in the way")
    with pytest.raises(CirbenchError, match="could not be written"):
        fetch(url, tmp_path / "place" / "file", patience=HASTY)


@pytest.mark.slow
def test_a_killed_download_leaves_no_file_and_is_resumed(server: Server, url: str, target: Path) -> None:
    server.script = [Behaviour(stall_after=800_000)]
    process = subprocess.Popen([sys.executable, "-m", "tests.benchmarks.files.fetching", url, str(target), SHA256])
    part = target.with_name(".file.zip.part")
    deadline = time.monotonic() + 300
    while not (part.exists() and part.stat().st_size >= 500_000):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not target.exists()
    assert fetch(url, target, sha256=SHA256, patience=HASTY).resumed_at >= 500_000
    assert target.read_bytes() == CONTENT


def test_progress_counts_the_bytes_that_are_left(server: Server, url: str, target: Path) -> None:
    shown: list[tuple[str, int, str]] = []
    advanced: list[int] = []

    @contextlib.contextmanager
    def display(description: str, total: int, *, unit: str = "") -> Iterator[Callable[[int], None]]:
        shown.append((description, total, unit))
        yield advanced.append

    server.script = [Behaviour(drop_after=500_000)]
    fetch(url, target, sha256=SHA256, patience=HASTY, display=display)
    left = shown[1][1]
    assert shown == [("file.zip", len(CONTENT), "B"), ("file.zip", left, "B")]
    assert left < len(CONTENT)
    assert sum(advanced) == len(CONTENT)


troubles = st.one_of(
    st.builds(Behaviour, drop_after=st.integers(0, 60_000)),
    st.builds(Behaviour, status=st.sampled_from([429, 500, 503])),
    st.builds(Behaviour, ignore_range=st.just(True), drop_after=st.integers(0, 60_000)),
    st.builds(Behaviour, wrong_range=st.integers(1, 9)),
)


@settings(max_examples=30)
@given(script=st.lists(troubles, max_size=4), known=st.booleans())
def test_whatever_happens_on_the_way_the_file_is_right(
    script: list[Behaviour], known: bool, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = CONTENT[:60_000]
    server.files["/some"], server.script = content, list(script)
    target = tmp_path_factory.mktemp("some") / "file"
    sha256 = hashlib.sha256(content).hexdigest() if known else None
    fetch(f"{server.url}/some", target, sha256=sha256, patience=RetryPolicy(attempts=9, first_wait=0.001, read=2))
    assert target.read_bytes() == content
