"""Where answers to comparisons are kept: the grid that comes with the package, and what was computed here since.

A kept answer names the code that gave it; one of other code is stale, which a page shows and has computed again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dcsim.study import side_by_side
from dcsim.study.side_by_side import Cell
from dcsim.writing import whole_file

GRID = Path(__file__).with_name("grid.jsonl")
PRECOMPUTED, COMPUTED, STALE = "precomputed", "computed", "stale"


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """A kept answer and where it is from: PRECOMPUTED, COMPUTED here, or STALE (given by other code)."""

    answer: dict[str, Any]
    origin: str


class Points:
    """Answers kept in a folder, on top of the grid. State is on disk only, so that several processes may share it."""

    def __init__(self, folder: Path, grid: Path = GRID) -> None:
        self.folder, self._grid = folder, grid

    def find(self, cell: Cell) -> KeptAnswer | None:
        """The kept answer to a cell: of this code if there is one, else a stale one, else None."""
        own = self._path(cell)
        if own.is_file():
            try:
                return KeptAnswer(json.loads(own.read_text()), COMPUTED)
            except (OSError, ValueError):
                own.unlink(missing_ok=True)
        version, answers = _read_grid(self._grid, self._grid.stat().st_mtime_ns if self._grid.is_file() else 0)
        answer = answers.get(cell.key)
        if answer is None:
            return None
        return KeptAnswer(answer, PRECOMPUTED if version == side_by_side.code_version() else STALE)

    def missing(self, cells: Iterable[Cell]) -> list[Cell]:
        """Those of which no fresh answer is kept."""
        found = ((cell, self.find(cell)) for cell in cells)
        return [cell for cell, point in found if point is None or point.origin == STALE]

    def find_picture(self, name: str) -> dict[str, Any] | None:
        """A kept picture's data, of the code of now; None if there is none."""
        try:
            found: dict[str, Any] = json.loads((self._folder_now() / f"{name}.json").read_text())
        except (OSError, ValueError):
            return None
        return found

    def keep_picture(self, name: str, data: dict[str, Any]) -> None:
        """Keep a picture's data under a name of hexadecimal digits."""
        self._write(self._folder_now() / f"{name}.json", data)

    def keep(self, cell: Cell, answer: dict[str, Any]) -> None:
        """Keep an answer that the code of now gave."""
        self._write(self._path(cell), answer)

    def _write(self, path: Path, content: dict[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as part:
            part.write_text(json.dumps(content))

    def _path(self, cell: Cell) -> Path:
        return self._folder_now() / f"{cell.key}.json"

    def _folder_now(self) -> Path:
        return self.folder / side_by_side.code_version()


@cache
def _read_grid(path: Path, changed_ns: int) -> tuple[str, dict[str, dict[str, Any]]]:
    """The code version of a grid file and its answers by key; empty where there is no file."""
    if not changed_ns:
        return "", {}
    lines = path.read_text().splitlines()
    return json.loads(lines[0])["code_version"], dict(map(json.loads, lines[1:]))


def write_grid(path: Path, answers: Sequence[tuple[Cell, dict[str, Any]]]) -> None:
    """Write a grid file: the code version, then a line for each cell in order of its key."""
    lines = [json.dumps({"code_version": side_by_side.code_version(), "cells": len(answers)})]
    lines += sorted(json.dumps([cell.key, _short(answer)]) for cell, answer in answers)
    with whole_file(path) as part:
        part.write_text("\n".join(lines) + "\n")


def _short(value: Any) -> Any:
    """Numbers with eight digits, which is more than anybody sees."""
    if isinstance(value, float):
        return float(f"{value:.8g}")
    if isinstance(value, dict):
        return {key: _short(part) for key, part in value.items()}
    return [_short(part) for part in value] if isinstance(value, list) else value
