"""Ask a chat model of transformers on one's own machine, with or without images.

Each question is asked by itself, and sample N with seed N: so an answer depends on its own question only, and the same
model says the same again.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cirbench.artefacts.answers import RESUME, Maker, cost, require_one_sample, worded
from cirbench.backbones.hub import PREPROCESSOR_FILES, first_line, is_hub_id, loading, open_folder
from cirbench.backbones.interface import find_device, quietly
from cirbench.errors import CheckFailed, CorruptFile, UsageError, quoted
from cirbench.support.extras import require

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from PIL import Image

    from cirbench.artefacts.answers import Question
    from cirbench.backbones.hub import ModelFolder
    from cirbench.backbones.interface import WeightPrecision

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

    def estimate(self, questions: Sequence[Question], field: str, samples: int) -> tuple[int, int, int]:
        """Count what questions would take: calls, images, and tokens of text, by a rule of thumb."""
        return cost(questions, self.prompts[field], samples)

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
            raise CheckFailed(
                f"The answer to {question.title} was cut off at {self.max_tokens} tokens: {quoted(said[-40:])}.",
                hint="Allow longer answers; they are kept apart from those until now.",
            )
        if not said:
            raise CheckFailed(f"{self.name} gave an empty answer to {question.title}.", hint=RESUME)
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
