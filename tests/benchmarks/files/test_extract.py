"""Archives are unpacked whole and inside, or not at all."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cirbench.benchmarks.files.get import Limits, extract
from cirbench.errors import CheckFailed, CirbenchError, CorruptFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Writer = Callable[[Path, Mapping[str, bytes]], Path]


def write_zip(folder: Path, files: Mapping[str, bytes]) -> Path:
    path = folder / "archive.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_tar(folder: Path, files: Mapping[str, bytes], mode: str = "w") -> Path:
    path = folder / "archive.tar"
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def write_tar_gz(folder: Path, files: Mapping[str, bytes]) -> Path:
    return write_tar(folder, files, "w:gz")


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


every_kind = pytest.mark.parametrize("write", [write_zip, write_tar, write_tar_gz])


@every_kind
def test_files_come_out_where_the_archive_says(write: Writer, tmp_path: Path) -> None:
    files = {"images/1.jpg": b"one", "images/deep/er/2.jpg": b"two", "readme": b""}
    target = tmp_path / "target"
    assert extract(write(tmp_path, files), target) == 3
    assert tree(target) == files


@every_kind
def test_files_join_a_folder_that_is_there(write: Writer, tmp_path: Path) -> None:
    (tmp_path / "target" / "annotations").mkdir(parents=True)
    (tmp_path / "target" / "annotations" / "val.json").write_bytes(b"mine")
    extract(write(tmp_path, {"annotations/info.json": b"new"}), tmp_path / "target")
    assert tree(tmp_path / "target") == {"annotations/info.json": b"new", "annotations/val.json": b"mine"}


@every_kind
def test_only_what_is_wanted_comes_out(write: Writer, tmp_path: Path) -> None:
    archive = write(tmp_path, {"a/train.json": b"train", "a/val.json": b"val"})
    assert extract(archive, tmp_path / "target", only=["a/val.json"]) == 1
    assert tree(tmp_path / "target") == {"a/val.json": b"val"}
    with pytest.raises(CorruptFile, match=r"does not hold a/test.json"):
        extract(archive, tmp_path / "other", only=["a/test.json"])


@every_kind
@pytest.mark.parametrize("name", ["../out", "a/../../out", "/etc/out", "a/..", "c:\\out", "..\\out", "C:/out"])
def test_a_path_that_leads_out_refuses_the_whole_archive(write: Writer, name: str, tmp_path: Path) -> None:
    archive = write(tmp_path, {"good": b"good", name: b"bad"})
    with pytest.raises(CheckFailed, match=r"leads out of the folder\. Nothing of it was unpacked"):
        extract(archive, tmp_path / "target")
    assert tree(tmp_path / "target") == {}
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a device"),
    ],
)
def test_links_and_devices_in_a_tar_are_refused(kind: bytes, what: str, tmp_path: Path) -> None:
    path = tmp_path / "archive.tar"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("odd")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
        good = tarfile.TarInfo("odd/inside")
        archive.addfile(good, io.BytesIO())
    with pytest.raises(CheckFailed, match=f"'odd' is {what}"):
        extract(path, tmp_path / "target")
    assert tree(tmp_path / "target") == {}


@pytest.mark.parametrize(("kind", "what"), [(stat.S_IFLNK, "a link"), (stat.S_IFIFO, "a device")])
def test_links_and_devices_in_a_zip_are_refused(kind: int, what: str, tmp_path: Path) -> None:
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("odd")
        info.create_system, info.external_attr = 3, (kind | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(CheckFailed, match=f"'odd' is {what}"):
        extract(path, tmp_path / "target")


def test_a_folder_that_is_a_link_to_elsewhere_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "images").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckFailed, match="is a link that leads out of the folder"):
        extract(write_zip(tmp_path, {"images/1.jpg": b"one"}), tmp_path / "target")
    assert tree(tmp_path / "elsewhere") == {}


@every_kind
def test_a_bomb_is_refused_by_its_ratio(write: Writer, tmp_path: Path) -> None:
    archive = write(tmp_path, {f"{nth}": bytes(1 << 20) for nth in range(4)})
    with pytest.raises(CheckFailed, match=r"would unpack to more than 2000000 bytes, as bombs do"):
        extract(archive, tmp_path / "target", limits=Limits(ratio=1, floor=2_000_000, total=2_000_000))
    assert tree(tmp_path / "target") == {}


def test_a_bomb_that_lies_about_its_size_gets_no_further_than_it_says(tmp_path: Path) -> None:
    archive = write_zip(tmp_path, {"bomb": bytes(1 << 22)})
    content = archive.read_bytes()
    lie = content.replace((1 << 22).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    assert lie != content
    archive.write_bytes(lie)
    with pytest.raises(CorruptFile, match="is damaged"):
        extract(archive, tmp_path / "target", limits=Limits(floor=1000, ratio=1))
    assert tree(tmp_path / "target") == {}


@every_kind
def test_too_many_members_are_refused(write: Writer, tmp_path: Path) -> None:
    archive = write(tmp_path, {f"{nth}": b"" for nth in range(20)})
    with pytest.raises(CheckFailed, match="more than 10 members"):
        extract(archive, tmp_path / "target", limits=Limits(members=10))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/b", "one")
        archive.writestr("a//b", "two")
    with pytest.raises(CheckFailed, match="holds 'a//b' twice"):
        extract(path, tmp_path / "target")


@every_kind
def test_a_truncated_archive_is_damaged(write: Writer, tmp_path: Path) -> None:
    archive = write(tmp_path, {"a": os.urandom(5000), "b": os.urandom(5000)})
    archive.write_bytes(archive.read_bytes()[:4000])
    with pytest.raises(CorruptFile, match="is damaged"):
        extract(archive, tmp_path / "target")
    assert tree(tmp_path / "target") == {}


def test_flipped_bytes_in_a_zip_are_damage(tmp_path: Path) -> None:
    archive = write_zip(tmp_path, {"a": b"some content that is long enough" * 20})
    content = bytearray(archive.read_bytes())
    content[40] ^= 255
    archive.write_bytes(content)
    with pytest.raises(CorruptFile, match="is damaged"):
        extract(archive, tmp_path / "target")


def test_an_archive_that_is_gone_is_said(tmp_path: Path) -> None:
    with pytest.raises(CirbenchError):
        extract(tmp_path / "gone.zip", tmp_path / "target")


@every_kind
def test_what_an_interrupted_extraction_left_is_cleared(write: Writer, tmp_path: Path) -> None:
    archive = write(tmp_path, {"images/1.jpg": b"one"})
    left = tmp_path / "target" / f".{archive.name}.unpacking" / "images"
    left.mkdir(parents=True)
    (left / "half.jpg").write_bytes(b"ha")
    extract(archive, tmp_path / "target")
    assert tree(tmp_path / "target") == {"images/1.jpg": b"one"}


def test_files_get_ordinary_permissions(tmp_path: Path) -> None:
    path = tmp_path / "archive.tar"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("program")
        info.mode = 0o6777
        archive.addfile(info, io.BytesIO())
    extract(path, tmp_path / "target")
    assert (tmp_path / "target" / "program").stat().st_mode & 0o7111 == 0


@pytest.mark.slow
@settings(max_examples=60)
@given(
    names=st.lists(st.text(st.sampled_from("ab./\\ "), min_size=1, max_size=8), min_size=1, max_size=4, unique=True),
    tar=st.booleans(),
)
def test_no_name_whatsoever_leads_out(names: list[str], tar: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("names")
    archive = (write_tar if tar else write_zip)(folder, dict.fromkeys(names, b"content"))
    before = {archive}
    target = folder / "target"
    try:
        extract(archive, target)
    except CirbenchError:
        assert tree(target) == {}
    assert {path for path in folder.rglob("*") if not path.is_relative_to(target)} == before


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n", "is a pointer of git-lfs"),
        (b"<!DOCTYPE html><title>Sign in</title>", "is a web page"),
        (b"words", "is damaged"),
    ],
)
def test_what_is_not_an_archive_is_told_by_what_it_is(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(CorruptFile, match=rf"The archive .*a\.zip {told}"):
        extract(tmp_path / "a.zip", tmp_path / "target")
