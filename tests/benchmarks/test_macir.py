"""MA-CIR's levels give the numbers of its public evaluation, and files of another form are refused."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cirbench.benchmarks.macir import macir_protocol
from cirbench.errors import CorruptFile, MissingData, UnknownName
from cirbench.metrics.measure import ceilings, measure
from cirbench.ranking import rank, ranking_task
from tests.annotation_files import read, write, write_macir

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FULL, IMAGES = "macir/meta_data/macir_meta_full.json", "macir/meta_data/image_ids.json"


def published(
    rows: list[dict[str, Any]], names: list[str], scores: np.ndarray, *, restricted: bool
) -> dict[str, float]:
    """Recall@1 by composition and by pair, one query at a time: sort, drop the reference, keep what begins alike."""
    found: dict[str, list[float]] = defaultdict(list)
    for row, own in zip(rows, scores, strict=True):
        ranked = [name for _, name in sorted(zip(-own, names, strict=True)) if name != row["reference_image"]]
        reference = row["reference_image"]
        prefix = reference.split("_edit_")[0] if "_edit_" in reference else reference.split(".")[0]
        if restricted:
            ranked = [name for name in ranked if name.startswith(prefix)]
        if restricted and len(ranked) < 2:
            continue
        hit = float(ranked[0] == row["target_image"])
        composition, condition = row["composition_type"], row["condition_type"]
        found["Recall@1"].append(hit)
        found[f"Recall@1[composition={composition}]"].append(hit)
        if not restricted:
            found[f"Recall@1[condition={condition}]"].append(hit)
            found[f"Recall@1[pair={composition}_{condition}]"].append(hit)
    return {label: sum(hits) / len(hits) for label, hits in found.items()}


@pytest.mark.parametrize("variant", ["full", "restricted-add", "restricted-remove"])
def test_the_numbers_are_those_of_the_public_evaluation(tmp_path: Path, variant: str) -> None:
    write_macir(tmp_path)
    protocol = macir_protocol(variant, tmp_path)
    condition = variant.partition("-")[2]
    rows = read(tmp_path / f"macir/meta_data/macir_meta_{condition or 'full'}.json")
    names = read(tmp_path / IMAGES)
    scores = np.random.default_rng(0).random((len(rows), len(names))).astype(np.float32)
    asked = [int(query.id) for query in protocol.queries]
    own = np.eye(len(asked), dtype=np.float32)
    ranking = rank(own, np.ascontiguousarray(scores[asked].T), ranking_task(protocol))
    found = {each.label: each.value for each in measure(ranking, protocol) if "mean over" not in each.label}
    assert found == pytest.approx(published(rows, names, scores, restricted=bool(condition)))
    assert {each.value for each in ceilings(protocol)} == {1.0}


def test_a_query_ranks_the_variants_of_its_reference_and_needs_two(tmp_path: Path) -> None:
    write_macir(tmp_path)
    protocol = macir_protocol("restricted-add", tmp_path)
    assert protocol.pools is not None and protocol.pool_of_query is not None
    for query, place in zip(protocol.queries, protocol.pool_of_query, strict=True):
        prefix = query.reference.id[:2]
        assert protocol.pools[place] == (f"{prefix}.jpg", *(f"{prefix}_edit_{number}.png" for number in "012"))
    assert "20.jpg" not in [query.reference.id for query in protocol.queries]
    assert "20.jpg" in [query.reference.id for query in macir_protocol("full", tmp_path).queries]


BROKEN: dict[str, tuple[str, Callable[[Any], object], str]] = {
    "an empty caption": (FULL, lambda rows: rows[1].update(relative_caption=" "), "the caption is empty in query 1"),
    "the reference as the target": (
        FULL,
        lambda rows: rows[2].update(target_image=rows[2]["reference_image"]),
        "the reference is the target of query 2",
    ),
    "an image outside": (
        FULL,
        lambda rows: rows[2].update(target_image="99.jpg"),
        "images are not in the list of images: 99.jpg",
    ),
    "another condition": (FULL, lambda rows: rows[2].update(condition_type="keep"), r"Invalid enum value 'keep'"),
    "a key too few": (FULL, lambda rows: rows[2].pop("composition_type"), r"missing required field `composition_type`"),
    "an image twice": (IMAGES, lambda names: names.append("10.png"), "it holds images more than once: 10"),
    "no queries": (FULL, lambda rows: rows.clear(), "it holds no queries"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_files_of_another_form_are_refused(tmp_path: Path, name: str) -> None:
    file, spoil, message = BROKEN[name]
    write_macir(tmp_path)
    content = read(tmp_path / file)
    spoil(content)
    write(tmp_path / file, content)
    with pytest.raises(CorruptFile, match=message):
        macir_protocol("full", tmp_path)


def test_queries_of_another_condition_or_without_their_target_are_refused(tmp_path: Path) -> None:
    write_macir(tmp_path)
    path = tmp_path / "macir/meta_data/macir_meta_add.json"
    rows = read(path)
    write(path, [{**rows[0], "condition_type": "remove"}, *rows[1:]])
    with pytest.raises(CorruptFile, match="the condition is not add in query 0"):
        macir_protocol("restricted-add", tmp_path)
    write(path, [{**rows[0], "target_image": "11.jpg"}, *rows[1:]])
    with pytest.raises(CorruptFile, match="the target does not begin like the reference in query 0"):
        macir_protocol("restricted-add", tmp_path)


def test_what_is_absent_or_unknown_is_answered(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"macir_meta_full\.json") as caught:
        macir_protocol("full", tmp_path)
    assert caught.value.hint is not None and "github.com/jaeseokbyun/MACIR" in caught.value.hint
    with pytest.raises(UnknownName, match="no protocol of macir called 'restricted'"):
        macir_protocol("restricted", tmp_path)
