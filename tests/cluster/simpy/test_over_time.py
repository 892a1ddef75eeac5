"""What is kept over time, interval by interval: it adds up to what is kept in sums, and to what requests' own rows say."""

import numpy as np
import pytest
from cluster.test_ways_agree import draw_case
from small_cluster import random_requests

from dcsim.cluster.simpy.over_time import OverTime
from dcsim.results.pictures import in_system

SAMPLE_S = 0.1


@pytest.mark.parametrize("number", [0, 1, 2, 3, 7, 11])
def test_over_all_intervals_it_is_what_is_kept_in_sums(serve_small, number):
    traffic, setup = draw_case(number)
    setup["settings"] = [*setup["settings"], "power.sample=100 ms"]
    result = serve_small(traffic, engine="simpy", seed=number, record_rounds=True, **setup)
    limits, over_time, programs, rounds = (result.tables[name] for name in ("limits", "limits_over_time", "programs", "rounds"))
    for name, spent_s in zip(limits["resource"], limits["request_s"], strict=True):
        own = over_time["request_s"][over_time["resource"] == name]
        assert own.sum() == pytest.approx(spent_s, rel=1e-9, abs=1e-12), name
    for replica in np.unique(rounds["replica"]):
        mine = rounds["replica"] == replica
        done = (rounds["rounds"] * rounds["iterations"])[mine].sum()
        assert programs["iterations"][programs["replica"] == replica].sum() == pytest.approx(done, rel=1e-9)
    for table in (over_time, programs):
        assert table["time_s"].max() <= result.elapsed_s
        assert (np.diff(table["time_s"]) >= 0).all()


@pytest.mark.parametrize("number", [0, 2, 3, 5, 7, 8, 10, 11, 13, 14, 15, 17])
def test_in_each_interval_it_is_the_time_that_requests_were_there(serve_small, number):
    """Their rows say so too, but of those that were turned away or lost."""
    traffic, setup = draw_case(number)
    setup["settings"] = [*setup["settings"], "power.sample=100 ms"]
    result = serve_small(traffic, engine="simpy", seed=number, **setup)
    spent_s, there_s, are_all_told = by_interval(result)
    assert (spent_s >= there_s - 1e-6).all()
    assert not are_all_told or np.allclose(spent_s, there_s, rtol=1e-6, atol=1e-6)


def test_who_waits_out_a_failure_waits_for_it_from_the_beginning(serve_small):
    settings = ["power.sample=100 ms", "faults.events=[{at: 300 ms, part: chip, index: 0}]", "faults.repair=3 s"]
    result = serve_small(random_requests(60, 20.0, 3), engine="simpy", settings=settings)
    spent_s, there_s, are_all_told = by_interval(result)
    assert (spent_s >= there_s - 1e-6).all()
    assert not are_all_told or np.allclose(spent_s, there_s, rtol=1e-6, atol=1e-6)
    rows = result.tables["limits_over_time"]
    lost = rows["resource"] == "fault"
    begin_s = result.tables["faults"]["time_s"][0]
    end_s = begin_s + result.tables["faults"]["down_s"][0]
    still = (rows["time_s"] - rows["interval_s"] >= begin_s) & (rows["time_s"] <= end_s)
    assert rows["request_s"][lost & still].sum() > 0.98 * rows["request_s"][still].sum() > 1


def by_interval(result):
    """What requests' time went to, how long rows say that they were there, and whether rows tell of all of it."""
    done = np.isin(result.tables["requests"]["status"], ("finished", "in_flight"))
    assert done.mean() > 0.5
    over_time = result.tables["limits_over_time"]
    edges = np.append(np.arange(0, result.elapsed_s, SAMPLE_S), result.elapsed_s)
    there_s = in_system({name: column[done] for name, column in result.tables["requests"].items()}, edges, result.elapsed_s)
    place = np.searchsorted(edges, over_time["time_s"] - over_time["interval_s"] / 2) - 1
    spent_s = np.bincount(place, over_time["request_s"], len(edges) - 1)
    return spent_s, there_s, done.all()


def test_what_takes_longer_than_an_interval_is_shared_out_evenly():
    spent = OverTime(10)
    spent.add("a", 60, 5, 35)
    spent.add("a", 7, 5, 5)
    spent.add("b", 4, 10, 20)
    assert spent.amounts() == {(0, "a"): 17, (1, "a"): 20, (2, "a"): 20, (3, "a"): 10, (1, "b"): 4}
