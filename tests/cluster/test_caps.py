"""M6: a cap slows what exceeds it, by as much as it takes, and nothing else."""

import numpy as np
import pytest
from by_rule import load
from small_cluster import Line, make_table, random_requests

from dcsim.fabric.build import build_fabric
from dcsim.network.network import make_network
from dcsim.power.caps import caps_of
from dcsim.power.caps_kernel import LONGEST_PS, length_ps, set_draw
from dcsim.power.site import site_of

FLAT_HOSTS = ["host.busy=200 W"]  # as much as idle ones draw
TOKENS = Line(energy_j=1.0, per_new_token=0.0)
SHORT_CHUNKS = ["serving.chunk_tokens=1", "serving.prefill_tokens_max=1"]  # else reading a prompt draws most by far


def rows(result):
    return result.tables["requests"]


@pytest.mark.parametrize("replicas", [1, 2, 4])
@pytest.mark.parametrize("engine", ["compiled", "simpy"])
def test_a_rack_that_stays_under_its_cap_is_not_slowed(serve_small, replicas, engine):
    """Hosts at full load would draw 3.4 kW more than they do here: no room is kept for that."""
    requests = random_requests(60, 8, 3, prompt=10)

    def served(*settings):
        fine = ["power.sample=1 ms", *SHORT_CHUNKS]
        return serve_small(requests, TOKENS, replicas=replicas, settings=[*fine, *settings], engine=engine)

    free = served()
    most_w = free.tables["power"]["power_w"].max() + 400  # peaks may last less than a sample
    capped = served(f"power.rack_cap={most_w} W")
    for name, column in rows(free).items():
        np.testing.assert_array_equal(column, rows(capped)[name], err_msg=name)
    tight = served("power.rack_cap=13700 W")
    assert np.nanmean(rows(tight)["e2e_s"]) > 1.02 * np.nanmean(rows(free)["e2e_s"])


@pytest.mark.parametrize("replicas", [1, 4])
def test_a_cap_holds_whatever_the_chips_do(serve_small, replicas):
    """A replica that begins takes its share; the others give way at the end of a round of some milliseconds."""
    requests = random_requests(200, 20, 4, prompt=20)
    settings = [*FLAT_HOSTS, *SHORT_CHUNKS, "power.sample=500 ms"]
    free = serve_small(requests, TOKENS, replicas=replicas, settings=settings)
    capped = serve_small(requests, TOKENS, replicas=replicas, settings=[*settings, "power.rack_cap=14 kW"])
    assert free.tables["power"]["power_w"].max() > 1.1 * 14_000
    assert capped.tables["power"]["power_w"].max() <= 14_000 * (1 + (1e-9 if replicas == 1 else 2e-3))
    assert np.percentile(capped.tables["power"]["power_w"], 50) > 0.98 * 14_000  # and is used


def test_halving_what_a_cap_leaves_for_work_doubles_every_round(serve_small):
    """A lone token's round does 5 J of work: it takes 5 J over the room that is left beside all that waits."""
    one, settings = make_table([0.0], [1], [101]), [*FLAT_HOSTS, *SHORT_CHUNKS]
    spec = load("8rack").spec
    waiting_w = 64 * spec.chip.power.wait_w + 8 * 60 + 9 * (spec.host.idle_w + spec.node.fan_w)  # eight chips are spare
    for room_w in (400.0, 200.0, 100.0):
        cap = f"power.rack_cap={(waiting_w + room_w) / spec.node.supply_efficiency} W"
        work = Line(energy_j=5.0, per_new_token=0.0)
        done = rows(serve_small(one, work, settings=[*settings, "host.token=0 B", cap], engine="simpy"))
        assert done["tpot_s"] == pytest.approx([5.0 / room_w], rel=1e-6)


def test_one_replica_takes_the_room_that_idle_ones_leave(serve_small):
    """Sixteen chips at work beside 48 that idle may draw what 64 could."""
    one = make_table([0.0], [1], [2000])
    settings = ["serving.chunk_tokens=1"]
    free = serve_small(one, Line(energy_j=10.0), replicas=4, settings=settings)
    busy_w = free.tables["power"]["power_w"].max()
    capped = serve_small(one, Line(energy_j=10.0), replicas=4, settings=[*settings, f"power.rack_cap={busy_w + 60} W"])
    assert rows(capped)["e2e_s"] == rows(free)["e2e_s"]


@pytest.mark.parametrize("engine", ["compiled", "simpy"])
def test_hosts_that_take_all_room_do_not_stop_the_chips_for_good(serve_small, engine):
    """While they work there is no room at all; the round goes on when their work is done."""
    hosts = ["serving.host_servers=1", "host.cores=1", "host.busy=5 kW", "host.request=20 ms", "host.idle=200 W"]
    waiting_w = (64 * 120 + 8 * 60 + 9 * 500) / 0.94
    requests = random_requests(20, 30, 5, prompt=20, output=20)
    cap = [*hosts, *SHORT_CHUNKS, f"power.rack_cap={waiting_w + 800} W"]
    result = serve_small(requests, Line(energy_j=0.1), settings=cap, engine=engine)
    free = serve_small(requests, Line(energy_j=0.1), settings=cap[:-1], engine=engine)
    assert (rows(result)["status"] == "finished").all()
    assert 1.1 * free.elapsed_s < result.elapsed_s < 4 * free.elapsed_s


def test_the_round_takes_as_long_as_its_work_needs_beside_all_else():
    """Length = work / (cap - all other draw), in closed form; never shorter than it would be."""
    spec = load("1rack", settings=["power.rack_cap=15 kW"]).spec
    network = make_network(spec, build_fabric(spec.fabric))
    fabric, site = network.fabric, site_of(network)
    caps = caps_of(site, np.array([[32], [32]]))
    power, node = spec.chip.power, spec.node
    idle_w = fabric.chip_count * power.idle_w + fabric.chip_count / node.chips * (spec.host.idle_w + node.fan_w)
    room_w = 15_000 * node.supply_efficiency - idle_w
    assert caps.room_w == pytest.approx([room_w])
    wait_w = 32 * (power.wait_w - power.idle_w)
    work_pj, natural = round(3e12 * (room_w - wait_w)), 10**12  # the work of 3 s alone in the rack
    idle = np.zeros(8, np.int64)

    def length(now, work=work_pj, natural_ps=natural, busy=idle, backlog=idle):
        return length_ps(caps, 0, work, natural_ps, now, busy, backlog)

    assert length(0) == pytest.approx(3e12, rel=1e-9)
    assert length(0, natural_ps=4 * natural) == 4 * natural
    set_draw(caps, 1, wait_w + 100.0, 5)
    assert length(5) == pytest.approx(3e12, rel=1e-9)  # begun at this very instant: seen at the next round
    beside_w = room_w - 2 * wait_w - 100
    assert length(6) == pytest.approx(work_pj / beside_w, rel=1e-9)
    core_w = (spec.host.busy_w - spec.host.idle_w) / spec.host.cores
    busy = np.full(8, 2)
    assert length(6, busy=busy, backlog=busy * 10**15) == pytest.approx(work_pj / (beside_w - 16 * core_w), rel=1e-9)
    soon = work_pj + 16 * core_w * 10**9  # over in a millisecond
    assert length(6, busy=busy, backlog=busy * 10**9) == pytest.approx(soon / beside_w, rel=1e-9)
    set_draw(caps, 1, room_w, 7)  # the other takes everything: half the room is due by chips
    assert length(8) == pytest.approx(2 * work_pj / (room_w - 2 * wait_w), rel=1e-9)
    assert length(8, work=2**61) <= LONGEST_PS + 1
