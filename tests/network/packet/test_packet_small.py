"""Small runs of the packet engine come to what was reviewed, and to the same where its kernels run as plain Python.

This compares the engine with what it gave before: it says that something changed, not which is right. What must hold whatever
the figures stands in `test_packet_engine`, closed forms in `test_packet_theory`. `small_cases` says how to print what is new.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import networkx as nx
import pytest
import rare_cases
import small_cases
from packet_fabrics import books_balance, line

from dcsim.errors import FabricError
from dcsim.fabric.graph import from_cables
from dcsim.network.packet.engine import traffic
from dcsim.network.packet.engine.engine import Engine
from dcsim.network.packet.engine.rules import Fault, LinkFigures, PacketRules

HERE = Path(__file__).parent
CASES = {"small": small_cases, "rare": rare_cases}
REVIEWED = {name: json.loads((HERE / f"{name}_cases.json").read_text()) for name in CASES}
NUMBERS = [(name, number) for name, cases in CASES.items() for number in cases.NUMBERS]


@pytest.mark.parametrize(("cases", "number"), NUMBERS)
def test_a_case_comes_to_what_was_reviewed(cases, number):
    assert CASES[cases].outcomes(number) == REVIEWED[cases][str(number)]


def test_the_cases_reach_what_packets_can_meet():
    """Losses, marks, pauses and repeated packets; bytes and parts of each add up."""
    served = [first[:-1] for first, _ in REVIEWED["small"].values()]
    totals = [sum(values) for values in zip(*served, strict=True)]
    _, packets, hops, resent, drops, marks, pauses = totals
    assert min(resent, drops, marks, pauses) > 20
    assert hops > 2 * packets


@pytest.mark.parametrize(("cases", "number"), NUMBERS[::4])
def test_bytes_packets_and_times_add_up(cases, number):
    engine = CASES[cases].build(number)
    try:
        iteration = engine.iteration()
    except FabricError:
        assert len(REVIEWED[cases][str(number)][0]) == 1
        return
    messages = iteration.parts_ps[engine.tasks.size_bytes > 0]
    assert (messages.sum(axis=1) == (iteration.last_ps - iteration.start_ps)[engine.tasks.size_bytes > 0]).all()
    assert iteration.critical_ps.sum() == iteration.finish_ps
    assert iteration.links.packets.sum() == iteration.packet_hops
    assert (iteration.links.busy_ps <= iteration.finish_ps + 10**6).all()
    assert engine.delivered_bytes(0.0, 1.0) == engine.tasks.size_bytes.sum()
    books_balance(engine._state)


def test_only_what_no_cable_leads_to_waits_for_ever():
    """A case that does not end names two chips between which no way is left once the last fault has struck (by networkx)."""
    unfinished = {int(number): found[-1][0] for number, found in REVIEWED["rare"].items() if len(found[-1]) == 1}
    assert set(unfinished) == {21, *rare_cases.CUT_OFF}
    for number, why in unfinished.items():
        source, target = map(int, re.match(r"chip (\d+) is cut off from chip (\d+)", why).groups())
        engine = rare_cases.build(number)
        assert nx.has_path(_ways(engine, source, set()), source, target)
        down = {int(f["link"]): f["fs_per_byte"] == 0 for f in engine._state.faults}  # in the order that they strike
        assert not nx.has_path(_ways(engine, source, {link for link, last in down.items() if last}), source, target)


def _ways(engine, source, down):
    """The links that packets of a chip may take: chips pass packets on only where the fabric says so."""
    fabric = engine.fabric
    passes = [v == source or v >= fabric.chip_count or fabric.chips_forward for v in range(fabric.vertex_count)]
    ends = zip(fabric.link_source.tolist(), fabric.link_target.tolist(), strict=True)
    graph = nx.DiGraph([end for link, end in enumerate(ends) if passes[end[0]] and link not in down])
    graph.add_nodes_from(range(fabric.vertex_count))
    return graph


def test_compiled_kernels_do_what_their_python_does():
    if os.environ.get("NUMBA_DISABLE_JIT") == "1":
        pytest.skip("they run as Python already")
    chosen = NUMBERS[::8]
    code = f"import json, test_packet_small as t; print(json.dumps([t.CASES[c].outcomes(n) for c, n in {chosen}]))"
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    plain = subprocess.run([sys.executable, "-c", code], cwd=HERE, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(plain.stdout) == [REVIEWED[cases][str(number)] for cases, number in chosen]


@pytest.mark.parametrize("routing", ["minimal", "spray", "adaptive"])
@pytest.mark.parametrize(("cable_s", "fails_s", "lost", "done_s"), [(0.0, 10.5e-6, 1, 80e-6), (5e-6, 3.5e-6, 0, 95e-6)])
def test_a_chip_with_one_cable_waits_until_the_next_chips_is_mended(routing, cable_s, fails_s, lost, done_s):
    """Forty packets of a microsecond each, whoever chooses their way: what was on the failed cable is sent again.

    Ten have crossed without latency; with it none has, and the last crosses both cables after the mending at 50 us.
    """
    chain = from_cables("chain", 3, [(0, 1, "local", 0.0), (1, 2, "local", 0.0)])
    rules = PacketRules({"local": LinkFigures(1e9, cable_s)}, mtu_bytes=1000, routing=routing, retransmit_timeout_s=1e-5)
    (link,) = [i for i in range(4) if (chain.link_source[i], chain.link_target[i]) == (1, 2)]
    down = (Fault(fails_s, link, 0.0), Fault(50e-6, link, 1.0))
    iteration = Engine(chain, rules, traffic.Flows([0], [2], [40_000], [0.0]), faults=down).iteration()
    assert iteration.resent == iteration.links.drops.sum() == lost
    assert iteration.finish_ps == pytest.approx(done_s * 1e12, abs=3)


def test_a_run_whose_events_all_fall_into_one_bucket_has_room_for_them():
    """Two hundred packets cross nine links in less time than the wheel tells apart: none is taken for another."""
    fast = {name: LinkFigures(1e15, 0.0) for name in ("adapter", "fabric")}
    flow = traffic.Flows([0], [1], [200 * 64], [0.0])
    iteration = Engine(line(8), PacketRules(fast, mtu_bytes=64), flow).iteration()
    assert iteration.finish_ps == 0  # a packet takes 64 fs
    assert iteration.links.packets.sum() == iteration.packet_hops == 9 * 200
