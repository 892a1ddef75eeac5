"""The model is its processes: each can be interrupted by itself, and what one does to the others is what arithmetic says."""

import ast
from pathlib import Path

import numpy as np
import pytest
from small_cluster import PLAIN, closed, constant, make_table, random_requests, slow_copies

import dcsim.cluster.simpy as room
from dcsim.cluster.simpy.environment import ARRIVAL, END, METER, READY, ROUND, Environment
from dcsim.cluster.simpy.outage import Outage
from dcsim.network.timing import IterationTime
from dcsim.results.records import FAILED, FINISHED

SECOND = 10**12


def rows(tables):
    return tables["requests"]


def after(cluster, at_ps, act):
    """Do something in mid-run."""

    def process():
        yield cluster.env.timeout(at_ps)
        act()

    cluster.env.process(process())
    return cluster.run()[0]


@pytest.mark.parametrize("victim", [0, 2])
def test_interrupting_one_host_process_stops_exactly_its_requests(small_processes, victim):
    """Twelve requests, three to each of four servers, take 50 ms there; one server stops after 20 ms."""
    slow = ["host.request=50 ms", "serving.host_servers=4", "faults.in_flight=fail"]
    table = make_table(np.arange(12) * 1e-3, [10] * 12, [5] * 12)
    whole = rows(small_processes(table, settings=slow).run()[0])
    cluster = small_processes(table, settings=slow)
    host = cluster.hosts[victim]
    hit = rows(after(cluster, 20 * 10**9, lambda: host.process.interrupt(Outage(SECOND, "pulled"))))
    assert set(whole["status"].tolist()) == {FINISHED}
    its_own = whole["host"] == victim
    assert its_own.sum() == 3
    np.testing.assert_array_equal(hit["status"] == FAILED, its_own)
    assert set(hit["reason"][its_own].tolist()) == {"pulled"}
    for name in ("ready_s", "host", "replica"):
        np.testing.assert_array_equal(hit[name][~its_own], whole[name][~its_own])
    assert host.core_ps() == 3 * 20 * 10**9 - (0 + 4 + 8 + 3 * victim) * 10**9  # from each one's arrival until 20 ms


def test_a_host_process_goes_on_when_its_outage_is_over(small_processes):
    table = make_table([0.0, 0.1, 0.3], [10] * 3, [5] * 3)
    cluster = small_processes(table, settings=["serving.host_servers=1"])
    host = cluster.hosts[0]
    done = rows(after(cluster, 50 * 10**9, lambda: host.process.interrupt(Outage(SECOND // 5, "pulled"))))
    assert done["status"].tolist() == [FINISHED, "rejected", FINISHED]
    assert done["reason"][1] == "no host server works"


def test_interrupting_one_replica_process_stops_exactly_its_requests(small_processes):
    table = make_table([0.0, 0.0, 0.0, 0.0], [10] * 4, [500] * 4)
    settings = [*PLAIN, "faults.in_flight=fail", "serving.router=round_robin"]
    cluster = small_processes(table, constant(1000), replicas=2, settings=settings)
    done = rows(after(cluster, SECOND // 5, lambda: cluster.replicas[1].process.interrupt()))
    assert done["status"].tolist() == [FINISHED, FAILED, FINISHED, FAILED]
    assert done["reason"][1] == "replica 1 was stopped"
    assert done["tokens_out"].tolist() == [500, 200, 500, 200]
    assert done["finished_s"][[0, 2]].tolist() == pytest.approx([0.5, 0.5])


def test_interrupting_a_transfer_leaves_the_others_alone(small_processes):
    """KV of 100 tokens takes 1 s of a link; the decoding replica stops while the first is on its way."""
    table = make_table([0.0, 5.0], [100, 100], [5, 5])
    settings = [*PLAIN, "serving.prefill_replicas=1"]
    place = {"copies": slow_copies(0.01)}
    cluster = small_processes(table, constant(1000), replicas=2, settings=settings, place=place)
    outage = Outage(2 * SECOND, "pulled")
    done = rows(after(cluster, SECOND // 2, lambda: cluster.replicas[1].process.interrupt(outage)))
    assert done["status"].tolist() == [FINISHED, FINISHED]
    assert done["replays"].tolist() == [0, 0]  # its KV was still whole at its source
    assert done["finished_s"].tolist() == pytest.approx([2 + 1 + 0.004, 5.001 + 1 + 0.004])


def test_every_request_user_and_transfer_is_a_process(serve_small):
    table = random_requests(50, 100, 1)
    plain = serve_small(table, engine="simpy").engine
    one_more = serve_small(random_requests(51, 100, 1), engine="simpy").engine
    assert one_more.processes == plain.processes + 1
    pools = ["serving.prefill_replicas=1"]
    assert serve_small(table, engine="simpy", replicas=2, settings=pools).engine.processes == plain.processes + 1 + 50
    users = [serve_small(closed(n, 0.1, requests=1), engine="simpy").engine.processes for n in (3, 4)]
    assert users[1] - users[0] == 2  # a user and the one request
    patient, hasty = (serve_small(table, settings=[f"serving.patience={s}"], engine="simpy") for s in ("0 s", "9 s"))
    assert hasty.engine.processes == patient.engine.processes + 50


class Pipeline:
    """`stages` equal stages of a millisecond; one of them is `slow` times as slow."""

    def __init__(self, stages, slow):
        self.latency_ps, self.occupancy_ps = (stages - 1 + slow) * 10**9, slow * 10**9

    def __call__(self, shape):
        return IterationTime(self.latency_ps, self.occupancy_ps, 0.0)


def test_halving_the_speed_of_one_stage_does_what_arithmetic_says(serve_small):
    """A lone token passes 10 stages, one of which takes twice as long; 40 sequences wait for that one alone."""
    alone, crowd = make_table([0.0], [10], [101]), make_table([0.0] * 40, [10] * 40, [101] * 40)
    settings = [*PLAIN, "serving.batch_buckets=[1]", "serving.prefill_tokens_max=100000"]
    tpot = {
        (slow, len(table)): rows(serve_small(table, Pipeline(10, slow), settings=settings, engine="simpy").tables)["tpot_s"]
        for slow in (1, 2)
        for table in (alone, crowd)
    }
    assert tpot[1, 1] == pytest.approx([0.010])
    assert tpot[2, 1] == pytest.approx([0.011])
    np.testing.assert_allclose(tpot[1, 40], 0.040)
    np.testing.assert_allclose(tpot[2, 40], 0.080)


def test_who_has_gone_is_nobodys_load(small_processes):
    """At each replica that reads or decodes, whether its requests ended there or went on to another."""
    for settings in (["serving.prefill_replicas=2"], []):
        cluster = small_processes(random_requests(40, 60, 5), replicas=4, settings=[*PLAIN, *settings])
        assert set(rows(cluster.run()[0])["status"].tolist()) == {FINISHED}
        for router in (cluster._desk._router, cluster._desk._decode_router):
            assert set(router.loads) == {0}


def test_halving_a_links_speed_doubles_what_a_transfer_takes(serve_small):
    """Two requests read together: the second's KV follows the first's on the link."""
    table = make_table([0.0, 0.0], [300, 300], [11, 11])
    settings = [*PLAIN, "serving.prefill_replicas=1"]
    for token_s in (1e-5, 2e-5):
        place = {"copies": slow_copies(token_s)}
        result = serve_small(table, constant(1000), replicas=2, settings=settings, place=place, engine="simpy")
        limits = dict(zip(*(result.tables["limits"][c].tolist() for c in ("resource", "request_s")), strict=True))
        assert limits["kv_transfer"] == pytest.approx((1 + 2) * 300 * token_s)


def test_events_of_one_instant_come_in_turn():
    """Whatever the order they were scheduled in: what parts do, then hand-overs, arrivals, rounds, meters, the end."""
    env, seen = Environment(), []
    for turn, number in ((END, 0), (METER, 1), (ROUND, 1), (METER, 0), (ROUND, 0), (ARRIVAL, 5), (READY, 7), (READY, 3)):
        env.moment(10, turn, number).callbacks.append(lambda event: seen.append(event.turn))
    env.timeout(10).callbacks.append(lambda event: seen.append(1))
    env.run()
    assert seen == [1, READY + 3, READY + 7, ARRIVAL + 5, ROUND, ROUND + 1, METER, METER + 1, END]
    assert (env.now, env.events) == (10, 9)


@pytest.mark.parametrize("seed", range(8))
def test_ties_are_broken_alike_by_simpy_and_the_copy(serve_small, seed):
    """Arrivals, core times and rounds are all whole milliseconds, so that most instants have several events."""
    random = np.random.default_rng(seed)
    table = make_table(np.sort(random.integers(0, 60, 80)) * 1e-3, random.integers(1, 4, 80), random.integers(1, 30, 80))
    settings = [
        *PLAIN,
        f"host.request={random.integers(0, 2)} ms",
        f"host.tokenise_token={random.integers(0, 2)} ms",
        f"host.queue_max={random.integers(0, 3)}",
        f"host.cores={random.integers(1, 3)}",
        "serving.host_servers=2",
        f"serving.router={random.choice(['least_loaded', 'round_robin'])}",
        "serving.sequences_max=4",
        "power.sample=5 ms",
        f"serving.drain={random.choice(['20 ms', '600 s'])}",
    ]
    ways = [
        serve_small(table, constant(1000), replicas=2, settings=settings, engine=engine, skip=skip).tables
        for engine, skip in (("simpy", False), ("simpy", True), ("compiled", True))
    ]
    for other in ways[1:]:
        for name in ("requests", "gaps", "limits", "power"):
            for column, values in ways[0][name].items():
                np.testing.assert_array_equal(values, other[name][column], err_msg=f"{name}.{column}")


PRIVATE = {"_ok", "_value", "_queue", "_eid", "_defused", "_target", "_now", "_delay", "_resume", "_active_proc"}


def test_no_part_reaches_into_simpy_or_keeps_a_queue_of_events_of_its_own():
    for path in sorted(Path(room.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                assert node.attr not in PRIVATE, f"{path.name}:{node.lineno}: {node.attr} is SimPy's own"
            names = [a.name for a in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            assert "heapq" not in names, f"{path.name}: a heap beside SimPy's"
