"""What `dcsim collective --format nccl` prints is what nccl-tests prints: columns, counts of elements, formats."""

import re

import pytest
from command import dcsim

from dcsim.cli.nccl_tests import lines

# As scripts that read nccl-tests' output have it.
LINE = re.compile(
    r"^\s*(?P<size>\d+)\s+(?P<count>\d+)\s+(?P<type>\w+)\s+(?P<redop>\w+)\s+(?P<root>-?\d+)"
    r"\s+(?P<time>[\d.]+)\s+(?P<algbw>[\d.]+)\s+(?P<busbw>[\d.]+)\s+(?P<wrong>\d+|N/A)"
    r"\s+(?P<time_in>[\d.]+)\s+(?P<algbw_in>[\d.]+)\s+(?P<busbw_in>[\d.]+)\s+(?P<wrong_in>\d+|N/A)$"
)


def result(op, size_bytes, ranks, time_s, factor=1.0):
    rate = size_bytes / time_s
    return {
        "op": op,
        "size_bytes": size_bytes,
        "ranks": ranks,
        "time_s": time_s,
        "algorithm_bandwidth_bytes_per_s": rate,
        "bus_bandwidth_bytes_per_s": factor * rate,
    }


def test_a_line_as_it_stands_in_their_output():
    """Columns right-aligned at 12, 12, 8, 6, 6, then twice 7, 6, 6, 5, with two blanks between."""
    said = lines(result("all_reduce", 1 << 30, 8, 4.3e-3, 1.75))
    assert said[4] == (
        "  1073741824     536870912      half     sum      -1   4300.0  249.71  436.99    N/A   4300.0  249.71  436.99    N/A"
    )
    names = ["size", "count", "type", "redop", "root", *2 * ["time", "algbw", "busbw", "#wrong"]]
    assert said[2].split() == ["#", *names]
    for name, end in (("size", 12), ("count", 26), ("type", 36), ("redop", 44), ("root", 52), ("time", 61), ("algbw", 69)):
        assert said[2][:end].endswith(name)
    assert said[5] == "# Avg bus bandwidth    : 436.988 "


@pytest.mark.parametrize(
    ("op", "count", "redop", "root"),
    [
        ("all_reduce", 4096, "sum", "-1"),
        ("reduce_scatter", 512, "sum", "-1"),
        ("all_gather", 512, "none", "-1"),
        ("all_to_all", 512, "none", "-1"),
        ("broadcast", 4096, "none", "0"),
        ("send", 4096, "sum", "-1"),
    ],
)
def test_counts_and_operations_are_named_as_there(op, count, redop, root):
    found = LINE.match(lines(result(op, 8192, 8, 1e-5))[4])
    assert (found["count"], found["redop"], found["root"], found["wrong"]) == (str(count), redop, root, "N/A")


@pytest.mark.parametrize(("time_s", "text"), [(2.284e-6, "2.28"), (123.456e-6, "123.5"), (0.0123456, "12346")])
def test_times_lose_digits_as_they_grow(time_s, text):
    assert LINE.match(lines(result("all_reduce", 8192, 8, time_s))[4])["time"] == text


def test_the_command_prints_it(tmp_path):
    code, out, _ = dcsim("collective", "64chip", "--bytes", "16KiB", "--ranks", "8", "--format", "nccl", cwd=tmp_path)
    assert code == 0
    found = [LINE.match(line) for line in out.splitlines() if not line.startswith("#")]
    assert len(found) == 1
    assert (found[0]["size"], found[0]["count"]) == ("16384", "8192")
    assert float(found[0]["busbw"]) == pytest.approx(float(found[0]["algbw"]) * 1.75, rel=0.01)
