"""Checking images tells what is missing, broken or odd, and which queries that touches."""

from __future__ import annotations

import contextlib
import io
import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image, ImageFile

from cirbench.benchmarks.circo import UNLABELED2017
from cirbench.benchmarks.files import check as checking
from cirbench.benchmarks.files.check import check_protocols
from cirbench.benchmarks.genecis import SquareCrop
from cirbench.benchmarks.images import ImageFiles
from cirbench.errors import CheckFailed, MissingData, UnknownName
from cirbench.metrics.table import Measure
from cirbench.protocol import EvaluationProtocol, Gallery, Item, Labels, Query
from tests import circo_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

NAMES = tuple(str(number) for number in range(100, 112))
FOLDER = "circo/unlabeled2017"


def picture(seed: int, *, format: str = "JPEG", mode: str = "RGB", orientation: int = 1) -> bytes:
    image = Image.frombytes("RGB", (40, 30), random.Random(seed).randbytes(3 * 40 * 30)).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, format, exif=exif)
    return buffer.getvalue()


def fill(folder: Path, names: Sequence[str] = NAMES, name: Callable[[str], str] = "{:0>12}.jpg".format) -> Path:
    """Put a picture of its own under each name."""
    for seed, each in enumerate(names):
        path = folder / name(each)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(seed))
    return folder


def protocol(data_root: Path, *, pools: bool = False) -> EvaluationProtocol:
    """Four queries: references 100 to 103, targets 104 to 107, and the whole gallery to be ranked or two each."""
    files = ImageFiles(UNLABELED2017, NAMES, data_root, "cirbench data check circo")
    pooled = {
        "pools": tuple((NAMES[4 + nth], NAMES[8 + nth]) for nth in range(4)),
        "pool_of_query": (0, 1, 2, 3),
    }
    return EvaluationProtocol(
        id="toy/val",
        version=1,
        title="toy",
        queries=tuple(Query(f"q{nth}", Item(NAMES[nth], files[NAMES[nth]]), ("more",)) for nth in range(4)),
        gallery=Gallery(NAMES, [files[name] for name in NAMES]),
        labels=Labels(tuple((NAMES[4 + nth],) for nth in range(4))),
        measures=(Measure("Recall", 1),),
        **(pooled if pools else {}),  # type: ignore[arg-type]
    )


def place(root: Path, name: str) -> Path:
    return root / FOLDER / f"{name:0>12}.jpg"


def test_whole_images_make_a_complete_report(tmp_path: Path) -> None:
    fill(tmp_path / FOLDER)
    report = check_protocols([protocol(tmp_path)], tmp_path, tmp_path)
    assert (report.whole, report.needed, report.complete) == (12, 12, True)
    assert report.bytes == sum(path.stat().st_size for path in (tmp_path / FOLDER).iterdir())
    assert not (report.missing or report.broken or report.duplicates or report.not_rgb or report.turned)
    assert (report.pairs, report.elsewhere) == (0, 0)
    assert (report.protocols[0].lost, report.protocols[0].lost_gallery) == (0, 0)


@pytest.mark.parametrize(
    "name",
    [
        "{:0>12}.jpg".format,
        "{}.jpg".format,
        "{}.JPEG".format,
        "{:0>12}.png".format,
        "train/7/{}.png".format,
        "a/b/c/{}.jpeg".format,
    ],
)
def test_images_are_found_in_any_layout(name: Callable[[str], str], tmp_path: Path) -> None:
    fill(tmp_path / FOLDER, name=name)
    assert check_protocols([protocol(tmp_path)], tmp_path, tmp_path).complete


def test_every_kind_of_breakage_is_told_apart(tmp_path: Path) -> None:
    fill(tmp_path / FOLDER)
    place(tmp_path, "100").unlink()
    place(tmp_path, "104").write_bytes(b"")
    place(tmp_path, "105").write_bytes(b"<html>404 Not Found</html>")
    place(tmp_path, "109").write_bytes(picture(0)[:-400])
    report = check_protocols([protocol(tmp_path)], tmp_path, tmp_path)
    assert report.missing == ["100"]
    assert [(broken.id, broken.state) for broken in report.broken] == [
        ("104", "empty"),
        ("105", "undecodable"),
        ("109", "truncated"),
    ]
    assert report.broken[0].path == str(place(tmp_path, "104"))
    assert (report.whole, report.complete) == (8, False)


def test_touched_queries_are_named(tmp_path: Path) -> None:
    fill(tmp_path / FOLDER)
    for name in ("100", "104", "105", "111"):
        place(tmp_path, name).unlink()
    touched = check_protocols([protocol(tmp_path)], tmp_path, tmp_path).protocols[0]
    assert (touched.lost_references, touched.lost_targets, touched.lost_candidates) == (["q0"], ["q0", "q1"], [])
    assert (touched.lost, touched.queries) == (2, 4)
    assert (touched.lost_gallery, touched.gallery) == (4, 12)


def test_queries_with_few_candidates_of_their_own_feel_the_loss_of_one(tmp_path: Path) -> None:
    fill(tmp_path / FOLDER)
    place(tmp_path, "111").unlink()
    touched = check_protocols([protocol(tmp_path, pools=True)], tmp_path, tmp_path).protocols[0]
    assert (touched.lost_candidates, touched.lost) == (["q3"], 1)


def test_one_picture_under_many_names_is_suspicious_and_under_two_is_counted(tmp_path: Path) -> None:
    fill(tmp_path / FOLDER)
    for name in ("100", "103", "110"):
        place(tmp_path, name).write_bytes(picture(999))
    place(tmp_path, "101").write_bytes(picture(998))
    place(tmp_path, "102").write_bytes(picture(998))
    report = check_protocols([protocol(tmp_path)], tmp_path, tmp_path)
    assert report.duplicates == [["100", "103", "110"]]
    assert report.pairs == 1
    assert report.complete


def test_pixel_formats_and_orientations_are_listed(tmp_path: Path) -> None:
    fill(tmp_path / FOLDER)
    place(tmp_path, "100").write_bytes(picture(0, mode="L"))
    place(tmp_path, "101").write_bytes(picture(1, format="PNG", mode="P"))
    place(tmp_path, "102").write_bytes(picture(2, mode="CMYK"))
    place(tmp_path, "103").write_bytes(picture(3, orientation=6))
    report = check_protocols([protocol(tmp_path)], tmp_path, tmp_path)
    assert report.not_rgb == {"L": ["100"], "P": ["101"], "CMYK": ["102"]}
    assert report.turned == ["103"]
    assert report.complete


def test_images_where_runs_do_not_look_are_counted(tmp_path: Path) -> None:
    images = fill(tmp_path / "somewhere" / "else")
    report = check_protocols([protocol(tmp_path / "data")], images, tmp_path / "data")
    assert (report.whole, report.elsewhere) == (12, 12)
    (tmp_path / "data" / "circo").mkdir(parents=True)
    (tmp_path / "data" / FOLDER).symlink_to(images)
    assert check_protocols([protocol(tmp_path / "data")], images, tmp_path / "data").elsewhere == 0


def test_parts_of_one_image_are_checked_once(tmp_path: Path) -> None:
    fill(tmp_path / FOLDER, NAMES[:1])
    whole = protocol(tmp_path)
    files = ImageFiles(UNLABELED2017, NAMES[:1], tmp_path, "")
    crops = [SquareCrop(files["100"], (0, 0, side, side)) for side in (5, 6)]
    queries = (Query("q", Item("100 5", crops[0]), ("more",)),)
    cropped = EvaluationProtocol(
        "toy/crops", 1, "", queries, Gallery(("100 5", "100 6"), crops), Labels((("100 6",),)), whole.measures
    )
    report = check_protocols([cropped], tmp_path, tmp_path)
    assert (report.needed, report.whole, report.duplicates) == (1, 1, [])
    place(tmp_path, "100").unlink()
    touched = check_protocols([cropped], tmp_path, tmp_path).protocols[0]
    assert (touched.lost_references, touched.lost_targets, touched.lost_gallery) == (["q"], ["q"], 2)


def test_a_protocol_that_renders_its_images_needs_none(tmp_path: Path) -> None:
    report = checking.check("scenes/tiny", None, tmp_path, tmp_path)
    assert (report.needed, report.complete) == (0, True)
    assert report.next == [f"cirbench run --method pli --dataset scenes --protocol scenes/tiny --data-root {tmp_path}"]


def test_filling_truncated_images_makes_a_check_pointless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(CheckFailed, match="LOAD_TRUNCATED_IMAGES is on"):
        check_protocols([protocol(tmp_path)], tmp_path, tmp_path)


def test_progress_counts_every_file(tmp_path: Path) -> None:
    fill(tmp_path / FOLDER)
    shown: list[tuple[str, int]] = []
    advanced: list[int] = []

    @contextlib.contextmanager
    def display(description: str, total: int, *, unit: str = "") -> Iterator[Callable[[int], None]]:
        shown.append((description, total))
        yield advanced.append

    check_protocols([protocol(tmp_path)], tmp_path, tmp_path, display=display)
    assert shown == [("checking images", 12)]
    assert sum(advanced) == 12


@pytest.fixture
def circo(tmp_path: Path) -> Path:
    """A data root with CIRCO's val annotations, without the list of its gallery, and with every reference."""
    rows = circo_files.published_size("val")
    circo_files.write(tmp_path, rows, None)
    fill(tmp_path / FOLDER, [str(row["reference_img_id"]) for row in rows])
    return tmp_path


def test_an_unknown_gallery_is_incomplete_and_says_what_to_get(circo: Path) -> None:
    report = checking.check("circo/val", None, circo, circo)
    assert (report.whole, report.needed, report.complete) == (220, 220, False)
    assert report.protocols[0].gallery is None
    assert report.next == [f"cirbench data get circo/val --data-root {circo} --annotations-only"]


def test_protocols_without_annotations_are_left_unchecked_and_said(circo: Path) -> None:
    report = checking.check("circo", None, circo, circo)
    assert list(report.unchecked) == ["circo/val-circled", "circo/test"]
    assert "test.json" in report.unchecked["circo/test"]
    assert not report.complete


def test_labels_of_others_are_missed_by_their_own_protocol_alone(annotation_root: Path) -> None:
    if not (annotation_root / "cirr").is_dir() or (annotation_root / "cirr/soft").is_dir():
        pytest.skip(f"{annotation_root} has no cirr, or has the files of SoFT")
    report = checking.check("cirr", None, annotation_root, annotation_root)
    assert "cirr/val-multi-target" in report.unchecked
    assert not any("--annotations-only" in step for step in report.next)
    with pytest.raises(MissingData, match="cirr_multi_target_selection") as caught:
        checking.check("cirr/val-multi-target", None, annotation_root, annotation_root)
    assert caught.value.hint is not None and "cirbench data get cirr/val-multi-target" in caught.value.hint


def test_missing_images_lead_to_the_command_that_gets_them(circo: Path) -> None:
    shutil.rmtree(circo / FOLDER)
    report = checking.check("circo", "val", circo, circo)
    assert len(report.missing) == 220
    assert f"cirbench data get circo --data-root {circo}" in report.next


def test_broken_suspicious_and_misplaced_images_have_a_next_step(circo: Path) -> None:
    elsewhere = circo / "copies"
    shutil.move(circo / FOLDER, elsewhere)
    first, *others = sorted(elsewhere.iterdir())
    first.write_bytes(b"")
    for other in others[:3]:
        other.write_bytes(picture(5))
    report = checking.check("circo/val", None, elsewhere, circo)
    steps = "\n".join(report.next)
    assert f"ln -s {elsewhere} {circo / FOLDER}" in steps
    assert f"Replace the broken files, then: cirbench data check circo/val --root {elsewhere}" in steps
    assert "it may be a placeholder" in steps


def test_without_any_annotations_the_next_command_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"circo/val: A file of the data set is missing") as caught:
        checking.check("circo", None, tmp_path, tmp_path)
    assert caught.value.hint == f"Type `cirbench data get circo --data-root {tmp_path} --annotations-only`."


def test_unknown_names_offer_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="no data set or protocol called 'circa'"):
        checking.check("circa", None, tmp_path, tmp_path)
    with pytest.raises(UnknownName, match="no split of circo called 'dev'"):
        checking.check("circo", "dev", tmp_path, tmp_path)


def test_data_of_ones_own_are_checked_where_they_are(tmp_path: Path) -> None:
    fill(tmp_path / "gallery", ["a", "b", "c"], name="{}.jpg".format)
    (tmp_path / "queries.csv").write_text("query_id,reference,text,targets\n1,a.jpg,is greener,b.jpg\n")
    report = checking.check(str(tmp_path), None, tmp_path, tmp_path)
    assert (report.needed, report.whole, report.complete) == (3, 3, True)
    assert report.next == [f"cirbench run --method pli --dataset {tmp_path}"]
    (tmp_path / "gallery" / "b.jpg").write_bytes(picture(0)[:-300])
    report = checking.check(str(tmp_path), None, tmp_path, tmp_path)
    assert [(Path(broken.id).name, broken.state) for broken in report.broken] == [("b.jpg", "truncated")]
    assert report.protocols[0].lost_targets == ["1"]
