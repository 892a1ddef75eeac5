"""What is kept over time, interval by interval: it adds up to what is kept in sums, and to what requests' own rows say."""

import numpy as np
import pytest
from cluster.test_ways_agree import draw_case

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


def test_in_each_interval_it_is_the_time_that_requests_were_there(serve_small):
    """Their rows say so too, but for requests that stand in a replica's hall until its round ends: those are booked from their
    mean arrival on, which is off by less than a round (4 ms) for each.
    """
    traffic, setup = draw_case(2)
    setup["settings"] = [*setup["settings"], "power.sample=100 ms"]
    result = serve_small(traffic, engine="simpy", seed=2, **setup)
    over_time = result.tables["limits_over_time"]
    edges = np.arange(0, result.elapsed_s + SAMPLE_S, SAMPLE_S)
    there_s = in_system(result.tables["requests"], edges, result.elapsed_s)
    place = np.searchsorted(edges, over_time["time_s"] - over_time["interval_s"] / 2) - 1
    spent_s = np.bincount(place, over_time["request_s"], len(edges) - 1)
    assert there_s.max() > 0.1
    np.testing.assert_allclose(spent_s, there_s, atol=0.01)


def test_what_takes_longer_than_an_interval_is_shared_out_evenly():
    spent = OverTime(10)
    spent.add("a", 60, 5, 35)
    spent.add("a", 7, 5, 5)
    spent.add("b", 4, 10, 20)
    assert spent.amounts() == {(0, "a"): 17, (1, "a"): 20, (2, "a"): 20, (3, "a"): 10, (1, "b"): 4}
