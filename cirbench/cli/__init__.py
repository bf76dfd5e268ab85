"""The command line: a module for each verb, or for a few that belong together, imported when one is called.

stdout carries data, stderr progress and errors. An error is printed as what went wrong and what to type next, with the
exit code of its class; a traceback appears only under ``--debug``.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import sys
import traceback
from typing import TYPE_CHECKING

import click

from cirbench.errors import CirbenchError, UnknownName, visible
from cirbench.support import distributed
from cirbench.support.tables.formats import FORMATS

if TYPE_CHECKING:
    from collections.abc import Sequence

VERBS = {
    "run": "Evaluate methods on a benchmark.",
    "score": "Score given rankings or features; needs no torch.",
    "data": "Plan, get, check or describe the files of a benchmark.",
    "submit": "Write, check and record files for the test servers.",
    "train": "Train a method, or a small CLIP.",
    "caption": "Describe images by a captioner, for training and for the method captioning.",
    "answers": "Record what language models say of queries, for methods that use it.",
    "convert": "Make a checkpoint of a file that a method's authors published.",
    "report": "Look at what runs retrieved, query by query.",
    "compare": "Compare runs of one protocol, with corrected tests.",
    "diff": "Say what differs between two runs, and which queries flipped.",
    "audit": "Say how often runs return the reference image, and their number without it.",
    "sweep": "Run a method once for each value of its parameters.",
    "reproduce": "Run a published result again, or say what is missing for it.",
    "leaderboard": "Publish runs with their ranks, and check what is published.",
    "list": "List methods, datasets, protocols, backbones, metrics or runs.",
    "show": "Show everything about one of them.",
    "new": "Scaffold a new method or data set.",
    "check": "Check a method against the interface.",
    "cache": "Say what is kept where and how large, and remove it.",
    "doctor": "Say what is installed, what works and what does not.",
}
MODULES = {
    "audit": "compare",
    "cache": "inspect",
    "caption": "answers",
    "check": "plugins",
    "convert": "run",
    "diff": "compare",
    "doctor": "inspect",
    "list": "inspect",
    "new": "plugins",
    "report": "compare",
    "reproduce": "leaderboard",
    "show": "inspect",
    "submit": "score",
    "sweep": "run",
    "train": "run",
}
"""The module of each verb that has none of its own."""

INTERRUPTED = 130


WIDE = click.option("--wide", is_flag=True, help="Show every column, also where the terminal is narrower.")
"""For every verb that prints a table."""

FORMAT = click.option(
    "--format", "form", type=click.Choice(FORMATS), default="rich", show_default=True, help="Form of the tables."
)
"""For every verb whose tables go into a paper or a spreadsheet."""

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout, and nothing else.")
"""For every verb whose answer a program may want to read."""

WEIGHTS = click.option("--weights", help="A local file with the backbone's weights.")
EMA = click.option(
    "--ema", is_flag=True, default=None, help="Take the averaged weights (EMA) of the file of --weights."
)
ACTIVATION = click.option(
    "--activation",
    type=click.Choice(["gelu", "quick_gelu"]),
    help="Activation that a local weights file was trained with.",
)
"""For every verb that loads a backbone from a file."""

METRIC = click.option(
    "--metric",
    multiple=True,
    metavar="NAME@K,...",
    help="Metrics beside those of the protocol, such as Recall@100,nDCG@10,MRR,MedR.",
)
"""For every verb that measures."""

BY = click.option(
    "--by",
    metavar="KIND",
    help="Also each part of the queries, by a column of your table or by category, aspect ...; of finished runs also "
    "unimodal@K, circus, circus-validated.",
)
"""For every verb that measures."""


def command_error(words: Sequence[str]) -> str | None:
    """Say why the command line does not take a verb with these arguments, or ``None`` where it does.

    Nothing is run and no file is looked for: a command is as good on a machine that does not have its data.
    """
    verb, arguments = words[0], [*words[1:]]
    try:
        command = LazyGroup().get_command(click.Context(click.Group()), verb)
        assert command is not None
        while isinstance(command, click.Group) and arguments and arguments[0] in command.commands:
            verb = f"{verb} {arguments[0]}"
            command = command.commands[arguments.pop(0)]
        context = click.Context(command, info_name=verb)
        values, left, _ = command.make_parser(context).parse_args(arguments)
        for parameter in command.get_params(context):
            value = values.get(parameter.name or "")
            if parameter.required and value in (None, ()):
                return f"lacks {parameter.get_error_hint(context)}"
            if value is not None and isinstance(parameter.type, click.Choice | click.IntRange | click.FloatRange):
                parameter.type_cast_value(context, value)
    except click.UsageError as error:
        return f"is refused by cirbench {verb}: {error.format_message()}"
    except UnknownName as error:
        return error.message
    return f"has {left[0]!r}, which cirbench {verb} does not take" if left else None


class LazyGroup(click.Group):
    """Loads the module of a verb only when that verb is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the verbs in the order in which a user meets them."""
        return [*VERBS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a verb and return its command."""
        if cmd_name not in VERBS:
            raise UnknownName("command", cmd_name, VERBS, hint="See `cirbench --help`.")
        command: click.Command = getattr(
            importlib.import_module(f"cirbench.cli.{MODULES.get(cmd_name, cmd_name)}"), f"{cmd_name}_command"
        )
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([*VERBS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="cirbench", message="cirbench %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Evaluate composed-image-retrieval methods: exact protocols, exact ranking, honest intervals.

    \b
    cirbench run --method pli --dataset scenes
    cirbench score --dataset circo --split val --predictions ranked.json
    cirbench list methods
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    sys.exit(execute(arguments))


def execute(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    # Not list(...), nor a function called report: once a verb is imported, its name is that of its module here.
    arguments = [*(sys.argv[1:] if arguments is None else arguments)]
    if sys.stdout is None:  # closed by the shell: >&-
        click.echo("error: stdout is closed, so there is nowhere to print to.", err=True)
        return 1
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a table with a replaced sign is better than none
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(distributed.stopped_by_signals())
            stack.enter_context(distributed.init_distributed())
            code = cli.main(arguments, prog_name="cirbench", standalone_mode=False)
            sys.stdout.flush()
        except (KeyboardInterrupt, click.Abort) as error:
            stopped = error.__cause__ if isinstance(error, click.Abort) else error
            if isinstance(stopped, distributed.Terminated):
                distributed.log_once(str(stopped))
                return stopped.exit_code
            distributed.log_once("\nInterrupted. What was finished is kept: run the same command again to resume.")
            return INTERRUPTED
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
            return 0
        except click.ClickException as error:
            shown = io.StringIO()
            error.show(shown)
            click.echo("\n".join(map(visible, shown.getvalue().expandtabs().split("\n"))), err=True, nl=False)
            return error.exit_code
        except BrokenPipeError:
            sys.stderr.close()
            return 1
        except CirbenchError as error:
            if "--debug" in arguments:
                traceback.print_exc()
            distributed.log_once(f"error: {error}")
            return error.exit_code
        except Exception as error:
            if isinstance(error, OSError) and error.filename is None and error.errno in _STREAM_ERRORS:
                distributed.log_once(f"error: The output cannot be written to stdout: {error.strerror}.")
                _throw_away_stdout()
                return 1
            if "--debug" in arguments:
                raise
            distributed.log_once(
                f"error: cirbench itself failed: {type(error).__name__}: {visible(str(error))}\n"
                "Run `cirbench --debug ...` for the traceback, and please report it."
            )
            return 1
    return code if isinstance(code, int) else 0


_STREAM_ERRORS = (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EFBIG, errno.EDQUOT)
"""What a write to a stream fails with; files are written by `cirbench.support.files`, which names them."""


def _throw_away_stdout() -> None:
    """Send what is left to nowhere, or the interpreter fails once more when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
