"""Where an iteration's time goes, in the same parts for every kind of network.

`compute` operations and sums on chips; `software` library calls; `jitter` the host's; `switch` adapters, switches and a
chip's own link interfaces, forwarding and slack; `wire` cables; `serialisation` bytes being clocked out; `queueing`
waiting for others' bytes; `slowest` waiting for the slowest of several messages beyond their mean; `other` what could
not be attributed. Parts come from the critical path of each iteration, so they sum to its time.
"""

from __future__ import annotations

import numpy as np

from dcsim.network.packet.engine.breakdown import PARTS as PACKET_PARTS
from dcsim.network.packet.iteration import PacketRun
from dcsim.network.scheduled.iteration import Compiled, critical_path
from dcsim.network.scheduled.rules import Figures
from dcsim.network.tasks import HOP, LINK, WAIT

PARTS = ("compute", "software", "jitter", "switch", "wire", "serialisation", "queueing", "slowest", "other")


def packet_waterfall(run: PacketRun) -> dict[str, float]:
    """Mean seconds by part; what came before the first task was let go counts as `other`."""
    mean_s = dict(zip(PACKET_PARTS, (run.parts_ps.mean(axis=0) * 1e-12).tolist(), strict=True))
    mean_s["other"] += mean_s.pop("release")
    return {part: mean_s[part] for part in PARTS}


def scheduled_waterfall(compiled: Compiled, figures: Figures) -> dict[str, float]:
    """Seconds by part of a compiled iteration. A message's link latency is `wire`: its cable and both transceivers."""
    hops = _hops(compiled)
    cycles = dict.fromkeys(PARTS, 0)
    for task, part, booked in critical_path(compiled.tasks, compiled.schedule, figures.send_cycles):
        if part in (LINK, HOP):
            wire = min(booked, int(hops[task]) * figures.link_cycles)
            ends = min(booked - wire, figures.path_cycles(int(hops[task])) - int(hops[task]) * figures.link_cycles)
            cycles["wire"] += wire
            cycles["switch"] += ends
            cycles["serialisation"] += booked - wire - ends
        else:
            cycles["queueing" if part == WAIT else "compute"] += booked
    return {part: count / figures.clock_hz for part, count in cycles.items()}


def _hops(compiled: Compiled) -> np.ndarray:
    """[task] links of a message's shortest flow; 0 for other tasks."""
    schedule = compiled.schedule
    links = np.diff(schedule.burst_offset)
    hops = np.full(len(compiled.tasks), np.iinfo(np.int64).max)
    np.minimum.at(hops, schedule.flow_task, links)
    hops[hops == np.iinfo(np.int64).max] = 0
    return hops
