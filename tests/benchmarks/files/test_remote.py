"""The pinned sources are well formed, and right where the real files can be held against them."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import pytest

from cirbench.benchmarks import datasets, protocols
from cirbench.benchmarks.files.plan import choose, dataset_files, missing_images, needed_images, plan
from cirbench.benchmarks.interface import Archive
from cirbench.errors import UnknownName
from cirbench.support.files import sha256_of_file

if TYPE_CHECKING:
    from pathlib import Path

    from cirbench.benchmarks.interface import RemoteFile

FILES = [file for each in datasets().values() for file in each.files.annotations]
PINNED = [file for file in FILES if file.sha256 is not None and not isinstance(file, Archive)]
IMAGES = [images for each in datasets().values() for images in each.files.images]
ARCHIVES = [archive for images in IMAGES for archive in images.archives]


def test_every_data_set_that_needs_files_has_its_sources() -> None:
    for entry in datasets().values():
        source = bool(entry.files.annotations or entry.files.by_hand)
        assert source == bool(entry.files.images) == (entry.needs is not None), entry.name


def test_every_protocol_finds_its_files() -> None:
    for entry in protocols().values():
        parts = dataset_files(entry.id)
        needs = datasets()[entry.dataset].needs is not None
        assert bool(parts.annotations or parts.by_hand) == bool(parts.images) == needs, entry.id


@pytest.mark.parametrize("file", [*FILES, *ARCHIVES], ids=lambda file: file.path)
def test_addresses_are_encrypted_and_annotations_pinned_to_a_commit(file: RemoteFile) -> None:
    assert file.url.startswith("https://")
    if "github" in file.url:
        assert re.fullmatch(r"https://raw\.githubusercontent\.com/[^/]+/[^/]+/[0-9a-f]{40}/.+", file.url)
    assert file.sha256 is None or re.fullmatch("[0-9a-f]{64}", file.sha256)
    assert not PurePosixPath(file.path).is_absolute()


@pytest.mark.parametrize("images", IMAGES, ids=lambda i: i.title)
def test_images_land_where_runs_look(images: object) -> None:
    from cirbench.benchmarks.interface import ImageSet

    assert isinstance(images, ImageSet)
    places = [images.folder, *(archive.yields for archive in images.archives)]
    for place in places:
        assert any(PurePosixPath(place).is_relative_to(folder) for folder in images.collection.folders), place
    assert (images.by_hand is None) == bool(images.archives)


@pytest.mark.parametrize("file", PINNED, ids=lambda file: file.path)
def test_the_pinned_digests_are_those_of_the_published_files(file: RemoteFile, annotation_root: Path) -> None:
    if not (annotation_root / file.path).exists():
        pytest.skip(f"{file.path} is not among the real annotation files")
    assert (annotation_root / file.path).stat().st_size == file.size
    assert sha256_of_file(annotation_root / file.path) == file.sha256


@pytest.mark.parametrize("name", ["cirr", "fashioniq", "imagenet-r"])
def test_the_numbers_of_images_are_those_that_the_annotations_name(name: str, annotation_root: Path) -> None:
    for images in dataset_files(name).images:
        assert len(needed_images(images, choose(name), annotation_root)) == images.count


def test_genecis_object_tasks_share_their_images(annotation_root: Path) -> None:
    tasks = [entry for entry in choose("genecis") if entry.id.endswith("-object")]
    images = dataset_files("genecis").images[0]
    assert len(needed_images(images, tasks, annotation_root)) == images.count


def test_a_part_of_a_data_set_needs_only_its_own_files() -> None:
    assert [file.path for file in dataset_files("circo", "test").annotations] == [
        "circo/annotations/test.json",
        "circo/image_info_unlabeled2017.zip",
    ]
    assert [images.title for images in dataset_files("genecis/focus-object").images] == ["COCO 2017 val"]
    assert [images.title for images in dataset_files("cirr", "test1").images] == ["NLVR2 test1"]


def test_a_plan_without_a_data_root_knows_sizes_and_counts() -> None:
    made = plan("circo", "val")
    assert made.protocols == ["circo/val", "circo/val-drop-reference", "circo/val-concept", "circo/val-circled"]
    assert made.licence == "CC BY-NC 4.0"
    assert [file.there for file in made.annotations] == [None, None]
    assert (made.images[0].count, made.images[0].found) == (123_403, None)
    assert len(made.left) == 3


def test_a_plan_for_a_data_root_says_what_is_there(annotation_root: Path) -> None:
    made = plan("cirr/val", None, annotation_root)
    assert all(file.there for file in made.annotations)
    assert (made.images[0].count, made.images[0].found) == (2297, 0)
    assert made.images[0].by_hand is not None
    assert "form" in made.images[0].by_hand
    assert made.left == []


def test_fewer_images_are_planned_for_a_protocol_that_ranks_fewer(annotation_root: Path) -> None:
    assert plan("fashioniq/val-union", None, annotation_root).images[0].count == 8582
    images = dataset_files("fashioniq").images[0]
    names = needed_images(images, choose("fashioniq/val-union"), annotation_root)
    assert missing_images(images, names, annotation_root) == names


def test_unknown_splits_of_a_protocol_are_refused() -> None:
    with pytest.raises(UnknownName, match="no split of circo/val called 'test'"):
        dataset_files("circo/val", "test")
