"""Writes the table of docs/COLLECTIVES.md and its picture: `python -m validation.collectives docs FOLDER`, FOLDER with timings.

The tables are `SYSTEM/comm/nccl/VERSION/nccl_perf.parquet` in the layout of aiconfigurator-core; they are not shipped.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path

from dcsim.spec.load import load
from dcsim.study.collective import BUS_FACTOR, collective
from dcsim.writing import write_text

SIZES = [1 << power for power in range(9, 30)]
SHOWN = [512, 8 << 10, 64 << 10, 1 << 20, 8 << 20, 64 << 20, 512 << 20]  # of the table
MACHINES = {
    "h100_sxm": ("2.29.2", 8),
    "h200_sxm": ("2.29.2", 8),
    "a100_sxm": ("2.27.3", 8),
    "b200_sxm": ("2.29.2", 8),
    "gb200": ("2.29.2", 4),
}
FIXED = {"h100_sxm": "fixed on it", "a100_sxm": "few sizes fixed on it", "b200_sxm": "few sizes fixed on it"}
BEGIN, END = "<!-- measured -->\n", "<!-- until here -->\n"


@dataclass(frozen=True, slots=True)
class Point:
    """One size on one machine: seconds measured and simulated, and the way that was taken."""

    size_bytes: int
    measured_s: float
    simulated_s: float
    way: str

    @property
    def ratio(self) -> float:
        """Simulated over measured time."""
        return self.simulated_s / self.measured_s


Curves = dict[str, list[Point]]


def curves(folder: Path) -> Curves:
    """All-reduces of 16-bit numbers by NCCL on each machine, all chips of the table's largest row."""
    return {system: curve(folder, system) for system in MACHINES}


def curve(folder: Path, system: str, sizes: list[int] | None = None) -> list[Point]:
    """The points of one machine, of `sizes` or all."""
    import pandas as pd

    version, ranks = MACHINES[system]
    timings = pd.read_parquet(folder / system / "comm" / "nccl" / version / "nccl_perf.parquet")
    rows = timings[(timings.nccl_dtype == "half") & (timings.op_name == "all_reduce") & (timings.num_gpus == ranks)]
    measured = {2 * int(count): 1e-3 * float(ms) for count, ms in zip(rows.message_size, rows.latency, strict=True)}
    spec = load(system, settings=["network.software=nccl", "network.replications=1"]).spec
    points = []
    for size in sizes or SIZES:
        done = collective(spec, "all_reduce", size, ranks)
        points.append(Point(size, measured[size], done["time_s"], f"{done['algorithm']} {done['protocol']}"))
    return points


def mean_error(points: list[Point]) -> float:
    """Mean of |ln(simulated / measured)|."""
    return sum(abs(math.log(point.ratio)) for point in points) / len(points)


def document(text: str, found: Curves) -> str:
    """The page, its table made anew."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + table(found) + END + rest.partition(END)[2]


def table(found: Curves) -> str:
    """A row a machine: errors over all its points, and both figures at SHOWN sizes."""
    rows = ["| machine | chips | mean error | largest | " + " | ".join(_size(size) for size in SHOWN) + " |"]
    rows.append("|---" * (4 + len(SHOWN)) + "|")
    for system, points in found.items():
        ranks, by_size = MACHINES[system][1], {point.size_bytes: point for point in points}
        most = max(max(point.ratio, 1 / point.ratio) for point in points)
        name = f"{system} ({FIXED.get(system, 'predicted')})"
        cells = " | ".join(cell(by_size[size], ranks) for size in SHOWN)
        rows.append(f"| {name} | {ranks} | {mean_error(points):.2f} | {most:.2f} x | {cells} |")
    return "\n".join(["", *rows, "", ""])


def _size(size_bytes: int) -> str:
    for unit, shift in (("MiB", 20), ("KiB", 10)):
        if size_bytes >= 1 << shift:
            return f"{size_bytes >> shift} {unit}"
    return f"{size_bytes} B"


def cell(point: Point, ranks: int) -> str:
    """Measured and simulated: time of little, bus bandwidth of more."""
    if point.size_bytes <= 64 << 10:
        return f"{point.measured_s * 1e6:.1f} / {point.simulated_s * 1e6:.1f} us"
    bus = BUS_FACTOR["all_reduce"](ranks) * point.size_bytes / 1e9
    return f"{bus / point.measured_s:.0f} / {bus / point.simulated_s:.0f} GB/s"


def drawing(found: Curves) -> str:
    """Bus bandwidth against size, log by log: measured as circles, simulated as lines."""
    width, height, margin = 620, 380, 48
    colours = ("#0072B2", "#56B4E9", "#E69F00", "#009E73", "#D55E00")
    left, right, low, high = math.log2(SIZES[0]), math.log2(SIZES[-1]), -2.0, 3.0

    def place(size_bytes: int, bus_gb_per_s: float) -> tuple[float, float]:
        x = margin + (math.log2(size_bytes) - left) / (right - left) * (width - 2 * margin)
        y = height - margin - (math.log10(bus_gb_per_s) - low) / (high - low) * (height - 2 * margin)
        return x, y

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11" fill="#808894">'
    ]
    parts.append(
        f'<text x="{margin}" y="20">all-reduce by NCCL: bus bandwidth, GB/s, over bytes; circles measured, lines simulated</text>'
    )
    for power in range(int(low), int(high) + 1):
        x, y = place(SIZES[0], 10.0**power)
        parts.append(f'<path d="M{x:.1f} {y:.1f}H{width - margin}" stroke="#808894" stroke-opacity="0.25"/>')
        parts.append(f'<text x="{x - 4:.1f}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g}</text>')
    for size in SIZES[1::4]:
        x, y = place(size, 10**low)
        parts.append(f'<text x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle">{_size(size)}</text>')
    for n, (system, points) in enumerate(found.items()):
        factor = BUS_FACTOR["all_reduce"](MACHINES[system][1]) / 1e9
        line = [place(point.size_bytes, factor * point.size_bytes / point.simulated_s) for point in points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in line)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colours[n]}" stroke-width="1.5"/>')
        for point in points:
            x, y = place(point.size_bytes, factor * point.size_bytes / point.measured_s)
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4" fill="{colours[n]}" fill-opacity="0.6"/>')
        y = margin + 8 + 16 * n
        parts.append(f'<circle cx="{margin + 14}" cy="{y - 4}" r="4" fill="{colours[n]}"/>')
        parts.append(f'<text x="{margin + 24}" y="{y}">{system}, {MACHINES[system][1]} chips</text>')
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    """Run every point and write the page and its picture."""
    docs, found = Path(sys.argv[1]), curves(Path(sys.argv[2]))
    write_text(docs / "images" / "collectives.svg", drawing(found))
    page = docs / "COLLECTIVES.md"
    write_text(page, document(page.read_text(), found))


if __name__ == "__main__":
    main()
