"""Speed of the scheduled network: compile, prove and replay (run it: `python -m benchmarks schedule`).

Every case runs twice; the second time, with kernels compiled and caches warm, is printed.
"""

from __future__ import annotations

import json
import time

import numpy as np

from dcsim.fabric.dragonfly import lpu_dragonfly
from dcsim.fabric.graph import Fabric
from dcsim.llm.program import Shape
from dcsim.network.scheduled.bound import find_bound
from dcsim.network.scheduled.proof import prove
from dcsim.network.scheduled.replay import replay
from dcsim.network.scheduled.rules import ScheduleRules
from dcsim.network.scheduled.schedule import compile_schedule
from dcsim.network.tasks import LINK, MATRIX, MESSAGE, VECTOR, TaskBuilder, Tasks
from dcsim.spec.load import load
from dcsim.study.machine import build

CLOCK_HZ = 900e6
FIGURES = ScheduleRules(CLOCK_HZ, 320, 24, 217, 24, 334, 335, 60, 64, 3, 6)
RACKS, CHIPS = 21, 1500


def all_to_all(chips: int) -> Tasks:
    """One vector between every ordered pair of the first `chips` chips."""
    source, target = np.divmod(np.arange(chips * chips), chips)
    apart = source != target
    source, target = source[apart].astype(np.int32), target[apart].astype(np.int32)
    count = len(source)
    zeros = np.zeros(count, np.int64)
    return Tasks(
        CLOCK_HZ,
        np.full(count, MESSAGE, np.int8),
        np.full(count, LINK, np.int8),
        np.zeros(count, np.int8),
        source,
        target,
        np.full(count, 320, np.int64),
        zeros,
        zeros,
        np.ones(count, np.int32),
        np.zeros(count, np.int32),
        np.zeros(count + 1, np.int64),
        np.zeros(0, np.int32),
    )


def block(build: TaskBuilder, first_chip: int, before: list[list[int]], rows: int, width_bytes: int) -> list[list[int]]:
    """A matrix product and a direct all-reduce on 8 chips; `before` and the result list tasks per chip."""
    chips = range(8)
    slices = rows * width_bytes // 8
    work = [build.compute(first_chip + c, MATRIX, 1200, 1200 + 30 * (rows - 1), before[c], rows, 1) for c in chips]
    sent = [[build.message(first_chip + s, first_chip + t, slices, [work[s]]) for s in chips if s != t] for t in chips]
    sums = [build.compute(first_chip + t, VECTOR, 118, 118, sent[t], rows, 1) for t in chips]
    return [[build.message(first_chip + s, first_chip + t, slices, [sums[s]]) for s in chips if s != t] for t in chips]


def decode(stages: int, width_bytes: int = 16_384) -> Tasks:
    """One token through `stages` stages of 8 chips: two all-reduces each, then a hop to the next stage."""
    build = TaskBuilder(CLOCK_HZ)
    held: list[list[int]] = [[] for _ in range(8)]
    for stage in range(stages):
        for _ in range(2):
            held = block(build, 8 * stage, held, 1, width_bytes)
        onward = 8 * ((stage + 1) % stages)
        held = [[build.message(8 * stage + c, onward + c, width_bytes, held[c])] for c in range(8)]
    return build.build()


def layer(rows: int) -> Tasks:
    """Two blocks of a layer for `rows` tokens."""
    build = TaskBuilder(CLOCK_HZ)
    held: list[list[int]] = [[] for _ in range(8)]
    for _ in range(2):
        held = block(build, 0, held, rows, 16_384)
    return build.build()


def measure(tasks: Tasks, fabric: Fabric, replayed: bool) -> dict[str, float]:
    """Seconds and vector-hops per second of each step, warm."""
    for _ in range(2):
        begun = time.perf_counter()
        schedule = compile_schedule(tasks, fabric, FIGURES)
        compiled = time.perf_counter()
        proof = prove(schedule, tasks, fabric, FIGURES)
        proved = time.perf_counter()
        cycles = replay(schedule, tasks, fabric, FIGURES).cycles if replayed else schedule.makespan_cycles
        ended = time.perf_counter()
    assert cycles == schedule.makespan_cycles
    return {
        "tasks": len(tasks),
        "bursts": len(schedule.burst_link),
        "vector_hops": proof.vector_hops,
        "compile_s": compiled - begun,
        "prove_s": proved - compiled,
        "replay_s": ended - proved,
        "compile_vector_hops_per_s": proof.vector_hops / (compiled - begun),
        "prove_vector_hops_per_s": proof.vector_hops / (proved - compiled),
        "makespan_cycles": cycles,
        "bound_ratio": schedule.makespan_cycles / max(1, find_bound(schedule, tasks, fabric, FIGURES).cycles),
    }


def shape(topology: str, asked: Shape) -> dict[str, float]:
    """One iteration of a shipped topology: timed alone as a run does, then spelled out whole, proved and replayed."""
    machine = build(load(topology).spec)
    fabric = machine.fabric
    for _ in range(2):
        begun = time.perf_counter()
        machine.time(asked)
        timed = time.perf_counter()
        compiled = machine.network.schedule(asked)
        spelled = time.perf_counter()
        proof = prove(compiled.schedule, compiled.tasks, fabric, compiled.figures)
        proved = time.perf_counter()
        replay(compiled.schedule, compiled.tasks, fabric, compiled.figures)
        ended = time.perf_counter()
    bound = find_bound(compiled.schedule, compiled.tasks, fabric, compiled.figures, compiled.piece_starts).cycles
    return {
        "pieces": len(compiled.piece_starts),
        "pieces_compiled": compiled.pieces_compiled,
        "vector_hops": proof.vector_hops,
        "time_s": timed - begun,
        "compile_s": spelled - timed,
        "prove_s": proved - spelled,
        "replay_s": ended - proved,
        "total_s": ended - timed,
        "bound_ratio": compiled.schedule.makespan_cycles / bound,
    }


def main() -> None:
    """Print one JSON object a case."""
    fabric = lpu_dragonfly(RACKS)
    cases = {
        "block of 8 chips": measure(layer(1), fabric, True),
        "decode, 180 stages": measure(decode(180), fabric, True),
        "8rack, decode": shape("8rack", Shape(1, 2048)),
        "8rack, prompt of 512 tokens": shape("8rack", Shape(1, 512, 512)),
        "1500chip, decode": shape("1500chip", Shape(1, 2048)),
        f"all-to-all, {CHIPS} chips": measure(all_to_all(CHIPS), fabric, False),
    }
    for name, result in cases.items():
        print(json.dumps({"case": name, **{key: float(f"{value:.4g}") for key, value in result.items()}}))


if __name__ == "__main__":
    main()
