"""Writes docs/MEASURED.md and known.json: `python -m validation.measured DOCS FOLDER [LLMS]`, FOLDER with the tables."""

from __future__ import annotations

import sys
from pathlib import Path

from dcsim.writing import write_text
from validation.measured import known
from validation.measured.compare import compare, summary
from validation.measured.page import FIXED_ON, document, drawing

TABLES = ("served_gpu.csv", "inferencemax.csv")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def main() -> None:
    """Run every job of the tables and write the page."""
    docs, folder = Path(sys.argv[1]), Path(sys.argv[2])
    llms = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    answers, unfixed = {}, []
    for name in TABLES:
        answers[name] = compare(folder / name, llms, progress=_say)
        rows = answers[name]["rows"]
        if name == "inferencemax.csv":
            predictions = [row for row in rows if (row["system"], row["library"]) not in FIXED_ON]
            answers[name]["predictions"] = summary(predictions)
            unfixed += predictions
        else:
            unfixed += rows
        write_text(docs / "images" / f"{Path(name).stem}.svg", drawing(rows))
    write_text(docs / "MEASURED.md", document(answers))
    known.write(unfixed)


if __name__ == "__main__":
    main()
