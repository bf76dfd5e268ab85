"""Every benchmark is evaluated from image files: whole ones, crops and cut-out objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from cirbench.benchmarks import (
    circo,
    cirr,
    coco_composition,
    fashioniq,
    freedom,
    genecis,
    icir,
    imagenet_r,
    lasco,
    patterncom,
    repacked,
)
from cirbench.benchmarks.images import image_files, require_images
from cirbench.methods.evaluate import evaluate
from tests import annotation_files, circo_files

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cirbench.protocol import EvaluationProtocol, Item, Query


class MeanColour:
    """Knows an image by its mean colour, and a query by its reference."""

    def encode_gallery(self, items: Sequence[Item]) -> NDArray[np.float32]:
        return np.array(
            [np.asarray(item.image.open().convert("RGB")).mean(axis=(0, 1)) + 1 for item in items], np.float32
        )

    def encode_queries(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        return self.encode_gallery([query.reference for query in queries])


def small_circo(root: Path) -> EvaluationProtocol:
    rows, gallery = circo_files.labelled_rows()
    circo_files.write(root, rows, gallery)
    return circo.load("val-concept", root, circo_files.expected(rows, len(gallery)))


PROTOCOLS: dict[str, Callable[[Path], EvaluationProtocol]] = {
    "circo": small_circo,
    "cirr": lambda root: cirr.load("val", root, annotation_files.write_cirr(root)),
    "cirr without labels": lambda root: cirr.load("test1", root, annotation_files.write_cirr(root, split="test1")),
    "fashioniq": lambda root: fashioniq.load("val", root, annotation_files.write_fashioniq(root)),
    "fashioniq as PLI's code": lambda root: fashioniq.load_pli(root, annotation_files.write_pli(root)),
    "genecis": lambda root: genecis.load("all", root, annotation_files.write_genecis(root)),
    "icir": lambda root: icir.load(root, annotation_files.write_icir(root)),
    "mbeir": lambda root: repacked.load_mbeir("cirr", root, annotation_files.write_mbeir(root)),
    "mmeb": lambda root: repacked.load_mmeb("cirr", root, annotation_files.write_mmeb(root)),
    "patterncom": lambda root: patterncom.load(root, annotation_files.write_patterncom(root)),
    "lasco": lambda root: lasco.load("val", root, annotation_files.write_lasco(root)),
    "domain conversion": lambda root: imagenet_r.load(
        "domain-conversion", root, annotation_files.write_imagenet_r(root)
    ),
    "freedom": lambda root: freedom.load(freedom.LTLL_LISTS, root, annotation_files.write_ltll(root)),
    "object composition": lambda root: coco_composition.load(root, annotation_files.write_coco(root)),
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_benchmark_is_evaluated_from_its_image_files(tmp_path: Path, name: str) -> None:
    generator = np.random.default_rng(0)
    protocol = PROTOCOLS[name](tmp_path)
    for files in image_files(protocol):
        for file in files.names:
            path = tmp_path / files.collection.folders[0] / f"{file}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (8, 10, 3), dtype=np.uint8)).save(path)
    require_images(protocol := PROTOCOLS[name](tmp_path))
    evaluation = evaluate(MeanColour(), protocol)
    assert (evaluation.measurements == ()) == (protocol.labels is None)
    assert protocol.gallery is not None
    if name == "fashioniq":  # the reference is kept, and nothing is nearer to it than itself
        ids = protocol.gallery.ids
        assert [ids[top] for top in evaluation.ranking.top_QK[:, 0]] == [
            query.reference.id for query in protocol.queries
        ]
    if protocol.exclude_reference:
        tops = [{protocol.gallery.ids[place] for place in row if place >= 0} for row in evaluation.ranking.top_QK]
        assert not any(query.reference.id in top for query, top in zip(protocol.queries, tops, strict=True))
