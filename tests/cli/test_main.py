"""The command line answers every mistake with one clear message and the right exit code."""

from __future__ import annotations

import os
import subprocess
import sys

import click
import pytest

from cirbench import cli
from cirbench.errors import MissingData


def test_help_names_every_verb_without_importing_any(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.execute(["--help"]) == 0
    shown = capsys.readouterr().out
    for verb in cli.VERBS:
        assert verb in shown


def test_no_arguments_print_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.execute([]) == 0
    assert "cirbench run --method pli --dataset scenes" in capsys.readouterr().out


def test_an_unknown_verb_offers_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.execute(["rnu"]) == 2
    assert "There is no command called 'rnu'.\nNearest: run" in capsys.readouterr().err


def test_every_verb_has_a_help_page(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in cli.VERBS:
        assert cli.execute([verb, "--help"]) == 0
        assert "Usage: cirbench" in capsys.readouterr().out


def test_an_error_shows_what_to_type_next_and_no_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _fail_with(MissingData("No images.", hint="Run `cirbench doctor`."), monkeypatch)
    assert cli.execute(["list"]) == 3
    assert capsys.readouterr().err == "error: No images.\nRun `cirbench doctor`.\n"


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    _fail_with(MissingData("No images."), monkeypatch)
    assert cli.execute(["--debug", "list"]) == 3
    assert "Traceback" in capsys.readouterr().err


def test_a_bug_of_ours_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    _fail_with(ZeroDivisionError("division by zero"), monkeypatch)
    assert cli.execute(["list"]) == 1
    assert "cirbench itself failed: ZeroDivisionError" in capsys.readouterr().err


def test_ctrl_c_exits_130_and_says_how_to_resume(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _fail_with(KeyboardInterrupt(), monkeypatch)
    assert cli.execute(["list"]) == 130
    assert "run the same command again to resume" in capsys.readouterr().err


def _fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def failing() -> None:
        raise error

    monkeypatch.setattr(cli.LazyGroup, "get_command", lambda self, ctx, name: failing)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--help"], ["list", "methods"], ["list", "protocols"], ["score", "--help"]])
def test_light_commands_never_import_torch(arguments: list[str]) -> None:
    program = (
        "import sys; from cirbench.cli import execute; code = execute(sys.argv[1:]);"
        "assert 'torch' not in sys.modules, 'torch was imported'; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("redirection", "said"),
    [
        (">&-", "error: stdout is closed, so there is nowhere to print to."),
        ("> /dev/full", "error: The output cannot be written to stdout: No space left on device."),
    ],
)
@pytest.mark.parametrize("verb", ["list methods", "list methods --json", "show pli"])
def test_a_closed_or_full_stdout_is_one_sentence_and_an_exit_code(verb: str, redirection: str, said: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'"$0" -m cirbench {verb} {redirection}', sys.executable],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.strip()) == (1, said)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "cp932", "latin-1"])
def test_a_stream_that_cannot_encode_a_sign_replaces_it(encoding: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cirbench", "list", "protocols"],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert "scenes/tiny" in done.stdout.decode(encoding)
