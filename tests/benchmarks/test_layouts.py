"""A data set is found however its folder is written, linked, or laid out by its authors."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from cirbench.benchmarks import cirr, fashioniq
from cirbench.benchmarks.annotation_files import dataset_folders, find, place_of
from cirbench.benchmarks.files.check import check_protocols
from cirbench.benchmarks.images import image_files, require_images
from cirbench.errors import CheckFailed, MissingData
from tests.annotation_files import write_cirr, write_fashioniq

if TYPE_CHECKING:
    from pathlib import Path

    from cirbench.benchmarks.annotation_files import Expected
    from cirbench.protocol import EvaluationProtocol


@pytest.fixture
def counts(tmp_path: Path) -> Expected:
    """CIRR's annotations below ``root/cirr``, and no images yet."""
    return write_cirr(tmp_path / "root")


def load(root: Path, counts: Expected) -> EvaluationProtocol:
    return cirr.load("val", root, counts)


def paint(protocol: EvaluationProtocol, folder: Path) -> None:
    """Write every image of a protocol into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (files,) = image_files(protocol)
    for number, name in enumerate(files.names):
        Image.new("RGB", (8, 8), (number, 1, 2)).save(folder / f"{name}.png")


def test_images_beside_the_annotations_are_found_as_their_authors_lay_them_out(
    tmp_path: Path, counts: Expected
) -> None:
    root = tmp_path / "root"
    paint(load(root, counts), root / "dev")
    require_images(load(root, counts))


@pytest.mark.parametrize("written", ["CIRR", "Cirr", "cirr_dataset", "CIRR-dataset"])
def test_the_folder_may_be_written_otherwise(tmp_path: Path, counts: Expected, written: str) -> None:
    root = tmp_path / "root"
    digest = load(root, counts).digest
    (root / "cirr").rename(root / written)
    paint(load(root, counts), root / written / "img_raw" / "dev")
    require_images(load(root, counts))
    assert load(root, counts).digest == digest


def test_annotations_may_lie_in_a_folder_of_the_same_name_beside_the_images(tmp_path: Path, counts: Expected) -> None:
    root = tmp_path / "root"
    (root / "CIRR").mkdir()
    (root / "cirr").rename(root / "CIRR" / "cirr")
    paint(load(root, counts), root / "CIRR" / "dev")
    require_images(load(root, counts))
    assert load(root, counts).digest == load(root / "CIRR", counts).digest


def test_the_data_root_may_be_the_data_set_itself(tmp_path: Path, counts: Expected) -> None:
    whole = load(tmp_path / "root", counts)
    itself = tmp_path / "any name"
    (tmp_path / "root" / "cirr").rename(itself)
    paint(load(itself, counts), itself / "pictures")
    require_images(load(itself, counts))
    assert load(itself, counts).digest == whole.digest


def test_fashioniq_is_found_in_the_folder_that_clip4cir_expects(tmp_path: Path) -> None:
    expected = write_fashioniq(tmp_path)
    (tmp_path / "fashioniq").rename(tmp_path / "fashionIQ_dataset")
    paint(fashioniq.load("val", tmp_path, expected), tmp_path / "fashionIQ_dataset" / "images")
    require_images(fashioniq.load("val", tmp_path, expected))


def test_the_folder_of_a_data_set_may_be_a_link(tmp_path: Path, counts: Expected) -> None:
    root, store = tmp_path / "root", tmp_path / "store" / "CIRR"
    store.parent.mkdir()
    (root / "cirr").rename(store)
    (root / "cirr").symlink_to(store)
    paint(load(root, counts), store / "dev")
    require_images(load(root, counts))


def test_a_link_out_of_the_folder_of_a_data_set_is_refused(tmp_path: Path, counts: Expected) -> None:
    root = tmp_path / "root"
    shutil.move(root / "cirr" / "captions", tmp_path / "captions")
    (root / "cirr" / "captions").symlink_to(tmp_path / "captions")
    with pytest.raises(CheckFailed, match="leads out of the data root") as caught:
        load(root, counts)
    assert "The folder of a whole data set may be a link" in str(caught.value.hint)


def test_the_name_as_documented_wins_and_others_follow_in_order(tmp_path: Path) -> None:
    for name in ("CIRR", "cirr", "cirr_dataset"):
        (tmp_path / name).mkdir()
    assert dataset_folders(tmp_path, "cirr") == [tmp_path / name for name in ("cirr", "CIRR", "cirr_dataset")]
    wanted = "captions/cap.rc2.val.json"
    assert place_of(tmp_path, f"cirr/{wanted}") == tmp_path / "cirr" / wanted
    (tmp_path / "CIRR" / "captions").mkdir()
    (tmp_path / "CIRR" / wanted).write_text("[]")
    assert find(tmp_path, f"cirr/{wanted}") == tmp_path / "CIRR" / wanted


def test_what_is_missing_is_said_of_every_folder_that_may_hold_it(tmp_path: Path) -> None:
    (tmp_path / "CIRR").mkdir()
    with pytest.raises(MissingData) as caught:
        load(tmp_path, {})
    assert str(tmp_path / "CIRR" / "image_splits" / "split.rc2.val.json") in caught.value.message


@pytest.mark.parametrize("name", ["pictures", "two words", "it's"])
def test_the_link_that_a_check_prints_works_as_typed_from_any_folder(
    tmp_path: Path, counts: Expected, name: str
) -> None:
    from cirbench.benchmarks.files import check as checking

    root, elsewhere = tmp_path / "root", tmp_path / name
    paint(load(root, counts), elsewhere / "deep")
    report = check_protocols([load(root, counts)], elsewhere, root)
    assert report.elsewhere == len(image_files(load(root, counts))[0].names)
    folder = next(iter(report.elsewhere_in.values()))
    collection = image_files(load(root, counts))[0].collection
    command = checking.link_command(tmp_path / folder, collection, root)
    away = tmp_path / "away"
    away.mkdir()
    subprocess.run(command, shell=True, cwd=away, check=True)
    require_images(load(root, counts))
