"""``cirbench data`` plans, gets, checks and describes, with the right exit codes."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import shutil
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from cirbench import cli
from cirbench.benchmarks import circo
from cirbench.benchmarks.interface import Archive, DatasetFiles, ImageSet, RemoteFile
from tests import circo_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.benchmarks.files.server import Server

    Shell = Callable[..., tuple[int, str, str]]

ROWS = circo_files.published_size("val")
VAL = json.dumps(ROWS).encode()


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Run ``cirbench data`` and return exit code, stdout and stderr."""
    monkeypatch.delenv("CIRBENCH_DATA", raising=False)

    def run(*arguments: object) -> tuple[int, str, str]:
        code = cli.execute(["data", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def zipped_images() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for row in ROWS:
            image = io.BytesIO()
            number = row["reference_img_id"]
            Image.new("RGB", (8, 8), (number % 256, number // 256 % 256, number // 65536)).save(image, "PNG")
            archive.writestr(f"unlabeled2017/{number:012d}.png", image.getvalue())
    return buffer.getvalue()


@pytest.fixture
def small_circo(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """CIRCO's sources on the loopback address: val.json and the images of its references."""
    images = zipped_images()
    server.files = {"/val.json": VAL, "/images.zip": images}
    archive = Archive(
        f"{server.url}/images.zip", "circo/images.zip", len(images), None, into="circo", yields="circo/unlabeled2017"
    )
    val = RemoteFile(
        f"{server.url}/val.json",
        "circo/annotations/val.json",
        len(VAL),
        hashlib.sha256(VAL).hexdigest(),
        variants=("val*",),
    )
    parts = DatasetFiles(
        (val,), (ImageSet("COCO", circo.UNLABELED2017, 220, "free", "circo/unlabeled2017", (archive,)),)
    )
    monkeypatch.setattr(circo, "BENCHMARK", dataclasses.replace(circo.BENCHMARK, files=parts))
    return server


def test_a_plan_needs_no_data_root(shell: Shell) -> None:
    code, out, _ = shell("plan", "genecis/focus-object")
    assert code == 0
    assert "annotations, licence CC BY-NC 4.0" in out
    assert "genecis/focus_object.json  2.3 MB, sha256 pinned  https://raw.githubusercontent.com/" in out
    assert "coco/val2017.zip  815.6 MB, sha256 pinned" in out
    assert out.endswith("to fetch: 817.9 MB in 2 files\nnext: cirbench data get genecis/focus-object --data-root DIR\n")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("cirr", "Ask for the NLVR2 images with the form"),
        ("fashioniq", "many are dead"),
        ("imagenet-r", "Register at https://image-net.org"),
        ("icir", "hf download billpsomas/icir"),
        ("circo", "20.1 GB, sha256 recorded at the first download"),
        ("scenes", "nothing to fetch: everything is here"),
    ],
)
def test_a_plan_says_what_must_be_asked_for_and_what_is_not_pinned(name: str, told: str, shell: Shell) -> None:
    assert told in shell("plan", name)[1]


def test_a_plan_is_json_too(shell: Shell) -> None:
    told: dict[str, Any] = json.loads(shell("plan", "cirr", "--split", "test1", "--json")[1])
    assert told["protocols"] == ["cirr/test1"]
    assert told["images"][0]["count"] == 2315


def test_a_benchmark_goes_from_nothing_to_checked(shell: Shell, small_circo: Server, tmp_path: Path) -> None:
    root = tmp_path / "data"
    code, out, err = shell("get", "circo", "--split", "val", "--data-root", root)
    assert (code, out) == (0, "")
    assert "sha256 as published" in err
    assert "220 files unpacked" in err
    assert err.endswith(f"Next: cirbench data check circo --root {root}\n")
    code, out, _ = shell("plan", "circo", "--split", "val", "--data-root", root)
    assert "220 images, 220 of them there" in out
    assert out.endswith("to fetch: 0 B in 0 files\n")
    code, out, _ = shell("check", "circo", "--split", "val", "--root", root)
    assert code == 3  # the list of the gallery is not there
    assert "images: 220 of 220 are there and whole" in out
    assert "circo/val@1: queries 220/220, gallery its list is not available" in out


def test_annotations_alone_can_be_got(shell: Shell, small_circo: Server, tmp_path: Path) -> None:
    assert shell("get", "circo", "--annotations-only", "--data-root", tmp_path)[0] == 0
    assert (tmp_path / "circo" / "annotations" / "val.json").read_bytes() == VAL
    assert [path for path, _ in small_circo.requests] == ["/val.json"]


def test_a_changed_file_fails_with_exit_code_3(shell: Shell, small_circo: Server, tmp_path: Path) -> None:
    small_circo.files["/val.json"] = VAL[:-1] + b" "
    code, _, err = shell("get", "circo", "--data-root", tmp_path)
    assert code == 3
    assert "is not the file that was published" in err


def test_offline_fails_with_exit_code_3_and_a_list(shell: Shell, small_circo: Server, tmp_path: Path) -> None:
    code, _, err = shell("get", "circo", "--offline", "--data-root", tmp_path)
    assert code == 3
    assert str(tmp_path / "circo" / "annotations" / "val.json") in err
    assert small_circo.requests == []


def test_a_mirror_is_used(shell: Shell, small_circo: Server, tmp_path: Path) -> None:
    small_circo.files = {"/mine/circo/annotations/val.json": VAL}
    options = ("--annotations-only", "--mirror", f"{small_circo.url}/mine", "--data-root", tmp_path)
    assert shell("get", "circo", *options)[0] == 0


def test_a_place_that_cannot_be_made_is_said(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, _, err = shell("get", "circo", "--data-root", tmp_path / "file" / "data")
    assert code == 1
    assert "could not be written" in err


def test_what_is_broken_is_listed_and_exits_with_3(shell: Shell, small_circo: Server, tmp_path: Path) -> None:
    shell("get", "circo", "--split", "val", "--data-root", tmp_path)
    images = sorted((tmp_path / "circo" / "unlabeled2017").iterdir())
    images[0].unlink()
    images[1].write_bytes(b"")
    images[2].write_bytes(images[2].read_bytes()[:45])
    for image in images[3:7]:
        shutil.copy(images[7], image)
    code, out, _ = shell("check", "circo/val", "--root", tmp_path)
    assert code == 3
    assert f"missing: 1: {int(images[0].stem)}\n" in out
    assert f"empty: 1: {images[1]} (it has no bytes)\n" in out
    assert f"truncated: 1: {images[2]} (" in out
    assert "suspicious: one picture under 5 ids, as placeholders are: 5: " in out
    assert "circo/val@1: queries 217/220" in out
    assert "  queries without the reference: 3: " in out
    assert f"next: cirbench data get circo/val --data-root {tmp_path}\n" in out


def test_what_was_damaged_in_place_is_found_by_verify(shell: Shell, small_circo: Server, tmp_path: Path) -> None:
    shell("get", "circo", "--split", "val", "--data-root", tmp_path)
    images = sorted((tmp_path / "circo" / "unlabeled2017").iterdir())
    for image in images:
        os.utime(image, (1e9, 1e9))
    shell("check", "circo/val", "--root", tmp_path)
    images[0].write_bytes(bytes(images[0].stat().st_size))
    os.utime(images[0], (1e9, 1e9))
    assert str(images[0]) not in shell("check", "circo/val", "--root", tmp_path)[1]
    assert f"{images[0]} (" in shell("check", "circo/val", "--root", tmp_path, "--verify")[1]


def test_a_check_is_json_too(shell: Shell, small_circo: Server, tmp_path: Path) -> None:
    shell("get", "circo", "--split", "val", "--data-root", tmp_path)
    code, out, err = shell("check", "circo/val", "--root", tmp_path, "--json")
    told: dict[str, Any] = json.loads(out)
    assert (code, err) == (3, "")
    assert (told["whole"], told["needed"], told["complete"], told["schema_version"]) == (220, 220, False, 1)
    assert told["next"]


def test_a_complete_check_exits_with_0_and_says_how_to_run(shell: Shell, tmp_path: Path) -> None:
    code, out, _ = shell("check", "scenes/tiny", "--root", tmp_path)
    assert code == 0
    assert f"next: cirbench run --method pli --dataset scenes --protocol scenes/tiny --data-root {tmp_path}\n" in out


def test_what_ships_with_cirbench_needs_no_data_root(shell: Shell) -> None:
    assert shell("check", "scenes/tiny")[0] == 0
    assert shell("describe", "scenes/tiny")[0] == 0
    assert shell("get", "scenes/tiny")[0] == 0


def test_a_data_root_is_asked_for_where_it_is_needed(shell: Shell) -> None:
    for verb in ("get", "check", "describe"):
        code, _, err = shell(verb, "circo")
        assert code == 3
        assert "Nothing says where the data sets are" in err


def test_a_root_that_is_no_folder_is_said(shell: Shell, tmp_path: Path) -> None:
    code, _, err = shell("check", "circo", "--root", tmp_path / "nowhere")
    assert code == 3
    assert "nowhere is not a folder" in err


def test_annotations_are_described(shell: Shell, tmp_path: Path) -> None:
    circo_files.write(tmp_path, ROWS, None)
    code, out, err = shell("describe", "circo", "--data-root", tmp_path)
    assert code == 0
    assert "circo/val@1\n  queries            220\n" in out
    assert "  ground truths      916 in all, mean 4.164, " in out
    assert "  aspect             negation: 21 queries" in out
    assert "circo/test is left out: A file of the data set is missing" in err


def test_a_description_is_json_too(shell: Shell, tmp_path: Path) -> None:
    told: list[dict[str, Any]] = json.loads(shell("describe", "scenes/tiny", "--data-root", tmp_path, "--json")[1])
    assert [each["protocol"] for each in told] == ["scenes/tiny@" + told[0]["protocol"].partition("@")[2]]
    assert told[0]["queries"] == 60


def test_an_unknown_name_exits_with_2(shell: Shell, tmp_path: Path) -> None:
    code, _, err = shell("plan", "fashionqi")
    assert code == 2
    assert "Nearest: fashioniq" in err
