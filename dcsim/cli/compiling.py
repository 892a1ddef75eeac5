"""The lines that say what is being compiled or searched for, and how far it is."""

from __future__ import annotations

import sys
import time

from dcsim.cli.options import say

LONG_S = 2.0  # a search that takes less is not spoken of


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


class SearchLine:
    """Hears of searches for mappings (`dcsim.study.searching`): those that take long have a line each, and on a terminal one more
    that says how far they are.
    """

    def __init__(self) -> None:
        self._what, self._began_s = "", 0.0

    def __call__(self, what: str, begins: bool) -> None:
        if begins:
            self._what, self._began_s = what, time.monotonic()
            return
        if time.monotonic() - self._began_s < LONG_S:
            return
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[2K{self._what}: {what}" if what else "\r\x1b[2K")
            sys.stderr.flush()
        elif self._what:
            say(self._what)
            self._what = ""
