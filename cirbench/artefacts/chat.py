"""Ask a chat model: one of transformers on one's own machine, or one behind an OpenAI-compatible endpoint.

On one's own machine each question is asked by itself, and sample N with seed N: so an answer depends on its own
question only, and the same model says the same again.

An endpoint is a hosted one, or vLLM, llama.cpp and the like on one's own machine. The key comes from an environment
variable and goes into the request alone. A request that fails for a passing reason is sent again; anything else stops
with one sentence, and what was answered until then is kept by `answered`, so that the same command goes on from there.

An answer counts only if it is whole and not empty, and of an endpoint, if it comes from the model that was asked for.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import os
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from cirbench.artefacts.answers import RESUME, Maker, require_one_sample, worded
from cirbench.backbones.hub import PREPROCESSOR_FILES, first_line, is_hub_id, loading, open_folder
from cirbench.backbones.interface import find_device, quietly
from cirbench.errors import CheckFailed, CorruptFile, MissingData, UsageError, excerpt, quoted
from cirbench.support.needs import require

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import requests
    from PIL import Image

    from cirbench.artefacts.answers import Question
    from cirbench.backbones.hub import ModelFolder
    from cirbench.backbones.interface import WeightPrecision
    from cirbench.protocol import ImageSource


CHAT_FILES = ("chat_template.jinja", "chat_template.json", *PREPROCESSOR_FILES, "generation_config.json")
"""Files beside the weights that such a model may have."""

_GREEDY = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}


@dataclasses.dataclass
class ChatModel:
    """A model of transformers with a chat template, loaded when it is first asked.

    What the arguments leave open, such as top-p, is as the model's own generation settings say.

    Args:
        name: A folder, or ``owner/model`` or ``owner/model@revision`` of the hub.
        prompts: By field, the text around a question, as `worded` fills it.
        temperature: Of the sampling; several samples need one above 0, and 0 takes the most likely token.
        max_tokens: Of the longest answer.
        precision: Of the weights and of what is computed.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        licence: Under which its answers may be used, as far as its licence says.
    """

    name: str
    prompts: Mapping[str, str]
    temperature: float = 0.0
    max_tokens: int = 256
    precision: WeightPrecision = "fp32"
    device: str = "auto"
    licence: str = ""

    @cached_property
    def maker(self) -> Maker:
        """Who answers, for the file of its answers; a folder goes by its name, wherever it lies.

        Raises:
            MissingData: The model is not there and cannot be fetched.
        """
        folder = self._folder
        return Maker(
            model=folder.repository or folder.path.name,
            revision=folder.identity(),
            decoding={"temperature": self.temperature, "max_tokens": self.max_tokens, "precision": self.precision},
            prompts=dict(self.prompts),
            licence=self.licence,
        )

    def __call__(self, questions: Sequence[Question], field: str, samples: int) -> Iterator[tuple[str, ...]]:
        """Yield the samples of each question in order.

        Raises:
            MissingData: transformers or the model's files are not there, or an image cannot be read.
            CorruptFile: The files are damaged.
            UsageError: The model has no chat template, does not look at images, or a question is too long for it.
            CheckFailed: An answer is empty or cut off.
        """
        require_one_sample(self.temperature, samples)
        for question in questions:
            text = worded(self.prompts[field], question.texts)
            images = [image.open().convert("RGB") for image in question.images]
            yield tuple(self._answer(text, images, question, sample) for sample in range(samples))

    @cached_property
    def _folder(self) -> ModelFolder:
        if not Path(self.name).is_dir() and not is_hub_id(self.name):
            raise UsageError(
                f"{quoted(self.name)} is neither a folder nor a model of the hub, owner/model.",
                hint="For a model behind an API say where it is: --url https://.../v1",
            )
        return open_folder(self.name, optional=CHAT_FILES)

    @cached_property
    def _sees(self) -> bool:
        """Whether it is a model for images and text."""
        from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

        return self._folder.config().model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """The model, and what writes its input: a processor, or of a model for text alone a tokenizer."""
        model, writer = load_model(
            self.name,
            self._folder,
            sees=self._sees,
            purpose="A chat model",
            precision=self.precision,
            device=self.device,
            kind="a model that answers",
            hint="Give a chat model, for instance Qwen/Qwen3-VL-2B-Instruct.",
        )
        if not writer.chat_template:
            raise UsageError(
                f"{self.name} has no chat template, so it does not take questions.",
                hint="Give the variant of the model that was tuned for instructions.",
            )
        return model, writer

    def _answer(self, text: str, images: Sequence[Image.Image], question: Question, sample: int) -> str:
        import torch

        if images and not self._sees:
            raise UsageError(f"{self.name} reads text alone, and is to look at {len(images)} images.")
        model, writer = self._loaded
        content: Any = text
        if self._sees:  # the images first: the order of the parts moves what a model answers
            content = [*({"type": "image", "image": image} for image in images), {"type": "text", "text": text}]
        settings: dict[str, Any] = {"do_sample": True, "temperature": self.temperature} if self.temperature else _GREEDY
        place = model.device
        with (
            torch.inference_mode(),
            quietly(),
            torch.random.fork_rng(devices=[place] if place.type == "cuda" else []),
        ):
            torch.manual_seed(sample)
            written = writer.apply_chat_template(
                [{"role": "user", "content": content}],
                tokenize=True,
                add_generation_prompt=True,
                return_dict=True,
                return_tensors="pt",
            )
            length = written["input_ids"].shape[1]
            self._require_length(length)
            inputs = {
                name: values.to(place, model.dtype) if values.is_floating_point() else values.to(place)
                for name, values in written.items()
            }
            tokens = model.generate(**inputs, max_new_tokens=self.max_tokens, **settings)[0, length:].tolist()
        said: str = getattr(writer, "tokenizer", writer).decode(tokens, skip_special_tokens=True).strip()
        if len(tokens) >= self.max_tokens and tokens[-1] not in _ends(model):
            raise _cut_off(question, said, self.max_tokens)
        if not said:
            raise _empty(question, self.name)
        return said

    def _require_length(self, length: int) -> None:
        longest = longest_input(self._loaded[0])
        if longest is not None and length + self.max_tokens > longest:
            raise UsageError(
                f"A question takes {length:,} tokens and its answer up to {self.max_tokens:,}, and {self.name} reads "
                f"{longest:,}."
            )


def load_model(
    name: str,
    folder: ModelFolder,
    *,
    sees: bool,
    purpose: str,
    precision: WeightPrecision,
    device: str,
    kind: str,
    hint: str,
) -> tuple[Any, Any]:
    """Load a model of transformers that answers in words, and what writes its input.

    Args:
        name: As the user asked for it.
        folder: Its files.
        sees: Whether it is a model for images and text; else one for text alone.
        purpose: What transformers is needed for, as a message begins.
        precision: Of the weights and of what is computed.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        kind: What it is to be, for messages.
        hint: What to give instead.

    Returns:
        The model on its device, and its processor or tokenizer.

    Raises:
        MissingData: transformers or the model's files are not there.
        CorruptFile: The files are damaged, or of another kind of model.
    """
    import torch

    transformers = require("transformers", extra="transformers", purpose=purpose)
    folder.weights()  # fetched, so that what is missing is named by our message
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    models = transformers.AutoModelForImageTextToText if sees else transformers.AutoModelForCausalLM
    writers = transformers.AutoProcessor if sees else transformers.AutoTokenizer
    try:
        with loading():
            writer = writers.from_pretrained(folder.path, local_files_only=True)
            model, found = models.from_pretrained(
                folder.path, local_files_only=True, dtype=dtype, output_loading_info=True
            )
    except Exception as error:  # whatever a wrong configuration or a damaged file leads to
        raise CorruptFile(
            f"transformers cannot load {quoted(name)} as {kind}: {first_line(error)}", hint=hint
        ) from error
    if found["missing_keys"]:
        missing = sorted(found["missing_keys"])
        raise CorruptFile(f"The weights of {name} lack {len(missing)} tensors, for instance {missing[0]}.")
    return model.eval().to(find_device(device)), writer


def longest_input(model: Any) -> int | None:
    """Return how many tokens a model of transformers reads at most, if its configuration says so."""
    config = model.config
    longest: int | None = getattr(getattr(config, "text_config", config), "max_position_embeddings", None)
    return longest


def _ends(model: Any) -> set[int]:
    ends = model.generation_config.eos_token_id
    return set(ends) if isinstance(ends, list) else {ends}


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
            raise _empty(question, self.model)
        if choice.finish_reason == "length":
            raise _cut_off(question, text, self.max_tokens)
        return text

    def _response(self, session: requests.Session, body: dict[str, Any]) -> requests.Response:
        """Send a request until it is answered."""
        import requests

        from cirbench.support.download import retry_after

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
            self._earliest = max(self._earliest, time.monotonic() + min(retry_after(response), _LONGEST_PAUSE))
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


def _data_url(image: ImageSource) -> str:
    buffer = io.BytesIO()
    image.open().convert("RGB").save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _cut_off(question: Question, said: str, limit: int) -> CheckFailed:
    return CheckFailed(
        f"The answer to {question.title} was cut off at {limit} tokens: {quoted(said[-40:])}.",
        hint="Allow longer answers; they are kept apart from those until now.",
    )


def _empty(question: Question, model: str) -> CheckFailed:
    return CheckFailed(f"{model} gave an empty answer to {question.title}.", hint=RESUME)
