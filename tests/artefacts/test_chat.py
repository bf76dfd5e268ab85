"""A chat model, here or behind an endpoint, is asked each question by itself, and no fault of it loses an answer."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import shutil
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
import transformers
from PIL import Image

from cirbench import cli
from cirbench.artefacts import Artefact
from cirbench.artefacts.answers import Question, answered, cost, kept, worded
from cirbench.artefacts.chat import ChatModel, Endpoint
from cirbench.benchmarks.scenes import training_pairs
from cirbench.errors import CheckFailed, CirbenchError, CorruptFile, MissingData, UsageError
from tests.artefacts.chat_server import MODEL, ChatServer, chatting, completion
from tests.tiny_qwen3vl import vision_language_model
from tests.training.plain_samples import Square

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


PROMPTS = {"caption": "Describe it.", "edited": "Change {1} so that {0}."}


def ending(folder: Path, tokens: list[int]) -> Path:
    """Let a model's answers end at some tokens, which one with random weights says soon."""
    path = folder / "generation_config.json"
    settings = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**settings, "eos_token_id": tokens}))
    return folder


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "seeing"
    shutil.copytree(vision_language_model(), folder)
    return ending(folder, [*range(128, 256)])


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model for text alone."""
    folder = tmp_path_factory.mktemp("models") / "reading"
    tokenizer = transformers.AutoTokenizer.from_pretrained(vision_language_model())
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=128,
        initializer_range=1.0,
    )
    transformers.set_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return ending(folder, [*range(128, 256)])


def chat(folder: Path, *, temperature: float = 1.0, max_tokens: int = 256) -> ChatModel:
    return ChatModel(str(folder), PROMPTS, temperature=temperature, max_tokens=max_tokens, device="cpu")


QUESTIONS = [Question((Square(grey),), (f"it is {grey}",)) for grey in (10, 200)]


def test_an_answer_depends_on_its_own_question_and_sample(seeing: Path, tmp_path: Path) -> None:
    asked = list(chat(seeing)(QUESTIONS, "caption", 3))
    assert [len(set(said)) for said in asked] == [3, 3]
    assert list(chat(seeing)(QUESTIONS[1:], "caption", 2)) == [asked[1][:2]]
    artefact = kept(chat(seeing).maker, tmp_path)
    assert answered(QUESTIONS, "caption", 3, artefact, chat(seeing)) == asked
    assert answered(QUESTIONS, "caption", 3, Artefact(artefact.path)) == asked


def test_a_model_for_text_alone_reads_and_does_not_look(reading: Path) -> None:
    model = chat(reading, max_tokens=64)
    (first,), (second,) = model([Question((), ("a", "b")), Question((), ("c", "d"))], "edited", 1)
    assert first and second and first != second
    with pytest.raises(UsageError, match="reads text alone, and is to look at 1 images"):
        list(model(QUESTIONS, "caption", 1))
    with pytest.raises(UsageError, match=r"A question takes \d+ tokens and its answer up to 64, and .* reads 128"):
        list(model([Question((), ("a" * 90, "b"))], "edited", 1))


def test_answers_are_kept_apart_by_weights_prompt_and_decoding_and_not_by_place(seeing: Path, tmp_path: Path) -> None:
    maker = chat(seeing).maker
    moved = tmp_path / "seeing"
    shutil.copytree(seeing, moved)
    assert chat(moved).maker.digest == maker.digest
    assert chat(moved, temperature=0.5).maker.digest != maker.digest
    assert chat(ending(moved, [1])).maker.digest != maker.digest


def test_an_answer_that_is_cut_off_and_one_without_words_are_one_sentence(seeing: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match="The answer to 'it is 10' was cut off at 1 tokens"):
        list(chat(ending(shutil.copytree(seeing, tmp_path / "long"), [5]), max_tokens=1)(QUESTIONS, "caption", 1))
    silent = ending(shutil.copytree(seeing, tmp_path / "silent"), [*range(600)])
    settings = json.loads((silent / "generation_config.json").read_text())
    (silent / "generation_config.json").write_text(json.dumps({**settings, "suppress_tokens": [*range(259)]}))
    with pytest.raises(CheckFailed, match="gave an empty answer to 'it is 10'"):
        list(chat(silent)(QUESTIONS, "caption", 1))


def test_models_that_cannot_be_asked_are_refused(seeing: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="At temperature 0 all 2 samples would be one"):
        list(chat(seeing, temperature=0.0)(QUESTIONS, "caption", 2))
    with pytest.raises(UsageError, match="'gpt-4o' is neither a folder nor a model of the hub"):
        list(ChatModel("gpt-4o", PROMPTS)(QUESTIONS, "caption", 1))
    base = shutil.copytree(seeing, tmp_path / "base")
    (base / "chat_template.jinja").unlink()
    with pytest.raises(UsageError, match="has no chat template, so it does not take questions"):
        list(chat(base)(QUESTIONS, "caption", 1))
    (base / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(CorruptFile, match=r"transformers cannot load .* as a model that answers"):
        list(chat(base)(QUESTIONS, "caption", 1))
    (base / "model.safetensors").unlink()
    with pytest.raises(MissingData):
        list(chat(base)(QUESTIONS, "caption", 1))


def test_a_prompt_is_filled_once_and_texts_without_a_place_stand_below_it() -> None:
    assert worded("{1} -> {0} {9}", ("a {1}", "b")) == "b -> a {1} {9}"
    assert worded("{0}", ("{0}",)) == "{0}"
    assert worded('Give {"x": 1}.', ("a", "b")) == 'Give {"x": 1}.\na\nb'
    assert worded("Describe it.", ()) == "Describe it."


def test_it_is_asked_from_the_command_line(seeing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "answers.jsonl"
    words = ["answers", "make", "--protocol", "scenes/tiny", "--model", str(seeing), "--limit", "2", "--see"]
    words += ["--field", "target", "--prompt", "Say what it becomes.", "--output", str(output)]
    assert cli.execute([*words, "--max-calls", "3"]) == 2
    assert "--max-calls goes with --url" in capsys.readouterr().err
    assert cli.execute([*words, "--temperature", "1"]) == 0
    held = Artefact(output)
    assert len(held) == 2 and held.fields == ["target"] and held.maker.model == "seeing"


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chatting() as running:
        yield running


@pytest.fixture
def endpoint(server: ChatServer) -> Endpoint:
    return Endpoint(server.url, MODEL, {"edited": "Carry out the change.", "both": "{0} becomes {1}"}, pause=0.0)


def ask(*texts: str) -> list[Question]:
    return [Question(texts=(text,)) for text in texts]


def test_a_question_is_sent_with_its_image_and_its_texts_where_the_prompt_wants_them(
    server: ChatServer, endpoint: Endpoint
) -> None:
    image = training_pairs(1)[0].image
    assert [*endpoint([Question((image,), ("a red star", "blue"))], "both", 1)] == [("A RED STAR BECOMES BLUE",)]
    picture, text = server.requests[0]["messages"][0]["content"]
    assert text == {"type": "text", "text": "a red star becomes blue"}
    sent = Image.open(io.BytesIO(base64.b64decode(picture["image_url"]["url"].partition("base64,")[2])))
    apart = np.abs(np.asarray(sent, dtype=int) - np.asarray(image.open().convert("RGB"), dtype=int))
    assert sent.size == image.open().size and apart.mean() < 4
    assert [*endpoint(ask("larger"), "edited", 1)] == [("LARGER",)]
    assert server.asked[-1] == "Carry out the change.\nlarger"


def test_the_key_is_sent_and_neither_kept_nor_printed(
    server: ChatServer,
    endpoint: Endpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    answered(ask("larger"), "edited", 1, kept(endpoint.maker, tmp_path), endpoint)
    server.faults = [(401, {})]
    with pytest.raises(MissingData, match="does not accept the key in OPENAI_API_KEY") as error:
        [*endpoint(ask("red"), "edited", 1)]
    assert server.keys == ["Bearer sk-secret"] * 2
    shown = f"{error.value} {error.value.hint} {capsys.readouterr()} {endpoint!r}"
    assert "secret" not in shown + "".join(path.read_text() for path in tmp_path.iterdir() if path.suffix == ".jsonl")


@pytest.mark.parametrize("fault", [(429, {"Retry-After": "0"}), (500, {}), (503, {}), 0.5])
def test_a_passing_fault_is_waited_out(
    server: ChatServer, endpoint: Endpoint, fault: tuple[int, dict[str, str]] | float
) -> None:
    server.faults = [fault]
    patient = dataclasses.replace(endpoint, timeout=0.25)
    assert [*patient(ask("larger"), "edited", 1)] == [("LARGER",)]
    assert len(server.requests) == 2


def test_a_server_that_asks_to_wait_is_given_the_time(server: ChatServer, endpoint: Endpoint) -> None:
    server.faults = [(429, {"Retry-After": "1"})]
    start = time.monotonic()
    assert [*endpoint(ask("larger"), "edited", 1)] == [("LARGER",)]
    assert time.monotonic() - start >= 1


def test_calls_are_spread_over_a_minute(endpoint: Endpoint) -> None:
    slow = dataclasses.replace(endpoint, calls_per_minute=600)
    start = time.monotonic()
    assert len([*slow(ask(*"abcd"), "edited", 1)]) == 4
    assert time.monotonic() - start >= 0.3


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ((403, {}), MissingData, "does not accept the key"),
        ((404, {}), UsageError, "does not accept the request (status 404, not now)"),
        ((301, {"Location": "http://elsewhere/"}), UsageError, "does not accept the request (status 301"),
        (completion("X", model="mock-2"), CheckFailed, "was asked for 'mock-1', and 'mock-2' answered"),
        (completion(""), CheckFailed, "gave an empty answer to 'red'"),
        (completion(None), CheckFailed, "gave an empty answer to 'red'"),
        (completion(None, refusal="I cannot."), CheckFailed, "refuses to answer 'red': I cannot."),
        (completion("X", finish="content_filter"), CheckFailed, "refuses to answer 'red'"),
        (completion("half an", finish="length"), CheckFailed, "was cut off at 256 tokens: 'half an'"),
        (completion("X")[:-9], CheckFailed, "something other than a completion"),
        (b"<html>", CheckFailed, "something other than a completion: <html>"),
    ],
)
def test_any_other_fault_is_one_sentence_and_the_same_command_goes_on(
    server: ChatServer,
    endpoint: Endpoint,
    tmp_path: Path,
    fault: tuple[int, dict[str, str]] | bytes,
    error: type[CirbenchError],
    message: str,
) -> None:
    server.faults = [completion("FIRST"), fault]
    with pytest.raises(error) as raised:
        answered(ask("larger", "red", "blue"), "edited", 1, kept(endpoint.maker, tmp_path), endpoint)
    assert message in raised.value.message
    assert "\n" not in raised.value.message
    again = answered(ask("larger", "red", "blue"), "edited", 1, kept(endpoint.maker, tmp_path), endpoint)
    assert again == [("FIRST",), ("RED",), ("BLUE",)]
    assert len(server.requests) == 4  # the first question was not asked again


def test_a_server_that_never_answers_is_given_up(server: ChatServer, endpoint: Endpoint) -> None:
    server.faults = [(503, {})] * 5
    with pytest.raises(MissingData, match="did not answer in 5 attempts: status 503, not now"):
        [*endpoint(ask("red"), "edited", 1)]
    nobody = dataclasses.replace(endpoint, url="http://127.0.0.1:9/v1", attempts=2)
    with pytest.raises(MissingData, match="did not answer in 2 attempts: no connection"):
        [*nobody(ask("red"), "edited", 1)]


def test_the_budget_ends_before_a_question_that_does_not_fit(
    server: ChatServer, endpoint: Endpoint, tmp_path: Path
) -> None:
    warm = dataclasses.replace(endpoint, temperature=0.7, max_calls=5)
    with pytest.raises(CheckFailed, match="was asked 4 times, and 5 calls are allowed: 1 of 3 questions are left"):
        answered(ask("a", "b", "c"), "edited", 2, kept(warm.maker, tmp_path), warm)
    assert len(server.requests) == 4
    assert cost(ask("a", "b"), warm.prompts["edited"], 2) == (4, 0, round(2 * 2 * len("Carry out the change.\na") / 4))


def test_samples_at_temperature_zero_are_refused_before_the_first_call(server: ChatServer, endpoint: Endpoint) -> None:
    with pytest.raises(UsageError, match="At temperature 0 all 3 samples would be one"):
        [*endpoint(ask("a"), "edited", 3)]
    assert server.requests == []
