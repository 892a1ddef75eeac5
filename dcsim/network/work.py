"""Energy of an iteration's operations above the waiting draw of the chips they run on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dcsim.network.tasks import ATTENTION, MATRIX, PARTS, VECTOR, Tasks
from dcsim.spec.chip import ChipPower

STATES = {"matrix": (MATRIX,), "vector": (VECTOR, ATTENTION)}  # a chip's states at work, and the tasks' parts that put it there


def above_waiting_w(power: ChipPower) -> NDArray[np.float64]:
    """[part] draw of a chip above waiting while it works on a task of that part of `tasks.PARTS`."""
    above_w = np.zeros(len(PARTS))
    above_w[MATRIX] = power.matrix_w - power.wait_w
    above_w[[ATTENTION, VECTOR]] = power.vector_w - power.wait_w
    return above_w


def states_j(tasks: Tasks, power: ChipPower) -> dict[str, float]:
    """Joules of all operations by the state of the chips."""
    seconds = np.bincount(tasks.part, tasks.last_cycles, len(PARTS)) / tasks.clock_hz
    joules = seconds * above_waiting_w(power)
    return {state: float(joules[list(parts)].sum()) for state, parts in STATES.items()}


def work_j(tasks: Tasks, power: ChipPower) -> float:
    """Joules of all operations."""
    return sum(states_j(tasks, power).values())
