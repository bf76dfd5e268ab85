"""Getting a benchmark brings what is missing, verifies everything and overwrites nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from cirbench.benchmarks.circo import UNLABELED2017
from cirbench.benchmarks.files.get import LOCK, NAME, Getter, read_records
from cirbench.benchmarks.files.plan import choose, needed_images
from cirbench.benchmarks.interface import Archive, DatasetFiles, ImageSet, RemoteFile
from cirbench.errors import CheckFailed, CirbenchError, CorruptFile, MissingData
from cirbench.support.download import RetryPolicy
from tests import circo_files
from tests.benchmarks.files.server import Behaviour

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.benchmarks.files.server import Server

HASTY = RetryPolicy(attempts=2, first_wait=0.001, longest_wait=0.01, read=0.5)
VAL = json.dumps(circo_files.published_size("val")).encode()
INFO = b'{"images": []}'
REFERENCES = [str(row["reference_img_id"]) for row in json.loads(VAL)]


def needed_by_circo(images: ImageSet, root: Path) -> list[str]:
    return needed_images(images, choose("circo", "val"), root)


def zipped(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


IMAGES = zipped({f"unlabeled2017/{int(name):012d}.jpg": name.encode() for name in REFERENCES})


@pytest.fixture
def sources(server: Server) -> DatasetFiles:
    """CIRCO in small: one pinned annotation file, one archive of annotations, one of images."""
    server.files = {
        "/val.json": VAL,
        "/info.zip": zipped({"annotations/info.json": INFO, "annotations/other.json": b"{}"}),
        "/images.zip": IMAGES,
    }
    info = Archive(
        f"{server.url}/info.zip",
        "circo/info.zip",
        None,
        None,
        into="circo",
        yields="circo/annotations/info.json",
        only=("annotations/info.json",),
    )
    images = Archive(
        f"{server.url}/images.zip", "circo/images.zip", len(IMAGES), None, into="circo", yields="circo/unlabeled2017"
    )
    val = RemoteFile(f"{server.url}/val.json", "circo/annotations/val.json", len(VAL), hashlib.sha256(VAL).hexdigest())
    return DatasetFiles((val, info), (ImageSet("COCO", UNLABELED2017, 220, "free", "circo/unlabeled2017", (images,)),))


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def getter(tmp_path: Path, told: list[str]) -> Getter:
    return Getter(tmp_path, patience=HASTY, say=told.append)


def visible(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.name[0] != ".")


def test_annotations_come_verified_and_archives_are_unpacked_and_deleted(
    getter: Getter, sources: DatasetFiles, told: list[str]
) -> None:
    getter.annotations(sources)
    assert visible(getter.root) == ["circo/annotations/info.json", "circo/annotations/val.json"]
    assert told[0] == f"circo/annotations/val.json: {len(VAL)} bytes, sha256 as published."
    assert "recorded, since none was known" in told[1]
    assert told[2].endswith("1 files unpacked into " + str(getter.root / "circo") + "; the archive is deleted.")


def test_what_was_fetched_is_on_record(getter: Getter, sources: DatasetFiles, server: Server) -> None:
    getter.annotations(sources)
    files = read_records(getter.root / "circo").files
    info = files["circo/info.zip"]
    assert info.sha256 == hashlib.sha256(server.files["/info.zip"]).hexdigest()
    assert (info.url, info.unpacked) == (f"{server.url}/info.zip", 1)
    assert files["circo/annotations/val.json"].size == len(VAL)
    assert {path.name for path in (getter.root / "circo").iterdir() if path.is_file()} == {NAME, LOCK}


def test_a_second_time_nothing_is_fetched(
    getter: Getter, sources: DatasetFiles, server: Server, told: list[str]
) -> None:
    getter.annotations(sources)
    record = (getter.root / "circo" / NAME).read_bytes()
    server.requests.clear()
    told.clear()
    getter.annotations(sources)
    assert server.requests == []
    assert told == ["circo/annotations/val.json: already there."]
    assert (getter.root / "circo" / NAME).read_bytes() == record


def test_a_file_of_ones_own_is_never_overwritten(getter: Getter, sources: DatasetFiles, server: Server) -> None:
    own = getter.root / "circo" / "annotations" / "val.json"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"[]")
    with pytest.raises(CorruptFile, match=r"val\.json is not the file that was published") as caught:
        getter.annotations(sources)
    assert "Nothing is overwritten: move it away" in str(caught.value.hint)
    assert own.read_bytes() == b"[]"
    assert server.requests == []


def test_a_file_that_nobody_pinned_must_stay_as_it_was_at_first(
    getter: Getter, sources: DatasetFiles, server: Server
) -> None:
    getter.annotations(sources)
    (getter.root / "circo" / "annotations" / "info.json").unlink()
    server.files["/info.zip"] = zipped({"annotations/info.json": b"changed"})
    with pytest.raises(CorruptFile, match="is not the file that was published"):
        getter.annotations(sources)


def test_images_are_fetched_when_some_are_missing(getter: Getter, sources: DatasetFiles, told: list[str]) -> None:
    getter.annotations(sources)
    getter.images(sources, needed_by_circo)
    assert len(list((getter.root / "circo" / "unlabeled2017").iterdir())) == 220
    told.clear()
    getter.images(sources, needed_by_circo)
    assert told == ["COCO: all 220 images are there."]


def test_images_in_another_layout_need_no_download(getter: Getter, sources: DatasetFiles, server: Server) -> None:
    getter.annotations(sources)
    place = getter.root / "coco" / "images" / "unlabeled2017" / "some"
    place.mkdir(parents=True)
    for name in REFERENCES:
        (place / f"{int(name):012d}.png").write_bytes(b"")
    server.requests.clear()
    getter.images(sources, needed_by_circo)
    assert server.requests == []


def test_an_unpacked_archive_is_not_fetched_again_for_what_it_does_not_hold(
    getter: Getter, sources: DatasetFiles, server: Server, told: list[str]
) -> None:
    getter.annotations(sources)
    getter.images(sources, needed_by_circo)
    next((getter.root / "circo" / "unlabeled2017").iterdir()).unlink()
    server.requests.clear()
    getter.images(sources, needed_by_circo)
    assert server.requests == []
    assert told[-1] == (
        f"COCO: 1 images are still missing. To fetch again, delete {getter.root / 'circo' / 'unlabeled2017'}."
    )


def test_offline_lists_what_is_missing_and_where_it_is(getter: Getter, sources: DatasetFiles, server: Server) -> None:
    offline = dataclasses.replace(getter, offline=True)
    with pytest.raises(MissingData, match=r"--offline forbids to fetch them: .*val\.json, .*info\.zip") as caught:
        offline.annotations(sources)
    assert f"{server.url}/val.json" in str(caught.value.hint)
    assert server.requests == []


def test_offline_verifies_and_unpacks_what_was_copied(getter: Getter, sources: DatasetFiles, server: Server) -> None:
    (getter.root / "circo" / "annotations").mkdir(parents=True)
    (getter.root / "circo" / "annotations" / "val.json").write_bytes(VAL)
    (getter.root / "circo" / "info.zip").write_bytes(server.files["/info.zip"])
    dataclasses.replace(getter, offline=True).annotations(sources)
    assert visible(getter.root) == ["circo/annotations/info.json", "circo/annotations/val.json"]


def test_a_mirror_serves_the_same_paths_and_is_held_to_the_same_digests(
    getter: Getter, sources: DatasetFiles, server: Server
) -> None:
    server.files = {f"/copy/circo/{path}": server.files[f"/{path}"] for path in ("info.zip", "images.zip")}
    server.files["/copy/circo/annotations/val.json"] = VAL
    mirrored = dataclasses.replace(getter, mirror=f"{server.url}/copy/")
    mirrored.annotations(sources)
    assert [path for path, _ in server.requests] == ["/copy/circo/annotations/val.json", "/copy/circo/info.zip"]
    server.files["/copy/circo/annotations/val.json"] = VAL[:-1] + b" "
    (getter.root / "circo" / "annotations" / "val.json").unlink()
    with pytest.raises(CorruptFile, match="is not the file that was published"):
        mirrored.annotations(sources)


def test_an_unsafe_archive_is_refused_and_not_recorded(getter: Getter, sources: DatasetFiles, server: Server) -> None:
    server.files["/info.zip"] = zipped({"../../out": b"bad"})
    with pytest.raises(CheckFailed, match="leads out of the folder"):
        getter.annotations(sources)
    assert "circo/info.zip" not in read_records(getter.root / "circo").files


def test_the_disk_must_hold_an_archive_packed_and_unpacked(
    getter: Getter, sources: DatasetFiles, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    getter.annotations(sources)
    server.requests.clear()
    monkeypatch.setattr("shutil.disk_usage", lambda path: (0, 0, 0))
    monkeypatch.setattr("cirbench.support.download.shutil.disk_usage", lambda path: _Usage(len(IMAGES) + 10))
    with pytest.raises(CirbenchError, match=f"packed and unpacked, in .*: {2 * len(IMAGES):,} bytes are needed"):
        getter.images(sources, needed_by_circo)
    assert server.requests == []


@dataclasses.dataclass
class _Usage:
    free: int


def test_a_damaged_record_is_named(getter: Getter, sources: DatasetFiles) -> None:
    (getter.root / "circo").mkdir()
    (getter.root / "circo" / NAME).write_text("{")
    with pytest.raises(CorruptFile, match=rf"{NAME} is damaged"):
        getter.annotations(sources)


def test_a_record_of_another_version_is_named(getter: Getter, sources: DatasetFiles) -> None:
    (getter.root / "circo").mkdir()
    (getter.root / "circo" / NAME).write_text('{"schema_version": 99, "files": {}}')
    with pytest.raises(CorruptFile, match="schema version 99, not 1"):
        getter.annotations(sources)


@pytest.mark.slow
def test_two_processes_at_once_fetch_each_file_once(server: Server, sources: DatasetFiles, tmp_path: Path) -> None:
    server.script = [Behaviour(drop_after=len(VAL) // 2)]
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.files.getting",
        server.url,
        str(tmp_path),
        hashlib.sha256(VAL).hexdigest(),
    ]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert (tmp_path / "circo" / "annotations" / "val.json").read_bytes() == VAL
    assert (tmp_path / "circo" / "annotations" / "info.json").read_bytes() == INFO
    assert sum(path == "/info.zip" for path, _ in server.requests) == 1
    assert sum(path == "/val.json" for path, _ in server.requests) == 2  # one of them went on after the drop
    assert "circo/annotations/val.json" in "".join(outputs)
