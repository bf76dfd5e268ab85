"""A model behind an endpoint answers every question once, and every fault of it is one sentence that loses nothing."""

from __future__ import annotations

import base64
import dataclasses
import io
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from cirbench.artefacts.answers import Question, answered, cost, kept
from cirbench.artefacts.chat import Endpoint
from cirbench.benchmarks.scenes import training_pairs
from cirbench.errors import CheckFailed, CirbenchError, MissingData, UsageError
from tests.artefacts.chat_server import MODEL, ChatServer, chatting, completion

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
