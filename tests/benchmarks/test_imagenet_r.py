"""Domain conversion asks every photograph once per domain, and no ranking can get all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cirbench.benchmarks.imagenet_r import DOMAINS, imagenet_r_protocol, load
from cirbench.benchmarks.images import image_files
from cirbench.errors import CorruptFile, UnknownName
from cirbench.metrics.measure import ceilings
from tests.annotation_files import write_imagenet_r

if TYPE_CHECKING:
    from pathlib import Path

TARGETS = "imagenet-r/imgnet_targets.txt"
QUERIES = "imagenet-r/imgnet_real_query.txt"


def test_every_photograph_is_asked_once_per_domain(tmp_path: Path) -> None:
    protocol = load("domain-conversion", tmp_path, write_imagenet_r(tmp_path))
    assert protocol.gallery is not None and protocol.labels is not None
    assert len(protocol.queries) == 12 * len(DOMAINS)
    query = protocol.queries[12]
    assert query.id == "origami/ILSVRC2012_val_00"
    assert query.reference.id == "imgnet/real/n00/ILSVRC2012_val_00.JPEG"
    assert (query.captions, query.category) == (("a origami of",), "origami")
    assert query.reference.id in protocol.gallery.positions
    assert not protocol.exclude_reference
    of = {query.id: set(row) for query, row in zip(protocol.queries, protocol.labels.relevant, strict=True)}
    assert of["toy/ILSVRC2012_val_11"] == {f"imgnet/imagenet-r/n01/toy_{number}.jpg" for number in range(2)}
    assert of["origami/ILSVRC2012_val_20"] == set()
    assert len(of["cartoon/ILSVRC2012_val_13"]) == 12


def test_image_files_are_told_apart_by_their_class_folder(tmp_path: Path) -> None:
    (files,) = image_files(load("domain-conversion", tmp_path, write_imagenet_r(tmp_path)))
    assert {"n01/toy_0", "n02/toy_0", "ILSVRC2012_val_00"} < set(files.names)
    folder = tmp_path / "imagenet-r" / "n02"
    folder.mkdir()
    (folder / "toy_0.jpg").touch()
    assert files.found == {"n02/toy_0": folder / "toy_0.jpg"}


def test_the_ceilings_count_queries_without_ground_truths_as_missed(tmp_path: Path) -> None:
    expected = write_imagenet_r(tmp_path)
    share = {best.label: best.value for best in ceilings(load("domain-conversion", tmp_path, expected))}
    hit = {best.label: best.value for best in ceilings(load("domain-conversion-hit", tmp_path, expected))}
    assert share["Recall_fractional@10[domain=cartoon]"] == pytest.approx((1 + 10 / 12 + 1) / 3)
    assert share["Recall_fractional@50[domain=cartoon]"] == hit["Hit_rate@10[domain=cartoon]"] == 1
    assert share["Recall_fractional@10[domain=origami]"] == pytest.approx(2 / 3)
    assert hit["Hit_rate@10[mean over domain]"] == pytest.approx((3 + 2 / 3) / 4)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (TARGETS, "toy_0.jpg 2001", "toy_0.jpg 3001", "it holds 5 images of domain 2, not 6; it holds 7 images"),
        (TARGETS, "n01/toy_0.jpg", "n01/toy_1.jpg", "more than once: imgnet/imagenet-r/n01/toy_1.jpg"),
        (TARGETS, "imgnet/imagenet-r/n01/toy_0.jpg 2001 \n", "", r"it holds \d+ targets, not \d+"),
        (TARGETS, "toy_0.jpg 2001", "toy_0.jpg toy", r"imgnet_targets.txt.*not a path and a number in line \d+"),
        (
            QUERIES,
            "ILSVRC2012_val_00.JPEG 0",
            "ILSVRC2012_val_00.JPEG 1",
            "differ in imgnet/real/n00/ILSVRC2012_val_00",
        ),
        (QUERIES, "ILSVRC2012_val_00", "ILSVRC2012_val_99", "differ in imgnet/real/n00/ILSVRC2012_val_00.*val_99"),
    ],
)
def test_a_changed_list_is_refused_with_what_differs(
    tmp_path: Path, file: str, old: str, new: str, message: str
) -> None:
    expected = write_imagenet_r(tmp_path)
    content = (tmp_path / file).read_text()
    assert old in content
    (tmp_path / file).write_text(content.replace(old, new))
    with pytest.raises(CorruptFile, match=message):
        load("domain-conversion", tmp_path, expected)


def test_an_unknown_protocol_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="no protocol of imagenet-r called 'domain'"):
        imagenet_r_protocol("domain", tmp_path)


def test_the_real_lists_have_the_published_counts_and_ceilings(annotation_root: Path) -> None:
    if not (annotation_root / "imagenet-r").is_dir():
        pytest.skip(f"{annotation_root} has no imagenet-r")
    protocol = imagenet_r_protocol("domain-conversion", annotation_root)
    assert protocol.labels is not None and protocol.gallery is not None
    assert (len(protocol.queries), len(protocol.gallery)) == (40_000, 16_983)
    assert max(map(len, protocol.labels.relevant)) == 81
    empty = [
        sum(not row for row in protocol.labels.relevant[start : start + 10_000]) for start in range(0, 40_000, 10_000)
    ]
    assert empty == [2350, 4700, 2800, 2900]
    best = {each.label: round(100 * each.value, 1) for each in ceilings(protocol)}
    assert [best[f"Recall_fractional@10[domain={name}]"] for name in DOMAINS] == [41.4, 50.1, 60.5, 63.8]
    assert [best[f"Recall_fractional@50[domain={name}]"] for name in DOMAINS] == [75.5, 53.0, 72.0, 71.0]
    hits = ceilings(imagenet_r_protocol("domain-conversion-hit", annotation_root))
    assert [round(100 * each.value, 1) for each in hits[1:5]] == [76.5, 53.0, 72.0, 71.0]
