"""Ask a model behind an OpenAI-compatible endpoint: a hosted one, or vLLM, llama.cpp and the like on one's own machine.

The key comes from an environment variable and goes into the request alone. A request that fails for a passing reason
is sent again; anything else stops with one sentence, and what was answered until then is kept by `answered`, so that
the same command goes on from there. An answer counts only if it comes from the model that was asked for, whole and not
empty.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import os
import time
from typing import TYPE_CHECKING, Any

import msgspec

from cirbench.artefacts.answers import RESUME, Maker, cost, require_one_sample, worded
from cirbench.errors import CheckFailed, MissingData, UsageError, excerpt, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import requests

    from cirbench.artefacts.answers import Question
    from cirbench.protocol import ImageSource

_JPEG_QUALITY = 95
_LONGEST_PAUSE = 60.0
_PASSING = frozenset({408, 409, 429, 500, 502, 503, 504})


class _Message(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    """What is read of a response; the rest differs from server to server."""

    model: str
    choices: list[_Choice]


@dataclasses.dataclass
class Endpoint:
    """A model behind ``url``/chat/completions.

    Args:
        url: The base of the API, such as ``http://localhost:8000/v1``.
        model: The exact name under which it answers.
        prompts: By field, the text around a question, as `worded` fills it.
        temperature: Of the sampling; several samples need one above 0.
        max_tokens: Of the longest answer.
        key_variable: The environment variable that holds the key; without it none is sent.
        max_calls: How often it may be asked; without a limit if ``None``.
        calls_per_minute: How fast; as fast as it answers if ``None``.
        timeout: Seconds for one call.
        attempts: How often a call is tried.
        pause: Seconds before the second attempt; each further pause is twice as long.
        licence: Under which its answers may be used, as far as its provider says.
    """

    url: str
    model: str
    prompts: Mapping[str, str]
    temperature: float = 0.0
    max_tokens: int = 256
    key_variable: str = "OPENAI_API_KEY"
    max_calls: int | None = None
    calls_per_minute: float | None = None
    timeout: float = 120.0
    attempts: int = 5
    pause: float = 1.0
    licence: str = ""
    calls: int = dataclasses.field(default=0, init=False)
    _earliest: float = dataclasses.field(default=0.0, init=False)

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise UsageError(f"{quoted(self.url)} is not the address of an endpoint.", hint="http://localhost:8000/v1")

    @property
    def maker(self) -> Maker:
        """Who answers, for the file of its answers."""
        decoding: dict[str, str | int | float | bool | None] = {
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "images": f"JPEG, quality {_JPEG_QUALITY}",
        }
        return Maker(model=self.model, decoding=decoding, prompts=dict(self.prompts), licence=self.licence)

    def estimate(self, questions: Sequence[Question], field: str, samples: int) -> tuple[int, int, int]:
        """Count what questions would take: calls, images sent, and tokens of text, by a rule of thumb."""
        return cost(questions, self.prompts[field], samples)

    def __call__(self, questions: Sequence[Question], field: str, samples: int) -> Iterator[tuple[str, ...]]:
        """Yield the samples of each question in order.

        Raises:
            MissingData: It cannot be reached, does not answer in time, or refuses the key.
            UsageError: It does not accept the request, or there is no such model.
            CheckFailed: The budget is spent, another model answered, or an answer is empty, cut off or refused.
        """
        import requests

        require_one_sample(self.temperature, samples)
        with requests.Session() as session:
            for number, question in enumerate(questions):
                if self.max_calls is not None and self.calls + samples > self.max_calls:
                    raise CheckFailed(
                        f"{self.model} was asked {self.calls:,} times, and {self.max_calls:,} calls are allowed: "
                        f"{len(questions) - number:,} of {len(questions):,} questions are left.",
                        hint=RESUME,
                    )
                content = self._content(question, field)
                yield tuple(self._answer(session, content, question, sample) for sample in range(samples))

    def _content(self, question: Question, field: str) -> list[dict[str, Any]]:
        images = [{"type": "image_url", "image_url": {"url": _data_url(image)}} for image in question.images]
        return [*images, {"type": "text", "text": worded(self.prompts[field], question.texts)}]

    def _answer(self, session: requests.Session, content: list[dict[str, Any]], question: Question, sample: int) -> str:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "seed": sample,
        }
        answer = self._completion(self._response(session, body))
        if answer.model != self.model:
            raise CheckFailed(
                f"{self.url} was asked for {quoted(self.model)}, and {quoted(answer.model)} answered.",
                hint=f"Ask for the model by the name under which it answers: {excerpt(answer.model)}.",
            )
        choice = answer.choices[0] if answer.choices else _Choice(_Message())
        text = (choice.message.content or "").strip()
        if choice.message.refusal or choice.finish_reason == "content_filter":
            said = f": {excerpt(choice.message.refusal)}" if choice.message.refusal else ""
            raise CheckFailed(f"{self.model} refuses to answer {question.title}{said}.", hint=RESUME)
        if not text:
            raise CheckFailed(f"{self.model} gave an empty answer to {question.title}.", hint=RESUME)
        if choice.finish_reason == "length":
            raise CheckFailed(
                f"The answer to {question.title} was cut off at {self.max_tokens} tokens: {quoted(text[-40:])}.",
                hint="Allow longer answers; they are kept apart from those until now.",
            )
        return text

    def _response(self, session: requests.Session, body: dict[str, Any]) -> requests.Response:
        """Send a request until it is answered."""
        import requests

        key = os.environ.get(self.key_variable, "")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        problem = ""
        for attempt in range(self.attempts):
            self._wait(self.pause * 2 ** (attempt - 1) if attempt else 0.0)
            self.calls += 1
            try:
                response = session.post(
                    f"{self.url.rstrip('/')}/chat/completions",
                    json=body,
                    headers=headers,
                    timeout=self.timeout,
                    allow_redirects=False,  # the key goes to nobody else
                )
            except requests.Timeout:
                problem = f"no answer within {self.timeout:g} seconds"
                continue
            except requests.ConnectionError:
                problem = "no connection"
                continue
            if response.status_code == 200:
                return response
            problem = f"status {response.status_code}, {excerpt(_reason(response))}"
            if response.status_code not in _PASSING:
                raise self._refusal(response.status_code, problem)
            self._earliest = max(self._earliest, time.monotonic() + _retry_after(response))
        raise MissingData(f"{self.url} did not answer in {self.attempts} attempts: {problem}.", hint=RESUME)

    def _wait(self, seconds: float) -> None:
        now = time.monotonic()
        until = max(now + min(seconds, _LONGEST_PAUSE), self._earliest)
        if until > now:
            time.sleep(until - now)
        if self.calls_per_minute is not None:
            self._earliest = time.monotonic() + 60 / self.calls_per_minute

    def _refusal(self, status: int, problem: str) -> MissingData | UsageError:
        if status in (401, 403):
            return MissingData(
                f"{self.url} does not accept the key in {self.key_variable} ({problem}).",
                hint=f"export {self.key_variable}=... {RESUME}",
            )
        return UsageError(f"{self.url} does not accept the request ({problem}).", hint=RESUME)

    def _completion(self, response: requests.Response) -> _Completion:
        try:
            return msgspec.json.decode(response.content, type=_Completion)
        except msgspec.MsgspecError as error:
            raise CheckFailed(
                f"{self.url} answered with something other than a completion: {excerpt(response.text)}.", hint=RESUME
            ) from error


def _reason(response: requests.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return response.text or response.reason


def _retry_after(response: requests.Response) -> float:
    """How long a server asks to wait, in seconds; nothing where it names a date or nothing."""
    asked = response.headers.get("Retry-After", "")
    return min(float(asked), _LONGEST_PAUSE) if asked.isdecimal() else 0.0


def _data_url(image: ImageSource) -> str:
    buffer = io.BytesIO()
    image.open().convert("RGB").save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
