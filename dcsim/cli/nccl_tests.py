"""A collective as nccl-tests prints it, so that what reads its output reads this.

Columns and formats are those of nccl-tests 2.13 and later. Data are 16-bit numbers. The half for in-place buffers repeats the
other, since where a buffer lies costs nothing here; nothing is checked for wrong values, which is N/A there as well.
"""

from __future__ import annotations

from typing import Any

ELEMENT_BYTES = 2
SUMS = {"all_reduce", "reduce_scatter", "send"}  # nccl-tests names an operation for sendrecv too
ROOTED = {"broadcast"}
A_SHARE = {"all_gather", "reduce_scatter", "all_to_all"}  # whose count is one rank's


def lines(result: dict[str, Any]) -> list[str]:
    """The table of one collective (the answer of `study.collective`): headings, its line, and the mean bus bandwidth."""
    empty, names = ("", "", "", "", ""), ("size", "count", "type", "redop", "root")
    first = "# {:>10}  {:>12}  {:>8}  {:>6}  {:>6}".format
    half = ("time", "algbw", "busbw", "#wrong")
    units = ("(us)", "(GB/s)", "(GB/s)", "")
    bus = result["bus_bandwidth_bytes_per_s"] / 1e9
    return [
        "#",
        first(*empty) + "           out-of-place                       in-place          ",
        first(*names) + 2 * "  {:>7}  {:>6}  {:>6} {:>6}".format(*half),
        first("(B)", "(elements)", "", "", "") + 2 * "  {:>7}  {:>6}  {:>6}  {:>5}".format(*units),
        _line(result),
        f"# Avg bus bandwidth    : {bus:g} ",
        "#",
    ]


def _line(result: dict[str, Any]) -> str:
    op, size_bytes = result["op"], result["size_bytes"]
    count = size_bytes // ELEMENT_BYTES // (result["ranks"] if op in A_SHARE else 1)
    name, root = "sum" if op in SUMS else "none", 0 if op in ROOTED else -1
    rate, bus = (result[f"{kind}_bandwidth_bytes_per_s"] / 1e9 for kind in ("algorithm", "bus"))
    half = f"  {_time(result['time_s'] * 1e6):>7}  {rate:>6.2f}  {bus:>6.2f}  {'N/A':>5}"
    return f"{size_bytes:>12}  {count:>12}  {'half':>8}  {name:>6}  {root:>6}{half}{half}"


def _time(microseconds: float) -> str:
    return f"{microseconds:.{0 if microseconds >= 1e4 else 1 if microseconds >= 1e2 else 2}f}"
