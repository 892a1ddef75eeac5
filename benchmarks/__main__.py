"""Run the benchmarks named on the command line, or all."""

import importlib
import sys
from pathlib import Path


def main(names: list[str]) -> None:
    """Each `bench_NAME.py` has a `main()` that prints its rows."""
    found = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))
    for name in names or found:
        print(f"== {name}", flush=True)
        importlib.import_module(f"benchmarks.bench_{name}").main()


main(sys.argv[1:])
