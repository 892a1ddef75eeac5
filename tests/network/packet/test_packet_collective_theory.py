"""Textbook collectives, message by message, on the packet engine (Thakur, Rabenseifner, Gropp, IJHPCA 2005).

p ranks, n bytes; a the latency of one message, b a byte's time on the wire, c a byte's sum. Chips hang on one switch that cuts
through, so that ranks which exchange in pairs or rings never meet on a link and every step takes its own time in full.
"""

from math import log2

import pytest
from packet_fabrics import star

from dcsim.network.packet.engine.engine import Engine
from dcsim.network.packet.engine.rules import LinkFigures, PacketRules
from dcsim.network.tasks import TaskBuilder

A, B, C = 2 * 400e-9 + 2 * 500e-9 + 200e-9, 1 / 12.5e9, 1 / 4e9  # two cables, two adapters and a switch; 100 Gb/s; 4 GB/s
FIGURES = PacketRules({"adapter": LinkFigures(12.5e9, 400e-9)}, mtu_bytes=4096, adapter_s=500e-9, switch_s=200e-9)
N = 1 << 20


class Steps:
    """Ranks that all take one step after another, each waiting for its whole input."""

    def __init__(self, ranks):
        self.ranks, self.build = ranks, TaskBuilder(1e9)
        self.last = [self.build.compute(rank, 0, 0, 0, []) for rank in range(ranks)]

    def exchange(self, partner, size_bytes, summed=False):
        """Every rank sends `size_bytes` to partner(rank), then adds up as much if `summed`."""
        inbox = [[own] for own in self.last]
        for rank in range(self.ranks):
            to = partner(rank)
            inbox[to].append(self.build.message(rank, to, round(size_bytes), [self.last[rank]]))
        cycles = round(size_bytes * C * 1e9) if summed else 0
        self.last = [self.build.compute(rank, 2, cycles, cycles, inbox[rank]) for rank in range(self.ranks)]

    def time_s(self):
        return Engine(star(self.ranks), FIGURES, self.build.build()).iteration().finish_ps * 1e-12


@pytest.mark.parametrize("p", [2, 4, 8, 16])
class TestAllReduce:
    def test_ring(self, p):
        steps = Steps(p)
        for i in range(2 * (p - 1)):
            steps.exchange(lambda rank: (rank + 1) % p, N / p, summed=i < p - 1)
        share = (p - 1) / p * N
        assert steps.time_s() == pytest.approx(2 * (p - 1) * A + 2 * share * B + share * C, rel=1e-3)

    def test_recursive_doubling(self, p):
        steps = Steps(p)
        for k in range(round(log2(p))):
            steps.exchange(lambda rank, k=k: rank ^ (1 << k), N, summed=True)
        assert steps.time_s() == pytest.approx(log2(p) * (A + N * B + N * C), rel=1e-3)

    def test_rabenseifner(self, p):
        """Reduce-scatter by halving, then all-gather by doubling."""
        steps, levels = Steps(p), round(log2(p))
        for k in range(levels):
            steps.exchange(lambda rank, k=k: rank ^ (p >> (k + 1)), N / 2 ** (k + 1), summed=True)
        for k in reversed(range(levels)):
            steps.exchange(lambda rank, k=k: rank ^ (p >> (k + 1)), N / 2 ** (k + 1))
        share = (p - 1) / p * N
        assert steps.time_s() == pytest.approx(2 * levels * A + 2 * share * B + share * C, rel=1e-3)


@pytest.mark.parametrize("p", [2, 4, 8, 16])
class TestAllToAll:
    """n is what each rank sends to all others together."""

    def test_pairwise(self, p):
        steps = Steps(p)
        for i in range(1, p):
            steps.exchange(lambda rank, i=i: (rank + i) % p, N / (p - 1))
        assert steps.time_s() == pytest.approx((p - 1) * A + N * B, rel=1e-3)

    def test_bruck(self, p):
        steps = Steps(p)
        for k in range(round(log2(p))):
            steps.exchange(lambda rank, k=k: (rank + (1 << k)) % p, N / 2)
        assert steps.time_s() == pytest.approx(log2(p) * (A + N / 2 * B), rel=1e-3)
