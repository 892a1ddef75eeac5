"""The command line: thin, results on stdout, everything else on stderr. Nothing heavy is imported until needed."""

from __future__ import annotations

from typing import Any

from dcsim.interrupt import ends_on_signals


def main() -> None:
    """Entry point. Ctrl-C is heeded before anything else is imported."""
    with ends_on_signals():
        from dcsim.cli.application import run

        run()


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module 'dcsim.cli' has no attribute '{name}'")
    from dcsim.cli.application import app

    return app


__all__ = ["app", "main"]
