"""What a model answered is kept whole, whoever is killed while writing."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from cirbench.artefacts.judgements import Judgement, Judgements, question_key
from cirbench.errors import CirbenchError, CorruptFile

if TYPE_CHECKING:
    from pathlib import Path


def judgement(text: str, yes: float = 1.5) -> Judgement:
    return Judgement(images=("a" * 64, "b" * 64), text=text, answers=("yes", "no"), logits=(yes, -0.1))


def test_answers_are_found_again_by_their_question(tmp_path: Path) -> None:
    first = Judgements(tmp_path / "model.jsonl")
    first.add([judgement("one"), judgement("two")])
    again = Judgements(tmp_path / "model.jsonl")
    assert again[question_key(("a" * 64, "b" * 64), "two", ("yes", "no"))] == judgement("two")
    assert len(again) == 2
    assert question_key(("b" * 64, "a" * 64), "two", ("yes", "no")) not in again  # the order of images counts


def test_the_first_answer_to_a_question_stays(tmp_path: Path) -> None:
    one, other = Judgements(tmp_path / "m.jsonl"), Judgements(tmp_path / "m.jsonl")
    one.add([judgement("q", 1.0)])
    other.add([judgement("q", 2.0)])  # by a process that began before the first one wrote
    one.add([judgement("q", 3.0)])
    again = Judgements(tmp_path / "m.jsonl")
    assert again[judgement("q").key].logits[0] == 1.0
    assert len((tmp_path / "m.jsonl").read_text().splitlines()) == 2


def test_a_line_that_was_cut_is_left_out_and_the_next_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    Judgements(path).add([judgement("one"), judgement("two")])
    path.write_bytes(path.read_bytes()[:-20])
    after = Judgements(path)
    assert (judgement("one").key in after, judgement("two").key in after) == (True, False)
    after.add([judgement("three")])
    assert len(Judgements(path)) == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"images": [', "line 2, is damaged"),
        ('{"images": [], "text": "", "answers": [], "logits": [], "mood": 1}', "line 2, is damaged: .*mood"),
        (
            '{"schema_version": 2, "images": [], "text": "", "answers": [], "logits": []}',
            "line 2, is not a judgement of",
        ),
        ('{"images": [], "text": "", "answers": ["yes"], "logits": []}', "line 2, is not a judgement of"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "m.jsonl"
    Judgements(path).add([judgement("one")])
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(CorruptFile, match=rf"m\.jsonl, {message}"):
        Judgements(path)


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("")
    with pytest.raises(CirbenchError, match=r"Judgements cannot be kept in .*here/m\.jsonl"):
        Judgements(tmp_path / "here" / "m.jsonl").add([judgement("one")])


WRITER = """
import sys
from pathlib import Path
from cirbench.artefacts.judgements import Judgement, Judgements
kept = Judgements(Path(sys.argv[1]))
for number in range(200):
    kept.add([Judgement(images=(), text=f"{sys.argv[2]} {number}", answers=("yes",), logits=(1.0,))])
"""


@pytest.mark.slow
def test_two_processes_write_side_by_side(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name]) for name in ("a", "b")]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert len(Judgements(path)) == 400
