"""What is written is read back as it was."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cirbench.errors import CheckFailed, MissingData
from cirbench.ranking import Ranking, rank, ranking_task
from cirbench.runs.predictions.lists import read_rankings, write_jsonl, write_qrels, write_trec
from tests.runs.predictions.protocols import custom_protocol, small_protocol, with_groups

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cirbench.protocol import EvaluationProtocol

# A byte order mark at the start of a file is dropped by every reader; half a surrogate pair is not text.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff"), min_size=1)
WORD = TEXT.filter(lambda text: text.split() == [text])


@st.composite
def rankings(draw: st.DrawFn, names: st.SearchStrategy[str]) -> tuple[EvaluationProtocol, Ranking]:
    """A protocol with groups, ranked by few distinct scores, so that ties are common."""
    gallery = draw(st.lists(names, min_size=4, max_size=12, unique=True))
    queries = draw(st.lists(names, min_size=1, max_size=5, unique=True))
    protocol = with_groups(custom_protocol(gallery, queries))
    values = st.lists(st.sampled_from([-2.0, -1.0, 1.0, 1.5, 1e-30, 3e8]), min_size=2, max_size=2)
    rows = [np.array([draw(values) for _ in range(n)], dtype=np.float32) for n in (len(queries), len(gallery))]
    return protocol, rank(rows[0], rows[1], ranking_task(protocol))


def names_of(protocol: EvaluationProtocol, top_QK: NDArray[np.int64]) -> dict[str, tuple[str, ...]]:
    assert protocol.gallery is not None
    ids = protocol.gallery.ids
    return {
        query.id: tuple(ids[position] for position in row if position >= 0)
        for query, row in zip(protocol.queries, top_QK, strict=True)
    }


@pytest.mark.slow
@given(rankings(TEXT))
def test_json_lines_come_back_with_every_id(ranked: tuple[EvaluationProtocol, Ranking]) -> None:
    protocol, ranking = ranked
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.jsonl"
        write_jsonl(path, protocol, ranking)
        lists = read_rankings(path)
    assert ranking.group_top_QK is not None
    assert lists.rankings == names_of(protocol, ranking.top_QK)
    assert lists.group_rankings == names_of(protocol, ranking.group_top_QK)


@pytest.mark.slow
@given(rankings(WORD))
def test_a_trec_run_comes_back_in_order_through_ties(ranked: tuple[EvaluationProtocol, Ranking]) -> None:
    protocol, ranking = ranked
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.trec"
        write_trec(path, protocol, ranking)
        assert read_rankings(path).rankings == names_of(protocol, ranking.top_QK)
        scores = [np.float32(line.split()[4]) for line in path.read_text().splitlines()]
    kept = ranking.scores_QK[ranking.top_QK >= 0]
    assert np.array_equal(np.array(scores), kept)


def ranked_small() -> tuple[EvaluationProtocol, Ranking]:
    protocol = small_protocol()
    generator = np.random.default_rng(0)
    queries_QD, gallery_ND = (generator.normal(size=(n, 4)).astype(np.float32) for n in (3, 9))
    return protocol, rank(queries_QD, gallery_ND, ranking_task(protocol))


def test_lines_have_the_form_that_the_documentation_shows(tmp_path: Path) -> None:
    protocol, ranking = ranked_small()
    write_jsonl(tmp_path / "a.jsonl", protocol, ranking)
    write_trec(tmp_path / "a.trec", protocol, ranking)
    write_qrels(tmp_path / "qrels.trec", protocol)
    assert (tmp_path / "a.jsonl").read_text().startswith('{"query_id": "0", "ranking": ["1')
    query, iteration, item, place, score, tag = (tmp_path / "a.trec").read_text().splitlines()[0].split()
    assert (query, iteration, place, tag) == ("0", "Q0", "1", "cirbench")
    assert item == names_of(protocol, ranking.top_QK)["0"][0]
    assert np.float32(score) == ranking.scores_QK[0, 0]
    assert (tmp_path / "qrels.trec").read_text() == "".join(
        f"{number} 0 {100 + number + step} 1\n" for number in range(3) for step in (1, 2)
    )


@pytest.mark.parametrize("name", ["two words", "tab\there", "line\nbreak", "no\u00a0break"])
def test_ids_with_white_space_do_not_fit_trec(tmp_path: Path, name: str) -> None:
    protocol = custom_protocol(["100", name, "102"], ["0"])
    rows = np.eye(3, dtype=np.float32)
    ranking = rank(rows[1:2], rows, ranking_task(protocol))
    with pytest.raises(CheckFailed, match="white space separates the fields of a TREC file"):
        write_trec(tmp_path / "a", protocol, ranking)
    with pytest.raises(CheckFailed, match="white space separates the fields of a TREC file"):
        write_qrels(tmp_path / "a", protocol)
    assert list(tmp_path.iterdir()) == []


def test_hidden_labels_and_unknown_galleries_cannot_be_written(tmp_path: Path) -> None:
    protocol, ranking = ranked_small()
    with pytest.raises(MissingData, match="ground truths of small/val@1 are not public"):
        write_qrels(tmp_path / "a", dataclasses.replace(protocol, labels=None))
    with pytest.raises(MissingData, match="gallery of small/val@1 is not available"):
        write_jsonl(tmp_path / "a", dataclasses.replace(protocol, gallery=None), ranking)
