"""KV between separate pools: the way it takes over the fabric, and what copies that meet on a link do to each other."""

import numpy as np
import pytest
from by_rule import load
from command import dcsim
from small_cluster import closed, slow_copies

from dcsim.cluster.copies import Copies
from dcsim.fabric.graph import from_cables
from dcsim.llm.architecture import kv_bytes_per_token
from dcsim.network.wires import Wires
from dcsim.results import records
from dcsim.study.machine import build

POOLS = ["mapping.tp=8", "mapping.pp=32", "mapping.replicas=2", "serving.prefill_replicas=1"]
LLM = "llama-3-8b"
MICRO = 1_000_000  # ps


def line(piece_fs=1_000_000, hop_ps=0, ends_ps=0, sizes=(100,), vertices=4):
    """Replica i is chip i of a line, but for the last two, which are both one hop beyond the one before them."""
    cables = [(i, i + 1, "local", 0.0) for i in range(vertices - 2)] + [(vertices - 3, vertices - 1, "local", 0.0)]
    fabric = from_cables("line", vertices, cables)
    links = fabric.link_count
    wires = Wires(10, np.full(links, piece_fs), np.full(links, hop_ps), ends_ps)
    return Copies(fabric, wires, [[i] * len(sizes) for i in range(vertices)], lambda tokens: tokens * np.array(sizes))


def test_a_copy_alone_takes_its_pieces_and_its_hops():
    """100 bytes a token in pieces of 10: 10 tokens hold each link for 100 pieces of 1 ns; cut through over two hops."""
    copies = line(hop_ps=7000, ends_ps=500)
    assert copies.send(0, 2, 10, 5 * MICRO) == 5 * MICRO + 100 * 1000 + 2 * 7000 + 500
    assert copies.table()["held_s"].tolist() == pytest.approx([100e-9] * 2, rel=1e-12)
    assert copies.table()["carried_bytes"].tolist() == [1000, 1000]


def test_half_the_bandwidth_takes_twice_the_time():
    fast, slow = (line(piece_fs=fs).send(0, 3, 1000, 0) for fs in (1_000_000, 2_000_000))
    assert slow == 2 * fast


def test_copies_that_meet_on_a_link_wait_and_others_do_not():
    alone = line().send(0, 2, 10, 0)
    meeting = line()
    assert [meeting.send(0, 2, 10, 0), meeting.send(0, 3, 10, 0)] == [alone, 2 * alone]  # both leave chip 0
    apart = line()
    assert [apart.send(0, 1, 10, 0), apart.send(1, 0, 10, 0), apart.send(1, 3, 10, 0)] == [alone] * 3
    two_parts = line(sizes=(100, 50))
    assert two_parts.send(0, 1, 10, 0) == 1.5 * alone


def test_i2_i6_bytes_arrive_on_every_link_and_none_is_held_longer_than_it_was_there():
    random = np.random.default_rng(1)
    copies = line(hop_ps=300, vertices=8)
    into = np.zeros(8, np.int64)
    now = 0
    for _ in range(200):
        source, target = random.choice(8, 2, replace=False)
        tokens, now = int(random.integers(1, 50)), now + int(random.integers(0, 30_000))
        assert copies.send(int(source), int(target), tokens, now) > now
        into[target] += 100 * tokens
        into[source] -= 100 * tokens
    table = copies.table()
    arrived = np.bincount(table["target"], table["carried_bytes"], 8) - np.bincount(table["source"], table["carried_bytes"], 8)
    assert arrived.tolist() == into.tolist()
    assert (table["held_s"] <= table["free_s"]).all()
    assert table["held_s"].max() > 0


@pytest.mark.parametrize("network", ["scheduled", "infiniband-ndr", "ethernet-100g"])
def test_a_copy_uses_the_fabric_of_the_run(network):
    """From chip to counterpart over links that follow one another, at the network's own payload speed."""
    machine = build(load("8rack", llm=LLM, network=network, settings=POOLS).spec)
    fabric, wires = machine.fabric, machine.network.wires()
    chips = [[chip for stage in replica for chip in stage] for replica in machine.mapping.replica_chips]
    parts = np.array(machine.mapping.memory.room.chip_bytes(1))
    assert parts.sum() == kv_bytes_per_token(machine.spec.llm, 2)
    copies = Copies(fabric, wires, chips, lambda tokens: tokens * parts)
    first, links = copies._between(0, 1)
    for part, (a, b) in enumerate(zip(*chips, strict=True)):
        way = links[first[part] : first[part + 1]]
        stops = [*fabric.link_source[way].tolist(), b]
        assert stops[0] == a
        assert fabric.link_target[way].tolist() == stops[1:]
    whole = copies.send(0, 1, 100_000, 0) / 1e12
    busiest = max(sum(parts[p] for p in range(len(parts)) if link in links[first[p] : first[p + 1]]) for link in np.unique(links))
    rate = machine.network.link_payload_bytes_per_s().min()
    assert whole >= 100_000 * busiest / rate * 0.99
    assert whole < 100_000 * busiest / rate * 3  # messages that meet on one link may wait for others in turn
    assert copies.send(0, 1, 100_000, 0) / 1e12 > 1.4 * whole


def test_one_vector_takes_as_long_as_its_path():
    spec = load("8rack", llm=LLM, settings=POOLS).spec
    machine = build(spec)
    figures, wires = machine.network.figures, machine.network.wires()
    copies = Copies(machine.fabric, wires, [[0], [511]], lambda tokens: np.array([320 * tokens]))
    hops = int(copies._between(0, 1)[0][-1])
    assert hops > 1
    assert copies.send(0, 1, 1, 0) == pytest.approx(figures.path_cycles(hops) * 1e12 / spec.chip.clock_hz, abs=hops * 2)


def test_a_slower_network_delays_the_second_token(tmp_path):
    """From the command line, with the links that KV took in a table."""
    gaps = []
    for bandwidth in ("12.5 GB/s", "1.25 GB/s"):
        settings = [word for s in (*POOLS, f"network.bandwidth={bandwidth}") for word in ("--set", s)]
        assert dcsim("run", "8rack", "--llm", LLM, "--duration", "20 s", "--out", "run", *settings, cwd=tmp_path)[0] == 0
        run = records.open_run(tmp_path / "run")
        limits = run.limits.set_index("resource")["request_s"]
        gaps.append(limits["kv_transfer"])
        links, done = run.table("kv_links"), run.requests.query("output_tokens > 1")
        leaving = links[links["source"] < 256]
        assert leaving["carried_bytes"].sum() >= done["prompt_tokens"].sum() * 131_072 * 0.99
    assert gaps[1] == pytest.approx(10 * gaps[0], rel=0.2)


@pytest.mark.parametrize("preemption", ["recompute", "swap"])
def test_a_sequence_without_room_where_it_decodes_comes_back_there(serve_small, preemption):
    """Nobody else has its KV any more: the decoding replica reads it anew, or fetches it from its hosts; and all are answered."""
    settings = ["serving.engine=vllm", f"serving.engine.preemption={preemption}", "serving.prefill_replicas=1"]
    loop = closed(20, 0.0, requests=6, prompt=100, output=300)
    tight, wide = (
        serve_small(loop, kv_tokens=room, replicas=2, settings=settings, place={"copies": slow_copies(1e-6)}, engine="simpy")
        for room in (2_000, 100_000)
    )
    for result in (tight, wide):
        assert set(result.tables["requests"]["status"]) == {"finished"}
        assert set(result.tables["requests"]["replica"]) == {1}
    assert tight.elapsed_s > wide.elapsed_s
    assert tight.tables["kv_links"]["carried_bytes"].sum() == wide.tables["kv_links"]["carried_bytes"].sum()
