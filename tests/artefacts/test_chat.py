"""A chat model on one's own machine is asked each question by itself, and says the same again."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
import transformers

from cirbench import cli
from cirbench.artefacts import Artefact, Question, answered, kept
from cirbench.artefacts.answers import worded
from cirbench.artefacts.chat import ChatModel
from cirbench.errors import CheckFailed, CorruptFile, MissingData, UsageError
from tests.tiny_qwen3vl import vision_language_model
from tests.training.plain_samples import Square

if TYPE_CHECKING:
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
