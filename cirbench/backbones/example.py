"""A tiny model with random weights that reads images and texts together, to try out what needs such a model.

It is a Qwen3-VL in every respect but its size: two layers, a vocabulary of bytes, and images of 32 to 64 pixels a side.
Its vectors mean nothing, so its numbers are those of chance; all else is as with a model of 8 billion parameters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cirbench.backbones.hub import loading
from cirbench.errors import UsageError
from cirbench.support.needs import require

if TYPE_CHECKING:
    from pathlib import Path

WORDS = ("yes", "no")
"""What is one token besides the bytes, so that the model can serve as a judge."""
_SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
)
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}"
    "{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part.type == 'text' %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""One that puts the parts of a turn in the order in which they are given."""
_LENGTH = 1024
_PIXELS = (32 * 32, 64 * 64)


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
    ids = {token: int(tokenizer.convert_tokens_to_ids(token)) for token in _SPECIAL}
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
            "max_position_embeddings": _LENGTH,
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
    smallest, largest = _PIXELS
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
            chat_template=TEMPLATE,
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
    for word in WORDS:
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
        additional_special_tokens=list(_SPECIAL),
        model_max_length=_LENGTH,
    )
    fast.chat_template = TEMPLATE
    marks = {"image": "<|image_pad|>", "video": "<|video_pad|>"}
    marks |= {"vision_start": "<|vision_start|>", "vision_end": "<|vision_end|>"}
    for name, mark in marks.items():
        setattr(fast, f"{name}_token", mark)
        setattr(fast, f"{name}_token_id", int(fast.convert_tokens_to_ids(mark)))
    return fast
