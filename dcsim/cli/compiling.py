"""The line that says what is being compiled, and how far it is."""

from __future__ import annotations

import sys

from dcsim.cli.options import say


class CompilingLine:
    """Watches `dcsim.kernels.progress`: on a terminal one line that is overwritten, elsewhere a line for each room."""

    def __init__(self) -> None:
        self._rooms: set[str] = set()

    def __call__(self, entry: str, begun: int, total: int) -> None:
        room = entry.rpartition(".")[0].rpartition(".")[0]
        what = f"compiling {room} (once, and after an edit)"
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[2K{what}: {begun} of {total} functions" if begun < total else "\r\x1b[2K")
            sys.stderr.flush()
        elif room not in self._rooms:
            self._rooms.add(room)
            say(what)
