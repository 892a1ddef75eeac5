"""The service zoom: rows agree with the reference loop, with queueing laws, and with what each part must do."""

from dataclasses import replace

import numpy as np
import pytest
from by_rule import load
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_cluster import Line, make_table, random_requests
from test_ways_agree import with_sessions

from dcsim.cluster.programs import Programs
from dcsim.cluster.service import Placement, serve
from dcsim.errors import CapacityError
from dcsim.fabric.build import build_fabric
from dcsim.llm.kv import room_of_tokens
from dcsim.network.network import make_network
from dcsim.power.site import site_of
from dcsim.results import metrics, records
from dcsim.spec.unused import unused


def site(spec):
    return site_of(make_network(spec, build_fabric(spec.fabric)))


def rows(result):
    return result.tables["requests"]


def same_rows(a, b):
    for name, column in rows(a).items():
        np.testing.assert_array_equal(column, rows(b)[name], err_msg=name)
    for table in ("gaps", "limits"):
        for name, column in a.tables[table].items():
            np.testing.assert_array_equal(column, b.tables[table][name], err_msg=name)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 60),
    rate=st.floats(0.5, 500),
    replicas=st.sampled_from([1, 2, 4]),
    kv_tokens=st.integers(900, 20_000),
    slots=st.integers(1, 64),
    prefill=st.sampled_from([1, 256, 4096]),
    batching=st.sampled_from(["continuous", "prefill_first", "static"]),
    cap=st.sampled_from(["0 W", "19 kW"]),
    router=st.sampled_from(["least_loaded", "round_robin", "session"]),
    queue=st.sampled_from([2, 1000]),
    drain=st.sampled_from([0.1, 600]),
    talkative=st.booleans(),
    reuse=st.booleans(),
)
def test_i10_every_way_to_simulate_gives_the_same_rows(
    serve_small, seed, count, rate, replicas, kv_tokens, slots, prefill, batching, cap, router, queue, drain, talkative, reuse
):
    """Compiled or in full, round by round or skipping: rows, gaps, limits and power agree."""
    requests = random_requests(count, rate, seed, output=40)
    if talkative:
        requests = with_sessions(requests, np.random.default_rng(seed), ("a", "b", "c"))
    setup = {
        "kv_tokens": kv_tokens,
        "replicas": replicas,
        "settings": [
            f"serving.sequences_max={slots}",
            f"serving.prefill_tokens_max={prefill}",
            "serving.batch_buckets=[1, 4]",
            f"serving.batching={batching}",
            f"power.rack_cap={cap}",
            f"serving.router={router}",
            f"serving.queue_max={queue}",
            f"serving.prefix_reuse={str(reuse).lower()}",
            "workload.classes=[{name: a, share: 1}, {name: b, share: 1, priority: 2}, {name: c, share: 1, priority: -1}]",
            f"host.queue_max={queue}",
            "serving.host_servers=3",
            "host.cores=1",
            f"serving.drain={drain} s",
            "serving.context_buckets=[128, 256, 512, 900, 1100, 2048]",
        ],
    }
    reference = serve_small(requests, skip=False, engine="simpy", **setup)
    booked_s = reference.tables["limits"]["request_s"].sum()
    assert booked_s == pytest.approx(reference.concurrency_mean * reference.elapsed_s, rel=1e-9)
    for engine, skip in (("simpy", True), ("compiled", False), ("compiled", True)):
        result = serve_small(requests, engine=engine, skip=skip, **setup)
        same_rows(reference, result)
        assert result.elapsed_s == reference.elapsed_s
        assert result.concurrency_mean == reference.concurrency_mean
        for name, column in reference.tables["power"].items():
            np.testing.assert_array_equal(result.tables["power"][name], column, err_msg=name)


@pytest.mark.parametrize("engine", ["compiled", "simpy"])
def test_keys_that_could_not_matter_are_reported(engine):
    """One replica leaves a router nothing to choose, and without faults nobody waits for a spare."""
    for replicas in (2, 1):
        resolved = load("8rack", settings=["faults.detect=2 s", "serving.router=round_robin", f"engine={engine}"])
        programs = Programs(resolved.spec.serving, Line())
        chips = tuple(tuple(range(64 * i, 64 * i + 64)) for i in range(replicas))
        spec, placement = resolved.spec, Placement(site(resolved.spec), chips, room_of_tokens(100_000))
        serve(spec, build_fabric(spec.fabric), placement, programs, make_table([0.0], [5], [2]))
        found = [key for key in unused(resolved) if "faults" in key or "router" in key]
        assert found == ["faults.detect", "serving.router"][: 3 - replicas]


def test_prefix_reuse_matters_to_sessions_only():
    for session, found in ((-1, ["serving.prefix_reuse"]), (3, [])):
        resolved = load("8rack", settings=["serving.prefix_reuse=false"])
        table = replace(make_table([0.0], [5], [2]), session=np.array([session], np.int32))
        placement = Placement(site(resolved.spec), (tuple(range(64)),), room_of_tokens(1000))
        programs = Programs(resolved.spec.serving, Line())
        serve(resolved.spec, build_fabric(resolved.spec.fabric), placement, programs, table)
        assert [key for key in unused(resolved) if "reuse" in key] == found


def test_a_request_alone_takes_what_arithmetic_says(serve_small):
    """Host work, one round of ten prompt chunks, then a round a token."""
    result = serve_small(make_table([1.0], [1200], [5]))
    host_s = 0.5e-3 + 1200 * 2e-6 + 2e-6 + 1200 * 4 / 25e9
    reply_s = 2e-6 + 20e-6
    chunk_us = 3000 + 10 + 30 * 127
    # Chunks end at 128, 256, ... 1152, 1200: contexts padded to 512 (4 chunks), 1024 (4), 2048 (2).
    latency_us = chunk_us + 0.01 * 2048
    occupancy_us = sum((chunk_us + 0.01 * c) / 60 for c in [512] * 4 + [1024] * 4 + [2048] * 2)
    switch_s = 10e-6
    prefill_s = max(latency_us, occupancy_us) * 1e-6 + 3 * switch_s
    decode_s = (3000 + 10 + 0.01 * 2048) * 1e-6
    first = rows(result)["first_token_s"][0]
    assert first == pytest.approx(1.0 + host_s + prefill_s + reply_s, abs=1e-9)
    assert rows(result)["finished_s"][0] == pytest.approx(first + 4 * decode_s + switch_s, abs=1e-9)
    assert rows(result)["tpot_s"][0] == pytest.approx(decode_s + switch_s / 4, rel=1e-9)


def test_i1_requests_are_conserved(serve_small):
    requests = make_table([0, 0.1, 0.2, 0.3], [100, 9000, 100, 40_000], [10, 10, 10, 10])
    result = serve_small(requests, kv_tokens=5000)
    status = rows(result)["status"].tolist()
    assert status.count(records.REJECTED) == 2
    assert "KV room for 9010 tokens" in rows(result)["reason"][1]
    assert len(status) == sum(status.count(s) for s in records.STATUSES)


def test_i1_what_is_left_at_the_end_is_in_flight(serve_small):
    result = serve_small(make_table([0.0, 0.0], [100, 100], [10, 3000]), settings=["serving.drain=1 s"])
    assert rows(result)["status"].tolist() == [records.FINISHED, records.IN_FLIGHT]
    assert np.isnan(rows(result)["finished_s"][1])


def test_i4_times_of_a_request_are_in_order(serve_small):
    r = rows(serve_small(random_requests(300, 60, 5)))
    for earlier, later in (
        ("arrival_s", "ready_s"),
        ("ready_s", "admitted_s"),
        ("admitted_s", "first_token_s"),
        ("first_token_s", "finished_s"),
    ):
        assert (r[earlier] <= r[later]).all(), (earlier, later)


def test_littles_law_on_the_rows(serve_small):
    """Requests in the system, counted at every event, against arrival rate times mean time of the rows."""
    result = serve_small(random_requests(2000, 40, 6))
    rate = 2000 / result.elapsed_s
    assert result.concurrency_mean == pytest.approx(rate * rows(result)["e2e_s"].mean(), rel=1e-3)


def test_every_moment_of_a_request_is_booked_once(serve_small):
    """What limits says, summed, is the time of all finished requests."""
    for rate in (5, 80, 400):
        result = serve_small(random_requests(300, rate, 7), kv_tokens=20_000)
        assert result.tables["limits"]["request_s"].sum() == pytest.approx(rows(result)["e2e_s"].sum(), rel=1e-9)


def test_i9_energy_is_the_integral_of_power_and_racks_sum_to_the_site(serve_small):
    result = serve_small(random_requests(50, 20, 8))
    power = result.tables["power"]
    assert power["interval_s"].sum() == pytest.approx(result.elapsed_s, rel=1e-9)
    _, interval_s, site_w = metrics.site_power_w(power, 1.2)
    assert np.sum(site_w * interval_s) == pytest.approx(metrics.energy_j(power, 1.2), rel=1e-12)


@pytest.mark.parametrize("replicas", [1, 4])
def test_energy_is_the_same_whatever_the_samples_and_each_way_samples_alike(serve_small, replicas):
    table, total = random_requests(50, 20, 8), []
    for sample in ("30 ms", "700 ms", "1 day"):
        ways = [
            serve_small(table, replicas=replicas, settings=[f"power.sample={sample}"], engine=engine).tables["power"]
            for engine in ("compiled", "simpy")
        ]
        for name in ways[0]:
            np.testing.assert_array_equal(ways[0][name], ways[1][name])
        total.append(metrics.energy_j(ways[0], 1.0))
    assert total == pytest.approx([total[0]] * 3, rel=1e-9)


def test_sums_of_many_requests_over_a_long_time_do_not_overflow(serve_small):
    """20,000 requests for hours: more than 2**63 request-picoseconds in one sample of power."""
    table = make_table(np.zeros(20_000), [100] * 20_000, [50] * 20_000)
    result = serve_small(table, Line(base=3e6), settings=["power.sample=1 day", "serving.drain=1000 h"])
    assert (rows(result)["status"] == "finished").all()
    spent_s = np.nansum(rows(result)["e2e_s"])
    assert spent_s * 1e12 > 2**63
    assert result.tables["limits"]["request_s"].sum() == pytest.approx(spent_s, rel=1e-9)
    assert result.concurrency_mean * result.elapsed_s == pytest.approx(spent_s, rel=1e-6)


def test_idle_power_is_the_sum_of_idle_parts(serve_small):
    result = serve_small(make_table([10.0], [1], [1]))
    hosts_and_fans = 9 * (200 + 300)
    assert result.tables["power"]["power_w"][0] == pytest.approx((72 * 60 + hosts_and_fans) / 0.94, rel=1e-6)


def test_one_stream_draws_waiting_power_and_its_own_work(serve_small):
    result = serve_small(make_table([0.0], [1], [3000]), Line(energy_j=2.0))
    busy = (64 * 120 + 2.0 / 0.003015 + 8 * 60 + 9 * 500) / 0.94
    assert result.tables["power"]["power_w"][4] == pytest.approx(busy, rel=0.01)


def test_halving_the_host_servers_lengthens_the_wait(serve_small):
    requests = random_requests(400, 100, 9, prompt=1000)
    slow = ["host.tokenise_token=50 us", "host.cores=1"]
    many = serve_small(requests, settings=[*slow, "serving.host_servers=8"])
    few = serve_small(requests, settings=[*slow, "serving.host_servers=4"])
    assert np.median(rows(few)["ttft_s"]) > 1.5 * np.median(rows(many)["ttft_s"])


def test_a_full_host_queue_rejects(serve_small):
    requests = make_table([0.0] * 10, [1000] * 10, [2] * 10)
    result = serve_small(requests, settings=["host.queue_max=3", "host.cores=1", "serving.host_servers=1"])
    assert rows(result)["status"].tolist() == [records.FINISHED] * 4 + [records.REJECTED] * 6


def test_a_slower_stage_slows_every_user_at_load(serve_small):
    """Fewer, longer stages hold fewer micro-batches in flight."""
    requests = random_requests(600, 400, 10)
    fast = serve_small(requests, Line(stages=60))
    slow = serve_small(requests, Line(stages=15))
    assert np.median(rows(slow)["tpot_s"]) > 1.2 * np.median(rows(fast)["tpot_s"])


def test_a_rack_cap_slows_all_chips_together_and_holds(serve_small):
    requests = random_requests(100, 5, 11)
    free = serve_small(requests, Line(energy_j=1.0))
    limit = 19_000
    capped = serve_small(requests, Line(energy_j=1.0), settings=[f"power.rack_cap={limit} W"])
    assert free.tables["power"]["power_w"].max() > limit
    assert capped.tables["power"]["power_w"].max() <= limit * (1 + 1e-9)
    assert np.median(rows(capped)["tpot_s"]) > np.median(rows(free)["tpot_s"])


def test_a_cap_below_waiting_power_is_refused(serve_small):
    with pytest.raises(CapacityError, match="already draws"):
        serve_small(make_table([0.0], [10], [10]), settings=["power.rack_cap=5 kW"])


@pytest.mark.parametrize(
    ("name", "setup", "helps", "does_not"),
    [
        ("kv_memory", {"kv_tokens": 4000}, {"kv_tokens": 8000}, {"kv_tokens": 4000, "settings": ["host.cores=64"]}),
        (
            "sequence_slots",
            {"settings": ["serving.sequences_max=4"]},
            {"settings": ["serving.sequences_max=8"]},
            {"kv_tokens": 200_000, "settings": ["serving.sequences_max=4"]},
        ),
        (
            "host",
            {"settings": ["host.cores=1", "serving.host_servers=1", "host.tokenise_token=30 us"]},
            {"settings": ["host.cores=2", "serving.host_servers=1", "host.tokenise_token=30 us"]},
            {"kv_tokens": 200_000, "settings": ["host.cores=1", "serving.host_servers=1", "host.tokenise_token=30 us"]},
        ),
        ("iteration_latency", {"load": 2}, {"load": 2, "time": Line(base=1500)}, {"load": 2, "kv_tokens": 200_000}),
    ],
)
def test_what_limits_is_what_helps(serve_small, name, setup, helps, does_not):
    """Doubling the named resource shortens requests by a fifth at least; doubling another by a fiftieth at most."""

    def mean_e2e(setup):
        setup = dict(setup)
        result = serve_small(random_requests(400, setup.pop("load", 50), 12), **setup)
        limits = result.tables["limits"]
        return np.mean(rows(result)["e2e_s"]), limits["resource"][np.argmax(limits["request_s"])]

    before, limit = mean_e2e(setup)
    assert limit == name
    assert mean_e2e(helps)[0] < 0.8 * before
    assert mean_e2e(does_not)[0] > 0.98 * before


def test_replicas_share_the_load(serve_small):
    requests = random_requests(400, 100, 13)
    for router in ("round_robin", "least_loaded"):
        result = serve_small(requests, replicas=2, settings=[f"serving.router={router}"])
        counts = np.bincount(rows(result)["replica"])
        assert counts.min() > 0.4 * counts.sum()


@pytest.mark.parametrize(("level", "limit_w"), [("pdu", 19_500), ("hall", 20_500), ("site", 25_000)])
def test_a_cap_at_any_level_slows_all_chips_together_and_holds(serve_small, level, limit_w):
    """The same traffic with and without; the meter reads the racks and what is lost above them."""
    chain = ["power.pdu_efficiency=0.98", "power.ups_efficiency=0.95", "power.pue=1.3"]
    over_racks = {"pdu": 1 / 0.98, "hall": 1 / 0.98 / 0.95, "site": 1.3}[level]
    requests = random_requests(100, 5, 11)
    free = serve_small(requests, Line(energy_j=1.0), settings=chain)
    capped = serve_small(requests, Line(energy_j=1.0), settings=[*chain, f"power.{level}_cap={limit_w} W"])
    assert free.tables["power"]["power_w"].max() * over_racks > limit_w
    assert capped.tables["power"]["power_w"].max() * over_racks <= limit_w * (1 + 1e-9)
    assert np.median(rows(capped)["tpot_s"]) > np.median(rows(free)["tpot_s"])
