"""The command line: thin, results on stdout, everything else on stderr. Nothing heavy is imported until needed."""

from dcsim.cli.app import app, main

__all__ = ["app", "main"]
