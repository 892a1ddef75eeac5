"""The application and its entry point: errors a user can mend become one message and exit code 2."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from dcsim.cli import machine, serving
from dcsim.cli.options import say
from dcsim.errors import DcsimError

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="What do I build to serve this LLM to this traffic at this speed per user?",
)
serving.add_to(app)
machine.add_to(app)

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


def main() -> None:
    """Entry point: a DcsimError becomes one clear message and exit code 2; Ctrl-C exits with 130."""
    try:
        app(standalone_mode=False)
    except DcsimError as error:
        if "--debug" in sys.argv:
            raise
        for line in str(error).splitlines():
            say(f"error: {line}")
        sys.exit(2)
    except typer.Abort:
        sys.exit(130)
    except BrokenPipeError:  # whoever read the results wants no more of them
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt:
        say("interrupted; nothing was written")
        sys.exit(130)
    except Exception as error:
        if hasattr(error, "exit_code") and hasattr(error, "format_message"):  # click's own usage errors
            context = getattr(error, "ctx", None)
            say(f"error: {error.format_message()}" + (f" (see {context.command_path} --help)" if context else ""))
            sys.exit(2)
        raise
