"""Write rankings as JSON lines and as TREC runs, and ground truths as TREC qrels."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cirbench.errors import CheckFailed, MissingData, quoted
from cirbench.support.files import write_text

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from cirbench.protocol import EvaluationProtocol
    from cirbench.ranking.task import Ranking


def write_jsonl(path: Path, protocol: EvaluationProtocol, ranking: Ranking) -> None:
    """Write one line per query: its id, the first gallery ids, and the ranking of its group where there is one."""
    ids = _gallery_ids(protocol)
    lines = []
    for place, query in enumerate(protocol.queries):
        row: dict[str, object] = {"query_id": query.id, "ranking": _names(ranking.top_QK[place], ids)}
        if ranking.group_top_QK is not None:
            row["group_ranking"] = _names(ranking.group_top_QK[place], ids)
        lines.append(json.dumps(row, ensure_ascii=False))
    write_text(path, _joined(lines))


def write_trec(path: Path, protocol: EvaluationProtocol, ranking: Ranking, *, tag: str = "cirbench") -> None:
    """Write a TREC run: ``query Q0 item rank score tag``, scores with the nine digits that keep a float32.

    Raises:
        CheckFailed: An id holds white space, which separates the fields of this format.
    """
    ids = _gallery_ids(protocol)
    lines = []
    for place, query in enumerate(protocol.queries):
        names = _names(ranking.top_QK[place], ids)
        _refuse_spaces([query.id, *names], path)
        scores = ranking.scores_QK[place].tolist()
        lines += [
            f"{query.id} Q0 {name} {rank} {score:.9g} {tag}"
            for rank, (name, score) in enumerate(zip(names, scores, strict=False), start=1)
        ]
    write_text(path, _joined(lines))


def write_qrels(path: Path, protocol: EvaluationProtocol) -> None:
    """Write the ground truths as TREC qrels: ``query 0 item 1``.

    Raises:
        MissingData: The protocol has no public labels.
        CheckFailed: An id holds white space, which separates the fields of this format.
    """
    if protocol.labels is None:
        raise MissingData(f"The ground truths of {protocol.name} are not public.")
    lines = []
    for query, names in zip(protocol.queries, protocol.labels.relevant, strict=True):
        _refuse_spaces([query.id, *names], path)
        lines += [f"{query.id} 0 {name} 1" for name in names]
    write_text(path, _joined(lines))


def _gallery_ids(protocol: EvaluationProtocol) -> tuple[str, ...]:
    if protocol.gallery is None:
        raise MissingData(f"The gallery of {protocol.name} is not available, so positions cannot be named.")
    return protocol.gallery.ids


def _names(top_K: NDArray[np.int64], ids: tuple[str, ...]) -> list[str]:
    return [ids[position] for position in top_K.tolist() if position >= 0]


def _joined(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _refuse_spaces(names: Iterable[str], path: Path) -> None:
    for name in names:
        if not name or name.split() != [name]:
            raise CheckFailed(
                f"The id {quoted(name)} cannot be written to {path}: white space separates the fields of a TREC file.",
                hint="Give the items ids without white space.",
            )
