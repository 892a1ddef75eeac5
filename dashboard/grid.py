"""Compute the grid of comparisons that comes with the package: `make grid`, some minutes on two cores."""

from __future__ import annotations

import sys
import time
from typing import Any

from dashboard.points import GRID, write_grid
from dcsim.study import side_by_side
from dcsim.study.side_by_side import Cell
from dcsim.workers import Lost, spread


def main() -> None:
    """Compute every cell of the grid in two processes and write it whole."""
    cells = list(side_by_side.grid())
    # The longest first, so that no process is left alone with one at the end.
    cells.sort(key=lambda cell: (cell.kind == side_by_side.ITERATION, -cell.question.chips))
    answers: list[tuple[Cell, dict[str, Any]]] = []
    began = time.monotonic()
    for index, result in spread(side_by_side.answer, cells, 2):
        if isinstance(result, Lost):
            raise SystemExit(f"{cells[index]}: {result.reason}")
        answers.append((cells[index], result))
        left_s = (time.monotonic() - began) / len(answers) * (len(cells) - len(answers))
        print(f"\r{len(answers)} of {len(cells)}, about {left_s:.0f} s left ", end="", file=sys.stderr, flush=True)
    write_grid(GRID, answers)
    print(f"\nwritten: {GRID} ({len(answers)} cells, {time.monotonic() - began:.0f} s)", file=sys.stderr)


if __name__ == "__main__":
    main()
