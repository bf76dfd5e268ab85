"""Files of a data set are found below the data root, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cirbench.benchmarks.annotation_files import VARIABLE, data_root, find, locate
from cirbench.errors import CheckFailed, MissingData

if TYPE_CHECKING:
    from pathlib import Path


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    return path


def test_the_option_wins_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named, given = tmp_path / "named", tmp_path / "given"
    named.mkdir()
    given.mkdir()
    monkeypatch.setenv(VARIABLE, str(named))
    assert data_root() == named
    assert data_root(given) == given


@pytest.mark.parametrize("value", [None, ""])
def test_an_unset_data_root_says_what_to_set(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(MissingData, match="Nothing says where the data sets are") as caught:
        data_root()
    assert "--data-root DIR, or set CIRBENCH_DATA" in str(caught.value)


def test_a_data_root_that_is_no_folder_names_where_it_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MissingData, match=r"from --data-root\) is not a folder"):
        data_root(tmp_path / "absent")
    monkeypatch.setenv(VARIABLE, str(touch(tmp_path / "file")))
    with pytest.raises(MissingData, match=r"file \(from CIRBENCH_DATA\) is not a folder"):
        data_root()


def test_the_first_candidate_that_exists_is_taken(tmp_path: Path) -> None:
    second = touch(tmp_path / "b" / "file.json")
    assert find(tmp_path, "a/file.json", "b/file.json") == second
    first = touch(tmp_path / "a" / "file.json")
    assert locate(tmp_path, "a/file.json", "b/file.json") == first


def test_a_missing_file_names_every_path_that_was_tried(tmp_path: Path) -> None:
    assert find(tmp_path, "a.json") is None
    with pytest.raises(MissingData) as caught:
        locate(tmp_path, "a.json", "b/a.json")
    assert str(tmp_path / "a.json") in str(caught.value)
    assert str(tmp_path / "b" / "a.json") in str(caught.value)
    assert "point --data-root or CIRBENCH_DATA elsewhere" in str(caught.value)


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    assert find(tmp_path, "a.json") is None


@pytest.mark.parametrize("kind", ["dots", "absolute", "link to a file", "link to a folder"])
def test_a_path_that_leaves_the_data_root_is_refused(tmp_path: Path, kind: str) -> None:
    outside, root = touch(tmp_path / "outside" / "secret.json"), tmp_path / "root"
    root.mkdir()
    candidate = "link"
    if kind == "dots":
        candidate = "../outside/secret.json"
    elif kind == "absolute":
        candidate = str(outside)
    elif kind == "link to a file":
        (root / "link").symlink_to(outside)
    else:
        (root / "folder").symlink_to(outside.parent)
        candidate = "folder/secret.json"
    with pytest.raises(CheckFailed, match=r"leads out of the data root, to .*secret\.json") as caught:
        locate(root, candidate)
    assert "Copy the file into the data root" in str(caught.value)


def test_links_inside_the_data_root_and_a_linked_data_root_are_fine(tmp_path: Path) -> None:
    root = tmp_path / "root"
    touch(root / "real.json")
    (root / "link.json").symlink_to(root / "real.json")
    (tmp_path / "alias").symlink_to(root)
    assert find(tmp_path / "alias", "link.json") == tmp_path / "alias" / "link.json"
