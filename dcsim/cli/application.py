"""The application and its entry point: errors a user can mend become one message and exit code 2."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys
from typing import Annotated

import typer

from dcsim.cli import compare, keeping, machine, planning, serving, sweeping, traffic, validate, writing_files
from dcsim.cli.compiling import CompilingLine, SearchLine
from dcsim.cli.options import say
from dcsim.errors import DcsimError
from dcsim.interrupt import INTERRUPTED, last_word
from dcsim.kernels.progress import watched
from dcsim.study.searching import listening

_HELP_COLUMNS_MAX = 130  # of a terminal's; longer lines are hard to read

app = typer.Typer(
    context_settings={"max_content_width": _HELP_COLUMNS_MAX},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="What do I build to serve this LLM to this traffic at this speed per user?",
)
serving.add_to(app)
machine.add_to(app)
compare.add_to(app)
traffic.add_to(app)
validate.add_to(app)
sweeping.add_to(app)
planning.add_to(app)
keeping.add_to(app)
writing_files.add_to(app)


@app.callback(invoke_without_command=True)
def _main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback for errors.")] = False,
) -> None:
    if version:
        from dcsim import __version__

        typer.echo(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


_OBJECTS_BEFORE_COLLECTION = 200_000  # a start makes so many that last, and Python's 700 would look through them for 0.15 s
_BROKEN_PIPE = 141  # exit code when a reader such as `head` has seen enough, as a shell has it


def run() -> None:
    """Run the command line's words. What a user can mend, or a full disk, becomes one clear message and exit code 2."""
    gc.set_threshold(_OBJECTS_BEFORE_COLLECTION)
    atexit.register(gc.freeze)  # memory goes back when the process ends; looking for cycles in it first takes another 0.15 s
    try:
        with watched(CompilingLine()), listening(SearchLine()):
            code = app(prog_name="dcsim", standalone_mode=False)
        sys.stdout.flush()
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        code = _tell(error)
    except KeyboardInterrupt:
        say(last_word())
        code = INTERRUPTED
    if code:
        sys.exit(code)


def _tell(error: Exception) -> int:
    """Say what went wrong; returns the exit code. Raises what is nobody's fault but ours."""
    if isinstance(error, DcsimError):
        for line in str(error).splitlines():
            say(f"error: {line}")
    elif isinstance(error, MemoryError):
        say(f"error: more memory needed than this machine has: {error or 'no details'}; make the run smaller")
    elif isinstance(error, OverflowError):  # each figure may be fine, and what follows from them not
        say(f"error: a figure of the spec is beyond what can be counted ({error}); --debug shows where")
    elif isinstance(error, OSError) and error.filename is None:  # all that is written but files has no name
        _leave_stdout()
        if isinstance(error, BrokenPipeError):
            return _BROKEN_PIPE
        say(f"error: stdout: cannot be written: {error.strerror or error}")
    elif hasattr(error, "format_message"):  # a usage error, which the command line's parser words itself
        context = getattr(error, "ctx", None)
        say(f"error: {error.format_message()}" + (f" (see {context.command_path} --help)" if context else ""))
    elif isinstance(error, typer.Abort):
        say(last_word())
        return INTERRUPTED
    else:
        raise error
    return 2


def _leave_stdout() -> None:
    """Nothing more can be written to stdout, not even by the interpreter when it ends."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
