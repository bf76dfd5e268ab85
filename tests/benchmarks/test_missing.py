"""A run without some images: refused, or on request partial, with lost queries as misses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from cirbench import cli
from cirbench.benchmarks import cirr, fashioniq, genecis
from cirbench.benchmarks.images import Lost, find_lost, image_files
from cirbench.comparison.report import Report
from cirbench.errors import MissingData
from cirbench.methods.evaluate import count_missing_as_zero, evaluate
from cirbench.runs.config import resolve
from cirbench.runs.folder import load_run
from cirbench.runs.ground import Ground
from cirbench.runs.session import Session
from cirbench.support.console import silent
from tests import annotation_files
from tests.benchmarks.test_with_images import MeanColour

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cirbench.protocol import EvaluationProtocol

PROTOCOLS: dict[str, Callable[[Path], EvaluationProtocol]] = {
    "cirr": lambda root: cirr.load("val", root, annotation_files.write_cirr(root)),
    "cirr without labels": lambda root: cirr.load("test1", root, annotation_files.write_cirr(root, split="test1")),
    "fashioniq": lambda root: fashioniq.load("val", root, annotation_files.write_fashioniq(root)),
    "genecis": lambda root: genecis.load("all", root, annotation_files.write_genecis(root)),
}


def draw_images(root: Path, protocol: EvaluationProtocol, *, but: int) -> list[str]:
    """Write the images of a protocol except for some; return the names that were left out."""
    generator = np.random.default_rng(0)
    names = dict.fromkeys((files.collection, name) for files in image_files(protocol) for name in files.names)
    left_out: list[str] = []
    for place, (collection, name) in enumerate(names):
        path = root / collection.folders[0] / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if place % 7 == 3 and len(left_out) < but:
            left_out.append(name)
            if len(left_out) % 2:
                path.write_bytes(b"not an image")  # there, and of no use
            continue
        Image.fromarray(generator.integers(0, 256, (8, 10, 3), dtype=np.uint8)).save(path)
    return left_out


def touched(protocol: EvaluationProtocol, lost: frozenset[str]) -> set[int]:
    """The queries that need a lost image, said once more."""
    found = set()
    for place, query in enumerate(protocol.queries):
        needed = {query.reference.id}
        if protocol.labels is not None:
            needed.update(protocol.labels.relevant[place])
        if protocol.groups is not None:
            needed.update(protocol.groups[place])
        if protocol.pools is not None and protocol.pool_of_query is not None:
            needed.update(protocol.pools[protocol.pool_of_query[place]])
        if needed & lost:
            found.add(place)
    return found


@pytest.mark.parametrize("name", PROTOCOLS)
def test_lost_queries_are_misses_and_the_others_are_ranked_among_what_is_left(tmp_path: Path, name: str) -> None:
    few = 1 if name == "fashioniq" else 2  # whose small galleries are candidates of their own
    draw_images(tmp_path, PROTOCOLS[name](tmp_path), but=few)
    protocol = PROTOCOLS[name](tmp_path)
    lost = find_lost(protocol, silent)
    assert lost.images
    assert set(lost.queries) == touched(protocol, lost.images)
    assert 0 < len(lost.queries) < len(protocol.queries)
    partial = evaluate(MeanColour(), lost.available)
    evaluation = count_missing_as_zero(partial, lost)
    assert protocol.gallery is not None
    ids, left = protocol.gallery.ids, lost.available.gallery
    assert left is not None
    for row, place in enumerate(lost.kept_queries):
        before = [left.ids[top] for top in partial.ranking.top_QK[row] if top >= 0]
        assert [ids[top] for top in evaluation.ranking.top_QK[place] if top >= 0] == before
    for place in lost.queries:
        assert (evaluation.ranking.top_QK[place] == -1).all()
    for whole in evaluation.measurements:
        assert not np.nan_to_num(whole.values_Q[list(lost.queries)]).any()
        same = [each for each in partial.measurements if each.label == whole.label]
        for each in same:
            np.testing.assert_array_equal(whole.values_Q[list(lost.kept_queries)], each.values_Q)
            assert whole.value <= each.value


def test_nothing_lost_changes_nothing(tmp_path: Path) -> None:
    draw_images(tmp_path, PROTOCOLS["cirr"](tmp_path), but=0)
    protocol = PROTOCOLS["cirr"](tmp_path)
    lost = find_lost(protocol, silent)
    assert (lost.images, lost.queries, lost.available) == (frozenset(), (), protocol)
    plain = evaluate(MeanColour(), protocol)
    again = count_missing_as_zero(plain, lost)
    np.testing.assert_array_equal(again.ranking.top_QK, plain.ranking.top_QK)
    assert [each.value for each in again.measurements] == [each.value for each in plain.measurements]


def test_a_protocol_of_which_nothing_is_left_is_refused(tmp_path: Path) -> None:
    protocol = PROTOCOLS["cirr"](tmp_path)
    everything = frozenset(query.reference.id for query in protocol.queries)
    with pytest.raises(MissingData, match=r"Without its \d+ missing images, cirr/val@1 has no query left"):
        _ = Lost(protocol, everything).available


def small_session(root: Path, protocol: EvaluationProtocol, **options: object) -> Session:
    """A session on a small CIRR."""
    from cirbench.runs.config import read_config

    given = {"method": ["image-only", "text-only"], "dataset": "cirr", "backbone": "scenes-vit", "device": "cpu"}
    config = read_config(None, {**given, "output": str(root / "runs"), **options})
    return Session(config, Ground(resolve(config), protocol))


def report_of(session: Session) -> Report:
    return Report(session.run(), session.resolved.asked)


def test_an_allowed_run_is_partial_and_reports_the_optimistic_number_beside_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = draw_images(tmp_path, PROTOCOLS["cirr"](tmp_path), but=1)
    protocol = PROTOCOLS["cirr"](tmp_path)
    session = small_session(tmp_path, protocol, allow_missing=True)
    report = report_of(session)
    result = load_run(report["image-only"].folder).result
    lost = len(touched(protocol, frozenset(names)))
    assert result.lost == names
    assert result.counts.partial
    assert (result.counts.queries, result.counts.queries_expected) == (20 - lost, 20)
    assert (result.counts.gallery, result.counts.gallery_expected) == (29, 30)
    for metric in result.metrics:
        assert metric.n == 20
        assert metric.optimistic == pytest.approx(metric.value * 20 / (20 - lost))
    report.print()
    shown = capsys.readouterr()
    assert f"queries {20 - lost}/20, gallery 29/30 · PARTIAL" in shown.out
    assert [column for column in report.table.columns if "without lost queries" in column.heading]
    assert f"1 images are missing or broken; {lost} of 20 queries" in shown.err
    assert json.loads(report.as_json())["results"][0]["lost"] == names
    assert cli.execute(["show", str(report["image-only"].folder)]) == 0
    assert f"{result.metrics[0].optimistic:.2f} without lost queries" in capsys.readouterr().out


@pytest.mark.slow
def test_a_partial_run_does_not_stand_in_for_a_whole_one(tmp_path: Path) -> None:
    names = draw_images(tmp_path, PROTOCOLS["cirr"](tmp_path), but=1)
    partial = report_of(small_session(tmp_path, PROTOCOLS["cirr"](tmp_path), allow_missing=True))
    for name in names:
        Image.new("RGB", (9, 9), "red").save(tmp_path / f"cirr/{name}.png")
    allowed = report_of(small_session(tmp_path, PROTOCOLS["cirr"](tmp_path), allow_missing=True))
    whole = report_of(small_session(tmp_path, PROTOCOLS["cirr"](tmp_path)))
    assert whole["image-only"].folder != partial["image-only"].folder
    assert whole["image-only"].folder == allowed["image-only"].folder
    assert not whole["image-only"].result.counts.partial
    assert whole["image-only"].result.metrics[0].optimistic is None


def test_a_run_with_a_broken_picture_names_it_and_goes_on_only_when_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mine"
    assert cli.execute(["new", "dataset", str(folder)]) == 0
    broken = folder / "gallery" / "red_circle.png"
    broken.write_bytes(broken.read_bytes()[:100])
    command = ["run", "--method", "image-only", "--dataset", str(folder), "--backbone", "scenes-vit"]
    command += ["--output", str(tmp_path / "runs")]
    capsys.readouterr()
    assert cli.execute(command) == 3
    assert f"The image {broken} cannot be decoded whole" in capsys.readouterr().err
    assert cli.execute([*command, "--allow-missing", "--plan"]) == 0
    assert cli.execute([*command, "--allow-missing"]) == 0
    shown = capsys.readouterr()
    assert "gallery 11/12 · PARTIAL" in shown.out
    assert "1 images are missing or broken" in shown.err
