"""Small runs over what packets seldom meet, so that the kernels' rare branches are run through as well.

Cables side by side, chips that pass packets on beside switches, buffers of one or two packets with too little headroom, results
handed out while they are made, several cables that fail at once (messages may be cut off for good), queues looked at.

    python tests/network/packet/rare_cases.py > tests/network/packet/rare_cases.json

prints what each comes to, for review when a rule changes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import numpy as np
from packet_fabrics import star
from small_cases import KB, MARKS, outcome

from dcsim.errors import FabricError
from dcsim.fabric.direct import torus
from dcsim.fabric.dragonfly import dragonfly
from dcsim.fabric.graph import Fabric, from_cables
from dcsim.fabric.routers import hyperx
from dcsim.network.packet.engine.engine import Engine
from dcsim.network.packet.engine.rules import Fault, LinkFigures, PacketRules, Pull, Software, Window
from dcsim.network.tasks import COLLECTIVE_FIRST, SEND, TaskBuilder, Tasks

# Of four hundred drawn, the first sixty and those in which a message is cut off for good.
CUT_OFF = (115, 123, 153, 188, 209, 222, 225, 227, 235, 238, 252, 280, 295, 309, 362, 367, 372)
NUMBERS = (*range(60), *CUT_OFF)


def _bonded() -> Fabric:
    """Six chips on three switches, each chip with two cables to its own and one to the next; two cables between switches."""
    cables = [(chip, 6 + chip // 2, "adapter", 0.0) for chip in range(6) for _ in range(2)]
    cables += [(chip, 6 + (chip // 2 + 1) % 3, "adapter", 0.0) for chip in range(6)]
    cables += [(6 + i, 6 + (i + 1) % 3, "fabric", 0.0) for i in range(3) for _ in range(2)]
    return from_cables("bonded", 6, cables, vertex_count=9)


def _relayed() -> Fabric:
    """Four chips in a ring, two of them on a switch with one more chip: the others reach it through chips."""
    cables = [(i, (i + 1) % 4, "local", 0.0) for i in range(4)]
    cables += [(chip, 5, "adapter", 0.0) for chip in (0, 2, 4)]
    return replace(from_cables("relayed", 5, cables, vertex_count=6), chips_relay=True)


FABRICS = {
    "bonded": _bonded(),
    "relayed": _relayed(),
    "ring": torus((5,)),
    "torus": torus((3, 3)),
    "star": star(4),
    "hyperx": hyperx((2, 2), 1, cables=2),
    "dragonfly": dragonfly(1, 2, 1),
}
FLOW_CONTROLS: dict[str, dict[str, Any]] = {
    "none": {},
    "credits": {"flow_control": "credits", "buffer_bytes": 16 * KB},
    "one slot": {"flow_control": "credits", "buffer_bytes": 2 * KB},
    "pause": {"flow_control": "pause", "buffer_bytes": 16 * KB, "pause_gap_bytes": 2 * KB},
    "no headroom": {"flow_control": "pause", "buffer_bytes": 3 * KB, "pause_gap_bytes": KB, "headroom_bytes": 0},
    "drop": {"flow_control": "drop", "buffer_bytes": 3 * KB},
    "go back": {"flow_control": "drop", "buffer_bytes": 3 * KB, "go_back": True},
}
SENDERS: list[dict[str, Any]] = [
    {},
    {"window": Window(first_packets=1.0, reorder_packets=2)},
    {"pull": Pull(first_packets=1)},
    MARKS,
]


def build(number: int) -> Engine:
    """The engine of a case."""
    random = np.random.default_rng([2, number])

    def one_of(choices: Any) -> Any:
        return choices[int(random.integers(len(choices)))]

    fabric = FABRICS[one_of(sorted(FABRICS))]
    control = one_of(sorted(FLOW_CONTROLS))
    lossy = control not in ("credits", "one slot", "pause")
    links = {name: LinkFigures(12.5e9, 5e-8, load_fraction=one_of([0.0, 0.0, 0.2])) for name in fabric.link_classes}
    rules: dict[str, Any] = {
        **FLOW_CONTROLS[control],
        **(one_of(SENDERS) if lossy else {}),
        **one_of([{}, {}, {"error_rate": 5e-6}, {"error_rate": 5e-6, "link_retry": True}]),
        "retransmit_timeout_s": 2e-5,
        "mtu_bytes": KB,
        "header_bytes": 26,
        "adapter_s": 2e-7,
        "switch_s": 1e-7,
        "cut_through": random.random() < 0.6,
        "routing": one_of(["minimal", "spray", "adaptive", "valiant", "ugal", "ugal_l"]),
        "input_fifo": random.random() < 0.2 and control in ("none", "credits"),
        "ack_bytes": one_of([0, 30]),
        "ack_packets": 2,
        "cross_burst_s": one_of([0.0, 1e-6]),
        "adapter_messages_per_s": one_of([0.0, 2e6]),
    }
    faults = _faults(random, fabric) if random.random() < 0.7 else ()
    sample_s = one_of([0.0, 0.0, 2e-7, 2e-8])
    software = Software((0.0, 2e-7, 1e-7, 3e-7), tuple((random.random(3) * 5e-7).tolist()) if random.random() < 0.3 else ())
    work = _streams(random, fabric.chip_count)
    return Engine(fabric, PacketRules(links, **rules), work, software, faults=faults, seed=number, sample_s=sample_s)


def _faults(random: np.random.Generator, fabric: Fabric) -> tuple[Fault, ...]:
    """A few cables or single directions go down or slow early on; most are mended, some never."""
    faults = []
    for link in random.choice(fabric.link_count, 4, replace=False).tolist():
        at_s, cable = random.random() * 3e-6, random.random() < 0.7
        faults.append(Fault(at_s, link, [0.0, 0.0, 0.3][random.integers(3)], cable))
        if random.random() < 0.85:
            faults.append(Fault(at_s + random.random() * 2e-6, link, [1.0, 0.5][random.integers(2)], cable))
    return tuple(faults)


def _streams(random: np.random.Generator, chips: int) -> Tasks:
    """Operations of many rows that begin on some of their input, fed by others and by messages; messages of what is made."""
    builder = TaskBuilder(1e9)
    last = [(chip, builder.compute(chip, 0, 50, int(random.integers(50, 900)), [])) for chip in range(chips)]
    for step in range(3):
        made = []
        for chip, task in last:
            inputs = [task]
            for _ in range(int(random.integers(0, 3))):
                other, handed = last[int(random.integers(len(last)))]
                if other == chip:
                    inputs.append(handed)
                    continue
                size = int(random.choice([0, 1, KB, 2 * KB + 1, 7 * KB]))
                inputs.append(builder.message(other, chip, size, [handed], call=COLLECTIVE_FIRST if step else SEND))
            rows = int(random.choice([1, 4, 16]))
            lead = int(random.integers(0, rows + 1))
            first = int(random.integers(20, 120))
            took = first + int(random.choice([0, 300, 1500]))
            made.append((chip, builder.compute(chip, step, first, took, inputs, rows=rows, lead_rows=lead)))
        last = made
    return builder.build()


def outcomes(number: int) -> list[list[int | str]]:
    """Two iterations of a case, the second on what the first left behind; or why there is none."""
    engine, found = build(number), []
    for _ in range(2):
        try:
            found.append(outcome(engine.iteration()))
        except FabricError as error:
            return [*found, [str(error)]]
        found[-1].append(hashlib.sha256(engine.answered_ps().tobytes() + engine.queues()[1].tobytes()).hexdigest()[:8])
    return found


if __name__ == "__main__":
    print("{" + ",\n".join(f'"{number}": {json.dumps(outcomes(number))}' for number in NUMBERS) + "}")
