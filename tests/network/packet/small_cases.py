"""Eighty small runs of the packet engine, drawn over fabrics, flow controls, routings, transports, losses, marks and faults.

    python tests/network/packet/small_cases.py > tests/network/packet/small_cases.json

prints what each comes to, for review when a rule changes. They are small enough for kernels that run as plain Python.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
from packet_fabrics import fat_tree, line, star

from dcsim.fabric.direct import torus
from dcsim.fabric.dragonfly import dragonfly
from dcsim.fabric.routers import hyperx
from dcsim.fabric.switched import leaf_spine, with_islands
from dcsim.network.packet.engine import traffic
from dcsim.network.packet.engine.engine import Engine, SimulatedIteration
from dcsim.network.packet.engine.rules import Fault, LinkFigures, PacketRules, Pull, RateControl, Software, Window
from dcsim.network.tasks import COLLECTIVE_FIRST, COLLECTIVE_STEP, TaskBuilder

NUMBERS = range(80)
KB = 1024
FABRICS = {
    "star": star(5),
    "line": line(3),
    "fat tree": fat_tree(4),
    "dragonfly": dragonfly(2, 3, 1),
    "torus": torus((3, 4)),
    "hyperx": hyperx((3, 3), 2),
    "islands": with_islands(leaf_spine(8, 4, 2, rails=2), 4),
}
FLOW_CONTROLS: dict[str, dict[str, Any]] = {
    "none": {},
    "credits": {"flow_control": "credits", "buffer_bytes": 6 * KB},
    "pause": {"flow_control": "pause", "buffer_bytes": 8 * KB, "pause_gap_bytes": 2 * KB},
    "drop": {"flow_control": "drop", "buffer_bytes": 5 * KB, "retransmit_timeout_s": 2e-5},
    "go back": {"flow_control": "drop", "buffer_bytes": 5 * KB, "retransmit_timeout_s": 2e-5, "go_back": True},
}
# Rate control whose timer and byte counter come round often within a few microseconds.
QUICK = RateControl("dcqcn", 1e-6, (1 / 8, 1e6, 3e3, 0.05, 0.2, 0.05, 2.0))
MARKS = {"mark_low_bytes": 2e3, "mark_high_bytes": 5e3, "mark_fraction": 0.3, "rate_control": QUICK}
SENDERS: list[dict[str, Any]] = [{}, {}, {"window": Window(first_packets=2.0)}, {"pull": Pull(first_packets=2)}]


def build(number: int) -> Engine:
    """The engine of a case."""
    random = np.random.default_rng(number)

    def one_of(choices: Any) -> Any:
        return choices[int(random.integers(len(choices)))]

    name = one_of(sorted(FABRICS))
    fabric = FABRICS[name]
    load = one_of([0.0, 0.0, 0.4])
    classes = ("adapter", "fabric", "local", "global", "island")
    links = {link: LinkFigures(12.5e9, 1e-7, load_fraction=load) for link in classes}
    control = one_of(sorted(FLOW_CONTROLS))
    rules = {
        **FLOW_CONTROLS[control],
        **(MARKS if random.random() < 0.4 else one_of(SENDERS) if control in ("drop", "go back") else {}),
        **one_of([{}, {}, {"error_rate": 2e-6}, {"error_rate": 2e-6, "link_retry": True}]),
        "mtu_bytes": KB,
        "header_bytes": one_of([0, 26]),
        "adapter_s": 3e-7,
        "switch_s": 1e-7,
        "adapter_messages_per_s": one_of([0.0, 5e6]),
        "cut_through": random.random() < 0.7,
        "routing": one_of(["minimal", "spray", "adaptive", "valiant", "ugal", "ugal_l"]),
        "input_fifo": random.random() < 0.3 and control in ("none", "credits"),
        "ack_bytes": one_of([0, 30]),
        "ack_packets": one_of([1, 3]),
        "ugal_bias_packets": one_of([0, 2]),
        "cross_packet_bytes": 2 * KB,
        "cross_burst_s": one_of([0.0, 2e-6]),
    }
    faults: tuple[Fault, ...] = ()
    if random.random() < 0.4:
        # One cable slows down and is mended, another fails and is mended.
        slow, down = random.choice(fabric.link_count, 2, replace=False).tolist()
        at = random.random(4) * 4e-6
        faults = (
            Fault(at[0], slow, 0.25),
            Fault(at[0] + at[1], slow, 1.0),
            Fault(at[2], down, 0.0),
            Fault(at[2] + at[3], down, 1.0),
        )
    work = _flows(random, fabric.chip_count) if random.random() < 0.5 else _steps(random, fabric.chip_count)
    jitter_s = tuple((random.random(5) * 1e-6).tolist()) if random.random() < 0.3 else ()
    software = Software((0.0, 4e-7, 2e-7, 3e-7), jitter_s)
    return Engine(fabric, PacketRules(links, **rules), work, software, faults=faults, seed=number)


def _flows(random: np.random.Generator, chips: int) -> traffic.Flows:
    count = 10
    source = random.integers(0, chips, count)
    target = (source + 1 + random.integers(0, chips - 1, count)) % chips
    target[: count // 2] = np.where(source[: count // 2] == 0, 1, 0)  # half of them crowd
    return traffic.Flows(source, target, random.integers(1, 6 * KB, count), random.random(count) * 2e-6)


def _steps(random: np.random.Generator, chips: int) -> Any:
    """Chips that work, send to others and wait for what they are sent, three times over."""
    builder, ranks = TaskBuilder(1e9), min(chips, 5)
    chip = random.permutation(chips)[:ranks].tolist()
    last = [builder.compute(c, 0, 100, 400, []) for c in chip]
    for step in range(3):
        inbox = [[own] for own in last]
        for rank in range(ranks):
            for hop in (1, ranks - 1) if step == 1 and ranks > 2 else (1,):
                to = (rank + hop) % ranks
                if to != rank:
                    call = COLLECTIVE_STEP if step else COLLECTIVE_FIRST
                    size = int(random.integers(1, 5 * KB))
                    inbox[to].append(builder.message(chip[rank], chip[to], size, [last[rank]], call=call))
        last = [builder.compute(chip[r], r % 3, 200 * (1 + step), 300, inbox[r]) for r in range(ranks)]
    return builder.build()


def outcome(iteration: SimulatedIteration) -> list[int | str]:
    """What one iteration comes to: figures to look at, and a digest of every time and counter."""
    links = iteration.links
    arrays = [iteration.start_ps, iteration.first_ps, iteration.last_ps, iteration.parts_ps, iteration.critical_ps]
    arrays += [
        links.busy_ps,
        links.bytes,
        links.packets,
        links.peak_queue_bytes,
        links.drops,
        links.marks,
        links.pauses,
        links.ack_bytes,
    ]
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(array, np.int64).tobytes() for array in arrays)).hexdigest()[:12]
    counts = (
        iteration.packets,
        iteration.packet_hops,
        iteration.resent,
        links.drops.sum(),
        links.marks.sum(),
        links.pauses.sum(),
    )
    return [iteration.finish_ps, *map(int, counts), digest]


def outcomes(number: int) -> list[list[int | str]]:
    """Two iterations of a case, the second on what the first left behind."""
    engine = build(number)
    return [outcome(engine.iteration()) for _ in range(2)]


if __name__ == "__main__":
    print("{" + ",\n".join(f'"{number}": {json.dumps(outcomes(number))}' for number in NUMBERS) + "}")
