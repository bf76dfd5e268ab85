"""PatternCom asks each image for the other values of an attribute that its class has."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cirbench.benchmarks.images import image_files
from cirbench.benchmarks.patterncom import ATTRIBUTES, METRIC, load, patterncom_protocol
from cirbench.cli import execute
from cirbench.errors import CorruptFile, MissingData, UnknownName
from cirbench.metrics.measure import ceilings, measure
from cirbench.ranking import rank, ranking_task
from tests.annotation_files import write_patterncom

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from cirbench.protocol import EvaluationProtocol

MEAN = f"{METRIC}[mean over attribute]"
ASKED_AS_ONE = [  # attribute, class, what it is called together with another
    ("density", "denseresidential", "residential"),
    ("density", "sparseresidential", "residential"),
    ("context", "bridge", "roadpass"),
    ("context", "overpass", "roadpass"),
    ("existence", "ferryterminal", "pier"),
    ("existence", "harbor", "pier"),
]
JUDGED_AS_ONE = {name: together for _, name, together in ASKED_AS_ONE}


def published_numbers(root: Path, scores: dict[tuple[str, str], list[str]]) -> dict[str, float]:
    """Evaluate as the public code does: per image and asked value, a ranking of all images by name."""
    numbers = {}
    for attribute in ATTRIBUTES:
        with (root / f"patterncom/PatternCom/{attribute}.csv").open(newline="") as file:
            rows = list(csv.reader(file))
        keys = []
        for image, name, _ in rows:
            key = name + re.split(r"\d", image)[0]
            for where, of, together in ASKED_AS_ONE:
                key = f"{attribute}{together}" if where == attribute and key == where + of else key
            keys.append(key)
        last = {image: number for number, (image, _, _) in enumerate(rows)}
        values = []
        for (image, _, value), key in zip(rows, keys, strict=True):
            others = {row[2] for row, other in zip(rows, keys, strict=True) if other == key} - {value}
            mine = re.split(r"\d", image)[0]
            for prompt in others:
                precisions: list[float] = []
                for place, found in enumerate(scores[image, prompt], start=1):
                    number = last.get(found, -1)
                    theirs = re.split(r"\d", found)[0]
                    if (
                        number >= 0
                        and rows[number][2] == prompt
                        and JUDGED_AS_ONE.get(theirs, theirs) == JUDGED_AS_ONE.get(mine, mine)
                    ):
                        precisions.append((len(precisions) + 1) / place)
                values.append(sum(precisions) / len(precisions) if precisions else 0)
        numbers[f"{METRIC}[attribute={attribute}]"] = float(np.mean(values))
    return numbers | {MEAN: float(np.mean([*numbers.values()]))}


def at_random(protocol: EvaluationProtocol) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features of the queries, the same for the same image and text, and of the gallery."""
    assert protocol.gallery is not None
    draw = np.random.default_rng(0)
    of = {(query.reference.id, query.captions[0]): draw.standard_normal(8) for query in protocol.queries}
    queries = np.array([of[query.reference.id, query.captions[0]] for query in protocol.queries], np.float32)
    return queries, draw.standard_normal((len(protocol.gallery), 8)).astype(np.float32)


def test_the_numbers_are_those_of_the_public_evaluation(tmp_path: Path) -> None:
    protocol = load(tmp_path, write_patterncom(tmp_path))
    assert protocol.gallery is not None
    queries, gallery = at_random(protocol)
    ids = np.array(protocol.gallery.ids)
    ranked = {
        (query.reference.id, query.captions[0]): [*ids[np.argsort(-(gallery @ row))]]
        for query, row in zip(protocol.queries, queries, strict=True)
    }
    found = {each.label: each.value for each in measure(rank(queries, gallery, ranking_task(protocol)), protocol)}
    assert next(iter(found)) == MEAN
    assert found == pytest.approx(published_numbers(tmp_path, ranked))
    assert {each.value for each in ceilings(protocol)} == {1.0}


def test_an_image_is_asked_for_the_other_values_of_its_class_and_never_answers_itself(tmp_path: Path) -> None:
    protocol = load(tmp_path, write_patterncom(tmp_path))
    assert protocol.labels is not None and protocol.gallery is not None
    for query, relevant in zip(protocol.queries, protocol.labels.relevant, strict=True):
        assert query.reference.id in protocol.gallery.positions
        if query.reference.id != "overpass004.jpg":  # which has two values of one attribute
            assert query.reference.id not in relevant
    twice = [query for query in protocol.queries if query.reference.id == "overpass004.jpg"]
    assert {query.captions[0] for query in twice} == {"one", "two", "three"}
    assert len({query.id for query in twice}) == len(twice)
    assert "quantity/three/overpass004.jpg-2" in {query.id for query in twice}


def test_classes_are_asked_as_one_for_an_attribute_and_judged_as_one_for_all(tmp_path: Path) -> None:
    write_patterncom(tmp_path)
    rows = ["denseresidential000.jpg,{0},few", "sparseresidential000.jpg,{0},many", "sparseresidential001.jpg,{0},few"]
    for attribute in ATTRIBUTES:
        (tmp_path / f"patterncom/PatternCom/{attribute}.csv").write_text("\n".join(rows).format(attribute))
    protocol = load(tmp_path, {})
    assert protocol.labels is not None
    found = {query.id: set(row) for query, row in zip(protocol.queries, protocol.labels.relevant, strict=True)}
    few = {"denseresidential000.jpg", "sparseresidential001.jpg"}
    assert found["density/many/denseresidential000.jpg"] == {"sparseresidential000.jpg"}
    assert "color/many/denseresidential000.jpg" not in found  # its own class has one colour
    assert found["color/few/sparseresidential000.jpg"] == found["density/few/sparseresidential000.jpg"] == few


def test_images_are_found_in_the_folder_of_patternnet(tmp_path: Path) -> None:
    expected = write_patterncom(tmp_path)
    (tmp_path / "patterncom").rename(tmp_path / "PatternNet")
    (files,) = image_files(load(tmp_path, expected))
    path = tmp_path / "PatternNet/images/swimming_pool/swimmingpool003.jpg"
    path.parent.mkdir(parents=True)
    path.touch()
    assert files.found == {"swimmingpool003": path}


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("patternnet.csv", "images/harbor/harbor9.jpg harbor", r"not a path, a field and a class in line 43"),
        (
            "patternnet.csv",
            "images/x/harbor000.jpg x harbor",
            r"43 images, not 42; it holds images more than once: har",
        ),
        ("PatternCom/shape.csv", "harbor000.jpg,shape", r"not an image, an attribute and a value in line 41"),
        ("PatternCom/shape.csv", "harbor000.jpg,shape,", r"not an image, an attribute and a value in line 41"),
        ("PatternCom/shape.csv", 'harbor000.jpg,shape,"one', r"it is not a CSV file"),
        ("PatternCom/shape.csv", "lagoon000.jpg,shape,one", r"images are not in patternnet\.csv: lagoon000\.jpg"),
        (
            "PatternCom/shape.csv",
            "swimmingpool000.jpg,shape,four\nswimmingpool000.jpg,shape,two",
            r"no image has the value that is asked for, by its last row: swimmingpool000\.jpg: four",
        ),
    ],
)
def test_changed_lists_are_refused_with_the_line(tmp_path: Path, file: str, line: str, message: str) -> None:
    expected = write_patterncom(tmp_path)
    path = tmp_path / "patterncom" / file
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(CorruptFile, match=message):
        load(tmp_path, expected)


def test_lists_that_nobody_may_hand_on_are_got_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = "https://github.com/billpsomas/rscir (Google Drive)"
    assert execute(["data", "plan", "patterncom"]) == 0
    told = capsys.readouterr().out
    assert address in told and "30,400 images" in told and "everything is here" not in told
    assert execute(["data", "get", "patterncom", "--data-root", str(tmp_path)]) == 0
    assert address in capsys.readouterr().err


def test_other_counts_than_the_authors_state_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"patternnet\.csv"):
        patterncom_protocol("all", tmp_path)
    write_patterncom(tmp_path)
    with pytest.raises(CorruptFile, match="it holds 42 images, not 30400; it holds 7 classes, not 38"):
        patterncom_protocol("all", tmp_path)
    with pytest.raises(UnknownName, match="color"):
        patterncom_protocol("color", tmp_path)
