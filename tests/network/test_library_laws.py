"""How a library chooses, counts and bounds, by tables and closed forms on a library made up for it."""

from dataclasses import replace
from inspect import signature
from types import SimpleNamespace

import numpy as np
import pytest
from by_rule import load

from dcsim.errors import FabricError
from dcsim.fabric.build import build_fabric
from dcsim.llm.blocks import Collective
from dcsim.network.collectives import ALGORITHMS, choose, levels_of
from dcsim.network.packet import library
from dcsim.network.packet.library import CallBuilder, Party, Way, choose_way, least_s, steps_and_bytes, ways_of
from dcsim.network.packet.rules_of import Sums, call_of, layers_of
from dcsim.network.patterns.ranks import VectorUnit
from dcsim.network.tasks import COLLECTIVE_FIRST, COLLECTIVE_STEP, MESSAGE, SEND, TaskBuilder
from dcsim.spec.software import PatternCost, PlaceCosts, SoftwareSpec

GB = 10**9


def cost(pattern: str, protocol: str = "plain", first: float = 0.0, step: float = 0.0, **more: object) -> PatternCost:
    return PatternCost.model_validate(
        {"pattern": pattern, "protocol": protocol, "first": f"{first} s", "step": f"{step} s", **more}
    )


RING, LL = cost("ring", "simple", 10.0, 3.0), cost("ring", "ll", 5.0, 2.0, payload_fraction=0.5)
SMALL = cost("one_shot", first=0.25, message_max="1000 B")
HALVES = cost("two_shot", message_max="100 B", operations=["all_reduce"])
ACROSS = (RING, LL, cost("tree", "ll", 7.0, 4.0, operations=["all_reduce"]), SMALL, HALVES, cost("in_network"))
INSIDE = (cost("ring", "ll", 1.0, 0.5, payload_fraction=0.5), cost("ring", "simple", 2.0, 0.25), cost("in_network"))


@pytest.fixture(scope="module")
def sixteen() -> Party:
    """Two nodes of eight chips, whose library is the one above; islands sum at 100 GB/s."""
    spec = load("h100x16", settings=["network.software=ideal"]).spec
    fabric = build_fabric(spec.fabric)
    places = [PlaceCosts.model_validate({"patterns": patterns, "send": 0}) for patterns in (ACROSS, INSIDE)]
    software = SoftwareSpec(name="ours", network=places[0], island=places[1])
    layers = replace(layers_of(spec.network, fabric, spec.node.island), software=software, sums=Sums(100 * GB, None), chosen={})
    return Party.of(range(16), fabric, layers, VectorUnit(320, 100))


@pytest.fixture(scope="module")
def eight(sixteen: Party) -> Party:
    return Party.of(range(8), sixteen.fabric, sixteen.layers, sixteen.unit)


def step(size: int, op: str = "all_reduce") -> Collective:
    return Collective("x", op, size, 1)


def test_a_party_knows_its_nodes(sixteen: Party, eight: Party) -> None:
    assert (sixteen.nodes, sixteen.node_count, eight.node_count) == ((0,) * 8 + (1,) * 8, 2, 1)
    assert sixteen.levels == [sixteen.nodes, [int(sixteen.fabric.rack_of[chip]) for chip in range(16)]]
    assert (eight.sum_bytes_per_s, sixteen.sum_bytes_per_s) == (100 * GB, None)
    assert [Way("ring", RING).protocol, Way("one_shot", SMALL).protocol] == ["simple", ""]


@pytest.mark.parametrize(
    ("op", "pattern", "nodes", "wanted"),
    [
        ("reduce_scatter", "ring", 1, (7, 0, 700)),
        ("all_reduce", "ring", 4, (14, 6, 1400)),
        ("broadcast", "tree", 1, (3, 0, 800)),
        ("all_reduce", "tree", 2, (8, 2, 1400)),  # two chains of four, and one step up and down between their heads
        ("all_reduce", "tree", 3, (8, 4, 1400)),
        ("broadcast", "pipeline", 2, (7, 1, 800)),
        ("broadcast", "pipeline", 1, (7, 0, 800)),
        ("broadcast", "direct", 1, (1, 0, 5600)),
        ("broadcast", "direct", 2, (1, 1, 5600)),
        ("all_reduce", "one_shot", 2, (1, 1, 5600)),
        ("all_reduce", "in_network", 2, (1, 1, 800)),
        ("all_reduce", "two_shot", 2, (2, 2, 1400)),
        ("all_to_all", "direct", 2, (1, 1, 700)),
        ("all_gather", "hierarchical", 1, (1, 0, 700)),
    ],
)
def test_eight_ranks_take_the_textbooks_steps_and_bytes(
    op: str, pattern: str, nodes: int, wanted: tuple[int, int, float]
) -> None:
    assert steps_and_bytes(op, pattern, 8, 800, nodes) == wanted
    if (op, pattern, nodes) == ("broadcast", "tree", 1):
        assert [steps_and_bytes(op, pattern, ranks, 800)[0] for ranks in (1, 2, 5, 9)] == [0, 1, 3, 4]


def test_no_time_is_below_its_calls_and_its_bytes(sixteen: Party, eight: Party) -> None:
    """A first call and one for each further step, those between nodes at their price; or the bytes at all ports' speed."""
    # In a node 14 steps. Between two nodes a ring of 16 has 30 steps, two of them across; a tree 16, two of them across.
    assert least_s(step(16), eight, Way("ring", INSIDE[0])) == pytest.approx(1.0 + 13 * 0.5)
    assert least_s(step(16), sixteen, Way("ring", LL)) == pytest.approx(1.0 + 27 * 0.5 + 2 * 2.0)
    assert least_s(step(16), sixteen, Way("ring", RING)) == pytest.approx(2.0 + 27 * 0.25 + 2 * 3.0)
    assert least_s(step(16), sixteen, Way("one_shot", SMALL)) == pytest.approx(0.25)  # one step, and that is the first
    # The island has no tree: its usual way, the first, stands in for it.
    tree = next(c for c in ACROSS if c.pattern == "tree")
    assert least_s(step(16), sixteen, Way("tree", tree)) == pytest.approx(1.0 + 13 * 0.5 + 2 * 4.0)
    # All steps cross where each chip is a node; the first call is one of them.
    apart = replace(sixteen, nodes=tuple(range(16)))
    assert least_s(step(16), apart, Way("tree", tree)) == pytest.approx(1.0 + 7 * 4.0)
    figures, fabric = eight.layers.figures, eight.fabric
    out = sum(
        figures.links[fabric.link_classes[fabric.link_class[link]]].bandwidth_bytes_per_s for link in range(fabric.first_link[1])
    )
    size = 10**15
    assert least_s(step(size), eight, Way("ring", INSIDE[1])) == pytest.approx(2.0 + 2 * 7 / 8 * size / out)
    assert least_s(step(size), eight, Way("ring", INSIDE[0])) == pytest.approx(1.0 + 2 * 2 * 7 / 8 * size / out)
    port = figures.links["island"].bandwidth_bytes_per_s * figures.mtu_bytes / (figures.mtu_bytes + figures.header_bytes)
    assert least_s(step(size), eight, Way("in_network", INSIDE[2])) == pytest.approx(size / out * port / (100 * GB))


@pytest.mark.parametrize("op", ["all_reduce", "reduce_scatter", "all_gather"])
def test_a_ranks_own_share_takes_its_time_once_and_sends_nothing(eight: Party, op: str) -> None:
    """It is there later by size / (ranks x own_bandwidth), and no message is another; no rank is done before."""
    builders = []
    for more in ({}, {"own_bandwidth": "2 GB/s"}):
        way = Way("ring", cost("ring", "simple", **more))
        builder = TaskBuilder(1e9)
        after = library.exchanged(builder, step(8 * GB, op), eight.chips, [[] for _ in range(8)], eight, way)
        builders.append((builder.build(), after))
    (bare, _), (held, after) = builders
    messages = [tasks.size_bytes[tasks.kind == MESSAGE].tolist() for tasks in (bare, held)]
    assert messages[0] == messages[1]
    assert len(held) == len(bare) + 8
    last = [task for tasks in after for task in tasks]
    assert held.chip[last].tolist() == list(eight.chips)
    assert held.last_cycles[last].tolist() == [round(1e9 * GB / (2 * GB))] * 8
    bounds = [
        least_s(step(8 * GB, op), eight, Way("ring", cost("ring", "simple", **more)))
        for more in ({}, {"own_bandwidth": "2 GB/s"})
    ]
    assert bounds[1] - bounds[0] == pytest.approx(0.5)


def test_what_leaves_a_chip_leaves_the_fastest_of_them(sixteen: Party) -> None:
    """One chip with a cable at ten times the speed sets the bound of all, wherever it stands among them."""
    fabric = sixteen.fabric
    for chip in (0, 7, 15):
        own = np.full(fabric.link_count, 1e9)
        own[fabric.first_link[chip]] = 1e10
        party = replace(sixteen, fabric=replace(fabric, own_bandwidth_bytes_per_s=own))
        links = fabric.first_link[chip + 1] - fabric.first_link[chip]
        assert library._out_bytes_per_s(party) == 1e10 + (links - 1) * 1e9


def test_what_a_way_adds_is_a_builder_like_any_other():
    """What a caller leaves out means the same, whichever builder it has."""
    for name in ("compute", "message"):
        assert signature(getattr(CallBuilder, name)) == signature(getattr(TaskBuilder, name))


def test_messages_carry_their_protocol_and_their_calls(sixteen: Party, eight: Party) -> None:
    def sent(party: Party, way: Way, source: int, target: int, size: int, call: int = SEND) -> tuple[int, int]:
        inner = TaskBuilder(1e9)
        builder = CallBuilder(inner, way, party, range(len(party.chips)))
        assert builder.clock_hz == inner.clock_hz
        builder.message(source, target, size, [], call=call)
        tasks = inner.build()
        return int(tasks.size_bytes[0]), int(tasks.call[0])

    first = call_of(sixteen.layers.software, LL)
    assert sent(sixteen, Way("ring", LL), 0, 1, 101) == (202, SEND)
    assert sent(sixteen, Way("ring", LL), 0, 1, 101, COLLECTIVE_FIRST) == (202, first)
    assert sent(sixteen, Way("ring", LL), 0, 1, 101, COLLECTIVE_STEP) == (202, first + 1)
    assert sent(sixteen, Way("ring", RING), 0, 1, 101, COLLECTIVE_FIRST) == (101, call_of(sixteen.layers.software, RING))
    figures = sixteen.layers.figures
    share = figures.mtu_bytes / (figures.mtu_bytes + figures.header_bytes)
    port = share * figures.links["island"].bandwidth_bytes_per_s
    slowed = replace(eight, layers=replace(eight.layers, sums=Sums(port / 4, None)))
    assert sent(slowed, Way("in_network", INSIDE[2]), 0, 1, 1000)[0] == pytest.approx(4000, abs=1)
    assert sent(slowed, Way("ring", INSIDE[1]), 0, 1, 1000)[0] == 1000
    quick = replace(eight, layers=replace(eight.layers, sums=Sums(4 * port, None)))
    assert sent(quick, Way("in_network", INSIDE[2]), 0, 1, 1000)[0] == 1000  # no port carries more than it can
    # Between nodes the network's switches sum: what stays in a node passes none of them.
    wide = share * max(f.bandwidth_bytes_per_s for name, f in figures.links.items() if name != "island")
    across = replace(sixteen, layers=replace(sixteen.layers, sums=Sums(None, wide / 2)))
    assert sent(across, Way("in_network", ACROSS[-1]), 0, 8, 1000)[0] == pytest.approx(2000, abs=1)
    assert sent(across, Way("in_network", ACROSS[-1]), 0, 7, 1000)[0] == 1000


def test_the_pattern_that_a_mapping_names_is_taken_where_the_operation_has_it(
    eight: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str, int]] = []

    def choose(step: Collective, party: Party, clock_hz: float, pattern: str = "auto", protocol: str = "auto") -> Way:
        asked.append((step.op, pattern, len(party.chips)))
        return Way("direct", RING)

    monkeypatch.setattr(library, "choose_way", choose)
    mapping = SimpleNamespace(spec=SimpleNamespace(all_reduce="ring"), stage_of_width={2: [0, 1], 4: [4, 5, 6, 7]})
    exchange = library.packet_exchange(mapping, eight.fabric, eight.layers, eight.unit)  # type: ignore[arg-type]
    for op, ranks in (("all_reduce", [2, 3]), ("all_gather", [0, 1, 2, 3]), ("all_to_all", [0, 1])):
        exchange(TaskBuilder(1e9), step(8, op), ranks, [[] for _ in ranks])
    assert asked == [("all_reduce", "ring", 2), ("all_gather", "ring", 4), ("all_to_all", "auto", 2)]


def named(ways: list[Way]) -> list[tuple[str, str]]:
    return [(way.algorithm, way.protocol) for way in ways]


def test_a_library_has_the_ways_that_its_costs_name(sixteen: Party, eight: Party) -> None:
    rings = [("ring", "simple"), ("ring", "ll")]
    tree, small, halves = [("tree", "ll")], [("one_shot", "")], [("two_shot", ""), ("hierarchical", "")]
    assert named(ways_of(step(1000), sixteen)) == rings + tree + small + halves
    assert named(ways_of(step(1001), sixteen)) == rings + tree + halves  # whole messages of one-shot, pieces of two-shot
    assert named(ways_of(step(1600), sixteen)) == rings + tree + halves
    assert named(ways_of(step(1601), sixteen)) == rings + tree
    assert named(ways_of(step(16, "all_gather"), sixteen)) == rings
    assert named(ways_of(step(16), eight)) == [("ring", "ll"), ("ring", "simple"), ("in_network", "")]
    assert named(ways_of(step(16), sixteen, protocol="ll")) == [("ring", "ll"), ("tree", "ll")]
    assert named(ways_of(step(16), sixteen, "ring")) == rings
    assert named(ways_of(step(16), sixteen, "two_shot")) == halves  # by the name of the cost, too
    assert named(ways_of(step(16), sixteen, "hierarchical")) == [("hierarchical", "")]
    # What it lacks is taken with the costs of its usual way; level by level, with those of a direct exchange.
    assert ways_of(step(16, "all_to_all"), sixteen) == [Way("direct", RING)]
    assert ways_of(step(16, "broadcast"), sixteen, "pipeline") == [Way("pipeline", RING)]
    assert ways_of(step(1 << 20), sixteen, "hierarchical") == [Way("hierarchical", HALVES)]
    assert ways_of(step(16), eight, "hierarchical") == [Way("hierarchical", INSIDE[0])]
    with pytest.raises(FabricError, match="no switch among these chips makes sums"):
        ways_of(step(16), sixteen, "in_network")
    with pytest.raises(FabricError, match="no collective 'all_gather' by 'tree'; there is direct, hierarchical, ring"):
        ways_of(step(16, "all_gather"), sixteen, "tree")
    with pytest.raises(FabricError, match="library 'ours' has no protocol 'll128' here; it has ll, plain, simple"):
        ways_of(step(16), sixteen, protocol="ll128")
    summing = replace(sixteen, layers=replace(sixteen.layers, sums=Sums(None, GB)))
    assert ("in_network", "") in named(ways_of(step(16), summing))


def test_one_chip_a_node_or_one_node_has_no_levels(sixteen: Party) -> None:
    for nodes in (tuple(range(16)), (0,) * 16):
        party = replace(sixteen, nodes=nodes)
        assert library._spelled("all_reduce", "two_shot", party) == ["two_shot"]
    assert library._spelled("broadcast", "direct", sixteen) == ["direct"]
    assert library._spelled("all_to_all", "direct", sixteen) == ["direct", "hierarchical"]
    assert library._spelled("all_to_all", "ring", sixteen) == []


def test_the_quickest_is_taken_and_none_is_tried_that_cannot_win(sixteen: Party, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tried in the order of their bounds, the first of equals taken, and remembered for its very question."""
    ways = ways_of(step(16), sixteen)
    bounds, times = [4.0, 1.0, 2.0, 5.0, 3.0, 0.0], [4.0, 5.0, 3.0, 5.0, 3.0, 6.0]
    tried: list[int] = []

    def time_s(step: Collective, party: Party, clock_hz: float, way: Way) -> float:
        tried.append(ways.index(way))
        return times[tried[-1]]

    monkeypatch.setattr(library, "least_s", lambda step, party, way: bounds[ways.index(way)])
    monkeypatch.setattr(library, "_tried_s", time_s)
    party = replace(sixteen, layers=replace(sixteen.layers, chosen={}))
    for clock_hz, rounds in ((1e9, 1), (1e9, 1), (2e9, 2)):
        assert choose_way(step(16), party, clock_hz) == ways[2]
        assert tried == [5, 1, 2] * rounds  # a bound of 3 s cannot beat 3 s
    bounds[4] = 2.5
    times[4] = 2.9
    assert choose_way(step(17), party, 1e9) == ways[4]
    tried.clear()
    assert choose_way(step(16, "all_to_all"), party, 1e9) == Way("direct", RING)  # the only one, untried
    assert not tried


def test_beyond_what_is_tried_two_sizes_make_a_line(eight: Party, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many packets as are tried, and half of them; times that are a line in the size are met anywhere on it."""
    tried: list[int] = []

    def alone_s(op: str, size: int, *_: object) -> float:
        tried.append(size)
        return 1e-3 + size * 1e-9

    monkeypatch.setattr(library, "_alone_s", alone_s)
    monkeypatch.setattr(library, "TRIED_PACKETS", 7 * 100)
    way, mtu = Way("ring", INSIDE[0]), eight.layers.figures.mtu_bytes
    whole = 7 * 100 * mtu / (2 * 7 / 8 * 8 * 2)  # of each rank's 2 (n - 1) / n, twice over by the protocol
    for size, sizes in ((int(whole), [int(whole)]), (int(10 * whole), [int(whole), int(whole) // 2])):
        tried.clear()
        assert library._tried_s(step(size), eight, 1e9, way) == pytest.approx(1e-3 + size * 1e-9, rel=1e-9)
        assert tried == pytest.approx(sizes, abs=1)
    monkeypatch.setattr(library, "TRIED_PACKETS", 0)
    tried.clear()
    assert library._tried_s(step(1000), eight, 1e9, way) == pytest.approx(1e-3 + 1e-6)
    assert tried == [2, 1]


def test_auto_without_a_library_follows_the_nodes() -> None:
    two = [[0, 0, 1, 1], [0, 0, 0, 0]]
    assert [choose(op, 4, two) for op in ("all_reduce", "reduce_scatter", "all_gather")] == ["hierarchical"] * 3
    assert (choose("all_to_all", 4, two), choose("broadcast", 4, two)) == ("direct", "tree")
    for ranks, levels in ((2, two), (4, ()), (4, [[3] * 4, [0] * 4])):  # one node, wherever
        assert {choose(op, ranks, levels) for op, _ in ALGORITHMS} == {"direct"}
    fabric = SimpleNamespace(node_of=np.array([5, 6, 7]), rack_of=np.array([1, 2, 3]))
    assert levels_of(fabric, [2, 0]) == [[7, 5], [3, 1]]  # type: ignore[arg-type]
