"""Faults: what stops, for how long, and what becomes of the requests."""

import numpy as np
import pytest
from small_cluster import PLAIN, closed, constant, make_table, random_requests, slow_copies

import dcsim
from dcsim.cluster.programs import COMPILED_BATCHES
from dcsim.results.records import FAILED, FINISHED

DOWN = ["faults.detect=1 s", "faults.repair=100 s"]


def run(serve_small, table, *settings, **setup):
    setup = {"place": {"weight_bytes": 5e9}, **setup}
    return serve_small(table, constant(1000), settings=[*PLAIN, *DOWN, *settings], **setup)


def rows(result):
    return result.tables["requests"]


def test_a_lone_request_is_read_again_once_the_spare_is_loaded(serve_small):
    """Down: 1 s to notice, 5 GB over a 25 GB/s bus; then 10 + 499 tokens are read again in one round."""
    result = run(serve_small, make_table([0.0], [10], [1000]), "faults.events=[{at: 499200 us, part: chip, index: 3}]")
    row = {name: column[0] for name, column in rows(result).items()}
    restart = 0.4992 + 1 + 0.2
    assert row["first_token_s"] == pytest.approx(0.001)
    assert row["finished_s"] == pytest.approx(restart + 0.001 + (1000 - 499 - 1) * 0.001)
    assert (row["replays"], row["status"]) == (1, FINISHED)
    assert result.availability == pytest.approx(1 - 1.2 / result.elapsed_s)
    limits = dict(zip(*(result.tables["limits"][c].tolist() for c in ("resource", "request_s")), strict=True))
    assert limits["fault"] == pytest.approx(1.2 + 0.0002)
    gaps = result.tables["gaps"]
    assert gaps["count"].sum() == 999
    assert gaps["gap_s"].max() == pytest.approx(0.0002 + 1.2 + 0.001)


@pytest.mark.parametrize(("recompile_s", "down_s"), [(0.1, 1.2), (0.7, 1.7)])
def test_programs_are_compiled_again_while_the_spare_is_loaded(serve_small, recompile_s, down_s):
    place = {"weight_bytes": 5e9, "recompile_s": recompile_s}
    event = "faults.events=[{at: 1 s, part: chip, index: 3}, {at: 5 s, part: chip, index: 40}]"
    down = run(serve_small, make_table([0.0, 10.0], [10, 10], [5, 5]), event, place=place).tables["faults"]["down_s"]
    assert down.tolist() == pytest.approx([down_s, 100.2])  # there is one spare: the second node stays where it is


def test_a_run_names_what_a_move_takes_where_there_are_schedules():
    event = "faults.events=[{at: 1 ms, part: chip, index: 3}]"
    case = dcsim.load("64chip", workload="glimpse", set=(event, "network.compile=300 ms"))
    meta, serving = case.run().meta, case.spec.serving
    programs = (len(COMPILED_BATCHES) + 1) * len(serving.context_buckets)
    assert (meta["programs_recompiled"], meta["recompile_s"]) == (programs, pytest.approx(0.3 * programs))
    assert dcsim.load("64chip", workload="glimpse").run().meta["recompile_s"] is None
    packets = dcsim.load("64chip", workload="glimpse", interconnect="infiniband-hdr", set=(event,))
    assert packets.run().meta["recompile_s"] is None


def test_requests_in_flight_may_fail_instead(serve_small):
    table = make_table([0.0, 0.4], [10, 10], [1000, 10])
    result = run(
        serve_small,
        table,
        "faults.events=[{at: 450 ms, part: node, index: 2}]",
        "faults.in_flight=fail",
        "serving.sequences_max=1",
    )
    assert rows(result)["status"].tolist() == [FAILED, FINISHED]  # the second had only waited
    assert rows(result)["reason"][0] == "fault of node 2"
    assert rows(result)["tokens_out"].tolist() == [450, 10]
    assert result.tables["faults"]["requests_hit"].tolist() == [1]


def test_without_a_spare_the_node_must_be_repaired(serve_small):
    """The rack has one spare node (the ring's ninth, not active) and loses two nodes."""
    events = "faults.events=[{at: 1 s, part: node, index: 0}, {at: 5 s, part: node, index: 1}]"
    down = run(serve_small, make_table([0.0, 10.0], [10, 10], [5, 5]), events).tables["faults"]["down_s"]
    assert down.tolist() == pytest.approx([1.2, 100.2])


def test_a_repaired_node_is_a_spare_again(serve_small):
    events = "faults.events=[{at: 1 s, part: node, index: 0}, {at: 150 s, part: node, index: 1}]"
    down = run(serve_small, make_table([0.0, 200.0], [10, 10], [5, 5]), events).tables["faults"]["down_s"]
    assert down.tolist() == pytest.approx([1.2, 1.2])


def test_other_replicas_take_over(serve_small):
    """Least loaded avoids the replica that stands still; its own request moves."""
    table = make_table([0.0, 1.0, 1.1], [10] * 3, [2000, 5, 5])
    result = run(serve_small, table, "faults.events=[{at: 500 ms, part: chip, index: 0}]", replicas=2)
    assert rows(result)["replica"].tolist() == [1, 1, 1]
    assert rows(result)["e2e_s"][0] == pytest.approx(2.0, abs=0.01)


def test_a_link_takes_the_node_at_its_end(serve_small):
    event = "faults.events=[{at: 100 ms, part: link, index: 0}]"
    table = run(serve_small, make_table([0.0], [10], [1000]), event).tables["faults"]
    assert (table["part"][0], table["replica"][0], table["requests_hit"][0]) == ("link", 0, 1)


def test_a_spare_node_that_fails_stops_nobody(serve_small):
    result = run(serve_small, make_table([0.0], [10], [1000]), "faults.events=[{at: 100 ms, part: node, index: 8}]")
    assert result.tables["faults"]["replica"].tolist() == [-1]
    assert result.availability == 1


def test_a_dead_host_server_loses_what_it_held_and_is_passed_over(serve_small):
    options = ["host.request=10 ms", "serving.host_servers=2", "faults.events=[{at: 5 ms, part: host, index: 0}]"]
    table = make_table([0.0, 0.02, 0.04, 0.06], [10] * 4, [2] * 4)
    result = rows(run(serve_small, table, *options))
    assert result["host"].tolist() == [1, 1, 1, 1]
    assert result["replays"].tolist() == [1, 0, 0, 0]
    assert result["ready_s"][0] == pytest.approx(0.015)
    failed = rows(run(serve_small, table, *options, "faults.in_flight=fail"))
    assert failed["status"].tolist() == [FAILED] + [FINISHED] * 3


def test_random_faults_come_as_often_as_their_mean_time_says(serve_small):
    """72 chips, one failure in 7200 s each: 1 in 100 s; 100 expected in 10,000 s."""
    table = make_table([0.0, 10_000.0], [10, 10], [5, 5])
    runs = [run(serve_small, table, "faults.chip_mtbf=7200 s", seed=seed) for seed in range(4)]
    counts = [len(np.unique(each.tables["faults"]["time_s"])) for each in runs]
    assert np.mean(counts) == pytest.approx(100, abs=4 * 10 / 2)
    assert len(set(counts)) > 1


@pytest.mark.parametrize("part", ["node", "host", "link"])
def test_every_part_can_fail_at_random(serve_small, part):
    table = make_table([0.0, 1000.0], [10, 10], [5, 5])
    faults = run(serve_small, table, f"faults.{part}_mtbf=1000 s").tables["faults"]
    assert set(faults["part"].tolist()) == {part}


def test_a_fault_at_the_prefill_replica_loses_kv_that_waits_there(serve_small):
    """KV of 100 tokens takes 1 s to copy; the source dies half way; the request starts again on the second reader."""
    result = run(
        serve_small,
        make_table([0.0], [100], [5]),
        "serving.prefill_replicas=2",
        "faults.events=[{at: 500 ms, part: chip, index: 0}]",
        replicas=4,
        place={"weight_bytes": 5e9, "copies": slow_copies(0.01)},
    )
    row = {name: column[0] for name, column in rows(result).items()}
    assert (row["replays"], row["status"]) == (1, FINISHED)
    assert row["finished_s"] > 2.0


def test_all_is_counted_under_many_faults(serve_small):
    result = run(serve_small, random_requests(200, 100, 3), "faults.chip_mtbf=100 s", "faults.repair=2 s", replicas=4)
    status = rows(result)["status"].tolist()
    assert len(status) == 200
    assert status.count(FINISHED) == 200
    assert rows(result)["replays"].sum() > 0


def test_users_without_an_end_stop_when_nothing_is_answered(serve_small):
    """All chips of the only replica wait for a repair that outlasts the drain time."""
    result = run(
        serve_small,
        closed(3, 0.1),
        "faults.events=[{at: 1 s, part: node, index: 0}, {at: 1 s, part: node, index: 1}]",
        "faults.repair=1 h",
        "serving.drain=20 s",
    )
    assert rows(result)["status"].tolist().count("in_flight") == 3
    assert result.elapsed_s < 60
