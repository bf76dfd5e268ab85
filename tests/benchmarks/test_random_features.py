"""Features that know nothing get what a second implementation gives them, and what chance gives them."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cirbench.benchmarks import circo, cirr, fashioniq, genecis, imagenet_r, load_protocol, relabelled
from cirbench.cli import execute
from cirbench.runs.predictions.features import Features as FeatureFiles
from tests import circo_files
from tests.annotation_files import write_cirr, write_fashioniq, write_genecis, write_imagenet_r
from tests.benchmarks import naive
from tests.benchmarks.test_relabelled import judged_protocol
from tests.runs.predictions.protocols import score_features

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cirbench.protocol import EvaluationProtocol
    from tests.benchmarks.naive import Features

WIDTH = 16


def random_features(names: Sequence[str], seed: int, *, ties: bool = False) -> Features:
    """Give each id a row of its own; with ``ties``, rows of few small whole numbers, so that scores collide."""
    generator = np.random.default_rng(seed)
    rows = generator.standard_normal((len(names), WIDTH)).astype(np.float32)
    if ties:
        rows = np.sign(rows) * (np.arange(WIDTH) < 3)
    return dict(zip(names, rows.astype(np.float32), strict=True))


def both_sides(protocol: EvaluationProtocol, *, ties: bool = False) -> tuple[Features, Features]:
    assert protocol.gallery is not None
    return (
        random_features([query.id for query in protocol.queries], 1, ties=ties),
        random_features(protocol.gallery.ids, 2, ties=ties),
    )


def save(folder: Path, features: Features, name: str) -> FeatureFiles:
    np.save(folder / f"{name}.npy", np.array(list(features.values())))
    (folder / f"{name}.txt").write_text("\n".join(features))
    return FeatureFiles(folder / f"{name}.npy", folder / f"{name}.txt")


def scored(folder: Path, protocol: EvaluationProtocol, sides: tuple[Features, Features]) -> dict[str, float]:
    score = score_features(save(folder, sides[0], "queries"), save(folder, sides[1], "gallery"), protocol)
    return {each.label: each.value for each in score.measurements}


def agree(found: dict[str, float], expected: dict[str, float]) -> None:
    assert found == pytest.approx({label: expected[label] for label in found}, abs=1e-9)


@pytest.fixture(params=[False, True], ids=["distinct scores", "ties"])
def ties(request: pytest.FixtureRequest) -> bool:
    """Whether many scores are equal."""
    return bool(request.param)


@pytest.mark.parametrize("variant", ["val", "val-drop-reference"])
def test_a_small_circo_is_scored_as_naively(tmp_path: Path, ties: bool, variant: str) -> None:
    rows, images = circo_files.labelled_rows()
    circo_files.write(tmp_path, rows, images)
    protocol = circo.load(variant, tmp_path, circo_files.expected(rows, len(images)))
    sides = both_sides(protocol, ties=ties)
    expected = naive.circo(tmp_path, *sides, drop_reference=variant != "val")
    agree(scored(tmp_path, protocol, sides), expected)


@pytest.mark.parametrize("variant", ["val", "val-soft"])
def test_a_small_cirr_is_scored_as_naively(tmp_path: Path, ties: bool, variant: str) -> None:
    protocol = cirr.load(variant, tmp_path, write_cirr(tmp_path))
    sides = both_sides(protocol, ties=ties)
    agree(scored(tmp_path, protocol, sides), naive.cirr(tmp_path, *sides))


def test_soft_labels_inside_the_group_are_scored_as_naively(tmp_path: Path, ties: bool) -> None:
    protocol = cirr.load("val-soft-subset", tmp_path, write_cirr(tmp_path))
    sides = both_sides(protocol, ties=ties)
    agree(scored(tmp_path, protocol, sides), naive.cirr_soft_subset(tmp_path, *sides))


def test_a_small_fashioniq_is_scored_as_naively(tmp_path: Path, ties: bool) -> None:
    protocol = fashioniq.load("val", tmp_path, write_fashioniq(tmp_path))
    sides = both_sides(protocol, ties=ties)
    agree(scored(tmp_path, protocol, sides), naive.fashioniq(tmp_path, *sides))


@pytest.mark.parametrize("variant", relabelled.READINGS)
@pytest.mark.parametrize("dataset", ["cirr", "fashioniq"])
def test_several_targets_per_query_are_scored_as_naively(
    tmp_path: Path, ties: bool, dataset: str, variant: str
) -> None:
    protocol = judged_protocol(tmp_path, dataset, variant)
    sides = both_sides(protocol, ties=ties)
    united = variant == relabelled.UNITED
    agree(scored(tmp_path, protocol, sides), naive.multi_target(tmp_path, dataset, *sides, united=united))


def test_a_small_genecis_is_scored_as_naively_and_so_is_its_mean(tmp_path: Path, ties: bool) -> None:
    expected = write_genecis(tmp_path)
    together = genecis.load("all", tmp_path, expected)
    sides = both_sides(together, ties=ties)
    found = scored(tmp_path, together, sides)
    parts = {task: naive.genecis(tmp_path, task, *sides) for task in genecis.TASKS}
    for k in (1, 2, 3):
        for task in genecis.TASKS:
            assert found[f"Recall@{k}[task={task}]"] == pytest.approx(parts[task][f"Recall@{k}"], abs=1e-9)
        mean = sum(part[f"Recall@{k}"] for part in parts.values()) / 4
        assert found[f"Recall@{k}[mean over task]"] == pytest.approx(mean, abs=1e-9)
    alone = genecis.load("focus-attribute", tmp_path, expected)
    sides = both_sides(alone, ties=ties)
    agree(scored(tmp_path, alone, sides), naive.genecis(tmp_path, "focus-attribute", *sides))


@pytest.mark.parametrize("variant", ["domain-conversion", "domain-conversion-hit"])
def test_a_small_domain_conversion_is_scored_as_naively(tmp_path: Path, ties: bool, variant: str) -> None:
    protocol = imagenet_r.load(variant, tmp_path, write_imagenet_r(tmp_path))
    sides = both_sides(protocol, ties=ties)
    agree(scored(tmp_path, protocol, sides), naive.imagenet_r(tmp_path, *sides))


def test_the_command_line_says_beside_each_number_what_no_ranking_can_exceed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imagenet_r, "EXPECTED", write_imagenet_r(tmp_path))
    sides = both_sides(load_protocol("imagenet-r/domain-conversion", tmp_path))
    arguments = command(tmp_path, tmp_path, "imagenet-r/domain-conversion", sides)
    assert execute([*arguments, "--wide"]) == 0
    table = capsys.readouterr().out
    assert "at most" in table and "66.67" in table
    assert execute([*arguments, "--json"]) == 0
    metrics = {each["label"]: each for each in json.loads(capsys.readouterr().out)["metrics"]}
    assert metrics["Recall_fractional@50[domain=origami]"]["at_most"] == pytest.approx(200 / 3)
    assert metrics["Recall_fractional@50[domain=toy]"]["at_most"] == 100


def real(root: Path, id: str) -> EvaluationProtocol:
    if not (root / id.partition("/")[0]).is_dir():
        pytest.skip(f"{root} has no {id.partition('/')[0]}")
    return load_protocol(id, root)


def command(root: Path, folder: Path, id: str, sides: tuple[Features, Features]) -> list[str]:
    """Save features and say how to score them."""
    files = [save(folder, side, name) for side, name in zip(sides, ("queries", "gallery"), strict=True)]
    arguments = ["score", "-d", id.partition("/")[0], "--protocol", id, "--data-root", str(root)]
    arguments += ["--features", *(each.rows_source for each in files)]
    return [*arguments, "--query-ids", files[0].ids_source, "--gallery-ids", files[1].ids_source]


def from_the_command_line(
    root: Path, folder: Path, id: str, sides: tuple[Features, Features], capsys: pytest.CaptureFixture[str]
) -> dict[str, float]:
    """Score features with ``cirbench score --features``; fractions by label."""
    assert execute([*command(root, folder, id, sides), "--json"]) == 0
    return {each["label"]: each["value"] / 100 for each in json.loads(capsys.readouterr().out)["metrics"]}


def assert_chance(found: float, chance: float, queries: int) -> None:
    """Allow four standard errors of a mean of independent hits."""
    assert abs(found - chance) <= 4 * math.sqrt(chance * (1 - chance) / queries)


def test_random_features_on_cirr(annotation_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    protocol = real(annotation_root, "cirr/val")
    sides = both_sides(protocol)
    found = from_the_command_line(annotation_root, tmp_path, "cirr/val", sides, capsys)
    expected = naive.cirr(annotation_root, *sides)
    agree(found, expected)
    assert_chance(found["Recall@1"], 0.000436, 4181)
    for k in (1, 2, 3):
        assert_chance(found[f"Recall_subset@{k}"], k / 5, 4181)
    agree(scored(tmp_path, real(annotation_root, "cirr/val-soft"), sides), expected)
    inside = scored(tmp_path, real(annotation_root, "cirr/val-soft-subset"), sides)
    agree(inside, naive.cirr_soft_subset(annotation_root, *sides))


def test_random_features_on_fashioniq(
    annotation_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sides = both_sides(real(annotation_root, "fashioniq/val"))
    found = from_the_command_line(annotation_root, tmp_path, "fashioniq/val", sides, capsys)
    agree(found, naive.fashioniq(annotation_root, *sides))
    for category, chance, queries in (("dress", 0.00262, 2017), ("shirt", 0.00158, 2038), ("toptee", 0.00186, 1961)):
        assert_chance(found[f"Recall@10[category={category}]"], chance, queries)


def test_random_features_on_circo(annotation_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The list of the gallery's images is not published with the annotations, so the features bring their own."""
    protocol = real(annotation_root, "circo/val")
    assert protocol.labels is not None
    known = [name for row in protocol.labels.relevant for name in row] + [q.reference.id for q in protocol.queries]
    ids = tuple(dict.fromkeys([*known, *(str(1_000_000 + number) for number in range(8000))]))
    sides = random_features([query.id for query in protocol.queries], 1), random_features(ids, 2)
    found = from_the_command_line(annotation_root, tmp_path, "circo/val", sides, capsys)
    agree(found, naive.circo(annotation_root, *sides))
    assert_chance(found["Recall@50"], 50 / len(ids), 220)


@pytest.mark.parametrize("task", ["focus-object", "change-object"])
def test_random_features_on_genecis(
    annotation_root: Path, tmp_path: Path, task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    protocol = real(annotation_root, f"genecis/{task}")
    sides = both_sides(protocol)
    found = from_the_command_line(annotation_root, tmp_path, f"genecis/{task}", sides, capsys)
    agree(found, naive.genecis(annotation_root, task, *sides))
    for k in (1, 2, 3):
        assert_chance(found[f"Recall@{k}"], k / 15, 1960)


@pytest.mark.parametrize("task", ["focus-object", "change-object"])
def test_a_constant_scorer_gets_chance_on_genecis(annotation_root: Path, tmp_path: Path, task: str) -> None:
    protocol = real(annotation_root, f"genecis/{task}")
    sides = both_sides(protocol)
    constant = dict.fromkeys(sides[1], np.ones(WIDTH, dtype=np.float32))
    assert_chance(scored(tmp_path, protocol, (sides[0], constant))["Recall@1"], 1 / 15, 1960)
