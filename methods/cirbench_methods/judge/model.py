"""A vision-language model that is asked one question at a time, and answers by one of a few words.

What counts is not the text that it would write but how likely each of these words is as the first one: the logits at
the last position, computed in float32 from the hidden state, so that no rounding of the vocabulary's scores and no
saturated probability makes ties.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cirbench.artefacts.judgements import Judgement, question_key
from cirbench.backbones.hub import PREPROCESSOR_FILES, first_line, loading, open_folder, weights_digest
from cirbench.backbones.interface import find_device, quietly
from cirbench.errors import CorruptFile, UsageError, quoted
from cirbench.support.extras import require
from cirbench.support.files import digest, sha256_of_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from cirbench.backbones.hub import ModelFolder
    from cirbench.backbones.interface import Precision
    from cirbench.methods.interface import Picture

_OPTIONAL = ("chat_template.jinja", "chat_template.json", *PREPROCESSOR_FILES, "generation_config.json")


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """Images, the question behind them, and the words to answer by.

    Attributes:
        pictures: In this order, all of them before the text: the order of parts moves what a model answers.
        text: The question.
        answers: The words, each a single token.
    """

    pictures: tuple[Picture, ...]
    text: str
    answers: tuple[str, ...]

    @property
    def key(self) -> str:
        """By which its answer is recorded."""
        return question_key([picture.content for picture in self.pictures], self.text, self.answers)

    def answered(self, logits: Sequence[float]) -> Judgement:
        """Return it with the logit of each answer."""
        images = tuple(picture.content for picture in self.pictures)
        return Judgement(images=images, text=self.text, answers=self.answers, logits=tuple(logits))


class AnsweringModel:
    """A model of transformers for images and text, loaded when it is first asked.

    Args:
        name: A folder, or ``owner/model`` or ``owner/model@revision`` of the hub.
        pixels: Pixels of an image, at most.
        precision: Of the weights and of what is computed, but for the logits.
        batch_size: Questions at once.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    """

    def __init__(self, name: str, *, pixels: int | None, precision: Precision, batch_size: int, device: str) -> None:
        self._name = name
        self._pixels = pixels
        self._precision: Precision = precision
        self.batch_size = batch_size
        self._device = device

    @cached_property
    def identity(self) -> str:
        """Sha256 over the model's files, its precision and the pixels: a model of the hub counts by its commit."""
        folder = self._folder
        if folder.repository is not None:
            files = {"commit": folder.path.name}
        else:
            names = sorted(path.name for path in folder.path.iterdir() if path.suffix in (".json", ".jinja", ".txt"))
            files = {name: sha256_of_file(folder.path / name) for name in names}
            files["weights"] = weights_digest(folder.weights())
        return digest([folder.repository, files, self._precision, self._pixels])

    def ask(self, questions: Sequence[Question]) -> list[list[float]]:
        """Return, for each question, the logit of each of its answers.

        Raises:
            MissingData: transformers or the model's files are not there, or an image cannot be read.
            CorruptFile: The files are damaged.
            UsageError: A question is longer than the model reads, or an answer is not a token of it.
        """
        import torch

        model, processor = self._loaded
        texts = [self._conversation(question) for question in questions]
        images = [[self._scaled(picture.open()) for picture in question.pictures] for question in questions]
        tokens = [[self._token(word) for word in question.answers] for question in questions]
        with torch.inference_mode(), quietly():
            inputs = processor(text=texts, images=images, padding=True, return_tensors="pt")
            self._require_length(inputs["input_ids"].shape[1], len(questions[0].pictures))
            inputs = inputs.to(model.device, model.dtype)
            hidden_BD = model.model(**inputs).last_hidden_state[:, -1].float()
            head_VD = model.get_output_embeddings().weight
            return [(head_VD[ids].float() @ hidden_D).tolist() for ids, hidden_D in zip(tokens, hidden_BD, strict=True)]

    @cached_property
    def _folder(self) -> ModelFolder:
        return open_folder(self._name, optional=_OPTIONAL)

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        import torch

        transformers = require("transformers", extra="transformers", purpose="A judge")
        folder = self._folder
        folder.weights()  # fetched, so that what is missing is named by our message
        dtype = torch.bfloat16 if self._precision == "bf16" else torch.float32
        try:
            with loading():
                processor = transformers.AutoProcessor.from_pretrained(folder.path, local_files_only=True)
                model, found = transformers.AutoModelForImageTextToText.from_pretrained(
                    folder.path, local_files_only=True, dtype=dtype, output_loading_info=True
                )
        except Exception as error:  # whatever a wrong configuration or a damaged file leads to
            raise CorruptFile(
                f"transformers cannot load {quoted(self._name)} as a model that answers questions about images: "
                f"{first_line(error)}",
                hint="Give a model for image-text-to-text, for instance Qwen/Qwen3-VL-Reranker-2B.",
            ) from error
        if found["missing_keys"]:
            missing = sorted(found["missing_keys"])
            raise CorruptFile(f"The weights of {self._name} lack {len(missing)} tensors, for instance {missing[0]}.")
        processor.tokenizer.padding_side = "left"  # so that the last position is the last token of every question
        return model.eval().to(find_device(self._device)), processor

    def _conversation(self, question: Question) -> str:
        parts = [*({"type": "image"} for _ in question.pictures), {"type": "text", "text": question.text}]
        text: str = self._loaded[1].apply_chat_template(
            [{"role": "user", "content": parts}], tokenize=False, add_generation_prompt=True
        )
        return text

    def _scaled(self, image: Image.Image) -> Image.Image:
        from PIL import Image

        width, height = image.size
        if self._pixels is None or width * height <= self._pixels:
            return image
        scale = (self._pixels / (width * height)) ** 0.5
        return image.resize((max(1, int(width * scale)), max(1, int(height * scale))), Image.Resampling.BICUBIC)

    def _token(self, word: str) -> int:
        ids: list[int] = self._loaded[1].tokenizer.encode(word, add_special_tokens=False)
        if len(ids) != 1:
            raise UsageError(
                f"{quoted(word)} is {len(ids)} tokens of {self._name}, so one step does not say how likely it is.",
                hint="Choose another mode, --rerank-set mode=..., or another model.",
            )
        return ids[0]

    def _require_length(self, length: int, images: int) -> None:
        config = self._loaded[0].config
        longest = getattr(getattr(config, "text_config", config), "max_position_embeddings", None)
        if longest is not None and length > longest:
            raise UsageError(
                f"A question with {images} images takes {length:,} tokens, and {self._name} reads {longest:,}.",
                hint="Show smaller images, --rerank-set pixels=..., or fewer at once: --rerank-top, or mode=pointwise.",
            )
