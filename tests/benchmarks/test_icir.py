"""i-CIR: each query ranks the database of its instance, and the number is the paper's; changed files are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from cirbench.benchmarks.icir import INSTANCES, MACRO, QUERIES, icir_protocol, load
from cirbench.benchmarks.images import image_files
from cirbench.errors import CorruptFile, InvalidPredictions, MissingData, UnknownName
from cirbench.metrics.measure import ceilings, measure
from cirbench.ranking import Ranking, rank, ranking_task
from cirbench.runs.predictions.lists import RankedLists
from tests.annotation_files import write_icir
from tests.runs.predictions.protocols import score_lists

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from cirbench.protocol import EvaluationProtocol

QUERY_FILE, DATABASE_FILE = "icir/query_files.csv", "icir/database_files.csv"


def ranked_at_random(protocol: EvaluationProtocol) -> tuple[Ranking, NDArray[np.float32], NDArray[np.float32]]:
    assert protocol.gallery is not None
    draw = np.random.default_rng(0)
    queries, gallery = (
        draw.standard_normal((count, 4)).astype(np.float32) for count in (len(protocol.queries), len(protocol.gallery))
    )
    return rank(queries, gallery, ranking_task(protocol)), queries, gallery


def published_number(scores: list[tuple[float, bool]]) -> float:
    """The average precision of one query as the public evaluation takes it, with 1e-5 added to the ground truths."""
    found, area = 0, 0.0
    relevant = sum(right for _, right in scores)
    for place, (_, right) in enumerate(sorted(scores, reverse=True)):
        if right:
            area += ((found / place if place else 1.0) + (found + 1) / (place + 1)) / (2 * (relevant + 1e-5))
            found += 1
    return area


def test_each_query_ranks_the_database_of_its_instance(tmp_path: Path) -> None:
    protocol = load(tmp_path, write_icir(tmp_path))
    rows = [line.split(",", 1) for line in (tmp_path / DATABASE_FILE).read_text().splitlines()]
    assert protocol.pools is not None and protocol.pool_of_query is not None and protocol.labels is not None
    for query, place, relevant in zip(protocol.queries, protocol.pool_of_query, protocol.labels.relevant, strict=True):
        instance = query.reference.id.split("/")[1]
        assert set(protocol.pools[place]) == {image for image, rest in rows if rest.endswith(f",{instance}")}
        assert relevant and all(f"{image}" in protocol.pools[place] for image in relevant)
        assert query.reference.id not in protocol.pools[place]
    assert protocol.queries[1].captions == ("as a toy, in red",)  # a comma between quotes
    assert set(protocol.clusters or ()) == {protocol.slices["instance"][n][0] for n in range(len(protocol.queries))}


def test_the_number_is_that_of_the_public_evaluation(tmp_path: Path) -> None:
    protocol = load(tmp_path, write_icir(tmp_path))
    ranking, queries, gallery = ranked_at_random(protocol)
    assert protocol.gallery and protocol.pools and protocol.pool_of_query and protocol.labels
    at = protocol.gallery.positions
    by_instance: dict[str, list[float]] = {}
    for number, query in enumerate(protocol.queries):
        pool, relevant = protocol.pools[protocol.pool_of_query[number]], protocol.labels.relevant[number]
        scores = [(float(queries[number] @ gallery[at[name]]), name in relevant) for name in pool]
        by_instance.setdefault(protocol.slices["instance"][number][0], []).append(published_number(scores))
        assert query.captions
    found = {each.label: each.value for each in measure(ranking, protocol)}
    assert found[MACRO] == pytest.approx(np.mean([np.mean(values) for values in by_instance.values()]), rel=1e-4)
    micro = [value for values in by_instance.values() for value in values]
    assert found["mAP_trapezoidal"] == pytest.approx(np.mean(micro), rel=1e-4)
    assert next(iter(found)) == MACRO
    assert {each.value for each in ceilings(protocol)} == {1.0}


def test_lists_that_end_early_get_no_number(tmp_path: Path) -> None:
    protocol = load(tmp_path, write_icir(tmp_path))
    assert protocol.pools is not None and protocol.pool_of_query is not None
    pools = [protocol.pools[place] for place in protocol.pool_of_query]
    whole = RankedLists("mine", {query.id: pool for query, pool in zip(protocol.queries, pools, strict=True)})
    assert score_lists(whole, protocol).measurements[0].label == MACRO
    short = RankedLists("mine", {query.id: pool[:1] for query, pool in zip(protocol.queries, pools, strict=True)})
    with pytest.raises(InvalidPredictions, match=r"mAP_trapezoidal of icir/all@1 needs the full ranking"):
        score_lists(short, protocol)


def test_images_are_found_below_the_folder_of_the_benchmark(tmp_path: Path) -> None:
    (files,) = image_files(load(tmp_path, write_icir(tmp_path)))
    assert files.names[0].startswith("query/") and not files.names[0].endswith(".jpg")
    for name in files.names:
        (tmp_path / "icir" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "icir" / f"{name}.jpg").touch()
    (files,) = image_files(load(tmp_path, write_icir(tmp_path)))
    assert files.missing == ()


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        (QUERY_FILE, "query/i0/9.jpg,as a toy, in red,i0", r"not an image, a text and an instance in line 7"),
        (QUERY_FILE, "query/i0/9.jpg,,i0", r"the text is empty in line 7"),
        (QUERY_FILE, "query/i0/9.jpg,in snow,i0", r"no image of the database is an answer to line 7"),
        (QUERY_FILE, "database/i0/0.jpg,at night,i0", r"the image of line 7 is in the database too"),
        (QUERY_FILE, "query/i0/0.jpg,at night,i0", r"it holds queries more than once"),
        (DATABASE_FILE, "database/i0/0.jpg,at night,i0", "it holds images of an instance and a text more than once"),
        (DATABASE_FILE, "database/i0/0.jpg", r"not an image, a text and an instance in line 31"),
        (DATABASE_FILE, 'database/i0/0.jpg,"at night,i0', r"it is not a CSV file"),
    ],
)
def test_changed_files_are_refused_with_the_line(tmp_path: Path, file: str, line: str, message: str) -> None:
    expected = write_icir(tmp_path)
    expected = {**expected, QUERIES: expected[QUERIES] + (file == QUERY_FILE)}
    path = tmp_path / file
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(CorruptFile, match=message):
        load(tmp_path, expected)


def test_other_counts_than_the_paper_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"query_files\.csv"):
        icir_protocol("all", tmp_path)
    write_icir(tmp_path)
    with pytest.raises(CorruptFile, match=f"it holds 6 {QUERIES}, not 1883; it holds 3 {INSTANCES}, not 202"):
        icir_protocol("all", tmp_path)
    with pytest.raises(UnknownName, match="val"):
        icir_protocol("val", tmp_path)
