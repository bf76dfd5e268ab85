"""MulVec's score is its formula, computed here with loops; probes that are missing or broken are named."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from cirbench.artefacts import Answer, Artefact, Maker
from cirbench.backbones.encoder import Encoder
from cirbench.backbones.store import FeatureStore
from cirbench.benchmarks.scenes import scenes_protocol
from cirbench.errors import CorruptFile, MissingData, UsageError
from cirbench.methods.evaluate import evaluate
from cirbench.methods.interface import find_method
from cirbench.methods.loading import build, parse_parameters
from tests.method_rules import broken_rules, broken_rules_of_spec
from tests.tiny_clip import tiny_backbone

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

PROTOCOL = scenes_protocol("tiny")
ASKED = PROTOCOL.queries[:6]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(tiny_backbone(), None, batch_size=8)


def said_of(at: int) -> dict[str, list[str]]:
    """Some queries have no role but the whole."""
    row = {"whole": [f"a scene with {PROTOCOL.queries[at].captions[0]}"]}
    row |= {"desired": [PROTOCOL.queries[at].captions[0], "a red ball"]} if at % 2 else {}
    row |= {"preserved": ["a box", "snow", "a tree"]} if at % 3 else {}
    row |= {"forbidden": ["a blue star"]} if at % 5 else {}
    return row


@pytest.fixture
def probes(tmp_path: Path) -> Path:
    """What was answered about every query of scenes/tiny."""
    return record(tmp_path / "probes.jsonl", {at: said_of(at) for at in range(len(PROTOCOL.queries))})


def record(path: Path, said: Mapping[int, Mapping[str, list[str]]]) -> Path:
    artefact = Artefact(path, Maker(model="tester"))
    asked = [PROTOCOL.queries[at] for at in said]
    fields = ("whole", "desired", "preserved", "forbidden")
    artefact.add(
        Answer((query.reference.image.content,), query.captions, {f: ("\n".join(row.get(f, [])),) for f in fields})
        for query, row in zip(asked, said.values(), strict=True)
    )
    return path


def mulvec(encoder: Encoder, answers: Path | None, **values: str) -> Any:
    spec, given = find_method("mulvec"), {} if answers is None else {"answers": str(answers)}
    return build(spec, encoder, parse_parameters(spec, {**given, "regions": "2", **values}))


def units(rows: NDArray[Any]) -> NDArray[np.float64]:
    wide = rows.astype(np.float64)
    lengths: NDArray[np.float64] = np.linalg.norm(wide, axis=-1, keepdims=True)
    return wide / lengths


def plain_regions(encoder: Encoder, item: Any) -> NDArray[np.float64]:
    """The whole and 2 x 2 regions, by the tower's own blocks."""
    visual: Any = encoder.backbone.model.visual
    with torch.inference_mode():
        hidden = visual.transformer(visual._embeds(encoder.backbone.preprocess(item.image.open())[None]))
        patches = (visual.ln_post(hidden)[0, 1:] @ visual.proj).numpy().reshape(4, 4, -1)
    corners = [patches[y : y + 2, x : x + 2].mean(axis=(0, 1)) for y in (0, 2) for x in (0, 2)]
    return units(np.stack([encoder.images([item])[0], *corners])).astype(np.float16).astype(np.float64)


def soft(probe: Any, regions: Any, temperature: float) -> float:
    similar = [float(probe @ region) for region in regions]
    weights = [np.exp(value / temperature) for value in similar]
    return float(np.dot(weights, similar) / sum(weights))


def plain_score(encoder: Encoder, said: dict[str, Any], reference: Any, item: Any, weights: dict[str, float]) -> float:
    def text(words: str) -> Any:
        return units(encoder.texts([words]))[0]

    whole, *regions = plain_regions(encoder, item)
    parts = {"whole": float(text(said["whole"][0]) @ whole)}
    for role in ("desired", "preserved", "forbidden"):
        if said.get(role):
            parts[role] = float(np.mean([soft(text(words), regions, 0.1) for words in said[role]]))
    if "preserved" in parts:
        own = np.mean([soft(region, regions, 0.1) for region in plain_regions(encoder, reference)[1:]])
        parts["preserved"] = (parts["preserved"] + float(own)) / 2
    if "forbidden" in parts:
        parts["forbidden"] *= -1
    return sum(weights[role] * value for role, value in parts.items()) / sum(weights[role] for role in parts)


def test_scores_are_those_of_the_formula(encoder: Encoder, probes: Path) -> None:
    assert PROTOCOL.gallery is not None
    items = PROTOCOL.gallery.items[:5]
    weights = {"whole": 1.0, "desired": 0.5, "preserved": 0.7, "forbidden": 0.3}
    set_ = {role: str(weight) for role, weight in weights.items()}
    method = mulvec(encoder, probes, temperature="0.1", **set_)
    found = method.score(method.encode_queries(ASKED), method.encode_gallery(items)[:])
    expected = [
        [plain_score(encoder, said_of(at), query.reference, item, weights) for item in items]
        for at, query in enumerate(ASKED)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_it_follows_the_rules_of_the_interface(encoder: Encoder, probes: Path) -> None:
    assert broken_rules(lambda: mulvec(encoder, probes)) == []
    assert broken_rules_of_spec(find_method("mulvec"), "cirbench_methods.mulvec:SPEC") == []


def test_its_result_on_a_tiny_model_is_what_it_was(encoder: Encoder, probes: Path) -> None:
    found = evaluate(mulvec(encoder, probes), PROTOCOL).measurements[0]
    assert 100 * found.value == pytest.approx(0.289352, abs=1e-3)


def test_regions_are_kept_in_half_precision_and_read_from_disk(probes: Path, tmp_path: Path) -> None:
    assert PROTOCOL.gallery is not None
    items = PROTOCOL.gallery.items[:30]
    stored = Encoder(tiny_backbone(), FeatureStore(tmp_path / "store"), batch_size=8)
    rows = mulvec(stored, probes).encode_gallery(items)
    assert not isinstance(rows, np.ndarray) and rows.shape == (30, 5, stored.backbone.dim)
    (shard,) = (tmp_path / "store").rglob("*.safetensors")
    assert 2 * rows[:].size <= shard.stat().st_size < 2 * rows[:].size + 3000
    memory = mulvec(Encoder(tiny_backbone(), None, batch_size=8), probes).encode_gallery(items)
    np.testing.assert_array_equal(rows[:], memory[:])
    np.testing.assert_array_equal(rows[np.array([7, 3])], rows[:][[7, 3]])


def test_answers_that_are_missing_or_empty_are_named(encoder: Encoder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing says where they come from"):
        mulvec(encoder, None)
    with pytest.raises(MissingData, match=r"absent\.jsonl"):
        mulvec(encoder, tmp_path / "absent.jsonl")
    some = record(tmp_path / "some.jsonl", {at: said_of(at) for at in range(4)})
    with pytest.raises(MissingData, match="lacks an answer of the field whole to 2 of 6 questions: "):
        mulvec(encoder, some).encode_queries(ASKED)
    empty = record(tmp_path / "empty.jsonl", {at: {"whole": [" "]} for at in range(6)})
    with pytest.raises(CorruptFile, match="does not say what query '0' looks for"):
        mulvec(encoder, empty).encode_queries(ASKED)


def test_lists_that_the_model_was_not_asked_for_are_left_out(encoder: Encoder, tmp_path: Path) -> None:
    artefact = Artefact(tmp_path / "whole.jsonl", Maker(model="tester"))
    artefact.add(Answer((q.reference.image.content,), q.captions, {"whole": (q.captions[0],)}) for q in ASKED)
    method = mulvec(encoder, artefact.path)
    rows = method.encode_queries(ASKED)
    np.testing.assert_allclose(rows[:, 0, :-2], units(encoder.texts([q.captions[0] for q in ASKED])), atol=1e-6)
    assert (rows[:, 0, -2:] == 1).all() and not rows[:, 1:].any()


def test_more_regions_than_patches_and_towers_without_patches_are_refused(encoder: Encoder, probes: Path) -> None:
    with pytest.raises(UsageError, match="5 x 5 regions are more than the 4 x 4 patches of"):
        mulvec(encoder, probes, regions="5")
    pooled = copy.deepcopy(tiny_backbone())
    pooled.model.visual.pool_type = "avg"  # type: ignore[union-attr]
    with pytest.raises(UsageError, match="has no patches in the space of its features"):
        mulvec(Encoder(pooled, None), probes)
