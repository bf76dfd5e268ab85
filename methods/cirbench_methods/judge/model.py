"""A vision-language model that is asked one question at a time, and answers by one of a few words.

What counts is not the text that it would write but how likely each of these words is as the first one: the logits at
the last position, computed in float32 from the hidden state, so that no rounding of the vocabulary's scores and no
saturated probability makes ties.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from cirbench.artefacts.chat import CHAT_FILES, load_model, longest_input
from cirbench.backbones.hub import open_folder
from cirbench.backbones.interface import quietly
from cirbench.errors import MissingData, UsageError, quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from cirbench.backbones.hub import ModelFolder
    from cirbench.backbones.interface import WeightPrecision
    from cirbench.protocol import ImageSource


class AnsweringModel:
    """A model of transformers for images and text, loaded when it is first asked.

    The images come before the text, all of them: the order of the parts moves what a model answers.

    Args:
        name: A folder, or ``owner/model`` or ``owner/model@revision`` of the hub.
        pixels: Pixels of an image, at most.
        precision: Of the weights and of what is computed, but for the logits.
        batch_size: Questions at once.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    """

    def __init__(
        self, name: str, *, pixels: int | None, precision: WeightPrecision, batch_size: int, device: str
    ) -> None:
        self.name = name
        self.batch_size = batch_size
        self._pixels = pixels
        self._precision: WeightPrecision = precision
        self._device = device

    @cached_property
    def revision(self) -> str:
        """The commit of a model of the hub; of a folder, a sha256 over its files."""
        return self._folder.identity()

    @property
    def decoding(self) -> dict[str, str | int | float | bool | None]:
        """What else decides an answer."""
        return {"precision": self._precision, "pixels": self._pixels}

    def logits(self, questions: Sequence[tuple[Sequence[ImageSource], str]], words: Sequence[str]) -> list[list[float]]:
        """Return, for each question, images and a text, the logit of each of the words as the first of an answer.

        Args:
            questions: At most `batch_size`; an answer depends on its own question only.
            words: Each a single token of the model.

        Raises:
            MissingData: transformers or the model's files are not there, or an image cannot be read.
            CorruptFile: The files are damaged.
            UsageError: A question is longer than the model reads, or a word is not a token of it.
        """
        import torch

        model, processor = self._loaded
        texts = [self._conversation(len(images), text) for images, text in questions]
        opened = [[self._scaled(image.open()) for image in images] for images, _ in questions]
        tokens = [self._token(word) for word in words]
        with torch.inference_mode(), quietly():
            inputs = processor(text=texts, images=opened, padding=True, return_tensors="pt")
            self._require_length(inputs["input_ids"].shape[1], len(opened[0]))
            inputs = inputs.to(model.device, model.dtype)
            hidden_BD = model.model(**inputs).last_hidden_state[:, -1].float()
            words_WD = model.get_output_embeddings().weight[tokens].float()
            found: list[list[float]] = (hidden_BD @ words_WD.T).tolist()
            return found

    @cached_property
    def _folder(self) -> ModelFolder:
        try:
            return open_folder(self.name, optional=CHAT_FILES)
        except MissingData as error:
            raise MissingData(
                error.message,
                hint=f"Run again with a network, or fetch {self.name} elsewhere and name its folder: --rerank-set "
                "model=FOLDER. Recorded answers need no model: --rerank-set answers=FILE",
            ) from error

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        model, processor = load_model(
            self.name,
            self._folder,
            sees=True,
            purpose="A judge",
            precision=self._precision,
            device=self._device,
            kind="a model that answers questions about images",
            hint="Give a model for image-text-to-text, for instance Qwen/Qwen3-VL-Reranker-2B.",
        )
        processor.tokenizer.padding_side = "left"  # so that the last position is the last token of every question
        return model, processor

    def _conversation(self, images: int, text: str) -> str:
        parts = [*({"type": "image"} for _ in range(images)), {"type": "text", "text": text}]
        written: str = self._loaded[1].apply_chat_template(
            [{"role": "user", "content": parts}], tokenize=False, add_generation_prompt=True
        )
        return written

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
                f"{quoted(word)} is {len(ids)} tokens of {self.name}, so one step does not say how likely it is.",
                hint="Choose another mode, --rerank-set mode=..., or another model.",
            )
        return ids[0]

    def _require_length(self, length: int, images: int) -> None:
        longest = longest_input(self._loaded[0])
        if longest is not None and length > longest:
            raise UsageError(
                f"A question with {images} images takes {length:,} tokens, and {self.name} reads {longest:,}.",
                hint="Show smaller images, --rerank-set pixels=..., or fewer at once: --rerank-top, or mode=pointwise.",
            )
