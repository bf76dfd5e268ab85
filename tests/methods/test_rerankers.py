"""What a re-ranker is handed, and what happens to one that answers wrongly."""

from __future__ import annotations

import dataclasses
import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from cirbench.benchmarks.circo import UNLABELED2017
from cirbench.benchmarks.images import ImageFiles
from cirbench.errors import MethodFailed, MissingData, PluginFailed, UsageError
from cirbench.methods.evaluate import SecondStage
from cirbench.methods.interface import Calls, ComposedQuery, MethodSpec, Parameters, Picture
from cirbench.methods.loading import CheckedReranker, build_reranker
from cirbench.metrics.functions import UNRANKED
from cirbench.ranking import rank, ranking_task
from tests import scorers
from tests.toy_protocols import cirr_like

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cirbench.protocol import EvaluationProtocol


@dataclasses.dataclass(frozen=True)
class Named:
    """An image whose file would give the answer away."""

    name: str

    @property
    def content(self) -> str:
        return "0" * 64

    def open(self) -> Image.Image:
        image = Image.new("P", (3, 2), 7)
        image.info["comment"] = f"target of {self.name}".encode()
        image.filename = f"/data/{self.name}.png"  # type: ignore[attr-defined]
        return image

    def __str__(self) -> str:
        return self.name


def protocol(queries: int = 6) -> EvaluationProtocol:
    whole = cirr_like(queries=queries, items=40)
    assert whole.gallery is not None
    images = [Named(name) for name in whole.gallery.ids]
    of = dict(zip(whole.gallery.ids, images, strict=True))
    asked = tuple(
        dataclasses.replace(each, reference=dataclasses.replace(each.reference, image=of[each.reference.id]))
        for each in whole.queries
    )
    return dataclasses.replace(whole, queries=asked, gallery=dataclasses.replace(whole.gallery, images=images))


def stage(k: int = 5) -> SecondStage:
    whole = protocol()
    return SecondStage(rank(*scorers.random(whole), ranking_task(whole)), whole, k)


class Recorder:
    """Keeps everything that it is handed."""

    def __init__(self, *judgements: Any) -> None:
        self.seen: list[tuple[ComposedQuery, list[Picture], Any]] = []
        self._judgements = judgements

    def rerank(self, query: ComposedQuery, items: Sequence[Picture], scores: Any) -> Any:
        self.seen.append((query, list(items), scores))
        if self._judgements:
            return self._judgements[0]
        return np.arange(len(items), dtype=np.float32)


def test_a_re_ranker_sees_pixels_and_texts_and_no_id_or_name_of_a_file() -> None:
    recorder = Recorder()
    stage().judged(CheckedReranker(recorder, "recorder"))
    assert {field.name for field in dataclasses.fields(ComposedQuery)} == {
        "reference",
        "captions",
        "category",
        "shared_concept",
    }
    assert [name for name, _ in inspect.getmembers(Picture) if not name.startswith("_")] == ["content", "open"]
    for query, items, _ in recorder.seen:
        for picture in (query.reference, *items):
            assert "dev-" not in f"{picture!r} {picture} {picture.content}"
            image = picture.open()
            assert (image.mode, image.size, image.info) == ("RGB", (3, 2), {})
            assert not hasattr(image, "filename")
        assert "dev-" not in f"{query!r}"


def test_each_query_is_judged_once_on_its_first_items_and_once_on_its_group_without_the_reference() -> None:
    recorder = Recorder()
    done = stage().judged(CheckedReranker(recorder, "recorder"))
    assert [len(items) for _, items, _ in recorder.seen] == [5, 5] * 6
    assert (done.queries, done.calls, done.undecided) == (6, Calls(12), 0)
    assert done.evaluation.ranking.group_ranks_Q is not None
    assert (done.evaluation.ranking.group_ranks_Q < UNRANKED).all()


@pytest.mark.parametrize(
    ("judgement", "message"),
    [
        (np.array([1, 2, np.nan, np.inf, 0], np.float32), "judged 2 of 5 items as NaN or infinite"),
        (np.zeros(4, np.float32), r"returned the shape \(4,\) for 5 items"),
        (np.zeros(5), "returned float64 values instead of a float32 array"),
        ([1.0, 2.0], "returned a list instead of a float32 array"),
    ],
)
def test_an_answer_that_is_no_judgement_names_the_re_ranker_and_the_query(judgement: Any, message: str) -> None:
    with pytest.raises(MethodFailed, match=f"The re-ranker mine {message}, for the query '"):
        stage().judged(CheckedReranker(Recorder(judgement), "mine"))


def test_a_re_ranker_that_raises_is_named() -> None:
    class Broken:
        def rerank(self, query: Any, items: Any, scores: Any) -> Any:
            raise ValueError("no model")

    with pytest.raises(MethodFailed, match="The re-ranker mine raised ValueError: no model, for the query"):
        stage().judged(CheckedReranker(Broken(), "mine"))


def test_a_judge_that_tells_no_two_items_of_any_query_apart_is_refused() -> None:
    with pytest.raises(
        MethodFailed, match="all of the first 5 items of each query the same judgement, on all 6 queries"
    ):
        stage().judged(CheckedReranker(Recorder(np.zeros(5, np.float32)), "mine"))


def test_a_judge_that_leaves_some_queries_undecided_is_counted() -> None:
    class Sometimes:
        calls = 0

        def rerank(self, query: Any, items: Any, scores: Any) -> Any:
            self.calls += 1
            return np.full(len(items), 0, np.float32) if self.calls <= 4 else np.arange(len(items), dtype=np.float32)

    assert stage().judged(CheckedReranker(Sometimes(), "mine")).undecided == 2


def test_one_item_a_query_is_no_constant() -> None:
    assert stage(k=1).judged(CheckedReranker(Recorder(), "mine")).undecided == 0


def test_a_re_ranker_that_counts_its_calls_is_believed() -> None:
    class Pointwise(Recorder):
        def count_calls(self, query: ComposedQuery, items: Sequence[Picture]) -> Calls:
            return Calls(len(items), recorded=1)

    reranker = CheckedReranker(Pointwise(), "mine")
    assert stage().count_calls(reranker) == Calls(60, 12)
    assert stage().judged(reranker).calls == Calls(60, 12)


def test_a_protocol_without_images_cannot_be_re_ranked() -> None:
    whole = cirr_like(queries=6, items=40)
    assert whole.gallery is not None
    bare = dataclasses.replace(whole, gallery=dataclasses.replace(whole.gallery, images=None))
    first = rank(*scorers.random(whole), ranking_task(whole))
    with pytest.raises(MissingData, match=r"The images of .* are not available, and a re-ranker looks at them"):
        SecondStage(first, bare, 5).require_images()


def test_the_images_that_are_looked_at_must_be_there_and_no_others(tmp_path: Path) -> None:
    whole = protocol()
    assert whole.gallery is not None
    files = ImageFiles(UNLABELED2017, whole.gallery.ids, tmp_path, "cirbench data check circo")
    images = [files[name] for name in whole.gallery.ids]
    located = dataclasses.replace(whole, gallery=dataclasses.replace(whole.gallery, images=images))
    first = rank(*scorers.random(whole), ranking_task(whole))
    assert whole.groups is not None
    looked_at = {whole.gallery.ids[at] for at in first.top_QK[:, :2].ravel()}
    groups = zip(whole.groups, whole.queries, strict=True)
    looked_at |= {name for group, query in groups for name in group if name != query.reference.id}
    (tmp_path / "circo" / "unlabeled2017").mkdir(parents=True)
    for name in looked_at:
        Image.new("RGB", (2, 2)).save(tmp_path / "circo" / "unlabeled2017" / f"{name}.png")
    assert len(looked_at) < len(whole.gallery)
    SecondStage(first, located, 2).require_images()
    gone = min(looked_at)
    (tmp_path / "circo" / "unlabeled2017" / f"{gone}.png").unlink()
    with pytest.raises(MissingData, match=rf"^1 of {len(looked_at)} .* images are missing: {gone}\."):
        SecondStage(first, located, 2).require_images()


SPEC = MethodSpec(name="mine", title="Mine", implementation=f"{__file__}:Encodes", needs=("images",), reranks=True)


class Encodes:
    """Says that it re-ranks, and does not."""

    def __init__(self, encoder: object, parameters: Parameters, *, device: str = "auto") -> None:
        pass


def test_a_spec_that_promises_to_re_rank_is_held_to_it() -> None:
    with pytest.raises(PluginFailed, match="says that it re-ranks, and it has no function rerank"):
        build_reranker(SPEC, None, Parameters())


def test_a_re_ranker_that_needs_a_backbone_says_so() -> None:
    with pytest.raises(UsageError, match="The re-ranker mine needs a backbone"):
        build_reranker(dataclasses.replace(SPEC, needs=("images", "backbone")), None, Parameters())
