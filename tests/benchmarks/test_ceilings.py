"""A ceiling is what a perfect ranking gets, no more and no less."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cirbench.benchmarks import circo, cirr, freedom, genecis, icir, imagenet_r, lasco, patterncom, repacked
from cirbench.metrics import measure
from cirbench.metrics.measure import ceilings
from cirbench.protocol import Gallery
from cirbench.ranking import rank
from cirbench.ranking.task import ranking_task
from tests import circo_files
from tests.annotation_files import (
    write_cirr,
    write_genecis,
    write_icir,
    write_imagenet_r,
    write_lasco,
    write_ltll,
    write_mbeir,
    write_mmeb,
    write_nico,
    write_patterncom,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cirbench.protocol import EvaluationProtocol


def oracle(protocol: EvaluationProtocol) -> dict[str, float]:
    """Rank by the labels themselves: what is measured then cannot be beaten."""
    assert protocol.gallery is not None and protocol.labels is not None
    scores = np.zeros((len(protocol.queries), len(protocol.gallery)), dtype=np.float32)
    for place, row in enumerate(protocol.labels.relevant):
        for nth, name in enumerate(row):
            gain = 1.0 if protocol.labels.gains is None else protocol.labels.gains[place][nth]
            scores[place, protocol.gallery.positions[name]] = gain + (0.1 if nth == 0 else 0.0)
    one_of_each = np.eye(len(protocol.queries), dtype=np.float32)
    ranking = rank(one_of_each, np.ascontiguousarray(scores.T), ranking_task(protocol))
    return {each.label: each.value for each in measure(ranking, protocol)}


@pytest.mark.parametrize("variant", ["val", "val-soft", "val-soft-subset"])
def test_the_ceiling_of_cirr_is_what_an_oracle_gets(tmp_path: Path, variant: str) -> None:
    protocol = cirr.load(variant, tmp_path, write_cirr(tmp_path))
    best = {each.label: each.value for each in ceilings(protocol)}
    assert best == pytest.approx(oracle(protocol), abs=1e-12)
    assert best[next(iter(best))] == pytest.approx(1.0 if variant == "val" else (19 + 0.2) / 20)


def test_the_ceiling_of_circo_and_genecis_is_everything(tmp_path: Path) -> None:
    rows, images = circo_files.labelled_rows()
    circo_files.write(tmp_path, rows, images)
    for protocol in (
        circo.load("val-drop-reference", tmp_path, circo_files.expected(rows, len(images))),
        genecis.load("all", tmp_path, write_genecis(tmp_path)),
    ):
        assert {each.value for each in ceilings(protocol)} == {1.0}
        assert set(oracle(protocol).values()) == {1.0}


def small_nico(root: Path) -> EvaluationProtocol:
    write_nico(root)
    return freedom.load(freedom.NICO_LISTS, root, {})


RANKED_WHOLE: dict[str, Callable[[Path], EvaluationProtocol]] = {
    "imagenet-r/freedom": lambda root: imagenet_r.load("freedom", root, write_imagenet_r(root)),
    "nico": small_nico,
    "ltll": lambda root: freedom.load(freedom.LTLL_LISTS, root, write_ltll(root)),
    "icir": lambda root: icir.load(root, write_icir(root)),
    "patterncom": lambda root: patterncom.load(root, write_patterncom(root)),
    "lasco": lambda root: lasco.load("val-drop-reference", root, write_lasco(root)),
    "mbeir": lambda root: repacked.load_mbeir("cirr", root, write_mbeir(root)),
    "mmeb": lambda root: repacked.load_mmeb("cirr", root, write_mmeb(root)),
}


@pytest.mark.parametrize("name", RANKED_WHOLE)
def test_an_oracle_gets_the_ceiling_and_a_constant_scorer_gains_nothing_from_the_order(
    tmp_path: Path, name: str
) -> None:
    protocol = RANKED_WHOLE[name](tmp_path)
    best = {each.label: each.value for each in ceilings(protocol)}
    assert oracle(protocol) == pytest.approx(best, abs=1e-9)
    assert protocol.gallery is not None and protocol.labels is not None
    reversed_gallery = Gallery(protocol.gallery.ids[::-1])
    found = []
    for each in (protocol, dataclasses.replace(protocol, gallery=reversed_gallery)):
        rows = np.ones((len(each.queries), 2), np.float32), np.ones((len(protocol.gallery), 2), np.float32)
        found.append({one.label: one.value for one in measure(rank(*rows, ranking_task(each)), each)})
    assert found[0] == found[1]
    headline = next(iter(best))
    assert found[0][headline] < best[headline]


def test_hidden_labels_have_no_ceiling(tmp_path: Path) -> None:
    assert ceilings(cirr.load("test1", tmp_path, write_cirr(tmp_path, split="test1"))) == ()


def test_the_soft_ceiling_of_the_real_file_is_below_everything(annotation_root: Path) -> None:
    if not (annotation_root / "cirr").is_dir():
        pytest.skip(f"{annotation_root} has no cirr")
    best = ceilings(cirr.cirr_protocol("val-soft", annotation_root))
    assert [round(each.value, 5) for each in best] == [0.99904] * 4
