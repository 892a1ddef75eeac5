"""Studies behind several rows, as tables, pictures and the commands that print the same."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dcsim.study.frontier import loads
from dcsim.study.machine import build
from dcsim.study.sweep import Case, sweep

Points = Sequence[tuple[float, float]]
COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#332288"),
    *("#882255", "#44AA99", "#999933"),
)
DEGREES = ((2, 32), (4, 16), (8, 8), (16, 4), (32, 2))  # (tp, pp) of 64 chips
NETWORKS: dict[str, tuple[str | None, tuple[str, ...]]] = {
    "scheduled": (None, ()),
    "InfiniBand NDR, wire alone": ("infiniband-ndr", ("network.replications=1", "network.software=ideal")),
    "InfiniBand NDR, NCCL": ("infiniband-ndr", ("network.replications=1", "network.software=nccl")),
}


def mappings(topology: str = "64chip") -> dict[str, list[tuple[float, float]]]:
    """By network, (chips that share a layer, tokens/s of one user) over the ways to cut 64 chips (C6)."""
    found = {}
    for name, (network, settings) in NETWORKS.items():
        case = Case(topology, settings, network)
        rows = [sweep(case, [("mapping.tp", [str(tp)]), ("mapping.pp", [str(pp)])])[0] for tp, pp in DEGREES]
        found[name] = [
            (float(tp), row["tokens_per_s_per_user"]) for (tp, _), row in zip(DEGREES, rows, strict=True) if "error" not in row
        ]
    return found


def duty(topology: str = "8rack", context: int = 2048) -> list[tuple[int, float]]:
    """(sequences at once, cycles between two uses of a weight) as stages fill up (C5)."""
    from validation.frozen import load

    machine = build(load(topology).spec)
    full = max(load.micro_batches for load in loads(machine, context))
    time = next(load for load in loads(machine, context) if load.micro_batches == 1)
    clock_hz = machine.spec.chip.clock_hz
    counts = [2**i for i in range(int(math.log2(full)) + 1)]
    return [(count * time.batch, time.interval_s * clock_hz / count) for count in counts]


def section(by_mapping: Mapping[str, Points], by_concurrency: Sequence[tuple[int, float]]) -> list[str]:
    """The studies as lines of a Markdown page."""
    lines = [
        "",
        "## Mapping against interconnect (C6)",
        "",
        "Llama-3-8B, one user, 64 chips cut in five ways; tokens/s. "
        "`dcsim sweep 64chip --set-range mapping.tp=2,4,8,16,32 --set-range mapping.pp=32,16,8,4,2 --set network.replications=1 "
        "--interconnect infiniband-ndr --set network.software=nccl` prints every pair; without the last three options, the "
        "scheduled network's.",
        "",
        "![tokens/s of one user against chips that share a layer](mapping.svg)",
        "",
        "| network | " + " | ".join(f"tp {tp}, pp {pp}" for tp, pp in DEGREES) + " |",
        "|---" * (len(DEGREES) + 1) + "|",
    ]
    for name, points in by_mapping.items():
        speeds = dict(points)
        lines.append(f"| {name} | " + " | ".join(f"{speeds[tp]:.4g}" if tp in speeds else "-" for tp, _ in DEGREES) + " |")
    lines += [
        "",
        "## How often a weight is used (C5)",
        "",
        "Llama-2-70B on eight racks, every micro-batch a single sequence: cycles of the chip between two uses of a weight.",
        "",
        "| sequences at once | cycles between uses |",
        "|---|---|",
        *(f"| {n} | {cycles:,.0f} |" for n, cycles in by_concurrency),
        "",
        "## More to paste",
        "",
        "- memory plan (E2): `dcsim iteration 8rack --context 4096`, and `dcsim validate --only E2`",
        "- fleet for 25 million tokens/s (V6): `dcsim plan 8rack --tokens-per-s 25e6 --tokens-per-s-per-user 250`; "
        "for Llama-3-8B: `dcsim plan 1rack --tokens-per-s 25e6 --tokens-per-s-per-user 1000`",
        "- energy at equal speed (V4): `dcsim plan 8rack --tokens-per-s 1e5 --tokens-per-s-per-user 30`; then `dgx-h100`",
        "- power by part, level and moment (E3): `dcsim power 8rack`",
        "- money of a run (E5): `dcsim run 8rack --duration '60 s'`, then `dcsim cost`",
    ]
    return lines


def lines_svg(series: Mapping[str, Points], x_label: str, y_label: str) -> str:
    """An SVG of lines on two logarithmic axes; some lines may have no points."""
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points]
    width, height, left, bottom = 720, 420, 60, 50
    legend = 16 * len(series)

    def place(value: float, values: list[float], start: float, length: float) -> float:
        low, high = math.log(min(values) / 1.2), math.log(max(values) * 1.2)
        return start + length * (math.log(value) - low) / (high - low)

    def at(x: float, y: float) -> tuple[float, float]:
        return place(x, xs, left, width - left - 20), place(y, ys, height - bottom, -(height - bottom - legend - 10))

    parts: list[Any] = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12" '
        'fill="#808894">',
        f'<text x="{width / 2}" y="{height - 8}" text-anchor="middle">{x_label}</text>',
        f'<text x="14" y="{height / 2}" text-anchor="middle" transform="rotate(-90 14 {height / 2})">{y_label}</text>',
    ]
    for value in _ticks(xs):
        x = at(value, ys[0])[0]
        parts.append(f'<text x="{x:.1f}" y="{height - bottom + 16}" text-anchor="middle">{value:g}</text>')
        ends = f'x1="{x:.1f}" x2="{x:.1f}" y1="{legend + 10}" y2="{height - bottom}"'
        parts.append(f'<line {ends} stroke="#808894" opacity="0.3"/>')
    for value in _ticks(ys):
        y = at(xs[0], value)[1]
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
        parts.append(f'<line x1="{left}" x2="{width - 20}" y1="{y:.1f}" y2="{y:.1f}" stroke="#808894" opacity="0.3"/>')
    for i, (name, points) in enumerate(series.items()):
        colour = COLOURS[i % len(COLOURS)]
        places = [at(x, y) for x, y in points]
        parts.append(f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}" fill="none" stroke="{colour}"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        parts.append(f'<text x="{left}" y="{16 * (i + 1)}" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _ticks(values: Sequence[float]) -> list[float]:
    """1, 2 and 5 times powers of ten within the values, only the powers where there would be many; or few counts themselves."""
    low, high = min(values) / 1.2, max(values) * 1.2
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    kept = [tick for tick in ticks if low <= tick <= high]
    few = sorted(set(values))
    if len(few) <= 6 and all(value.is_integer() for value in few):
        return few  # a handful of counts
    return kept if len(kept) <= 8 else [tick for tick in kept if math.log10(tick) % 1 < 1e-9]
