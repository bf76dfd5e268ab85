"""Golden numbers computed again on this machine: features, ranks, metrics and losses, and how far they are apart.

python -m cirbench.runs.selftest    makes them again; say in the commit why they may differ
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from cirbench.backbones import load_backbone
from cirbench.backbones.encoder import Encoder
from cirbench.benchmarks.scenes import scenes_protocol
from cirbench.metrics.measure import measure
from cirbench.ranking import rank, ranking_task, unit_rows
from cirbench.support.files import read_versioned, write_versioned
from cirbench.training.checkpoint import read_card
from cirbench.training.contrastive import Contrastive
from cirbench.training.data import open_source
from cirbench.training.interface import CLIP, TrainingParameters
from cirbench.training.train import Request, train

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cirbench.backbones.interface import Backbone
    from cirbench.ranking import RankingTask

FILE = Path(__file__).with_suffix(".json")
VERSION = 1
SAMPLES = 4
"""Images and texts that are encoded."""
TRAINING = TrainingParameters(steps=5, batch_size=16, lr=1e-4)


class Golden(msgspec.Struct, frozen=True, kw_only=True):
    """What is computed.

    Attributes:
        schema_version: Of this form.
        images: Unit rows of the first images of scenes/tiny.
        texts: Unit rows of its first captions.
        ranks: The exact rank of each relevant item, for rows of small whole numbers with many ties.
        metrics: Every metric of that ranking, by label.
        losses: The steps of a contrastive training.
    """

    schema_version: int = VERSION
    images: list[list[float]]
    texts: list[list[float]]
    ranks: list[int]
    metrics: dict[str, float]
    losses: list[float]


@dataclasses.dataclass(frozen=True, slots=True)
class Deviation:
    """How far one kind of number is from its golden values.

    Attributes:
        what: The kind.
        largest: The largest difference.
        tolerance: The largest that rounding explains on other processors and versions of torch.
    """

    what: str
    largest: float
    tolerance: float

    @property
    def is_within(self) -> bool:
        """Whether rounding explains it."""
        return self.largest <= self.tolerance  # false for NaN


def compute(backbone: Backbone) -> Golden:
    """Compute all of it by the bundled backbone on this machine; nothing is kept."""
    protocol = scenes_protocol("tiny")
    gallery, queries = protocol.gallery, protocol.queries
    assert gallery is not None
    encoder = Encoder(backbone, None)
    images_ND = encoder.images(gallery.items[:SAMPLES])
    texts_ND = encoder.texts([query.captions[0] for query in queries[:SAMPLES]])
    task = ranking_task(protocol)
    ranking = rank(*_whole_numbers(task), task)
    with tempfile.TemporaryDirectory(prefix="cirbench-") as folder:
        request = Request(CLIP, Contrastive, TRAINING, backbone, open_source("scenes:64"))
        losses = read_card(train(request, folder=Path(folder) / CLIP)).losses
    return Golden(
        images=_rounded(images_ND),
        texts=_rounded(texts_ND),
        ranks=ranking.relevant_ranks.values.tolist(),
        metrics={str(each.label): each.value for each in measure(ranking, protocol)},
        losses=[round(loss, 7) for loss in losses],
    )


def _whole_numbers(task: RankingTask) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Rows of queries, near those of their targets, and of the gallery: dot products are exact, and often equal."""
    draws = np.random.RandomState(0)
    gallery_N8 = draws.randint(-3, 4, (task.gallery_size, 8))
    targets_Q = task.relevant.values[task.relevant.offsets[:-1]]
    queries_Q8 = gallery_N8[targets_Q] + draws.randint(-3, 4, (len(targets_Q), 8))
    return queries_Q8.astype(np.float32), gallery_N8.astype(np.float32)


def _rounded(rows_ND: NDArray[np.float32]) -> list[list[float]]:
    units_ND = unit_rows(rows_ND, [str(row) for row in range(len(rows_ND))])
    return [[round(float(value), 7) for value in row] for row in units_ND]


def deviations(found: Golden, on_gpu: bool = False) -> list[Deviation]:
    """Compare what was computed with the golden numbers.

    Raises:
        CorruptFile: The golden numbers are damaged.
    """
    golden = read_versioned(FILE, Golden, version=VERSION)
    rounding = 1e-4 if on_gpu else 1e-5
    wrong = sum(one != other for one, other in zip(found.ranks, golden.ranks, strict=True))
    labels = {*found.metrics, *golden.metrics}
    metrics = [found.metrics.get(label, np.nan) - golden.metrics.get(label, np.nan) for label in labels]
    return [
        Deviation("image features (scenes-vit)", _apart(found.images, golden.images), rounding),
        Deviation("text features (scenes-vit)", _apart(found.texts, golden.texts), rounding),
        Deviation(f"exact ranks ({len(golden.ranks):,}): how many differ", wrong, 0),
        Deviation("metrics", float(np.abs(metrics).max()), 0),
        Deviation(f"losses of {len(golden.losses)} training steps", _apart(found.losses, golden.losses), 10 * rounding),
    ]


def _apart(found: list[float] | list[list[float]], golden: list[float] | list[list[float]]) -> float:
    return float(np.abs(np.asarray(found, np.float64) - np.asarray(golden, np.float64)).max())


if __name__ == "__main__":
    write_versioned(FILE, compute(load_backbone("scenes-vit", device="cpu")))
