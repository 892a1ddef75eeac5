"""Speed of the packet engine on one core: packet-hops (one data packet on one directed link) a second.

Run `python -m benchmarks packet` for all cases, `python -m benchmarks.bench_packet CASE ...` for some. Each figure is
the best of a few runs with a warm cache, in processor time, and covers setting an iteration up, simulating it and
reporting it. The target stands beside it. Each case runs in a process of its own, so that one's memory is not another's.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time

from dcsim.fabric.dragonfly import dragonfly
from dcsim.fabric.switched import fat_tree
from dcsim.network.packet.engine import traffic
from dcsim.network.packet.engine.engine import Engine
from dcsim.network.packet.engine.rules import LinkFigures, PacketRules
from dcsim.network.packet.rules_of import rate_control_of
from dcsim.network.tasks import COLLECTIVE_FIRST, COLLECTIVE_STEP, TaskBuilder
from dcsim.spec.load import load_entry
from dcsim.spec.transport import TransportSpec

DCQCN = rate_control_of(load_entry("rdma", "topologies/transports", TransportSpec)[0])
LINKS = {name: LinkFigures(12.5e9, 1e-6) for name in ("adapter", "fabric")}
MODES = {
    "open": PacketRules(LINKS, cut_through=False),
    "credits": PacketRules(LINKS, flow_control="credits", buffer_bytes=64 * 4096),
    "roce": PacketRules(
        LINKS,
        flow_control="pause",
        buffer_bytes=100 * 4096,
        pause_gap_bytes=8 * 4096,
        mark_low_bytes=400e3,
        mark_high_bytes=1600e3,
        mark_fraction=0.2,
        rate_control=DCQCN,
    ),
    "roce, acks of 4 packets": PacketRules(
        LINKS,
        flow_control="pause",
        buffer_bytes=100 * 4096,
        pause_gap_bytes=8 * 4096,
        mark_low_bytes=400e3,
        mark_high_bytes=1600e3,
        mark_fraction=0.2,
        rate_control=DCQCN,
        ack_bytes=86,
        ack_packets=4,
    ),
    "ethernet": PacketRules(LINKS, flow_control="drop", buffer_bytes=64 * 4096, rate_control=DCQCN),
}


TARGET_M_HOPS_PER_S = {
    "permutation 1024 open": 10,
    "permutation 1024 credits": 5,
    "permutation 1024 roce": 3,
    "permutation 1024 roce, acks of 4 packets": 3,
    "dragonfly 1056 minimal": 8,
    "dragonfly 1056 ugal": 4,
}
TARGET_S = {"decode tp 8 on 1024 chips": 0.05, "decode tp 64 on 1024 chips": 2.0}


def beside(figure: float, target: float | None, unit: str, least: bool) -> str:
    """A target and whether the figure reaches it."""
    if target is None:
        return ""
    met = figure >= target if least else figure <= target
    return f"  target {'at least' if least else 'at most'} {target:g} {unit}: {'met' if met else 'MISSED'}"


def measure(name: str, engine: Engine, runs: int = 4) -> float:
    """Print the best of a few runs; returns its seconds a packet-hop."""
    best = 1e9
    for replication in range(runs):
        begin = time.process_time()
        iteration = engine.iteration(replication, fresh=replication == 0)
        best = min(best, time.process_time() - begin)
    hops = iteration.packet_hops
    rate = hops / best / 1e6
    print(
        f"{name:40s} {rate:6.2f} M packet-hops/s {1e9 * best / hops:5.0f} ns each {best * 1e3:8.1f} ms"
        + beside(rate, TARGET_M_HOPS_PER_S.get(name), "M/s", True)
        + beside(best, TARGET_S.get(name), "s", False)
    )
    return best / hops


def permutation(chips: int, radix: int, modes: list[str]) -> list[float]:
    """Permutation of 256 KiB a chip on a three-tier fat tree; seconds a hop of each mode."""
    fabric = fat_tree(chips, radix)
    flows = traffic.permutation(fabric.chip_count, 256 * 1024, 1)
    return [measure(f"permutation {fabric.chip_count} {mode}", Engine(fabric, MODES[mode], flows)) for mode in modes]


def scaling() -> None:
    """Growth of the cost of a packet-hop from 512 to 4096 and to 10,440 endpoints."""
    modes = ["open", "credits", "roce, acks of 4 packets"]
    small = permutation(512, 14, modes)
    for chips, radix, target in ((4096, 26, 1.5), (10_440, 36, 2.0)):
        for mode, least, cost in zip(modes, small, permutation(chips, radix, modes), strict=True):
            print(
                f"{mode}: a packet-hop costs {cost / least:.2f} times as much at {chips:,} as at 512 endpoints"
                + beside(cost / least, target, "times", False)
            )


def uniform_dragonfly() -> None:
    """1056 endpoints, single-flit packets, uniform load .5, credits."""
    fabric = dragonfly(4, 8, 4)
    links = {"adapter": LinkFigures(1e9, 1e-9), "local": LinkFigures(1e9, 1e-8), "global": LinkFigures(1e9, 1e-7)}
    for rule in ("minimal", "ugal"):
        figures = PacketRules(
            links, mtu_bytes=1, cut_through=False, routing=rule, flow_control="credits", buffer_bytes=512, ugal_bias_packets=3
        )
        measure(f"dragonfly 1056 {rule}", Engine(fabric, figures, traffic.stream(1056, 0.5, 1e-9, 400, 1, 1)))


def decode(tensor: int, layers: int = 80) -> None:
    """Two all-reduces of 16 KiB a layer over `tensor` chips: every chip sends its share of the sum, then the sums."""
    build = TaskBuilder(900e6)
    size = 16384 // tensor
    ready: list[list[int]] = [[] for _ in range(tensor)]
    for _ in range(2 * layers):
        parts = [build.compute(i, 0, 9000, 9000, ready[i]) for i in range(tensor)]
        for call in (COLLECTIVE_FIRST, COLLECTIVE_STEP):
            inbox: list[list[int]] = [[parts[i]] for i in range(tensor)]
            for step in range(1, tensor):
                for i in range(tensor):
                    inbox[(i + step) % tensor].append(build.message(i, (i + step) % tensor, size, [parts[i]], call=call))
            parts = [build.compute(i, 2, 20, 20, inbox[i]) for i in range(tensor)]
        ready = [[part] for part in parts]
    links = {name: LinkFigures(50e9, 1e-8) for name in ("adapter", "fabric")}
    figures = PacketRules(
        links,
        header_bytes=26,
        flow_control="credits",
        buffer_bytes=1 << 18,
        adapter_s=5e-7,
        switch_s=2e-7,
        adapter_messages_per_s=200e6,
    )
    measure(f"decode tp {tensor} on 1024 chips", Engine(fat_tree(1024, 16), figures, build.build()), 2 if tensor > 8 else 5)


def memory() -> None:
    """10,440 endpoints, 16 packets each."""
    fabric = fat_tree(10_440, 36)
    begin = time.process_time()
    engine = Engine(fabric, MODES["open"], traffic.permutation(10_440, 16 * 4096, 1))
    print(f"built in {time.process_time() - begin:.1f} s")
    measure("permutation 10440", engine, 2)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:.0f} MB" + beside(peak, 500, "MB", False))


FIRST_RUN = """
import sys, time
begin, processor = time.perf_counter(), time.process_time()
from dcsim.fabric.switched import leaf_spine
from dcsim.network.packet.engine import traffic
from dcsim.network.packet.engine.engine import Engine
from dcsim.network.packet.engine.rules import PacketRules, LinkFigures
Engine(leaf_spine(4, 4), PacketRules({"adapter": LinkFigures(1e9)}), traffic.permutation(4, 10000)).iteration()
print(time.perf_counter() - begin, time.process_time() - processor)
"""


def start() -> None:
    """A first run, which compiles, and a later one, each in its own process with a cache of its own."""
    with tempfile.TemporaryDirectory() as folder:
        for name, target in (("first run", 20), ("later run", 1)):
            out = subprocess.run(
                [sys.executable, "-c", FIRST_RUN],
                env=os.environ | {"NUMBA_CACHE_DIR": folder},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            wall, processor = map(float, out.split())
            print(f"{name}: {wall:.2f} s, {processor:.2f} s of processor" + beside(processor, target, "s", False))


def decodes() -> None:
    """Few chips and many."""
    for tensor in (8, 64):
        decode(tensor)


CASES = {
    "permutation": lambda: permutation(1024, 16, list(MODES)),
    "scaling": scaling,
    "dragonfly": uniform_dragonfly,
    "decode": decodes,
    "memory": memory,
    "start": start,
}


def main() -> None:
    """Every case, each in a fresh process: what one leaves in memory and caches is not the next one's."""
    for case in CASES:
        subprocess.run([sys.executable, "-m", "benchmarks.bench_packet", case], check=True)


if __name__ == "__main__":
    for case in sys.argv[1:] or CASES:
        CASES[case]()
