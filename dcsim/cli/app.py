"""The application and its entry point: errors a user can mend become one message and exit code 2."""

from __future__ import annotations

import atexit
import gc
import sys
from typing import Annotated

import typer

from dcsim.cli import compare, machine, serving, validate
from dcsim.cli.options import say
from dcsim.errors import DcsimError
from dcsim.interrupt import careful_interrupts

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="What do I build to serve this LLM to this traffic at this speed per user?",
)
serving.add_to(app)
machine.add_to(app)
compare.add_to(app)
validate.add_to(app)


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


INTERRUPTED = 130
_OBJECTS_BEFORE_COLLECTION = 200_000  # a start makes so many that last, and Python's 700 would look through them for 0.15 s


def main() -> None:
    """Entry point: a DcsimError becomes one clear message and exit code 2; Ctrl-C exits with 130."""
    gc.set_threshold(_OBJECTS_BEFORE_COLLECTION)
    atexit.register(gc.freeze)  # memory goes back when the process ends; looking for cycles in it first takes another 0.15 s
    try:
        with careful_interrupts():
            code = app(standalone_mode=False)
    except DcsimError as error:
        if "--debug" in sys.argv:
            raise
        for line in str(error).splitlines():
            say(f"error: {line}")
        code = 2
    except MemoryError as error:
        if "--debug" in sys.argv:
            raise
        say(f"error: more memory needed than this machine has: {error or 'no details'}; make the run smaller")
        code = 2
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        # a usage error, which the command line's parser words itself
        context = getattr(error, "ctx", None)
        say(f"error: {error.format_message()}" + (f" (see {context.command_path} --help)" if context else ""))
        code = 2
    if code == INTERRUPTED:
        say("interrupted; nothing was written")
    if code:
        sys.exit(code)
