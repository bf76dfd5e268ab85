"""A judge asks a vision-language model, records what it answers, and never asks twice."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import transformers

import cirbench
from cirbench.backbones.openclip import BUNDLED
from cirbench.benchmarks.scenes import scenes_protocol
from cirbench.cli import execute
from cirbench.errors import CirbenchError, CorruptFile, MissingData, UsageError
from cirbench.methods.interface import Calls, ComposedQuery, Picture
from cirbench_methods.judge import JudgeParameters, OracleParameters
from cirbench_methods.judge.method import PROMPTS, Judge
from cirbench_methods.judge.model import AnsweringModel
from cirbench_methods.judge.oracle import OracleJudge
from tests.tiny_qwen3vl import vision_language_model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from PIL import Image

SCORES = np.zeros(0, np.float32)


@pytest.fixture(autouse=True)
def own_judgements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIRBENCH_CACHE", str(tmp_path / "cache"))


def judge(**parameters: Any) -> Judge:
    chosen = {"model": str(vision_language_model()), "precision": "fp32", **parameters}
    return Judge(None, JudgeParameters(**chosen), device="cpu")


def some(items: int = 4, query: int = 0) -> tuple[ComposedQuery, list[Picture]]:
    protocol = scenes_protocol("tiny")
    assert protocol.gallery is not None
    return ComposedQuery.of(protocol.queries[query]), [Picture(each.image) for each in protocol.gallery.items[:items]]


def logits(images: Sequence[Image.Image], text: str, words: Sequence[str]) -> list[float]:
    """What transformers itself gives for one question, without a batch."""
    auto: Any = transformers
    folder = vision_language_model()
    processor = auto.AutoProcessor.from_pretrained(folder)
    model = auto.AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    parts = [*({"type": "image"} for _ in images), {"type": "text", "text": text}]
    prompt = processor.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True)
    assert prompt.index("<|image_pad|>") < prompt.index(text)
    with torch.inference_mode():
        last = model(**processor(text=[prompt], images=[list(images)], return_tensors="pt")).logits[0, -1]
    return [float(last[processor.tokenizer.convert_tokens_to_ids(word)]) for word in words]


def test_a_pointwise_judgement_is_the_log_odds_of_yes_with_the_images_first() -> None:
    query, items = some(3)
    judged = judge(batch_size=2).rerank(query, items, SCORES)
    for item, value in zip(items, judged, strict=True):
        text = PROMPTS["pointwise"].replace("{}", query.captions[0])
        yes, no = logits([query.reference.open(), item.open()], text, ("yes", "no"))
        assert value == pytest.approx(yes - no, abs=1e-5)
    assert judged.dtype == np.float32
    assert len({*judged.tolist()}) == 3


def test_a_judgement_does_not_depend_on_what_is_judged_beside_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    query, items = some(5)
    together = judge(batch_size=5).rerank(query, items, SCORES)
    monkeypatch.setenv("CIRBENCH_CACHE", str(tmp_path / "other"))
    alone = judge(batch_size=1).rerank(query, items, SCORES)
    assert np.abs(together - alone).max() < 1e-5


def test_a_pairwise_judgement_favours_neither_place_nor_order() -> None:
    query, items = some(3)
    judged = judge(mode="pairwise").rerank(query, items, SCORES)
    backwards = judge(mode="pairwise").rerank(query, items[::-1], SCORES)[::-1]
    assert np.abs(judged - backwards).max() < 1e-6
    assert judged.sum() == pytest.approx(0, abs=1e-6)
    text = PROMPTS["pairwise"].replace("{}", query.captions[0])
    shown = [query.reference.open(), *(item.open() for item in items)]

    def prefers(one: int, other: int) -> float:
        first, second = logits([shown[0], shown[1 + one], shown[1 + other]], text, ("A", "B"))
        return first - second

    expected = sum((prefers(0, other) - prefers(other, 0)) / 4 for other in (1, 2))
    assert judged[0] == pytest.approx(expected, abs=1e-5)


def test_a_listwise_judgement_is_the_logit_of_a_letter_in_one_question() -> None:
    query, items = some(3)
    one = judge(mode="listwise")
    assert one.count_calls(query, items) == Calls(1)
    text = PROMPTS["listwise"].replace("{}", query.captions[0])
    expected = logits([query.reference.open(), *(item.open() for item in items)], text, ("A", "B", "C"))
    assert one.rerank(query, items, SCORES).tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("mode", ["pairwise", "listwise"])
def test_a_single_candidate_needs_no_question(mode: str) -> None:
    query, items = some(1)
    one = judge(mode=mode)
    assert one.count_calls(query, items) == Calls(0)
    assert one.rerank(query, items, SCORES).tolist() == [0.0]


@pytest.mark.parametrize(("mode", "questions"), [("pointwise", 4), ("pairwise", 12), ("listwise", 1)])
def test_what_was_answered_is_not_asked_again(mode: str, questions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    query, items = some()
    first = judge(mode=mode)
    assert first.count_calls(query, items) == Calls(questions)
    judged = first.rerank(query, items, SCORES)

    def refuse(*_: object) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr(AnsweringModel, "logits", refuse)
    again = judge(mode=mode)
    assert again.count_calls(query, items) == Calls(questions, questions)
    assert np.array_equal(again.rerank(query, items, SCORES), judged)
    for other in (judge(mode=mode, precision="bf16"), judge(mode=mode, pixels=2048), judge(mode=mode, prompt="{}?")):
        assert other.count_calls(query, items).recorded == 0


def test_large_images_are_scaled_to_the_pixels_that_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    query, items = some(2)
    whole = judge().rerank(query, items, SCORES)
    small = judge(pixels=1024).rerank(query, items, SCORES)
    assert not np.array_equal(whole, small)


@pytest.mark.parametrize(
    ("parameters", "items", "message"),
    [
        ({"prompt": "Is it?"}, 2, r"The prompt 'Is it\?' has no place for the caption"),
        ({"mode": "listwise"}, 27, "by the letters A to Z, and 27 are to be judged at once"),
        ({"prompt": "{}" + "so " * 500}, 1, r"A question with 2 images takes 1,\d\d\d tokens, and .* reads 1,024"),
        ({"model": str(BUNDLED / "scenes-vit")}, 1, "has no tokenizer|cannot load|cannot be read"),
    ],
)
def test_what_cannot_be_asked_is_said_in_one_sentence(parameters: dict[str, Any], items: int, message: str) -> None:
    query, pictures = some(items)
    with pytest.raises(CirbenchError, match=message):
        judge(**parameters).rerank(query, pictures, SCORES)


def test_weights_that_are_damaged_are_named(tmp_path: Path) -> None:
    folder = shutil.copytree(vision_language_model(), tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"not weights")
    query, items = some(1)
    with pytest.raises(
        CorruptFile, match=r"transformers cannot load .* as a model that answers questions about images"
    ):
        judge(model=str(folder)).rerank(query, items, SCORES)


def test_recorded_answers_take_the_place_of_the_model(tmp_path: Path, first: Path) -> None:
    asked: dict[str, Any] = {"first_stage": first, "rerank": "judge", "rerank_top": 3, "limit": 4, "output": tmp_path}
    model = str(vision_language_model())
    live = cirbench.evaluate(**asked, rerank_parameters={"model": model, "precision": "fp32"}).runs[-1]
    (store,) = (tmp_path / "cache" / "artefacts").glob("*.jsonl")
    shared = str(shutil.copy(store, tmp_path / "answers.jsonl"))
    replayed = cirbench.evaluate(**asked, rerank_parameters={"answers": shared}).runs[-1]
    assert replayed.folder != live.folder
    assert [each.digest for each in replayed.result.artefacts] == [each.digest for each in live.result.artefacts]
    assert replayed.result.metrics == live.result.metrics
    assert replayed.result.reranking is not None
    assert replayed.result.reranking.seconds_per_query is None
    deeper = {**asked, "rerank_top": 9}
    with pytest.raises(
        MissingData, match=r"answers\.jsonl lacks an answer of the field pointwise to \d+ of \d+ questions"
    ):
        cirbench.evaluate(**deeper, rerank_parameters={"answers": shared})
    with pytest.raises(UsageError, match=r"holds no pairwise judgements; .* was asked for pointwise"):
        cirbench.evaluate(**asked, rerank_parameters={"answers": shared, "mode": "pairwise"})
    with pytest.raises(UsageError, match="The parameter precision of judge has an effect only with answers=null"):
        cirbench.evaluate(**asked, rerank_parameters={"answers": shared, "precision": "fp32"})


def test_a_model_that_is_not_there_is_named_with_the_ways_to_go_on(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["run", "--rerank", "judge", "--first-stage", str(first), "--rerank-set", "model=owner/not-there"]
    assert execute([*asked, "--plan"]) == 0
    plan = " ".join(capsys.readouterr().out.split())
    assert "missing judge" in plan
    assert "owner/not-there is not cached" in plan
    assert execute([*asked, "--output", str(tmp_path)]) == 3
    assert (
        "--rerank-set model=FOLDER. Recorded answers need no model: --rerank-set answers=FILE"
        in capsys.readouterr().err
    )


# An oracle on scenes: bounds that are known.


def rerank_by_oracle(folder: Path, noise: float, top: int = 10) -> Any:
    report = cirbench.evaluate(
        first_stage=folder,
        rerank="oracle-judge",
        rerank_top=top,
        rerank_parameters={"noise": noise},
        output=folder.parent,
    )
    return report.runs[-1].result


@pytest.fixture
def first(tmp_path: Path) -> Path:
    protocol = scenes_protocol("tiny")
    assert protocol.gallery is not None and protocol.labels is not None
    generator = np.random.default_rng(0)
    gallery, queries = (generator.normal(size=(size, 16)).astype(np.float32) for size in (600, 60))
    queries += 0.7 * np.stack([gallery[protocol.gallery.positions[row[0]]] for row in protocol.labels.relevant])
    ids = [query.id for query in protocol.queries]
    score = cirbench.score(
        (queries, gallery), "scenes/tiny", query_ids=ids, gallery_ids=protocol.gallery.ids, output=tmp_path
    )
    assert score.run is not None
    return score.run.folder


def test_an_oracle_reaches_what_its_first_items_allow_and_a_whole_group(first: Path) -> None:
    result = rerank_by_oracle(first, noise=0.0)
    assert result.reranking is not None
    assert result["mAP@5"].value == pytest.approx(result.reranking.at_most)
    assert result["Recall_subset@1"].value == 100
    assert result["Recall@10"].value == pytest.approx(result.reranking.recall)


def test_noise_takes_an_oracle_from_its_bound_to_the_opposite(first: Path) -> None:
    values = [rerank_by_oracle(first, noise)["mAP@5"].value for noise in (0.0, 0.2, 0.5, 1.0)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < cirbench.load_run(first).result["mAP@5"].value < values[0]


def test_an_oracle_errs_at_the_rate_that_was_asked_for() -> None:
    protocol = scenes_protocol("tiny")
    assert protocol.gallery is not None
    items = [Picture(each.image) for each in protocol.gallery.items]
    query = ComposedQuery.of(protocol.queries[0])
    right = OracleJudge(None, OracleParameters()).rerank(query, items, SCORES)
    wrong = OracleJudge(None, OracleParameters(noise=0.2)).rerank(query, items, SCORES) != right
    assert 0.14 < wrong.mean() < 0.26  # four standard deviations
    other = OracleJudge(None, OracleParameters(noise=0.2, seed=1)).rerank(query, items, SCORES) != right
    assert not np.array_equal(wrong, other)


def test_an_oracle_knows_nothing_of_other_queries() -> None:
    query, items = some(2)
    with pytest.raises(UsageError, match="knows the answers of scenes alone"):
        OracleJudge(None, OracleParameters()).rerank(ComposedQuery(query.reference, ("other",)), items, SCORES)


# A run that is killed.

COUNTING = '''
"""The judge, with a model that takes its time and says in a file what it was asked."""

import os
import time
from dataclasses import replace
from pathlib import Path

from cirbench_methods.judge import JUDGE
from cirbench_methods.judge.method import Judge
from cirbench_methods.judge.model import AnsweringModel

SPEC = replace(JUDGE, name="counting", implementation=f"{__file__}:Counting")
LOG = Path(__file__).with_name("asked.txt")


class Slow(AnsweringModel):
    def logits(self, questions, words):
        ((images, text),) = questions
        asked = ",".join(image.content for image in images) + text.replace(" ", "")
        with LOG.open("a") as log:
            log.write(f"{os.getpid()} {asked}\\n")
        time.sleep(0.01)
        return [[int(images[1].content[:4], 16) / 100, 0.0]]



class Counting(Judge):
    def __init__(self, encoder, parameters, *, device):
        super().__init__(encoder, parameters, device=device)
        self._model = Slow(
            parameters.model, pixels=None, precision="fp32", batch_size=1, device=device
        )
'''


@pytest.mark.slow
def test_a_run_killed_at_ten_random_moments_repeats_no_call(first: Path, tmp_path: Path) -> None:
    (tmp_path / "counting.py").write_text(textwrap.dedent(COUNTING))
    command = [sys.executable, "-m", "cirbench", "run", "--rerank", "counting.py:SPEC", "--first-stage", str(first)]
    command += [
        "--rerank-top",
        "8",
        "--limit",
        "12",
        "--rerank-set",
        f"model={vision_language_model()}",
        "--output",
        str(tmp_path),
    ]
    log, draw = tmp_path / "asked.txt", random.Random(0)
    log.touch()
    for _ in range(10):
        before = log.stat().st_size
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while log.stat().st_size == before:  # once it asks, a random moment later: a question takes 10 ms
            assert process.poll() is None
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    asked = [line.split() for line in log.read_text().splitlines()]
    last = dict(asked)  # what each process asked for when it was killed
    repeated = [key for key, times in Counter(key for _, key in asked).items() if times > 1]
    assert {*repeated} <= {*last.values()}  # only what nobody had answered yet
    assert len(last) == 11
    (kept,) = (tmp_path / "cache" / "artefacts").glob("*.jsonl")
    assert len(kept.read_text().splitlines()) == 1 + len({key for _, key in asked})
    # And a second run, at any depth that is no deeper, asks for nothing.
    done = subprocess.run([*command, "--rerank-top", "3", "--json"], cwd=tmp_path, capture_output=True, check=True)
    second = json.loads(done.stdout)["results"][-1]
    reranking, (artefact,) = second["reranking"], second["artefacts"]
    assert artefact["answers"] <= reranking["calls"]
    assert reranking["recorded"] == reranking["calls"] > 0
    assert len(log.read_text().splitlines()) == len(asked)
