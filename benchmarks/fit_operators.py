"""Distils tables of measured kernels into entries of `topologies/operators`, and says what error remains.

    python -m benchmarks.fit_operators TABLES [GENERATION ...]

`TABLES` is a folder as `dcsim.llm.timings` reads. For each generation below and each library, half of the rows of the
library's newest whole table fix the figures of a kind of kernel, the other half the error. What is not timed for a generation,
or not in a form that its kernels have, is taken from another as an assumption. Needs scipy, which dcsim itself does not.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from dcsim.llm.timings import TABLES, Table, TimedKernels, measured, predicted, tables
from dcsim.spec.chip import RooflineChip
from dcsim.spec.load import load

ROWS = 8000
LIBRARIES = {"vllm": "vLLM", "sglang": "SGLang", "trtllm": "TensorRT-LLM"}  # by the tables' names
ENGINES = {"trtllm": "tensorrt-llm"}  # names of topologies/engines that are others
# name: (first guess, least, most). Those that a kind of kernel does not have stay 0.
FREE = {
    "launch_s": (5e-6, 3e-7, 2e-4),
    "memory_fraction": (0.8, 0.05, 1.0),
    "compute_fraction": (0.6, 0.02, 1.0),
    "idle_elements": (1e5, 0.0, 1e8),
    "idle_rows": (8.0, 0.0, 500.0),
    "input_passes": (1.0, 0.0, 8.0),
    "extra_keys": (20.0, 0.0, 1000.0),
    "extra_columns": (30.0, 0.0, 300.0),
}
ALWAYS = ("launch_s", "memory_fraction", "compute_fraction")
KINDS = {
    "products": (*ALWAYS, "idle_elements"),
    "experts": (*ALWAYS, "idle_elements", "idle_rows"),
    "prompts": (*ALWAYS, "idle_elements", "extra_keys", "extra_columns"),
    "decoding": (*ALWAYS, "idle_rows", "extra_keys"),
    "latent_prompts": (*ALWAYS, "idle_elements", "extra_keys"),
    "latent_decoding": (*ALWAYS, "idle_rows", "extra_keys"),
    "states": (*ALWAYS, "idle_elements"),
    "state_chunks": (*ALWAYS, "idle_elements"),
    "vectors": ("launch_s", "memory_fraction"),
}
# Tables whose times are those of a host that launches, not of the kernel: none is below 50 us.
HOST_BOUND = {("vllm", "products", "fp8_block")}


@dataclass(frozen=True, slots=True)
class Generation:
    """Where an entry's figures come from: timings of `system`, a chip of the catalog too, or those of another generation."""

    name: str
    system: str = ""
    like: str = ""  # the generation whose figures stand where there are none of its own
    not_own: tuple[str, ...] = ()  # kinds of kernels whose own timings have another form
    compute: float = 1.0  # shares of peak over those of `like`
    why: str = ""


GENERATIONS = (
    Generation("Hopper", "h200_sxm"),
    Generation("Blackwell", "b200_sxm"),
    Generation("Ampere", "a100_sxm", "Hopper", ("latent_decoding",)),
    Generation("Blackwell Ultra", like="Blackwell"),
    Generation("Ada", like="Hopper"),
    Generation("CDNA 3", like="Hopper", compute=0.64, why="large products reach 0.51 of peak where Hopper's reach 0.80"),
    Generation("CDNA 4", like="Hopper", compute=0.78, why="large products reach 0.62 of peak where Hopper's reach 0.80"),
)


def main() -> None:
    """Fit and write entries."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", type=Path)
    parser.add_argument("generations", nargs="*")
    told = parser.parse_args()
    for generation in GENERATIONS:
        if told.generations and generation.name not in told.generations:
            continue
        for library, called in LIBRARIES.items():
            write(told.tables, generation, library, called)


def write(folder: Path, generation: Generation, library: str, called: str) -> None:
    """One entry."""
    below = path_of(generation.like, library).stem if generation.like else ""
    of = f"Kernels timed on {generation.system.upper().replace('_', ' ')}" if generation.system else f"No timings: as {below}"
    lines = [
        f"# Kernels of {generation.name} under {called}: made by benchmarks/fit_operators.py.",
        f"name: {generation.name}, {called}",
        f'description: "{of}{"; " + generation.why if generation.why else ""}."',
    ]
    chip = load(generation.system, settings=["chip.operators=none"]).spec.chip if generation.system else None
    assert chip is None or isinstance(chip, RooflineChip)
    others = YAML(typ="safe").load(path_of(generation.like, library)) if below else {}
    for kind, table in TABLES.items():
        own = chip and kind not in generation.not_own
        found = fitted(folder, chip, generation.system, library, kind, table) if chip and own else {}
        found = found or assumed(others[kind], generation, below)
        lines.append(f"{kind}:")
        for name, figures in found.items():
            lines += [f"  {name}:"] if name else []
            lines += [("    " if name else "  ") + figure for figure in figures]
    path_of(generation.name, library).write_text("\n".join(lines) + "\n")


def path_of(generation: str, library: str) -> Path:
    """The file of an entry."""
    return Path("topologies/operators") / f"{generation.lower().replace(' ', '-')}-{ENGINES.get(library, library)}.yaml"


def assumed(kind: dict[str, Any], generation: Generation, below: str) -> dict[str, list[str]]:
    """Another generation's figures of a kind of kernel, as assumptions."""
    if "launch" not in kind:
        return {name: assumed(kernel, generation, below)[""] for name, kernel in kind.items()}
    lines = []
    for key, figure in kind.items():
        number, _, unit = str(figure["value"]).partition(" ")
        value = min(float(number) * (generation.compute if key == "compute_fraction" else 1.0), 1e9)
        low, high = (f"{value * factor:.3g}" for factor in (0.7, 1.4))
        high = str(min(1.0, float(high))) if key.endswith("_fraction") else high
        lines.append(
            f"{key}: {{value: {plain(value)}{' ' + unit if unit else ''}, kind: assumed, range: [{plain(float(low))}, "
            f'{plain(float(high))}], source: "as {below}"}}'
        )
    return {"": lines}


def fitted(folder: Path, chip: RooflineChip, system: str, library: str, kind: str, table: Table) -> dict[str, list[str]]:
    """The YAML lines of a kind of kernel by format; another library's where this one has no table."""
    whole = kind in ("products", "experts", "prompts", "decoding")
    of_library: dict[str, list[tuple[str, Any]]] = {}
    for name, version, rows in tables(folder / system, table):
        of_library.setdefault(name, []).append((version, rows))
    found: dict[str, list[str]] = {}
    for name in (library, *sorted(other for other in of_library if other != library)):
        for column, format_name in table.formats.items():
            if format_name in found or (name, kind, column) in HOST_BOUND:
                continue
            if (kind == "products" and column == "fp8" and name != "vllm") or (kind == "latent_prompts" and name != "trtllm"):
                continue  # products with scales of blocks where they are timed; SGLang timed prompts on latent vectors themselves
            versions = [(version, measured(rows, table, column, ROWS)) for version, rows in of_library.get(name, ())]
            usable = [(version, rows) for version, rows in versions if rows is not None and rows.seconds.size >= 100]
            if usable:
                whole_tables = max(rows.seconds.size for _, rows in usable) // 2
                version, half = next(pair for pair in reversed(usable) if pair[1].seconds.size >= whole_tables)
                of = f"{system} {table.operator} {column} of aiconfigurator-core 0.12.0, {LIBRARIES[name]} {version}"
                found[format_name] = fit(chip, kind, table, half, of)
    order = {name: i for i, name in enumerate(("bits_16", "bits_8", "bits_4", "widened"))}
    return dict(sorted(found.items(), key=lambda item: order[item[0]])) if whole else {"": found["bits_16"]} if found else {}


def fit(chip: RooflineChip, kind: str, table: Table, rows: TimedKernels, of: str) -> list[str]:
    """The figures that bring every other row closest, in logarithms; the error on the rows between."""
    from scipy.optimize import least_squares

    narrow = kind in ("products", "experts") and rows.works[0].active_bytes < 2
    names = KINDS[kind] + (("input_passes",) if narrow else ())
    first, least, most = (np.array([FREE[name][i] for name in names]) for i in range(3))
    odd = np.arange(rows.seconds.size) % 2 == 1

    def errors(values: Any) -> Any:
        kernel = SimpleNamespace(**(dict.fromkeys(FREE, 0.0) | {"compute_fraction": 1.0} | dict(zip(names, values, strict=True))))
        return np.log(predicted(chip, kernel, table, rows) / rows.seconds)

    found = least_squares(
        lambda values: errors(values)[odd],
        first,
        bounds=(least, most),
        loss="soft_l1",
        f_scale=0.1,
        x_scale=np.maximum(first, 1e-9),
    )
    off = np.abs(np.expm1(errors(found.x)[~odd]))
    source = (
        f"{of}, {table.range}: median error {np.median(off):.0%}, nine in ten within {np.quantile(off, 0.9):.0%} of rows left out"
    )
    print(f"{kind:16}{of}: median {np.median(off):.3f}, 90 % {np.quantile(off, 0.9):.3f}", flush=True)
    return [
        line(name, value, source if i == 0 else f"as {names[0].removesuffix('_s')}")
        for i, (name, value) in enumerate(zip(names, found.x, strict=True))
    ]


def line(name: str, value: float, source: str) -> str:
    """One figure as YAML."""
    key, scale, unit = ("launch", 1e6, " us") if name == "launch_s" else (name, 1.0, "")
    return f'{key}: {{value: {plain(value * scale)}{unit}, kind: calibrated, source: "{source}"}}'


def plain(value: float) -> str:
    """Three digits, no exponent."""
    number = f"{value:.3g}"
    return str(int(float(number))) if "e+" in number else "0" if float(number) < 1e-3 else number


if __name__ == "__main__":
    main()
