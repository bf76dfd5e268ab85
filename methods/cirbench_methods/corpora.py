"""What training-free methods know besides query and item: lists of words, mean features, neighbours in the gallery."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cirbench.benchmarks.scenes.language import GROUND_WORDS, STYLE_WORDS, VIEWPOINT_WORDS
from cirbench.benchmarks.scenes.world import COLOURS, SHAPES, TEXTURES
from cirbench.errors import CorruptFile, UsageError
from cirbench.ranking import RankingTask, UnitRows, rank, tie_order, unit_rows
from cirbench.support import console
from cirbench.support.arrays import Ragged
from cirbench.support.textfiles import read_text
from cirbench.training.data import open_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cirbench.backbones.encoder import Encoder
    from cirbench.protocol import Item
    from cirbench.ranking import RowSource
    from cirbench.training.data.source import Part

SCENES = "scenes"

SCENES_SUBJECTS = (*SHAPES, *(f"{look} {shape}" for look in (*COLOURS, *TEXTURES[1:]) for shape in SHAPES))
"""What is seen on scenes: shapes, alone and in their colours and textures."""
SCENES_STYLES = tuple(
    word for words in (STYLE_WORDS, GROUND_WORDS, VIEWPOINT_WORDS) for all_ in words.values() for word in all_
)
"""How it is shown: styles, grounds and viewpoints."""

_HEADER = "object_name"  # of BASIC's generic_subjects.csv; the public code takes it for a word


def read_words(name: str | None, scenes: Sequence[str], *, option: str, purpose: str) -> tuple[str, ...]:
    """Read a list of words: a text file with one a line, the first column of a CSV file, or those of scenes.

    Args:
        name: ``scenes``, or a file.
        scenes: The words that ``scenes`` stands for.
        option: The parameter that names it, for messages.
        purpose: What it is needed for.

    Raises:
        UsageError: Nothing is given.
        MissingData: The file does not exist.
        CorruptFile: It cannot be read, or holds no word.
    """
    if name is None:
        raise UsageError(
            f"A list of words is needed {purpose}, and none is given.",
            hint=f"Give --set {option}=FILE.txt with one a line, or FILE.csv, whose first column it is.",
        )
    if name == SCENES:
        return tuple(scenes)
    text = read_text(Path(name))
    rows = csv.reader(io.StringIO(text)) if Path(name).suffix == ".csv" else ([line] for line in text.splitlines())
    words = tuple(dict.fromkeys(row[0].strip() for row in rows if row and row[0].strip()))
    words = words[1:] if words[:1] == (_HEADER,) else words
    if not words:
        raise CorruptFile(f"{name} holds no word.", hint="Write one a line.")
    return words


def unit_texts(encoder: Encoder, texts: Sequence[str]) -> NDArray[np.float64]:
    """Encode texts, (N, D), at unit length."""
    return unit_rows(encoder.texts(texts), [f"text {text!r}" for text in texts]).astype(np.float64)


def unit_images(encoder: Encoder, items: Sequence[Item]) -> NDArray[np.float32]:
    """Encode images, (N, D), at unit length."""
    return unit_rows(encoder.images(items), [f"image {item.id}" for item in items])


def sample_items(name: str, *, owner: str, option: str, parts: Sequence[Part]) -> tuple[list[Item], list[str]]:
    """Open images, and captions where ``parts`` names them, in any form that ``cirbench train --data`` takes.

    Raises:
        UsageError: The source holds no images, or no captions.
        MissingData: It does not exist, or a sample lacks a part.
    """
    from cirbench.protocol import Item

    source = open_source(name, say=console.say)
    source.require("pairs" if "caption" in parts else "images", owner=f"{option} of {owner}")
    items, captions = [], []
    for place, sample in enumerate(source.pairs):
        assert sample.image is not None
        items.append(Item(f"{name} {place}", sample.image))
        if "caption" in parts:
            assert sample.caption is not None
            captions.append(sample.caption)
    return items, captions


def read_arrays(path: Path, names: Sequence[str], dim: int) -> list[NDArray[np.float64]]:
    """Read arrays of features from a ``.npz`` file by name, or the one of a ``.npy`` file; rows of length ``dim``.

    Raises:
        CorruptFile: It is not such a file, or its features have another length or are not finite.
    """
    expected = " and ".join(names)
    try:
        with path.open("rb") as file:
            content: Any = np.load(file, allow_pickle=False)
            found = [content] if isinstance(content, np.ndarray) else [content[name] for name in names]
        arrays = [np.atleast_2d(array.astype(np.float64)) for array in found]
    except (OSError, ValueError, KeyError) as error:
        raise CorruptFile(f"{path} holds no arrays of features called {expected}.") from error
    if len(arrays) != len(names) or any(array.ndim != 2 or array.shape[1] != dim or not len(array) for array in arrays):
        shapes = " and ".join(str(array.shape) for array in arrays)
        raise CorruptFile(
            f"The features of {path} have the shape {shapes}; {expected} of this backbone have {dim} numbers each."
        )
    if not all(np.isfinite(array).all() for array in arrays):
        raise CorruptFile(f"The features of {path} hold NaN or infinite values.")
    return arrays


class Gallery:
    """The gallery that a method was fitted on: its rows, and the nearest of them to others.

    Args:
        ids: Of its items; of equally near ones the order is that of a ranking.
        rows_ND: Their rows.
    """

    def __init__(self, ids: Sequence[str], rows_ND: RowSource) -> None:
        self._order_N = tie_order(ids)
        self.rows_ND = rows_ND

    @classmethod
    def of_images(cls, encoder: Encoder, items: Sequence[Item]) -> Gallery:
        """Encode images, which are read at unit length as they are needed."""
        rows_ND = UnitRows(encoder.image_rows(items), [f"gallery item {item.id}" for item in items])
        return cls([item.id for item in items], rows_ND)

    def nearest(self, rows_QD: NDArray[np.float32], count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The positions of the items with the largest dot products, best first, and these, (Q, min(count, N)) each.

        They are exact, so that they depend neither on the batch nor on the machine.
        """
        return nearest(rows_QD, self.rows_ND, count, self._order_N)


def nearest(
    rows_QD: NDArray[np.float32], others_ND: RowSource, count: int, order_N: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The positions of the rows with the largest dot products, and these, (Q, min(count, N)); ties by ``order_N``."""
    queries, items = len(rows_QD), others_ND.shape[0]
    task = RankingTask(
        gallery_size=items,
        tie_order_N=np.arange(items) if order_N is None else order_N,
        depth=min(count, items),
        relevant=Ragged.of([[]] * queries, np.int64),
        excluded_Q=np.full(queries, -1),
    )
    found = rank(rows_QD, others_ND, task)
    return found.top_QK, found.scores_QK
