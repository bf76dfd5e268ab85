"""Answers of models are kept by content, survive kills and two writers, and replay without a model."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cirbench.artefacts.answers import Answer, Artefact, Maker, Question, answered, kept, merge
from cirbench.benchmarks.scenes import training_pairs
from cirbench.errors import CorruptFile, MethodFailed, MissingData

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

MAKER = Maker(model="a-model", revision="r1", decoding={"temperature": 0.7}, prompts={"edited": "Edit: {}"})


class Counting:
    """A model that says how often it was asked, and counts."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.calls = 0
        self.stop_after = stop_after

    def __call__(self, questions: Sequence[Question], field: str, samples: int) -> Iterator[tuple[str, ...]]:
        for question in questions:
            if self.calls == self.stop_after:
                raise ConnectionError("gone")
            self.calls += 1
            yield tuple(f"{field} of {question.texts[0]}, {number}" for number in range(samples))


def ask(*texts: str) -> list[Question]:
    return [Question(texts=(text,)) for text in texts]


def test_what_was_answered_is_never_asked_again_whatever_it_was_called(tmp_path: Path) -> None:
    image = training_pairs(1)[0].image
    model = Counting()
    questions = [Question((image,), ("larger",)), Question((image,), ("larger",)), Question((image,), ("red",))]
    first = answered(questions, "edited", 2, kept(MAKER, tmp_path), model)
    assert model.calls == 2
    again = kept(MAKER, tmp_path)
    assert answered(questions, "edited", 2, again) == first
    assert again.record().answers == 2
    (line,) = [line for line in again if line.texts == ("red",)]
    assert line.images == (image.content,)


def test_a_replay_has_the_digest_of_the_first_run_and_another_answer_another(tmp_path: Path) -> None:
    one = kept(MAKER, tmp_path)
    answered(ask("a", "b"), "edited", 1, one, Counting())
    replayed = kept(MAKER, tmp_path)
    answered(ask("b", "a"), "edited", 1, replayed)
    assert replayed.record() == one.record()
    other = Artefact(tmp_path / "other.jsonl", MAKER)
    other.add([Answer((), ("a",), {"edited": ("else",)}), Answer((), ("b",), {"edited": ("else",)})])
    answered(ask("a", "b"), "edited", 1, other)
    assert other.record().digest != one.record().digest


def test_missing_answers_are_counted_with_what_they_would_take(tmp_path: Path) -> None:
    artefact = kept(MAKER, tmp_path)
    answered(ask("a"), "edited", 1, artefact, Counting())
    with pytest.raises(MissingData) as error:
        answered(ask("a", "b", "c", "c"), "edited", 3, artefact)
    assert "lacks 3 answers of the field edited to 3 of 3 questions" in error.value.message
    assert "9 calls with 0 images and about" in str(error.value.hint)


def test_what_was_answered_before_a_model_fails_is_kept_and_the_rest_is_asked_next_time(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError):
        answered(ask(*"abcdef"), "edited", 1, kept(MAKER, tmp_path), Counting(stop_after=4))
    model = Counting()
    assert len(answered(ask(*"abcdef"), "edited", 1, kept(MAKER, tmp_path), model)) == 6
    assert model.calls == 2


@pytest.mark.parametrize("written", [0, 1, 40])
def test_a_file_whose_first_line_was_cut_off_is_begun_anew(tmp_path: Path, written: int) -> None:
    path = kept(MAKER, tmp_path).path
    path.write_bytes(msgspec.json.encode(MAKER)[:written])
    artefact = kept(MAKER, tmp_path)
    assert answered(ask("a"), "edited", 1, artefact, Counting()) == [("edited of a, 0",)]
    assert [line.texts for line in Artefact(path)] == [("a",)]


def test_a_short_file_of_something_else_is_not_written_over(tmp_path: Path) -> None:
    path = kept(MAKER, tmp_path).path
    path.write_text("my notes")
    with pytest.raises(CorruptFile, match="is not a file of recorded answers"):
        kept(MAKER, tmp_path)
    assert path.read_text() == "my notes"


def is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def test_a_line_that_was_cut_off_is_said_and_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artefact = kept(MAKER, tmp_path)
    answered(ask("a", "b"), "edited", 1, artefact, Counting())
    whole = artefact.path.read_bytes()
    for cut in range(len(whole.splitlines(keepends=True)[0]) + 1, len(whole)):
        artefact.path.write_bytes(whole[:cut])
        opened = Artefact(artefact.path)
        *lines, tail = whole[:cut].split(b"\n")
        said = "was cut off while it was written" in capsys.readouterr().err
        assert said == (tail != b"" and not is_json(tail))
        model = Counting()
        answered(ask("a", "b", "c"), "edited", 1, opened, model)
        assert model.calls == 3 - len(lines[1:]) - is_json(tail)
        assert len(Artefact(artefact.path)) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json\n", "is not a file of recorded answers"),
        ('{"schema": 9, "model": "m"}\n', "has schema 9, and this cirbench reads 1"),
        ('{"model": "m", "temperature": 1}\n', "is not a file of recorded answers"),
        ('{"model": "m"}\n{"images": [], "texts": ["a"]}\n', "line 2"),
        ('{"model": "m"}\n{"images": [], "texts": ["a"], "fields": {"f": ["x"}\n{}\n', "line 2"),
        (
            '{"model": "m"}\n'
            '{"images": [], "texts": ["a"], "fields": {"f": ["x"]}}\n'
            '{"images": [], "texts": ["a"], "fields": {"f": ["y"]}}\n',
            "line 3 answers 'a' a second time, and otherwise, in the field f",
        ),
    ],
)
def test_a_file_that_is_none_is_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(text)
    with pytest.raises(CorruptFile) as error:
        Artefact(path)
    assert message in error.value.message


def test_answers_to_other_prompts_are_another_file_and_are_not_taken_for_these(tmp_path: Path) -> None:
    other = msgspec.structs.replace(MAKER, prompts={"edited": "Change: {}"})
    assert kept(MAKER, tmp_path).path != kept(other, tmp_path).path
    answered(ask("a"), "edited", 1, kept(MAKER, tmp_path), Counting())
    with pytest.raises(CorruptFile, match="of another model or to other prompts"):
        Artefact(kept(MAKER, tmp_path).path, other)


def test_files_are_merged_with_a_licence_and_never_over_a_contradiction(tmp_path: Path) -> None:
    one, other = (Artefact(tmp_path / name, MAKER) for name in ("one.jsonl", "other.jsonl"))
    one.add([Answer((), ("a",), {"edited": ("x",)})])
    other.add([Answer((), ("a",), {"edited": ("x", "y")}), Answer((), ("b",), {"edited": ("z",)})])
    whole = merge([one, other], tmp_path / "whole.jsonl", licence="CC BY 4.0")
    assert whole.maker.licence == "CC BY 4.0"
    assert {line.texts: line.fields["edited"] for line in whole} == {("a",): ("x", "y"), ("b",): ("z",)}
    third = Artefact(tmp_path / "third.jsonl", MAKER)
    third.add([Answer((), ("b",), {"edited": ("else",)})])
    with pytest.raises(CorruptFile, match="a second time, and otherwise"):
        merge([one, other, third], tmp_path / "never.jsonl")
    strange = Artefact(tmp_path / "strange.jsonl", Maker(model="another"))
    strange.add([Answer((), ("c",), {"edited": ("w",)})])
    with pytest.raises(CorruptFile, match="another model"):
        merge([one, strange], tmp_path / "never.jsonl")
    assert not (tmp_path / "never.jsonl").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_refused_and_nothing_is_kept_of_it(tmp_path: Path, value: float) -> None:
    artefact = kept(MAKER, tmp_path)
    with pytest.raises(MethodFailed, match=f"a-model answered {value} to 'a'"):
        artefact.add([Answer((), ("a",), {"score": (value,)})])
    assert not artefact.path.exists()


@given(
    st.lists(
        st.tuples(
            st.text(min_size=1),
            st.lists(st.one_of(st.text(), st.floats(allow_nan=False, allow_infinity=False)), min_size=1),
        )
    )
)
def test_whatever_is_kept_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, answers: list[tuple[str, list[str | float]]]
) -> None:
    path = tmp_path_factory.mktemp("kept") / "answers.jsonl"
    first = {text: tuple(samples) for text, samples in reversed(answers)}
    artefact = Artefact(path, MAKER)
    artefact.add([Answer(("0" * 64,), (text,), {"f": samples}) for text, samples in first.items()])
    assert {line.texts[0]: line.fields["f"] for line in Artefact(path)} == first


def _write(path: Path, start: int) -> None:
    for number in range(start, start + 200):
        Artefact(path, MAKER).add([Answer((), (str(number),), {"f": (f"by {os.getpid()}",)})])


@pytest.mark.slow
def test_two_writers_and_a_kill_lose_no_whole_line(tmp_path: Path) -> None:
    """They ask the same in part; the first answer stays."""
    path = tmp_path / "answers.jsonl"
    context = multiprocessing.get_context("fork")
    one, other = (context.Process(target=_write, args=(path, start)) for start in (0, 20))
    one.start()
    other.start()
    while not path.exists() or path.read_bytes().count(b"\n") < 30:
        time.sleep(0.01)
    assert one.pid is not None
    os.kill(one.pid, signal.SIGKILL)
    one.join()
    other.join()
    assert other.exitcode == 0
    answers = Artefact(path)
    assert {str(number) for number in range(20, 220)} <= {line.texts[0] for line in answers}
    lines = path.read_text().splitlines()[1:]
    assert len(lines) == len(answers)
