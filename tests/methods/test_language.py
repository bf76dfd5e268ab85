"""Methods on recorded answers are the formulas on their label, and what is wrong with a file of answers is said."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cirbench.artefacts import Answer, Artefact, Maker
from cirbench.backbones.encoder import Encoder
from cirbench.benchmarks.scenes import scenes_protocol
from cirbench.benchmarks.scenes.benchmark import scenes_benchmark
from cirbench.errors import MethodFailed, MissingData, UsageError
from cirbench.methods.evaluate import evaluate
from cirbench.methods.interface import find_method
from cirbench.methods.loading import build, parse_parameters
from cirbench_methods.language import AnswersParameters, LdreParameters
from cirbench_methods.language.answers import open_answers
from cirbench_methods.language.asking import record_answers
from cirbench_methods.language.method import lost_similarity, slot_weights
from cirbench_methods.language.oracle import record
from tests.method_rules import broken_rules
from tests.tiny_clip import tiny_backbone

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from cirbench.methods.interface import Method
    from cirbench.protocol import Query

NAMES = ("cirevl", "ldre", "seize", "osrcir", "sdr", "pdv")
SAMPLES = 3
FIELDS = ("caption", "edited", "target")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(tiny_backbone(), None, batch_size=8)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an imaginary model has said of the first queries."""
    path = tmp_path_factory.mktemp("answers") / "answers.jsonl"
    rows = [
        Answer(
            (query.reference.image.content,),
            query.captions,
            {field: tuple(f"{field} {sample} of {query.captions[0]}" for sample in range(SAMPLES)) for field in FIELDS},
        )
        for query in queries()
    ]
    Artefact(path, Maker(model="imaginary")).add(rows)
    return path


def queries() -> tuple[Query, ...]:
    return scenes_protocol("tiny").queries[:6]


def method(name: str, encoder: Encoder, answers: object, **values: object) -> Any:
    spec = find_method(name)
    if "samples" in spec.parameters.__struct_fields__:
        values = {"samples": SAMPLES, **values}
    settings = {key: str(value) for key, value in {"answers": answers, **values}.items()}
    return build(spec, encoder, parse_parameters(spec, settings))


def units(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    lengths: NDArray[np.float64] = np.linalg.norm(rows.astype(np.float64), axis=-1, keepdims=True)
    return rows / lengths


def mean(encoder: Encoder, field: str, samples: int = SAMPLES) -> NDArray[np.float64]:
    rows = [
        np.mean([encoder.texts([f"{field} {n} of {q.captions[0]}"])[0] for n in range(samples)], axis=0)
        for q in queries()
    ]
    return units(np.array(rows))


def images(encoder: Encoder) -> NDArray[np.float64]:
    return units(encoder.images([query.reference for query in queries()]))


def close(one: NDArray[np.floating], other: NDArray[np.floating]) -> None:
    np.testing.assert_allclose(units(one), units(other), atol=3e-6)


@pytest.mark.parametrize("name", NAMES)
def test_each_follows_the_rules_of_the_interface(name: str, encoder: Encoder, answers: Path) -> None:
    def make() -> Method:
        made: Method = method(name, encoder, answers)
        return made

    assert broken_rules(make) == []


def test_one_text_ranks_for_cirevl_and_for_osrcir(encoder: Encoder, answers: Path) -> None:
    close(method("cirevl", encoder, answers).encode_queries(queries()), mean(encoder, "edited", 1))
    close(method("osrcir", encoder, answers).encode_queries(queries()), mean(encoder, "target", 1))


def test_ldre_averages_the_features_at_their_own_lengths(encoder: Encoder, answers: Path) -> None:
    close(method("ldre", encoder, answers).encode_queries(queries()), mean(encoder, "edited"))


def test_ldre_as_published_weights_the_first_texts_of_all_queries_alike(encoder: Encoder, answers: Path) -> None:
    protocol = scenes_protocol("tiny")
    assert protocol.gallery is not None
    items = protocol.gallery.items[:40]
    gallery = units(encoder.images(items))
    losses, edited = [], []
    for slot in range(SAMPLES):
        before, after = (
            units(encoder.texts([f"{field} {slot} of {q.captions[0]}" for q in queries()]))
            for field in ("caption", "edited")
        )
        lost = np.clip((before - after) @ gallery.T, 0, None)
        losses.append(np.sort(lost, axis=1)[:, -5:].sum())
        edited.append(after)
    powers = np.exp(np.array(losses) / max(losses) / 0.3)
    expected = sum(weight * rows for weight, rows in zip(powers / powers.sum(), edited, strict=True))
    published = method("ldre", encoder, answers, weighting="published", temperature=0.3, most=5)
    published.fit_gallery(items)
    close(published.encode_queries(queries()), expected)


def test_only_the_published_weights_of_ldre_are_transductive() -> None:
    spec = find_method("ldre")
    assert spec.transductive_with(LdreParameters()) == "no"
    assert spec.transductive_with(LdreParameters(weighting="published")) == "yes"


def test_weights_are_equal_where_no_text_loses_anything() -> None:
    same = np.eye(3, dtype=np.float32)
    assert lost_similarity(same, same, same, 2) == 0
    np.testing.assert_allclose(slot_weights(np.zeros(4), 0.04), 0.25)


def test_seize_adds_parts_of_what_the_edit_changes(encoder: Encoder, answers: Path) -> None:
    seize = method("seize", encoder, answers, neg=2.0, pos=0.5)
    rows, gallery = units(seize.encode_queries(queries())), images(encoder)
    after, before = (mean(encoder, field) @ gallery.T for field in ("edited", "caption"))
    change = after - before
    expected = after + np.where(change < 0, 2.0, 0.5) * change
    np.testing.assert_allclose(seize.score(rows.astype(np.float32), gallery.astype(np.float32)), expected, atol=1e-5)


def test_seize_without_factors_ranks_as_ldre_does(encoder: Encoder, answers: Path) -> None:
    rankings = []
    for name, values in (("seize", {"neg": 0, "pos": 0}), ("ldre", {})):
        protocol = scenes_protocol("tiny")
        few = dataclasses.replace(protocol, queries=protocol.queries[:6], labels=None, groups=None, slices={})
        few = dataclasses.replace(few, clusters=None, measures=())
        rankings.append(evaluate(method(name, encoder, answers, **values), few).ranking)
    np.testing.assert_array_equal(rankings[0].top_QK, rankings[1].top_QK)


def test_sdr_is_the_linear_form_of_its_three_similarities(encoder: Encoder, answers: Path) -> None:
    target, image = mean(encoder, "target", 1), images(encoder)
    change = units(encoder.texts([query.captions[0] for query in queries()]))
    a, b = 0.2, 0.4
    query = (1 - a) * target + a * image
    gallery = image.T
    expected = (1 + b) * (query @ gallery) - b * (target @ gallery - change @ gallery)
    rows = method("sdr", encoder, answers, alpha=a, beta=b).encode_queries(queries()).astype(np.float64)
    np.testing.assert_allclose(rows @ gallery, expected, atol=1e-5)


@pytest.mark.parametrize("base", ["cirevl", "ldre"])
def test_pdv_moves_image_and_text_along_the_change(encoder: Encoder, answers: Path, base: str) -> None:
    samples = SAMPLES if base == "ldre" else 1
    new, old = mean(encoder, "edited", samples), mean(encoder, "caption", samples)
    settings = f"samples={SAMPLES}" if base == "ldre" else ""
    pdv = method("pdv", encoder, answers, base=base, settings=settings, image=1.5, text=0.5, beta=0.25)
    expected = 0.75 * (images(encoder) + 1.5 * (new - old)) + 0.25 * (old + 0.5 * (new - old))
    np.testing.assert_allclose(pdv.encode_queries(queries()), expected, atol=3e-6)


def test_pdv_of_the_text_alone_is_its_base(encoder: Encoder, answers: Path, tmp_path: Path) -> None:
    file = tmp_path / "captions.jsonl"
    names = sorted({query.reference.id for query in queries()})
    file.write_text("".join(json.dumps({"image": name, "caption": f"thing {name}"}) + "\n" for name in names))
    pdv = method("pdv", encoder, answers, base="captioning", settings=f"captions={file}", text=1, beta=1)
    spec = find_method("captioning")
    base = build(spec, encoder, parse_parameters(spec, {"captions": str(file)}))
    close(pdv.encode_queries(queries()), base.encode_queries(queries()))


def test_pdv_refuses_a_method_without_a_text_to_change(encoder: Encoder, answers: Path) -> None:
    with pytest.raises(UsageError, match="image-only makes no text without the change"):
        method("pdv", encoder, answers, base="image-only")


@pytest.mark.parametrize("name", ["seize", "pdv"])
def test_an_evaluation_names_whose_answers_it_used(name: str, encoder: Encoder, answers: Path) -> None:
    tiny = scenes_protocol("tiny")
    few = dataclasses.replace(tiny, queries=tiny.queries[:6], labels=None, groups=None, slices={}, clusters=None)
    (used,) = evaluate(method(name, encoder, answers), dataclasses.replace(few, measures=())).artefacts
    assert (used.model, used.answers, used.oracle) == ("imaginary", 6, False)
    again = evaluate(method(name, encoder, answers), dataclasses.replace(few, measures=())).artefacts
    assert again == (used,)


@pytest.mark.parametrize("name", NAMES)
def test_the_oracle_is_disclosed_whether_it_is_asked_or_was_recorded(name: str, tmp_path: Path, answers: Path) -> None:
    recorded = tmp_path / "oracle.jsonl"
    record(recorded, scenes_benchmark("tiny"), "tiny", samples=1, noise=0.1)
    spec = find_method(name)
    for source, oracle in (("oracle", True), (str(recorded), True), (str(answers), False)):
        assert spec.oracle_with(parse_parameters(spec, {"answers": source})) == oracle


def test_the_oracle_gives_what_a_file_of_it_gives(tmp_path: Path) -> None:
    file = tmp_path / "oracle.jsonl"
    record(file, scenes_benchmark("tiny"), "tiny", samples=4, noise=0.5)
    recorded, _ = open_answers(AnswersParameters(answers=str(file)))
    live, _ = open_answers(AnswersParameters(answers="oracle", noise=0.5))
    for field in FIELDS:
        assert recorded(queries(), field, 4) == live(queries(), field, 4)
        assert live(queries(), field, 2) == [texts[:2] for texts in recorded(queries(), field, 4)]


def test_queries_that_the_oracle_did_not_make_are_refused() -> None:
    stranger = dataclasses.replace(queries()[0], captions=("make it pretty",))
    with pytest.raises(MissingData, match="The oracle knows the queries of scenes, and not 0"):
        open_answers(AnswersParameters(answers="oracle"))[0]([stranger], "edited", 1)


def test_missing_and_wordless_answers_are_named(tmp_path: Path, answers: Path) -> None:
    recorded, _ = open_answers(AnswersParameters(answers=str(answers)))
    with pytest.raises(MissingData, match="lacks 4 answers of the field edited to 6 of 6 questions"):
        recorded(queries(), "edited", 4)
    with pytest.raises(MissingData, match="lacks an answer of the field edited to 2 of 8 questions"):
        recorded(scenes_protocol("tiny").queries[:8], "edited", 1)
    samples: tuple[str | float, ...] = ("  ", 0.5)
    for number, sample in enumerate(samples):
        file = tmp_path / f"{number}.jsonl"
        answer = Answer((queries()[0].reference.image.content,), queries()[0].captions, {"edited": (sample,)})
        Artefact(file, Maker(model="mute")).add([answer])
        with pytest.raises(MissingData, match="answers without words in the field edited, for the queries 0"):
            open_answers(AnswersParameters(answers=str(file)))[0](queries()[:1], "edited", 1)


def test_a_method_without_answers_says_where_to_get_them(encoder: Encoder) -> None:
    spec = find_method("cirevl")
    with pytest.raises(UsageError, match="nothing says where that is recorded"):
        build(spec, encoder, parse_parameters(spec, {}))


class Model:
    """Describes and edits, counts its calls, and breaks down at one of them."""

    def __init__(self, last: int | None = None) -> None:
        self.calls, self.last = 0, last

    def say(self, text: str) -> str:
        if self.calls == self.last:
            raise ConnectionError("gone")
        self.calls += 1
        return text

    def describe(self, image: object) -> str:
        return self.say("a picture")

    def edit(self, caption: str, change: str) -> str:
        return self.say(f"{caption}, {change}")


def test_an_interrupted_recording_goes_on_without_asking_twice(tmp_path: Path, encoder: Encoder) -> None:
    file, maker = tmp_path / "recorded.jsonl", Maker(model="mine")
    spent = 0
    for last in (2, 5, None):
        model = Model(last)
        try:
            record_answers(queries(), Artefact(file, maker), describe=model.describe, edit=model.edit, samples=2)
        except ConnectionError:
            assert last is not None
        spent += model.calls
    assert 4 * len(queries()) <= spent <= 4 * len(queries()) + 2  # samples of one question are kept together
    texts = open_answers(AnswersParameters(answers=str(file)))[0](queries(), "edited", 2)
    assert texts == [(f"a picture, {query.captions[0]}",) * 2 for query in queries()]


def test_a_model_that_says_nothing_stops_the_recording_and_nothing_is_lost(tmp_path: Path) -> None:
    file = tmp_path / "recorded.jsonl"
    model = Model()
    with pytest.raises(MethodFailed, match="The model said nothing of 'show small moons"):
        record_answers(queries(), Artefact(file, Maker(model="m")), describe=model.describe, edit=lambda *_: " ")
    assert len(Artefact(file)) == len(queries())
