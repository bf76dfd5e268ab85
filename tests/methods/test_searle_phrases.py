"""Phrases about concepts: what is read, what is replaced, what is refused, and what a language model writes."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from cirbench.errors import CirbenchError, CorruptFile, MissingData, UsageError
from cirbench_methods.searle.generate import Writer, generate, read_concepts
from cirbench_methods.searle.phrases import PER_CONCEPT, SCHEMA, Header, open_phrases, read_lines, replaced, usable

HEADER = Header(SCHEMA, "some-model", 2, 0)


def written(folder: Path, value: Any, name: str = "phrases.json") -> str:
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return str(path)


def test_the_phrases_of_scenes_mention_their_concepts_and_are_always_the_same() -> None:
    found = open_phrases("scenes")
    assert found.dropped == ()
    assert len(found.concepts) == 12 + 9 * 12
    assert {len(sentences) for sentences in found.sentences} == {PER_CONCEPT}
    assert found.digest == open_phrases("scenes").digest


@pytest.mark.parametrize(
    ("sentence", "concept", "first", "every"),
    [
        ("a photo of dog that is a dog.", "dog", "a photo of $ that is a dog.", "a photo of $ that is a $ ."),
        ("a dogfish and a dog", "dog", "a dogfish and a $", "a dogfish and a $"),
        ("A Photo of Guide Dog, asleep", "guide dog", "A Photo of $ , asleep", "A Photo of $ , asleep"),
        ("a photo of C++ code", "c++", "a photo of $ code", "a photo of $ code"),
    ],
)
def test_a_concept_is_replaced_as_whole_words_once_or_everywhere(
    sentence: str, concept: str, first: str, every: str
) -> None:
    assert replaced(sentence, concept, "first") == first
    assert replaced(sentence, concept, "all") == every


def test_what_cannot_be_replaced_is_left_out_and_named() -> None:
    found = usable({"dog": ["a dog", "a cat for $5", "a $5 dog"], "cat": ["a dog"]}, "here")
    assert found.concepts == ("dog",)
    assert found.sentences == (("a dog", "a 5 dog"),)
    assert found.dropped == ("cat",)


def test_a_file_of_phrases_is_read_in_both_forms(tmp_path: Path) -> None:
    phrases = {"dog": ["a dog", "one dog"], "cat": ["a cat"]}
    lines = "".join(json.dumps({"concept": concept, "phrases": said}) + "\n" for concept, said in phrases.items())
    one = open_phrases(written(tmp_path, phrases))
    other = open_phrases(written(tmp_path, lines + '{"concept": "bird", "phr', "phrases.jsonl"))
    assert one == other
    assert one.concepts == ("dog", "cat")


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        ({"dog": []}, CorruptFile, r"The concept 'dog' of .*phrases\.json has no phrases"),
        ({"dog": ["a cat"]}, UsageError, r"None of the 1 concepts of .*phrases\.json occurs in its own phrases"),
        ({"dog": "a dog"}, CorruptFile, r"phrases\.json holds no phrases: .*\nWrite \{\"dog\""),
        ("[", CorruptFile, r"phrases\.json holds no phrases"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(
    tmp_path: Path, content: Any, kind: type[CirbenchError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        open_phrases(written(tmp_path, content))


def test_missing_phrases_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"needs phrases about concepts\.\nGive --set phrases=FILE\.json"):
        open_phrases(None)
    with pytest.raises(MissingData, match=r"p\.json does not exist\.\nWrite one: python -m .*generate .*p\.jsonl"):
        open_phrases(str(tmp_path / "p.json"))
    with pytest.raises(UsageError, match=r"'gpt' holds no phrases\.\nGive FILE\.json"):
        open_phrases("gpt")


def test_a_damaged_line_and_another_schema_are_named(tmp_path: Path) -> None:
    broken = written(tmp_path, '{"concept": "dog", "phrases": ["a dog"]}\n{"concept"\n', "p.jsonl")
    with pytest.raises(CorruptFile, match=r"p\.jsonl, line 2: "):
        open_phrases(broken)
    newer = written(tmp_path, '{"schema": 9, "model": "m", "samples": 1, "seed": 0}\n', "q.jsonl")
    with pytest.raises(CorruptFile, match=r"q\.jsonl has schema 9; this version of cirbench reads 1"):
        open_phrases(newer)


def test_concepts_are_read_from_lines_and_from_the_table_of_open_images(tmp_path: Path) -> None:
    lines = written(tmp_path, "dog\n\n cat \ndog\n", "concepts.txt")
    table = written(tmp_path, "LabelName,DisplayName\n/m/0,dog\n/m/1,cat\n/m/2,dog\n", "classes.csv")
    assert read_concepts(Path(lines)) == read_concepts(Path(table)) == ["dog", "cat"]
    with pytest.raises(MissingData, match=r"concepts nowhere\.txt does not exist"):
        read_concepts(Path("nowhere.txt"))
    with pytest.raises(CorruptFile, match=r"has no column 'DisplayName'; its first line is \['name'\]"):
        read_concepts(Path(written(tmp_path, "name\ndog\n", "other.csv")))
    with pytest.raises(CorruptFile, match="holds no concepts"):
        read_concepts(Path(written(tmp_path, "\n", "empty.txt")))


def test_writing_stopped_at_any_byte_goes_on_to_the_same_file(tmp_path: Path) -> None:
    asked: list[str] = []

    def write(concept: str) -> tuple[str, ...]:
        asked.append(concept)
        return (f"a photo of {concept} that is here", f"a photo of {concept} that\nis there")

    whole, stopped = tmp_path / "whole.jsonl", tmp_path / "stopped.jsonl"
    assert generate(["dog", "cat", "bird"], whole, HEADER, write) == 3
    content = whole.read_bytes()
    after_two = content.rindex(b'{"concept"')
    stopped.write_bytes(content[: after_two + 9])
    asked.clear()
    assert generate(["dog", "cat", "bird"], stopped, HEADER, write) == 1
    assert asked == ["bird"]
    assert stopped.read_bytes() == content
    assert read_lines(stopped)[0] == HEADER


def test_a_file_that_was_written_with_other_settings_is_not_mixed(tmp_path: Path) -> None:
    path = tmp_path / "phrases.jsonl"
    generate(["dog"], path, HEADER, lambda concept: ("a dog",))
    with pytest.raises(UsageError, match=r"with Header\(.*samples=2.*command has Header\(.*samples=3"):
        generate(["dog"], path, Header(SCHEMA, "some-model", 3, 0), lambda concept: ("a dog",))


@cache
def tiny_language_model() -> str:
    """A GPT-Neo with random weights and a tokenizer of a few words, in the files that the hub has."""
    transformers: Any = pytest.importorskip("transformers")
    tokenizers: Any = pytest.importorskip("tokenizers")
    words = ["<end>", "<unknown>", *["a", "photo", "of", "that", "dog", "cat", "is", "here", "there", "red"]]
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unknown>")
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    folder = mkdtemp()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_heads": 2, "num_layers": 1, "attention_types": [[["global"], 1]]}
    config = transformers.GPTNeoConfig(
        vocab_size=len(words), max_position_embeddings=64, bos_token_id=0, eos_token_id=0, **sizes
    )
    transformers.GPTNeoForCausalLM(config).save_pretrained(folder)
    return folder


def test_a_language_model_continues_the_prompt_and_its_draws_come_from_the_concept() -> None:
    writer = Writer(tiny_language_model(), "cpu")
    dogs = writer("dog", 3, seed=0)
    writer("cat", 2, seed=0)
    assert writer("dog", 3, seed=0) == dogs
    assert writer("dog", 3, seed=1) != dogs
    assert all(phrase.startswith("a photo of dog that") for phrase in dogs)
    assert max(len(phrase.split()) for phrase in dogs) <= 35


def test_a_language_model_that_is_not_there_and_a_package_that_is_not_there_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(MissingData, match=r"The language model .* cannot be loaded: .*\nGive a folder or a name"):
        Writer(str(tmp_path), "cpu")
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(MissingData, match=r"Writing phrases needs the package transformers.*\npip install 'cirbench\["):
        Writer(str(tmp_path), "cpu")
