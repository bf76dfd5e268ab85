"""Models of sentence-transformers that read an image and a text in one pass: Qwen3-VL-Embedding and its kind.

A row is what the library's ``encode`` returns for ``{"image": ..., "text": ...}`` alone, with the instruction as its
``prompt``. The image always comes first: the order of the two moves a row as far as another instruction does. Nothing
is padded, since only inputs of equal shapes share a pass.

`write_joint_model` makes a tiny one with random weights, to try out what needs such a model. It is a Qwen3-VL in every
respect but its size: two layers, a vocabulary of bytes, and images of 32 to 64 pixels a side. Its vectors mean nothing,
so its numbers are those of chance; all else is as with a model of 8 billion parameters.
"""

from __future__ import annotations

import json
import os
import re
import threading
from typing import TYPE_CHECKING, Any

from cirbench.backbones.hub import first_line, loading
from cirbench.backbones.images import plain_rgb
from cirbench.backbones.interface import BackboneIdentity
from cirbench.errors import CorruptFile, UsageError, quoted
from cirbench.support.files import digest
from cirbench.support.needs import require

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from PIL import Image

    from cirbench.backbones.images import Preprocessing
    from cirbench.backbones.interface import Precision

OWN = "own"
"""The preprocessing of a model whose processor has no budget of pixels that could be declared."""
_BUDGET = re.compile(r"pixels\((\d+),\s*(\d+)\)")
_BUDGET_FIELDS = ("size", "min_pixels", "max_pixels")
"""Where processors state it."""
_TOWERS = (
    *("image_size", "preprocessing", "preprocess", "encode_images"),
    *("tokenize", "encode_tokens", "token_lengths"),
)
"""What a `Backbone` has for its towers."""
_SIDES = ((2048, 2048), (4096, 1024), (1024, 4096))
"""Images of which one takes the most tokens, where the processor has no budget of pixels."""

_READING = threading.Lock()
"""A tokenizer keeps state while it works. It is not an attribute, since a training copies its backbone."""

TINY_WORDS = ("yes", "no")
"""What is one token of the tiny model besides the bytes, so that it can serve as a judge."""
_TINY_MARKS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
)
TINY_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}"
    "{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part.type == 'text' %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""One that puts the parts of a turn in the order in which they are given."""
_TINY_LENGTH = 1024
_TINY_PIXELS = (32 * 32, 64 * 64)


def reads_both(model: Any) -> bool:
    """Say whether a model of sentence-transformers reads images and texts as the parts of one message."""
    ways = getattr(model[0], "modality_config", {})
    return "message" in ways and "image" in ways and ways["image"]["method"] == ways["message"]["method"]


def declared_pixels(model: Any, declaration: str | None, name: str) -> tuple[str, dict[str, Any]]:
    """Return how images are prepared, in one word, and the processor's arguments for it.

    Args:
        model: The model of sentence-transformers.
        declaration: ``"pixels(MIN, MAX)"``, or ``None`` for the model's own budget.
        name: Of the model, for messages.

    Raises:
        UsageError: The declaration cannot be understood, or the processor has no budget.
    """
    budget = _own_budget(model)
    if declaration in (None, OWN) and budget is None:
        return OWN, {}
    if declaration is None and budget is not None:
        return f"pixels({budget[0]}, {budget[1]})", {}
    match = _BUDGET.fullmatch(declaration or "")
    if budget is None or match is None:
        raise UsageError(
            f"{name} prepares images by its own processor, of which --preprocessing {quoted(declaration)} says "
            "nothing.",
            hint="Leave it out."
            if budget is None
            else f'Leave it out, or give the least and the most pixels of an image: "pixels({budget[0]}, {budget[1]})"',
        )
    least, most = int(match[1]), int(match[2])
    if not 0 < least <= most:
        raise UsageError(f"{declaration} is not a valid budget of pixels: the least is not above 0, or above the most.")
    return f"pixels({least}, {most})", {"size": {"shortest_edge": least, "longest_edge": most}}


def _own_budget(model: Any) -> tuple[int, int] | None:
    """The least and the most pixels of an image, of processors that scale images into such a budget, as Qwen's do."""
    stated = (model[0].processing_kwargs or {}).get("image", {})
    processor = model[0].processor.image_processor
    if getattr(processor, "merge_size", None) is None:
        return None
    size = dict(stated.get("size") or processor.size)
    least = stated.get("min_pixels") or size.get("shortest_edge")
    most = stated.get("max_pixels") or size.get("longest_edge")
    return None if least is None or most is None else (int(least), int(most))


class JointSentenceBackbone:
    """A model of sentence-transformers that reads images and texts together; a `Backbone` and a `JointBackbone`."""

    image_size: int
    preprocessing: Preprocessing
    preprocess: Callable[[Image.Image], torch.Tensor]
    encode_images: Callable[[torch.Tensor], torch.Tensor]
    tokenize: Callable[[Sequence[str]], torch.Tensor]
    encode_tokens: Callable[[torch.Tensor], torch.Tensor]
    token_lengths: Callable[[torch.Tensor], NDArray[np.int64]]

    def __init__(
        self,
        identity: BackboneIdentity,
        model: Any,
        processing: Mapping[str, Any],
        device: torch.device,
        with_weights: Callable[[Path], JointSentenceBackbone],
    ) -> None:
        import torch

        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else it warns in every process forked after its use
        self.identity = identity
        self.model = model
        self.device = device
        self._with_weights = with_weights
        own = model.prompts.get(model.default_prompt_name) or ""
        self.item_instruction = str(model.prompts.get("document") or own)
        self.query_instruction = str(model.prompts.get("query") or own)
        _configure(model[0], processing)
        self._tokenizer: Any = model.tokenizer
        self._marks = _marks(self._tokenizer)
        self._positions = _positions(model)
        self.context_length = self._positions  # until it is known what an image takes of it
        self.context_length = self._left_for_texts()
        with torch.inference_mode():
            self.dim = int(self.encode([self.read(None, "a", "")]).shape[1])

    def __repr__(self) -> str:
        return f"<{self.identity.name} on {self.device}, {self.identity.precision}>"

    def __getattr__(self, name: str) -> Any:
        if name in _TOWERS:
            raise UsageError(
                f"{self.identity.name} reads image and text together: it has no towers for what asks for them here.",
                hint="Ask for methods that take its features as they are, such as embedder, image-text or slerp; or "
                "name a backbone with two towers.",
            )
        raise AttributeError(name)

    def require_readable(self, texts: Sequence[str]) -> None:
        """Refuse texts with a mark that the tokenizer knows as one of its own.

        Raises:
            UsageError: One has such a mark.
        """
        for text in texts:
            if (match := self._marks.search(text)) is not None:
                raise UsageError(
                    f"The text {quoted(text)} has {match[0]}, which {self.identity.name} takes for a mark of its own "
                    "and not for text.",
                    hint="Take it out; the places of image and text are the template's.",
                )

    def overlong(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Say which texts have to be cut to leave room for an image and the instructions, (B,)."""
        import numpy as np

        return np.asarray([len(self._offsets(text)) > self.context_length for text in texts], dtype=np.bool_)

    def read(self, image: Image.Image | None, text: str | None, instruction: str) -> Mapping[str, Any]:
        """Prepare one input by the model's own processor and template, image first."""
        parts: dict[str, Any] = {} if image is None else {"image": plain_rgb(image)}
        with _READING:
            if text is not None:
                parts["text"] = self._cut(text)
            try:
                inputs: dict[str, Any] = self.model.preprocess([parts], prompt=instruction or None)
            except Exception as error:  # of the template, the tokenizer or the image processor
                what = " and ".join(f"an {part}" if part == "image" else f"a {part}" for part in parts)
                raise CorruptFile(
                    f"The processor of {self.identity.name} fails on {what}: {first_line(error)}"
                ) from error
        length = int(inputs["input_ids"].shape[1])
        if length > self._positions:
            raise UsageError(
                f"{self.identity.name} reads {self._positions} tokens, and an image or a text with its instruction "
                f"takes {length}.",
                hint='Shorten the instruction, or give images fewer pixels: --preprocessing "pixels(MIN, MAX)".',
            )
        return inputs

    def encode(self, inputs: Sequence[Mapping[str, Any]]) -> torch.Tensor:
        """Encode prepared inputs of equal shapes, (B, D) float32."""
        import torch

        batch = {
            name: torch.cat([each[name] for each in inputs]).to(self.device) if torch.is_tensor(value) else value
            for name, value in inputs[0].items()
        }
        rows_BD: torch.Tensor = self.model(batch)["sentence_embedding"]
        return rows_BD.float()

    def with_weights(self, weights: Path) -> JointSentenceBackbone:
        """Load other weights of the same architecture, activation, preprocessing, precision and device."""
        return self._with_weights(weights)

    def _cut(self, text: str) -> str:
        ends = self._offsets(text)
        return text if len(ends) <= self.context_length else text[: ends[self.context_length - 1]]

    def _offsets(self, text: str) -> list[int]:
        """Where each token of a text ends."""
        tokens = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return [end for _, end in tokens["offset_mapping"]]

    def _left_for_texts(self) -> int:
        """The positions that are left beside the image that takes the most, the template and the own instructions."""
        from PIL import Image

        longest = max(self.item_instruction, self.query_instruction, key=len)
        processor = self.model[0].processor.image_processor
        budget = _BUDGET.fullmatch(self.identity.preprocessing)
        sizes = _SIDES if budget is None else ((64, 64),)
        inputs = [self.read(Image.new("RGB", size), "a", longest) for size in sizes]
        taken = max(int(each["input_ids"].shape[1]) for each in inputs) - 1
        if budget is not None:
            side = processor.patch_size * processor.merge_size
            (grid,) = inputs[0]["image_grid_thw"].tolist()
            taken += int(budget[2]) // side**2 - grid[0] * grid[1] * grid[2] // processor.merge_size**2
        if taken >= self._positions:
            raise UsageError(
                f"{self.identity.name} reads {self._positions} tokens, and an image alone may take {taken}.",
                hint='Give images fewer pixels: --preprocessing "pixels(MIN, MAX)".',
            )
        return self._positions - taken


def identify(
    name: str, model: Any, content: Any, *, activation: Any, weights: str, preprocessing: str, precision: Precision
) -> BackboneIdentity:
    """Say what fixes the rows of a joint model besides the instruction, which is part of each row's own digest.

    Args:
        name: As typed.
        model: The model of sentence-transformers.
        content: What its files say.
        activation: Of the image tower inside.
        weights: Sha256 of the weights.
        preprocessing: The budget of pixels.
        precision: Of the weights and of what is computed.
    """
    transformer = model[0]
    attention = getattr(transformer.config, "_attn_implementation", None) or "eager"
    image_processor = transformer.processor.image_processor
    stated = json.loads(image_processor.to_json_string())
    budget = () if preprocessing == OWN else _BUDGET_FIELDS
    rows = {
        "content": content,
        "template": transformer.processor.chat_template or model.tokenizer.chat_template,
        "order": ["image", "text"],
        "image_processor": {key: value for key, value in stated.items() if key not in budget},
        "processing": transformer.processing_kwargs,
        "prompts": [model.prompts, model.default_prompt_name],
        "backend": getattr(image_processor, "backend", None),
    }
    kind = f"sentence-transformers:{transformer.config.model_type}"
    return BackboneIdentity(
        name=name,
        architecture=f"{kind}, image first, {attention}@{digest(rows)[:16]}",
        activation=activation,
        weights=weights,
        preprocessing=preprocessing,
        precision=precision,
    )


def _configure(transformer: Any, images: Mapping[str, Any]) -> None:
    """Let the library cut nothing, since it would cut through the places of an image; prepare images as declared."""
    stated = transformer.processing_kwargs or {}
    own = {key: value for key, value in stated.get("image", {}).items() if not images or key not in _BUDGET_FIELDS}
    transformer.processing_kwargs = {
        **stated,
        "text": {**stated.get("text", {}), "truncation": False},
        "image": {**own, **images},
    }


def _positions(model: Any) -> int:
    """The most tokens that both the tokenizer and the positions of the language model allow."""
    config = model[0].config
    language = getattr(config, "text_config", config)
    stated = [model.max_seq_length, getattr(language, "max_position_embeddings", None)]
    return int(min(each for each in stated if each is not None))


def _marks(tokenizer: Any) -> re.Pattern[str]:
    """What the tokenizer finds in a text and takes for more than text."""
    special = {str(token) for token in tokenizer.all_special_tokens}
    special |= {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return re.compile("|".join(re.escape(mark) for mark in sorted(special, key=len, reverse=True)) or r"(?!)")


def write_joint_model(folder: Path, seed: int = 0) -> Path:
    """Write an embedding model as sentence-transformers saves it: the hidden state of the last token, at unit length.

    Args:
        folder: It must not exist, or be empty.
        seed: Decides the weights.

    Returns:
        The folder.

    Raises:
        UsageError: The folder holds something.
        MissingData: sentence-transformers is not installed.
    """
    require("sentence_transformers", extra="sentence-transformers", purpose="A model of images and texts together")
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    write_vision_language_model(folder, seed)
    with loading():
        transformer = Transformer(
            str(folder), processing_kwargs={"chat_template": {"add_generation_prompt": True}}, backend="torch"
        )
        pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode="lasttoken")
        model = SentenceTransformer(modules=[transformer, pooling, Normalize()], device="cpu")
        model.save(str(folder), create_model_card=False)
    return folder


def write_vision_language_model(folder: Path, seed: int = 0) -> Path:
    """Write a Qwen3-VL with its head over the vocabulary, tokenizer and processor, as transformers saves it.

    Raises:
        UsageError: The folder holds something.
    """
    import torch
    import transformers

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists already.", hint="Name a new folder.")
    tokenizer = byte_tokenizer()
    ids = {token: int(tokenizer.convert_tokens_to_ids(token)) for token in _TINY_MARKS}
    auto: Any = transformers
    config = auto.Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "max_position_embeddings": _TINY_LENGTH,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
            "pad_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": 64,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    smallest, largest = _TINY_PIXELS
    images = auto.Qwen2VLImageProcessor(
        patch_size=16, merge_size=2, temporal_patch_size=2, min_pixels=smallest, max_pixels=largest
    )
    with loading(), torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        model = auto.Qwen3VLForConditionalGeneration(config).eval()
        processor = auto.Qwen3VLProcessor(
            image_processor=images,
            tokenizer=tokenizer,
            video_processor=auto.Qwen3VLVideoProcessor(),
            chat_template=TINY_TEMPLATE,
        )
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    return folder


def byte_tokenizer() -> Any:
    """Build a tokenizer of bytes, the two words of a judge, and Qwen's own marks."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = []
    for word in TINY_WORDS:
        for end in range(2, len(word) + 1):
            merges.append((word[: end - 1], word[end - 1]))
            vocabulary[word[:end]] = len(vocabulary)
    tokenizer: Any = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    auto: Any = transformers
    fast = auto.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(_TINY_MARKS),
        model_max_length=_TINY_LENGTH,
    )
    fast.chat_template = TINY_TEMPLATE
    marks = {"image": "<|image_pad|>", "video": "<|video_pad|>"}
    marks |= {"vision_start": "<|vision_start|>", "vision_end": "<|vision_end|>"}
    for name, mark in marks.items():
        setattr(fast, f"{name}_token", mark)
        setattr(fast, f"{name}_token_id", int(fast.convert_tokens_to_ids(mark)))
    return fast
