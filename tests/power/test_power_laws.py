"""Watts added up by hand: parts of racks, meters from racks to the site, intervals of a run, caps."""

from types import SimpleNamespace

import numpy as np
import pytest
from by_rule import load

from dcsim.errors import CapacityError
from dcsim.power.caps import caps_of
from dcsim.power.caps_kernel import LONGEST_PS, Caps, crowded, length_ps, set_draw
from dcsim.power.chain import levels
from dcsim.power.hosts import core_w, host_racks, token_pj
from dcsim.power.rack import RackMeter, meters, power_table
from dcsim.power.site import Site, standing
from dcsim.power.steady import steady, together

CHIPS = np.array([16, 16, 8])  # in each of three racks, eight to a node
IN = np.array([[8, 8, 0], [0, 4, 4]])  # of two replicas, 16 chips and 8
FIGURES = [
    "power.racks_per_pdu=2",
    "power.pdus_per_hall=1",
    "power.pdu_efficiency=0.5",
    "power.ups_efficiency=0.8",
    "power.pue=3.0",
    "power.optic=3 W",
    "node.supply_efficiency=0.9",
    "node.fan=30 W",
    "host.idle=100 W",
    "host.busy=260 W",
    "host.cores=16",
    "serving.host_servers=5",
    "chip.power.idle=10 W",
    "chip.power.wait=25 W",
    "chip.power.matrix=70 W",
    "chip.power.vector=40 W",
]


def site(*settings: str, switches: int = 7) -> Site:
    units = SimpleNamespace(adapter_w=2.0, switch_port_w=3.0, switch_units=2)
    optical = np.zeros(40)
    optical[[0, 20]] = 1, 2
    bill = SimpleNamespace(adapters=10, switch_ports=40, switches=switches, units=units, optical_ends=optical)
    spec = load("8rack", settings=[*FIGURES, *settings]).spec
    return Site(spec, bill, np.repeat(np.arange(3), CHIPS), CHIPS, np.array([2, 2, 1]))  # type: ignore[arg-type]


def test_what_stands_and_draws_in_each_rack() -> None:
    draw = site().draw(IN, {"matrix": np.array([160.0, 40.0])}, np.array([1.0, 2.0, 3.0]))
    network_w = 10 * 2 + 40 * 3
    expected = {
        "chips idle": [80, 40, 40],
        "chips waiting": [8 * 25, 12 * 25, 4 * 25],
        "chips matrix": [80, 80 + 20, 20],
        "hosts": [201, 202, 103],
        "fans": [60, 60, 30],
        "switches and adapters": [network_w * 16 / 40, network_w * 16 / 40, network_w * 8 / 40],
        "optics": [3, 6, 0],
    }
    assert {name: watts.tolist() for name, watts in draw.by_part.items()} == {
        name: pytest.approx(watts) for name, watts in expected.items()
    }
    assert draw.parts_w == pytest.approx(np.sum(list(expected.values()), axis=0))


def test_meters_read_what_is_below_them_and_the_loss_between() -> None:
    draw = site().draw(IN, {"matrix": np.array([160.0, 40.0])})
    first, second, third = draw.parts_w
    read = draw.meters_w()
    assert read["rack"] == pytest.approx(draw.parts_w / 0.9)
    assert read["pdu"] == pytest.approx([(first + second) / 0.45, third / 0.45])
    assert read["hall"] == pytest.approx([(first + second) / 0.36, third / 0.36])
    assert read["site"] == pytest.approx([(first + second + third) / 0.9 * 3])
    assert draw.it_power_w == pytest.approx(draw.parts_w.sum() / 0.9)
    assert draw.rack_power_w == pytest.approx(draw.parts_w.max() / 0.9)
    assert draw.power_w == pytest.approx(3 * draw.it_power_w)
    spent = draw.spent_w()
    assert sum(spent.values()) == pytest.approx(draw.power_w)
    assert spent["supply loss"] == pytest.approx(read["rack"].sum() * 0.1)
    assert spent["PDU and UPS loss"] == pytest.approx(read["hall"].sum() - read["rack"].sum())
    assert spent["cooling"] == pytest.approx(read["site"].sum() - read["hall"].sum())


def test_groups_of_racks() -> None:
    spec = load("8rack", settings=["power.racks_per_pdu=2", "power.pdus_per_hall=3"]).spec
    groups = {level.name: level.group_of.tolist() for level in levels(spec, 8)}
    assert groups == {"rack": [*range(8)], "pdu": [0, 0, 1, 1, 2, 2, 3, 3], "hall": [0] * 6 + [1] * 2, "site": [0] * 8}


def test_nothing_runs_and_everything_runs() -> None:
    floor = site()
    idle = floor.draw().by_part
    assert idle["chips idle"].tolist() == [160, 160, 80]
    assert idle["chips waiting"].tolist() == [0, 0, 0]
    peak = floor.peak()
    assert peak.by_part["chips waiting"] + peak.by_part["chips work"] == pytest.approx(CHIPS * 70)
    assert peak.by_part["hosts"].tolist() == [2 * 260, 2 * 260, 260]
    assert peak.by_part["chips idle"].tolist() == [0, 0, 0]


@pytest.mark.parametrize(("switches", "racks"), [(0, 0), (53, 0), (54, 1), (74, 1), (75, 2)])
def test_switches_fill_what_height_is_left_and_then_racks_of_their_own(switches: int, racks: int) -> None:
    """Three racks of 42 units hold five nodes of 4: 106 are left, 53 switches of two; a rack of their own holds 21."""
    assert site("power.rack_units=42", switches=switches).switch_racks == racks


def test_chips_of_replicas_are_counted_by_rack() -> None:
    assert site().chips_in([[0, 1, 16], [15, 39, 38]]).tolist() == [[2, 1, 0], [1, 0, 2]]


def test_more_nodes_than_a_racks_height_holds_stand_in_further_ones() -> None:
    node = SimpleNamespace(rack_units=4, chips=8)
    fabric = SimpleNamespace(chip_count=40, rack_of=np.repeat([5, 9], [32, 8]))
    assert standing(fabric, node, 16).tolist() == [0] * 32 + [1] * 8
    assert standing(fabric, node, 12).tolist() == [0] * 24 + [1] * 8 + [2] * 8
    assert standing(fabric, node, 11).tolist() == [0] * 16 + [1] * 16 + [2] * 8
    assert standing(fabric, node, 3).tolist() == [0] * 8 + [1] * 8 + [2] * 8 + [3] * 8 + [4] * 8  # one has to
    mixed = SimpleNamespace(chip_count=40, rack_of=np.tile([1, 0], 20))
    assert standing(mixed, node, 8).tolist() == [2, 0] * 16 + [3, 1] * 4  # sixteen chips fill a rack


def test_hosts_stand_in_racks_in_turn_and_draw_by_core() -> None:
    spec = site("host.detokenise_token=20 us").spec
    assert host_racks(spec, 3).tolist() == [0, 1, 2, 0, 1]
    assert core_w(spec.host) == 10.0
    assert token_pj(spec.host) == 200_000_000  # 20 us of 10 W


def test_a_steady_load_draws_what_its_micro_batches_and_tokens_take() -> None:
    floor = site("host.detokenise_token=20 us")
    draw = steady(floor, IN, {"matrix": 0.5, "vector": 0.25}, 40.0, 1000.0)
    assert draw.by_part["chips matrix"] == pytest.approx([20 / 2, 20 / 2 + 20 / 2, 20 / 2])
    assert draw.by_part["chips vector"] == pytest.approx([5, 10, 5])
    each_w = 1000 * 200e-6
    assert draw.by_part["hosts"] == pytest.approx([200 + each_w / 2, 200 + each_w, 100 + each_w / 2])


def test_clusters_together() -> None:
    small, large = (SimpleNamespace(power_w=w, it_power_w=w / 2, rack_power_w=w / 10) for w in (100.0, 700.0))
    both = together([(3, small), (2, large)])
    assert (both.power_w, both.it_power_w, both.rack_power_w) == (1700.0, 850.0, 70.0)
    assert together([(3, small), (0, large)]).rack_power_w == 10.0
    assert together([]).power_w == 0


def test_a_racks_meter_reads_intervals() -> None:
    """Half of one replica and a quarter of another, and two hosts, over intervals of 1 and 2 s."""
    meter = RackMeter(100.0, 0.8, (0, 2), (0.5, 0.25), (40.0, 80.0), (1, 4), 10.0)
    second = 1e12
    meter.add(
        np.array([second, 2 * second]),
        np.array([[second, 0.0], [second, 2 * second]]),
        np.array([[6e12, 0.0], [0.0, 16e12]]),
        np.array([[second, 3 * second], [0.0, second]]),
    )
    first = 100 + 0.5 * (40 + 6) + 10 * 4
    later = 100 + 0.5 * 20 + 0.25 * (80 + 8) + 10 * 0.5
    assert list(meter.watts) == pytest.approx([first / 0.8, later / 0.8])
    other = RackMeter(0.0, 1.0, (), (), (), (), 0.0)
    other.add(np.array([second, 2 * second]), *(np.zeros((2, 0)) for _ in range(3)))
    table = power_table([meter, other], [10**12, 3 * 10**12], [10**12, 2 * 10**12])
    assert table["time_s"].tolist() == [1, 1, 3, 3]
    assert table["interval_s"].tolist() == [1, 1, 2, 2]
    assert table["rack"].tolist() == [0, 1, 0, 1]
    assert table["power_w"].tolist() == pytest.approx([first / 0.8, 0, later / 0.8, 0])


def test_the_meters_of_a_run_are_those_of_its_floor() -> None:
    floor = site()
    made = meters(floor, IN)
    assert [meter.idle_w for meter in made] == pytest.approx(floor.draw().parts_w)
    assert [meter.replicas for meter in made] == [(0,), (0, 1), (1,)]
    assert [meter.share for meter in made] == [(0.5,), (0.5, 0.5), (0.5,)]
    assert [meter.wait_w for meter in made] == [(16 * 15,), (16 * 15, 8 * 15), (8 * 15,)]
    assert [meter.hosts for meter in made] == [(0, 3), (1, 4), (2,)]
    assert {(meter.efficiency, meter.core_w) for meter in made} == {(0.9, 10.0)}


def test_what_caps_leave() -> None:
    """A PDU of two racks and one of one; the site over all."""
    floor = site("power.pdu_cap=4 kW", "power.site_cap=9 kW")
    caps = caps_of(floor, IN)
    idle = floor.draw().parts_w
    assert caps.room_w == pytest.approx([4000 * 0.45 - idle[:2].sum(), 4000 * 0.45 - idle[2], 9000 * 0.9 / 3 - idle.sum()])
    assert caps.share.tolist() == [[1, 0, 1], [0.5, 0.5, 1]]
    assert caps.fair == pytest.approx(np.array([[16 / 20, 0, 16 / 24], [4 / 20, 1, 8 / 24]]))
    assert caps.wait_w.tolist() == [16 * 15, 8 * 15]
    assert caps.host_in.tolist() == [[True, False, True], [True, False, True], [False, True, True]] + [[True, False, True]] * 2
    assert (caps.core_w.tolist(), caps.draw_w.tolist(), caps.drew_w.tolist()) == ([10.0], [0, 0], [0, 0])
    assert len(caps_of(site(), IN).room_w) == 0


def test_a_cap_below_what_waits_is_refused() -> None:
    waiting_w = float((site().draw(IN).parts_w / 0.9).max())
    caps_of(site(f"power.rack_cap={waiting_w + 0.5} W"), IN)
    for cap_w in (waiting_w, waiting_w - 1):
        with pytest.raises(CapacityError, match="a rack waiting in lock step already draws") as refused:
            caps_of(site(f"power.rack_cap={cap_w} W"), IN)
        assert refused.value.needed == pytest.approx(waiting_w)


def plain_caps(room_w: float, replicas: int = 2) -> Caps:
    """One group with all chips of all replicas, which wait for nothing, and one host of 10 W cores."""
    ones, zeros = np.ones((replicas, 1)), np.zeros(replicas)
    changed = np.full(replicas, -1)
    return Caps(
        np.array([room_w]), ones, ones / replicas, zeros, np.ones((1, 1), bool), np.array([10.0]), zeros, zeros.copy(), changed
    )


NOBODY = np.zeros(1, np.int64)


@pytest.mark.parametrize("work_pj", [10**12 + 1, 3 * 10**12, 10**13 // 3])
def test_a_round_is_stretched_to_the_next_whole_picosecond(work_pj: int) -> None:
    took = length_ps(plain_caps(7.0), 0, work_pj, 10**11, 0, NOBODY, NOBODY)
    assert work_pj / 7 < took <= work_pj / 7 + 1


def test_a_round_that_just_fits_is_not_stretched() -> None:
    assert length_ps(plain_caps(8.0), 0, 8 * 10**11, 10**11, 0, NOBODY, NOBODY) == 10**11
    assert length_ps(plain_caps(8.0), 0, 8 * 10**11 + 8000, 10**11, 0, NOBODY, NOBODY) == 10**11 + 1001


def test_chips_wait_for_hosts_that_draw_all_there_is() -> None:
    """Two cores of 10 W under 20 W: the chips' work comes after the 2 ms that the cores still need, and at 20 W."""
    busy, backlog = np.array([2]), np.array([10**9])
    alone = length_ps(plain_caps(20.0, 1), 0, 10**13, 10**11, 0, NOBODY, NOBODY)
    assert length_ps(plain_caps(20.0, 1), 0, 10**13, 10**11, 0, busy, backlog) == alone + 10**10 // 20


def test_no_round_is_longer_than_any_run() -> None:
    assert LONGEST_PS == 2**61
    assert length_ps(plain_caps(1e-9), 0, 2**61, 10**11, 0, NOBODY, NOBODY) == 2**61 + 1


def test_what_begins_at_one_instant_does_not_depend_on_who_is_asked_first() -> None:
    caps = plain_caps(8.0)
    set_draw(caps, 1, 5.0, 100)
    assert (caps.drew_w[1], caps.draw_w[1], caps.changed_ps[1]) == (0.0, 5.0, 100)
    set_draw(caps, 1, 6.0, 100)  # again in the same instant: what it drew before stays
    assert (caps.drew_w[1], caps.draw_w[1]) == (0.0, 6.0)
    set_draw(caps, 1, 2.0, 200)
    assert (caps.drew_w[1], caps.draw_w[1], caps.changed_ps[1]) == (6.0, 2.0, 200)


def test_a_meter_is_crowded_when_more_is_drawn_than_its_cap_leaves() -> None:
    caps = plain_caps(100.0)
    set_draw(caps, 0, 50.0, 1)
    set_draw(caps, 1, 30.0, 1)
    assert not crowded(caps, 0, np.array([2]))  # 20 W of two cores: exactly all
    assert crowded(caps, 0, np.array([3]))
    set_draw(caps, 1, 30.0 + 1e-6, 2)
    assert crowded(caps, 0, np.array([2]))


def by_hand_ps(
    caps: Caps, replica: int, work_pj: int, natural_ps: int, now_ps: int, busy: np.ndarray, backlog: np.ndarray
) -> float:
    """The longest that any meter makes a round: its work over the watts left there, all meters that it shares at once."""
    mine, alone = caps.share[replica] > 0, np.arange(len(caps.draw_w)) != replica
    share, fair, room_w, inside = caps.share[:, mine], caps.fair[replica, mine], caps.room_w[mine], caps.host_in[:, mine]
    others_w = np.where(caps.changed_ps == now_ps, caps.drew_w, caps.draw_w)[alone] @ share[alone]
    chips_w = room_w - others_w - share[replica] * caps.wait_w[replica]
    due_w = room_w - caps.wait_w @ share
    hosts_w, hosts_pj = caps.core_w[0] * (busy @ inside), caps.core_w[0] * (backlog @ inside)
    work = work_pj * share[replica]
    meanwhile_w = np.maximum(chips_w - hosts_w, fair * (due_w - hosts_w))
    needed = (work + hosts_pj) / np.maximum(chips_w, fair * due_w)
    some = meanwhile_w > 0
    needed[some] = np.minimum(needed[some], work[some] / meanwhile_w[some])
    return float(max(natural_ps, needed[work > meanwhile_w * natural_ps].max(initial=0)))


def some_caps(random: np.random.Generator) -> Caps:
    """Three replicas behind three meters, of which each shares one or two, and four hosts."""
    share = np.array([[1.0, 0.0, 1.0], [0.25, 0.75, 1.0], [0.0, 1.0, 0.0]])
    changed = random.integers(0, 3, 3)
    return Caps(
        random.uniform(100, 300, 3),
        share,
        share * random.uniform(0.1, 0.5, (3, 1)),
        random.uniform(1, 10, 3),
        random.random((4, 3)) < 0.5,
        np.array([random.uniform(2, 15)]),
        random.uniform(0, 100, 3),
        random.uniform(0, 100, 3),
        changed,
    )


def test_a_round_is_as_long_as_its_scarcest_meter_makes_it() -> None:
    random, stretched = np.random.default_rng(5), 0
    for _ in range(400):
        caps = some_caps(random)
        busy, backlog = random.integers(0, 4, 4), random.integers(0, 10**11, 4)
        replica, now = int(random.integers(3)), int(random.integers(3))
        work, natural = int(random.integers(10**12, 10**14)), int(random.integers(10**10, 10**12))
        wanted = by_hand_ps(caps, replica, work, natural, now, busy, backlog)
        took = length_ps(caps, replica, work, natural, now, busy, backlog)
        assert took == pytest.approx(wanted, rel=1e-9, abs=1)
        assert took >= natural
        stretched += took > natural
    assert 100 < stretched < 390


def test_a_meter_reads_what_stands_behind_it_and_no_more() -> None:
    random, full = np.random.default_rng(6), 0
    for _ in range(200):
        caps, busy = some_caps(random), random.integers(0, 9, 4)
        for group in range(3):
            drawn = caps.core_w[0] * busy[caps.host_in[:, group]].sum() + (caps.share[:, group] * caps.draw_w).sum()
            full += crowded(caps, group, busy)
            assert crowded(caps, group, busy) == (drawn > caps.room_w[group])
    assert 100 < full < 500
