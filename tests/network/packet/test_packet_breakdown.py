"""The way back along the critical path: which of a message's packets a task had waited for."""

from types import SimpleNamespace

import numpy as np
import pytest

from dcsim.network.packet.engine import state
from dcsim.network.packet.engine.breakdown_kernel import _packet_by

packet_by = getattr(_packet_by, "py_func", _packet_by)  # plain, whether kernels are compiled or not


@pytest.mark.parametrize("seed", range(5))
def test_of_a_message_under_way_the_packet_that_came_last_counts(seed):
    """Of its own packets alone, those of the messages beside it arriving all the while; before the first, its first."""
    random = np.random.default_rng(seed)
    tasks, packets = np.zeros(5, state.TASK).view(np.recarray), np.zeros(20, state.PACKET).view(np.recarray)
    tasks.first_packet = [0, 5, 6, 13, 20]
    packets.tail = random.permutation(20) * 10
    tasks.last_out, tasks.last_packet = 1000, random.integers(0, 20, 5)
    state_of = SimpleNamespace(tasks=tasks, packets=packets)
    for message, (first, end) in enumerate(((0, 5), (5, 6), (6, 13), (13, 20))):
        for when in range(0, 200, 7):
            here = [packet for packet in range(first, end) if packets.tail[packet] <= when]
            assert packet_by(state_of, message, when) == max(here, key=packets.tail.__getitem__, default=first)
        assert packet_by(state_of, message, 1000) == tasks.last_packet[message]
