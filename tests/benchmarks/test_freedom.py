"""FREEDOM asks each image for its class in every other domain, and counts a query without ground truths as 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from cirbench.benchmarks import imagenet_r, load_protocol
from cirbench.benchmarks.freedom import (
    LTLL,
    LTLL_LISTS,
    METRIC,
    MINIDOMAINNET_LISTS,
    NICO_LISTS,
    load,
)
from cirbench.benchmarks.images import image_files
from cirbench.cli import execute
from cirbench.errors import CorruptFile, MissingData, UnknownName
from cirbench.metrics.measure import ceilings, measure
from cirbench.metrics.table import NO_CUTOFF, Measure
from cirbench.ranking import rank, ranking_task
from tests.annotation_files import write_imagenet_r, write_ltll, write_nico

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cirbench.protocol import EvaluationProtocol

MEAN = f"{METRIC}[mean over domain]"
FULL, DATABASE = "ltll/full_files.csv", "nico/database_files.csv"


def small_imagenet_r(root: Path) -> EvaluationProtocol:
    return imagenet_r.load("freedom", root, write_imagenet_r(root))


def small_nico(root: Path) -> EvaluationProtocol:
    write_nico(root)
    return load(NICO_LISTS, root, {})


PROTOCOLS: dict[str, Callable[[Path], EvaluationProtocol]] = {
    "imagenet-r": small_imagenet_r,
    "nico": small_nico,
    "ltll": lambda root: load(LTLL_LISTS, root, write_ltll(root)),
}


def published_table(protocol: EvaluationProtocol, queries: np.ndarray, gallery: np.ndarray) -> dict[str, float]:
    """Fill the matrix of source and target domains as the public evaluation does, and average its rows."""
    assert protocol.gallery is not None and protocol.labels is not None
    pairs: dict[str, dict[str, list[float]]] = {}
    for number, query in enumerate(protocol.queries):
        scores = gallery @ queries[number]
        right = np.isin(protocol.gallery.ids, protocol.labels.relevant[number])[np.argsort(-scores)]
        area = 0.0
        for found, place in enumerate(np.flatnonzero(right)):
            before = found / place if place else 1.0
            area += (before + (found + 1) / (place + 1)) / 2 / (right.sum() + 1e-5)
        row = pairs.setdefault(protocol.slices["domain"][number][0], {})
        row.setdefault(query.captions[0], []).append(area)
    of_source = {source: float(np.mean([np.mean(values) for values in row.values()])) for source, row in pairs.items()}
    return {**{f"{METRIC}[domain={source}]": value for source, value in of_source.items()}} | {
        MEAN: float(np.mean([*of_source.values()]))
    }


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_numbers_are_those_of_the_public_evaluation(tmp_path: Path, name: str) -> None:
    protocol = PROTOCOLS[name](tmp_path)
    assert protocol.gallery is not None
    draw = np.random.default_rng(0)
    queries, gallery = (
        draw.standard_normal((count, 8)).astype(np.float32) for count in (len(protocol.queries), len(protocol.gallery))
    )
    ranking = rank(queries, gallery, ranking_task(protocol))
    found = {each.label: each.value for each in measure(ranking, protocol)}
    assert next(iter(found)) == MEAN
    assert found == pytest.approx(published_table(protocol, queries, gallery), rel=1e-4)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_each_image_asks_for_its_class_in_every_other_domain(tmp_path: Path, name: str) -> None:
    protocol = PROTOCOLS[name](tmp_path)
    assert protocol.gallery is not None and protocol.labels is not None
    words = protocol.measures[0].labels
    asked = {(query.reference.id, query.captions) for query in protocol.queries}
    assert len(asked) == len(protocol.queries) == (len(words) - 1) * len({image for image, _ in asked})
    slices = (protocol.slices[kind] for kind in ("domain", "target", "pair"))
    for query, relevant, *labels in zip(protocol.queries, protocol.labels.relevant, *slices, strict=True):
        (source,), (target,), pair = labels
        assert query.captions == (target,) and source != target and {source, target} <= {*words}
        assert pair == (f"{source} to {target}",)
        assert query.reference.id not in relevant
        assert (query.reference.id in protocol.gallery.positions) == (name != "nico")
    assert not protocol.exclude_reference


def test_relevant_is_the_class_in_the_asked_domain(tmp_path: Path) -> None:
    protocol = load(LTLL_LISTS, tmp_path, write_ltll(tmp_path))
    assert protocol.labels is not None
    of = {query.id: set(row) for query, row in zip(protocol.queries, protocol.labels.relevant, strict=True)}
    assert of["Today/ltll/Old/images/TajMahal/1.jpg"] == {f"ltll/New/images/TajMahal/{each}.jpg" for each in (1, 2)}
    assert of["Archive/ltll/New/images/Pettah/2.jpg"] == {"ltll/Old/images/Pettah/1.jpg"}


def test_a_query_without_ground_truths_counts_zero_here_and_takes_no_part_in_the_other_measure(tmp_path: Path) -> None:
    protocol = small_nico(tmp_path)
    assert protocol.labels is not None
    empty = [not row for row in protocol.labels.relevant]
    assert 0 < sum(empty) < len(empty)
    best = {each.label: each.value for each in ceilings(protocol)}
    # bears are asked for in the second context by one or two images of each of the other five
    assert best[f"{METRIC}[domain=autumn]"] == pytest.approx(9 / 10)
    assert best[f"{METRIC}[domain=dimlight]"] == 1
    both = (Measure(METRIC, NO_CUTOFF), Measure("mAP_trapezoidal", NO_CUTOFF))
    scores = np.zeros((len(protocol.queries), 8), np.float32), np.zeros((len(protocol.gallery or ()), 8), np.float32)
    ranked = rank(*scores, ranking_task(protocol))

    class Asked:
        measures, slices, labels = both, protocol.slices, None

    counted, left_out = measure(ranked, Asked())
    assert (counted.count, left_out.count) == (len(empty), len(empty) - sum(empty))
    assert counted.value == pytest.approx(left_out.value * (1 - sum(empty) / len(empty)))
    assert counted.label != left_out.label


def test_the_photographs_of_imagenet_r_ask_as_photo_and_no_list_of_queries_is_needed(tmp_path: Path) -> None:
    expected = write_imagenet_r(tmp_path)
    (tmp_path / "imagenet-r/imgnet_real_query.txt").unlink()
    protocol = imagenet_r.load("freedom", tmp_path, expected)
    assert protocol.measures[0].labels == ("cartoon", "origami", "photo", "sculpture", "toy")
    photo = [query for query in protocol.queries if query.reference.id == "imgnet/real/n01/ILSVRC2012_val_13.JPEG"]
    assert [query.captions for query in photo] == [("cartoon",), ("origami",), ("sculpture",), ("toy",)]
    with pytest.raises(MissingData, match="imgnet_real_query"):
        imagenet_r.load("domain-conversion", tmp_path, expected)


def test_a_domain_of_imagenet_r_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    expected = write_imagenet_r(tmp_path)
    path = tmp_path / "imagenet-r/imgnet_targets.txt"
    path.write_text(path.read_text().replace("toy_0.jpg 2001", "toy_0.jpg 5001"))
    with pytest.raises(CorruptFile, match="it holds images of domain 5, which is none"):
        imagenet_r.load("freedom", tmp_path, expected)


def test_the_folder_of_the_public_code_serves_as_data_root(tmp_path: Path) -> None:
    write_nico(tmp_path, "minidn", tuple(MINIDOMAINNET_LISTS.words))
    protocol = load(MINIDOMAINNET_LISTS, tmp_path, {})
    assert {query.captions for query in protocol.queries} == {("clipart",), ("painting",), ("photo",), ("sketch",)}
    (files,) = image_files(protocol)
    folder = tmp_path / "minidn/real/bear"
    folder.mkdir(parents=True)
    (folder / "q_0.jpg").touch()
    assert files.found == {"real/bear/q_0": folder / "q_0.jpg"}


def test_images_are_found_in_archives_as_they_are_with_blanks_in_their_names(tmp_path: Path) -> None:
    (files,) = image_files(load(LTLL_LISTS, tmp_path, write_ltll(tmp_path)))
    folder = tmp_path / "ltll/Old/images/Taj Mahal"
    folder.mkdir(parents=True)
    for name in ("1.jpg", "Taj Mahal 2.JPEG", "Taj_Mahal_3.JPEG", "Taj Mahal 3.JPEG"):
        (folder / name).touch()
    (renamed := tmp_path / "ltll/Old/images/TajMahal").mkdir()
    (renamed / "Taj_Mahal_2.JPEG").touch()
    assert files.found == {
        "Old/images/TajMahal/1": folder / "1.jpg",
        "Old/images/TajMahal/Taj_Mahal_2": renamed / "Taj_Mahal_2.JPEG",
        "Old/images/TajMahal/Taj_Mahal_3": folder / "Taj Mahal 3.JPEG",
    }


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Old Pettah\n", "Old\n", r"not a path, a domain and a class in line 5"),
        ("Old Pettah\n", "Former Pettah\n", r"the domain is none of New, Old in line 5"),
        ("Old Pettah\n", "New Pettah\n", r"the path is of another domain or class in line 5"),
        ("Old Pettah\n", "Old TajMahal\n", r"the path is of another domain or class in line 5"),
        ("Pettah/2.jpg", "Pettah/1.jpg", r"it holds images more than once: ltll/New/images/Pettah/1\.jpg"),
        ("ltll/Old/images/Pettah/1.jpg Old Pettah\n", "", r"it holds 7 images, not 8; it holds 3 images of Archive"),
    ],
)
def test_changed_lists_are_refused_with_what_differs(tmp_path: Path, old: str, new: str, message: str) -> None:
    expected = write_ltll(tmp_path)
    path = tmp_path / FULL
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(CorruptFile, match=message):
        load(LTLL_LISTS, tmp_path, expected)


def test_an_image_that_is_asked_and_shown_is_refused_where_the_lists_are_apart(tmp_path: Path) -> None:
    write_nico(tmp_path)
    shown = tmp_path / DATABASE
    shown.write_text(f"{shown.read_text()}nico/rock/bear/q_0.jpg rock bear\n")
    with pytest.raises(CorruptFile, match=r"images of queries are in the gallery too: nico/rock/bear/q_0\.jpg"):
        load(NICO_LISTS, tmp_path, {})


def test_other_counts_than_the_published_ones_are_refused(tmp_path: Path) -> None:
    write_ltll(tmp_path)
    with pytest.raises(CorruptFile, match="it holds 8 images, not 488; it holds 2 classes, not 25; it holds 4 images"):
        load_protocol("ltll/freedom", tmp_path)
    with pytest.raises(UnknownName, match="no protocol of ltll called 'val'"):
        LTLL.load("val", tmp_path)


def test_a_plan_says_where_images_are_and_what_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["data", "plan", "minidomainnet"]) == 0
    told = capsys.readouterr().out
    assert "minidomainnet/database_files.csv" in told and "groundtruth/painting.zip" in told
    assert execute(["data", "plan", "nico"]) == 0
    assert "DG_Benchmark.zip" in capsys.readouterr().out
    assert execute(["data", "plan", "imagenet-r/freedom"]) == 0
    assert "imgnet_real_query" not in capsys.readouterr().out


def test_the_real_lists_have_the_published_counts(annotation_root: Path) -> None:
    found = 0
    for id, queries, images, empty, relevant, best in (
        ("imagenet-r/freedom", 67_932, 16_983, 14_721, 948_030, 89.11),
        ("ltll/freedom", 488, 488, 0, 4_998, 100),
        ("nico/freedom", 43_615, 80_134, 0, 10_047_374, 100),
    ):
        if not (annotation_root / id.partition("/")[0]).is_dir():
            continue
        found += 1
        protocol = load_protocol(id, annotation_root)
        assert protocol.labels is not None and protocol.gallery is not None
        assert (len(protocol.queries), len(protocol.gallery)) == (queries, images)
        assert sum(not row for row in protocol.labels.relevant) == empty
        assert sum(map(len, protocol.labels.relevant)) == relevant
        assert round(100 * ceilings(protocol)[0].value, 2) == best
    if not found:
        pytest.skip(f"{annotation_root} has none of the lists")
