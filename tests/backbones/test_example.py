"""The tiny joint model that can be written for trying out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cirbench.backbones.example import WORDS, write_joint_model
from cirbench.backbones.hub import weights_digest
from cirbench.errors import UsageError
from tests.tiny_qwen3vl import joint_model, vision_language_model

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_the_weights_are_a_function_of_the_seed(tmp_path: Path) -> None:
    same, other = (write_joint_model(tmp_path / str(seed), seed) / "model.safetensors" for seed in (0, 1))
    assert weights_digest((same,)) == weights_digest((joint_model() / "model.safetensors",))
    assert weights_digest((same,)) != weights_digest((other,))


@pytest.mark.slow
def test_the_library_loads_it_as_a_model_of_images_and_texts_together() -> None:
    from sentence_transformers import SentenceTransformer  # takes three seconds, and quick tests do without

    model = SentenceTransformer(str(joint_model()), device="cpu", local_files_only=True)
    assert {"image", "text", "message"} <= set(model.modalities)


@pytest.mark.slow
def test_the_answers_of_a_judge_are_one_token_each() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(vision_language_model(), local_files_only=True)
    assert [len(tokenizer(word)["input_ids"]) for word in WORDS] == [1, 1]


@pytest.mark.slow
def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UsageError, match="exists already"):
        write_joint_model(tmp_path)
