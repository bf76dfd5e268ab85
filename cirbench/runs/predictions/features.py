"""Features that were made elsewhere: NumPy arrays with lists of ids, checked, and ranked by dot products."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from cirbench.protocol import Gallery
from cirbench.errors import InvalidPredictions, MethodFailed, MissingData
from cirbench.runs.predictions.lists import check_form, check_ids, example, some
from cirbench.runs.predictions.read import parse_json, read_text
from cirbench.ranking.exact import rank
from cirbench.ranking.task import ranking_task
from cirbench.ranking.units import unit_rows

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from cirbench.protocol import EvaluationProtocol
    from cirbench.ranking.task import Ranking


@dataclasses.dataclass(frozen=True)
class FeatureFiles:
    """Where one side's features are, and what their rows stand for.

    Attributes:
        rows: An ``.npy`` file, (N, D), of float16, float32 or float64.
        ids: A text file with one id per row, a line each or as one JSON list.
    """

    rows: Path
    ids: Path


def rank_features(
    queries: FeatureFiles, gallery: FeatureFiles, protocol: EvaluationProtocol
) -> tuple[EvaluationProtocol, Ranking]:
    """Rank the gallery for each query by the dot product of the L2-normalised rows, in float32.

    Rows may stand in any order. Where the protocol's gallery is not available, the gallery's ids are taken for it.

    Returns:
        The protocol, with the gallery that was ranked, and the ranking.

    Raises:
        MissingData: A file is not there or cannot be read.
        InvalidPredictions: A file does not fit the protocol; the message names the file and the rows or ids.
    """
    query_ids, gallery_ids = read_ids(queries.ids), read_ids(gallery.ids)
    wanted = tuple(query.id for query in protocol.queries)
    check_ids(query_ids, wanted, "query", str(queries.ids), protocol)
    if protocol.gallery is None:
        _check_new_gallery(gallery_ids, gallery.ids, protocol)
        protocol = dataclasses.replace(protocol, gallery=Gallery(gallery_ids))
    else:
        check_ids(gallery_ids, protocol.gallery.ids, "gallery", str(gallery.ids), protocol)
    assert protocol.gallery is not None
    queries_QD, gallery_ND = read_features(queries.rows), read_features(gallery.rows)
    if queries_QD.shape[1] != gallery_ND.shape[1]:
        raise InvalidPredictions(
            f"{queries.rows} has {queries_QD.shape[1]} columns and {gallery.rows} {gallery_ND.shape[1]}.",
            hint="Queries and gallery need features of the same width.",
        )
    queries_QD = _unit(queries_QD, query_ids, wanted, queries, "query")
    gallery_ND = _unit(gallery_ND, gallery_ids, protocol.gallery.ids, gallery, "gallery item")
    return protocol, rank(queries_QD, gallery_ND, ranking_task(protocol))


def read_features(path: Path) -> NDArray[np.floating]:
    """Map an ``.npy`` file of floating-point rows into memory; nothing in it is ever executed.

    Raises:
        MissingData: The file is not there or cannot be read.
        InvalidPredictions: It is not a complete ``.npy`` file, or does not hold rows of float16, float32 or float64.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise MissingData(f"{path} cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # a damaged header makes NumPy raise almost anything
        raise InvalidPredictions(
            f"{path} is not a whole .npy file of numbers: {error}.",
            hint="Write it with numpy.save(path, array) from a float32 array.",
        ) from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise InvalidPredictions(f"{path} is an archive of arrays.", hint="Write one array with numpy.save.")
    if array.dtype.kind != "f" or array.dtype.itemsize not in (2, 4, 8):
        raise InvalidPredictions(f"{path} holds {array.dtype}, not float16, float32 or float64.")
    if array.ndim != 2 or 0 in array.shape:
        raise InvalidPredictions(f"{path} has the shape {array.shape}, not (rows, columns).")
    return array


def read_ids(path: Path) -> tuple[str, ...]:
    """Read ids from a file, a line each or as one JSON list of texts or whole numbers.

    Raises:
        MissingData: The file is not there or cannot be read.
        InvalidPredictions: It is empty, not such a list, or holds an id twice.
    """
    text = read_text(path)
    if text.lstrip()[0] == "[":
        content = parse_json(str(path), text)
        wrong = [value for value in content if type(value) not in (str, int)]
        if wrong:
            raise InvalidPredictions(f"{path}: {wrong[0]!r} is not a valid id.", hint="Ids are text or whole numbers.")
        names = tuple(str(value) for value in content)
    else:
        names = tuple(line.strip() for line in text.rstrip().split("\n"))
    if not names:
        raise InvalidPredictions(f"{path} holds no ids.")
    if "" in names:
        raise InvalidPredictions(f"{path}: the id at place {names.index('') + 1} is empty.")
    if len(set(names)) < len(names):
        seen: dict[str, int] = {}
        for place, name in enumerate(names, start=1):
            if name in seen:
                raise InvalidPredictions(f"{path}: the id {name!r} is at places {seen[name]} and {place}.")
            seen[name] = place
    return names


def _check_new_gallery(names: tuple[str, ...], path: Path, protocol: EvaluationProtocol) -> None:
    """Refuse ids that cannot be the whole gallery of ``protocol``."""
    if (odd := check_form(names, protocol)) is not None:
        raise InvalidPredictions(
            f"{path}: {odd!r} cannot be a gallery id of {protocol.name}; {example([protocol.queries[0].reference.id])}."
        )
    needed = {query.reference.id: "references" for query in protocol.queries}
    if protocol.labels is not None:
        needed |= {name: "ground truths" for row in protocol.labels.relevant for name in row}
    given = set(names)
    for kind in ("ground truths", "references"):
        if missing := sorted(name for name, role in needed.items() if role == kind and name not in given):
            raise InvalidPredictions(
                f"{path}: {len(missing)} {kind} of {protocol.name} are not in the gallery: {some(missing)}.",
                hint="Give the features of every image of the gallery.",
            )


def _unit(
    rows_ND: NDArray[np.floating], names: tuple[str, ...], order: tuple[str, ...], files: FeatureFiles, kind: str
) -> NDArray[np.float32]:
    """Bring rows into ``order`` and to unit length."""
    if len(rows_ND) != len(names):
        raise InvalidPredictions(f"{files.rows} holds {len(rows_ND)} rows, and {files.ids} {len(names)} ids.")
    if names != order:
        row_of = {name: row for row, name in enumerate(names)}
        rows_ND = rows_ND[[row_of[name] for name in order]]
    try:
        with np.errstate(over="ignore"):  # too large for float32 becomes infinite, and that is refused by name
            return unit_rows(rows_ND, [f"{kind} {name}" for name in order])
    except MethodFailed as error:
        raise InvalidPredictions(f"{files.rows}: {error.message}") from error
