"""The timeline: what tracing tools need, whole files only, same bytes every time."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from schedule_cases import FIGURES, direct_all_reduce, island

from dcsim.errors import OutputError
from dcsim.network.scheduled.schedule import compile_schedule
from dcsim.network.scheduled.timeline import CHIPS, LINKS, write_timeline


def test_bars_are_the_operations_and_bursts(tmp_path: Path) -> None:
    tasks, fabric = direct_all_reduce(8, 8 * 320 * 3), island(8)
    schedule = compile_schedule(tasks, fabric, FIGURES)
    path = tmp_path / "trace.json.gz"
    assert write_timeline(path, schedule, tasks, fabric) == 8 + 112
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    bars = [e for e in events if e["ph"] == "X"]
    assert sum(e["pid"] == CHIPS for e in bars) == 8
    assert max(e["ts"] + e["dur"] for e in bars) <= schedule.makespan_cycles / 900 + 1e-3
    first = next(e for e in bars if e["pid"] == LINKS)
    assert first["ts"] == pytest.approx(334 / 900, abs=1e-4)
    assert first["dur"] == pytest.approx(3 * 24 / 900, abs=1e-4)
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert {e["pid"] * 1000 + e["tid"] for e in bars} == {group * 1000 + track for group, track in names}
    assert names[(CHIPS, 3)] == "chip 3"
    assert names[(LINKS, 0)] == "local 0 to 1"


def test_same_bytes_whatever_the_name_and_time(tmp_path: Path) -> None:
    tasks, fabric = direct_all_reduce(8, 8 * 320), island(8)
    schedule = compile_schedule(tasks, fabric, FIGURES)
    one, two = tmp_path / "a.json.gz", tmp_path / "b.json.gz"
    write_timeline(one, schedule, tasks, fabric)
    write_timeline(two, schedule, tasks, fabric)
    assert one.read_bytes() == two.read_bytes()


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks, fabric = direct_all_reduce(8, 8 * 320), island(8)
    schedule = compile_schedule(tasks, fabric, FIGURES)
    path = tmp_path / "trace.json.gz"
    path.write_bytes(b"old")

    def fail(*_args: object, **_kwargs: object) -> str:
        raise OSError("disk full")

    monkeypatch.setattr("dcsim.network.scheduled.timeline.json.dumps", fail)
    with pytest.raises(OutputError, match="disk full"):
        write_timeline(path, schedule, tasks, fabric)
    assert [p.name for p in tmp_path.iterdir()] == ["trace.json.gz"]
    assert path.read_bytes() == b"old"
