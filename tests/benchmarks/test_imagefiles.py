"""Images are found by name, under any layout and suffix, always the same one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from PIL import Image

from cirbench.benchmarks import circo
from cirbench.benchmarks.cirr import NLVR2, load
from cirbench.benchmarks.images import ImageFiles, find_images, image_files, require_images
from cirbench.errors import MissingData
from tests import circo_files
from tests.annotation_files import write_cirr

if TYPE_CHECKING:
    from pathlib import Path


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("B0084Y8XIU", "B0084Y8XIU.jpg"),
        ("B0084Y8XIU", "images/B0084Y8XIU.PNG"),
        ("train-1008-3-img0", "images/train/34/train-1008-3-img0.png"),
        ("dev-244-0-img0", "dev/dev-244-0-img0.png"),
        ("285", "unlabeled2017/000000000285.jpg"),
        ("285", "285.jpeg"),
        ("000000000285", "000000000285.jpg"),
        ("n04086273/toy_3", "imgnet/imagenet-r/n04086273/toy_3.jpg"),
        ("ILSVRC2012_val_00015728", "val/n04086273/ILSVRC2012_val_00015728.JPEG"),
    ],
)
def test_an_image_is_found_in_every_layout_in_use(tmp_path: Path, name: str, file: str) -> None:
    touch(tmp_path, file, "other.jpg")
    assert find_images([name], [tmp_path]) == {name: tmp_path / file}


@pytest.mark.parametrize(
    "file",
    [
        "B0084Y8XI.jpg",
        "B0084Y8XIU.jpg.part",
        "B0084Y8XIU",
        "B0084Y8XIU.txt",
        ".hidden/B0084Y8XIU.jpg",
        "__MACOSX/._B0084Y8XIU.jpg",
    ],
)
def test_what_is_not_the_image_is_not_taken_for_it(tmp_path: Path, file: str) -> None:
    touch(tmp_path, file)
    assert find_images(["B0084Y8XIU"], [tmp_path]) == {}


def test_a_name_with_a_folder_is_not_found_in_another_folder(tmp_path: Path) -> None:
    touch(tmp_path, "n01/toy_3.jpg", "xn02/toy_3.jpg")
    assert find_images(["n02/toy_3", "n01/toy_3"], [tmp_path]) == {"n01/toy_3": tmp_path / "n01/toy_3.jpg"}


def test_of_several_files_the_choice_is_by_root_then_suffix_then_depth_then_name(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    files = ["b/a.jpg", "c/a.jpg", "c/d/a.jpg", "a.png"]
    touch(first, *files)
    touch(second, "a.jpg")
    left = [first / name for name in files] + [second / "a.jpg"]
    while left:
        assert find_images(["a"], [first, second, tmp_path / "absent"]) == {"a": left[0]}
        left.pop(0).unlink()
    assert find_images(["a"], [first, second]) == {}


def test_links_to_folders_are_followed_and_circles_end(tmp_path: Path) -> None:
    touch(tmp_path / "disk", "deep/a.jpg")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "images").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "deep" / "circle").symlink_to(tmp_path / "disk")
    assert find_images(["a"], [tmp_path / "data"]) == {"a": tmp_path / "data/images/deep/a.jpg"}


def test_names_are_returned_in_the_order_in_which_they_were_asked(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{number}.jpg" for number in range(20)))
    names = [str(number) for number in reversed(range(20))]
    assert list(find_images([*names, "0"], [tmp_path])) == names


def test_an_image_is_opened_and_known_by_the_content_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "cirr").mkdir()
    Image.new("L", (3, 2), 7).save(tmp_path / "cirr" / "dev-1.png")
    (tmp_path / "cirr" / "copy.png").write_bytes((tmp_path / "cirr" / "dev-1.png").read_bytes())
    files = ImageFiles(NLVR2, ("dev-1", "copy"), tmp_path, "cirbench data check cirr")
    assert (files["dev-1"].open().mode, files["dev-1"].open().size) == ("L", (3, 2))
    assert files["dev-1"].content == files["copy"].content
    assert str(files["dev-1"]) == "cirr image dev-1"


def test_a_protocol_without_all_its_images_is_refused_with_the_ids_and_the_next_command(tmp_path: Path) -> None:
    protocol = load("val", tmp_path, write_cirr(tmp_path))
    (files,) = image_files(protocol)
    assert protocol.gallery is not None
    ids = protocol.gallery.ids
    assert files.names == ids
    touch(tmp_path / "cirr", *(f"dev/{name}.png" for name in ids if name != ids[4]))
    with pytest.raises(MissingData, match=f"1 of 30 cirr images are missing: {ids[4]}. Looked in .*/cirr, ") as caught:
        require_images(protocol)
    assert f"`cirbench data check cirr --root {tmp_path}`" in str(caught.value.hint)
    touch(tmp_path / "nlvr2", f"{ids[4]}.jpg")
    require_images(load("val", tmp_path, write_cirr(tmp_path)))


def test_a_protocol_without_the_list_of_its_gallery_is_refused(tmp_path: Path) -> None:
    rows, images = circo_files.labelled_rows()
    circo_files.write(tmp_path, rows, None)
    with pytest.raises(MissingData, match="The list of the images that circo/val@1 ranks is not available") as caught:
        require_images(circo.load("val", tmp_path, circo_files.expected(rows, len(images))))
    assert "cirbench data get circo" in str(caught.value.hint)
