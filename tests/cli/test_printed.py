"""What the command line prints can be pasted into a shell, and nothing foreign in it acts upon the terminal."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cirbench import cli
from cirbench.backbones.store import read_features
from cirbench.benchmarks.annotation_files import locate
from cirbench.benchmarks.circo import UNLABELED2017
from cirbench.benchmarks.files.check import link_command
from cirbench.errors import CirbenchError, CorruptFile, hidden
from cirbench.methods.interface import find_method
from cirbench.methods.loading import parse_parameters
from cirbench.runs.ground import ways_to_checkpoint
from cirbench.submissions.check import SubmissionCheck
from cirbench.submissions.form import Problem
from cirbench.support.console import typed

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = ("a b", "it's", "$(x)", "-x", "größe", "`id`", 'say "hi"', "a;b", "*", "a\\b")
HOSTILE = ("red\x1b[31m", "\u202egnp", "two\nerror: lines", "\x9b2J", "\x07'\\")


@pytest.mark.slow
@given(st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1))
@example("a\x1b1")
@example("it's\u202e")
def test_an_argument_is_shown_in_visible_characters_and_read_back_as_it_was(word: str) -> None:
    shown = typed(word)
    assert not any(map(hidden, shown))
    assert subprocess.run(["bash", "-c", f"printf %s {shown}"], capture_output=True, check=True).stdout == word.encode()


def test_a_name_that_is_not_utf_8_is_read_back_as_its_bytes(tmp_path: Path) -> None:
    shown = typed(tmp_path / "a\udcff b")
    read = subprocess.run(["bash", "-c", f"printf %s {shown}"], capture_output=True, check=True).stdout
    assert read == bytes(tmp_path) + b"/a\xff b"


def hint_of(function: Callable[[], object]) -> str:
    with pytest.raises(CirbenchError) as raised:
        function()
    assert raised.value.hint is not None
    return raised.value.hint


def broken_submission(folder: Path, name: str) -> str:
    return hint_of(SubmissionCheck(folder / name, "cirr/test", problems=(Problem("queries", "broken"),)).require)


def unfit_backbone(_: Path, name: str) -> str:
    return "\n".join(ways_to_checkpoint(find_method("pli"), name))


HINTS: dict[str, tuple[Callable[[Path, str], str], str]] = {
    "a backbone": (unfit_backbone, "{name}"),
    "a value": (
        lambda _, name: hint_of(lambda: parse_parameters(find_method("pli"), {"mask_ratio": name})),
        "mask_ratio={name}",
    ),
    "a data root": (lambda folder, name: hint_of(lambda: locate(folder / name, "circo/val.json")), "{folder}/{name}"),
    "a submission": (broken_submission, "{folder}/{name}"),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", HINTS)
def test_the_command_of_a_hint_is_one_that_its_verb_takes(kind: str, name: str, tmp_path: Path) -> None:
    hint, expected = HINTS[kind]
    assert_pasted(hint(tmp_path, name), expected.format(folder=tmp_path, name=name))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["new", "dataset", "{folder}/{name}"], "{folder}/{name}"),
        (["new", "method", "mine", "--path", "{folder}/{name}"], "{folder}/{name}/mine/mine/__init__.py:SPEC"),
    ],
)
def test_the_command_that_comes_next_is_one_that_its_verb_takes(
    arguments: list[str], expected: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.execute([each.format(folder=tmp_path, name=name) for each in arguments]) == 0
    assert_pasted(capsys.readouterr().err, expected.format(folder=tmp_path, name=name))


def is_taken(words: list[str]) -> bool:
    """Whether the command line has such a verb, and the verb such options."""
    command: click.Command | None = cli.cli
    context = click.Context(cli.cli)
    try:
        while isinstance(command, click.Group):
            word, *words = words
            command = command.get_command(context, word)
        if command is not None:
            command.make_context("", words)
    except (click.ClickException, CirbenchError, ValueError):
        return False
    return command is not None


def assert_pasted(shown: str, expected: str) -> None:
    """Some command in ``shown`` is taken by its verb, and ``expected`` is one of its words."""
    taken = []
    for found in re.finditer(r"cirbench (?=[a-z]+ )", shown):
        for end in range(len(shown), found.end(), -1):  # what stands behind a command does not belong to it
            try:
                words = shlex.split(shown[found.end() : end])
            except ValueError:
                continue
            if is_taken(words):
                taken.append(words)
    assert any(expected in words for words in taken), shown


@pytest.mark.parametrize("name", (*NAMES, *HOSTILE))
def test_a_link_that_is_offered_leads_to_the_folder_from_anywhere(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    images = tmp_path / name
    images.mkdir()
    (images / "1.png").touch()
    command = link_command(Path(name), UNLABELED2017, Path("data " + name))
    assert not any(map(hidden, command))
    subprocess.run(["bash", "-c", command], check=True, cwd="/")
    (link,) = (path for path in (tmp_path / f"data {name}").rglob("*") if path.is_symlink())
    assert link.resolve() == images.resolve()


@pytest.mark.parametrize("name", (*NAMES, *HOSTILE))
def test_what_a_damaged_shard_is_removed_by_removes_it(name: str, tmp_path: Path) -> None:
    shard = tmp_path / f"{name}.safetensors"
    shard.write_bytes(b"damaged")
    with pytest.raises(CorruptFile) as raised:
        read_features(shard)
    subprocess.run(["bash", "-c", f"rm {str(raised.value).rpartition(': rm ')[2]}"], check=True)
    assert not shard.exists()


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "{name}"],
        ["compare", "{name}"],
        ["run", "--method", "{name}", "--dataset", "scenes"],
        ["run", "--method", "image-only", "--dataset", "{name}"],
        ["run", "--method", "image-only", "--dataset", "scenes", "--device", "{name}"],
        ["run", "--method", "image-only", "--dataset", "scenes", "--precision", "{name}"],
        ["run", "--{name}"],
        ["train", "pli", "--backbone", "scenes-vit", "--data", "{name}.csv"],
        ["submit", "check", "{name}.json"],
        ["score", "--dataset", "scenes", "--predictions", "{name}.json"],
        ["data", "check", "circo", "--root", "{name}"],
        ["list", "runs", "--runs", "{name}"],
    ],
    ids=lambda arguments: " ".join(arguments[:4]),
)
def test_a_name_in_an_error_does_not_act_on_the_terminal(
    arguments: list[str], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cli.execute([each.format(name=name) for each in arguments])
    assert_inert("".join(capsys.readouterr()), name)


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_a_folder_of_runs_does_not_act_on_the_terminal(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / name)
    run = ["run", "--method", "image-only", "--dataset", "scenes", "--split", "tiny", "--output", folder]
    assert cli.execute(run) == 0
    runs = map(str, Path(folder).glob("scenes/[!.]*"))
    for arguments in ([], [*run, "--plan"], run, ["list", "runs", "--runs", folder], ["compare", *runs]):
        assert cli.execute(arguments) == 0, capsys.readouterr().err
        assert_inert("".join(capsys.readouterr()), name)


def assert_inert(shown: str, name: str) -> None:
    assert not [sign for sign in shown if hidden(sign) and sign != "\n"]
    assert name not in shown
