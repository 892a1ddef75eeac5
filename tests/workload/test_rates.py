"""The rate over time: days, pieces, traces, noise and bursts against what they are said to be."""

from itertools import islice, pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import TypeAdapter

from dcsim.spec.workload import ArrivalSpec
from dcsim.workload.rates import mean_rate_per_s, rate_spans

HOURS = [1, 0, 0, 2, 5, 9, 12, 20, 18, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2]


def spans(count, seed=1, resolve=None, **arrivals):
    spec = TypeAdapter(ArrivalSpec).validate_python(arrivals)
    return list(islice(rate_spans(spec, seed, resolve), count))


def joined(found):
    """Edges and rates of successive spans as one."""
    for (before, _), (edges, _) in pairwise(found):
        assert edges[0] == before[-1]
    return (
        np.concatenate([found[0][0][:1], *(edges[1:] for edges, _ in found)]),
        np.concatenate([rates for _, rates in found]),
    )


def at(found, second):
    edges, rates = joined(found)
    return rates[np.searchsorted(edges, second, side="right") - 1]


def mean(edges, rates):
    return (rates * np.diff(edges)).sum() / (edges[-1] - edges[0])


DAY = {"rate": {"kind": "day", "mean": "8 requests/s", "hours": HOURS}}


def test_the_mean_of_a_day_is_the_one_it_is_given():
    spec = TypeAdapter(ArrivalSpec).validate_python(DAY)
    assert mean_rate_per_s(spec.rate, None) == pytest.approx(8)


def test_the_middle_of_each_hour_has_its_own_rate():
    """An hour late would be seen at every one of them. A piece of five minutes ends at the middle, another begins there."""
    found = spans(2, **DAY)
    edges, rates = joined(found)
    assert mean(edges, rates) == pytest.approx(8)
    scale = 8 / np.mean(HOURS)
    for hour, relative in enumerate(HOURS):
        before, after = at(found, hour * 3600 + 1799), at(found, hour * 3600 + 1801)
        left, right = HOURS[hour - 1], HOURS[(hour + 1) % 24]
        # Half a piece, 150 s, from the middle: a 24th of the way to the next hour's middle.
        assert before == pytest.approx(scale * (relative + (left - relative) / 24), rel=0.01)
        assert after == pytest.approx(scale * (relative + (right - relative) / 24), rel=0.01)


def test_every_day_is_alike_and_goes_on_where_the_last_one_ended():
    found = spans(3, **DAY)
    for number, (edges, rates) in enumerate(found):
        assert (edges[0], edges[-1]) == (number * 86400, (number + 1) * 86400)
        assert (np.diff(edges) == 300).all()
        np.testing.assert_array_equal(rates, found[0][1])


def test_a_constant_rate_is_constant():
    edges, rates = joined(spans(5, rate={"kind": "constant", "mean": "3 requests/s"}))
    assert (rates == 3).all()
    assert edges[0] == 0
    assert (np.diff(edges) > 0).all()


def test_pieces_follow_one_another_over_and_over():
    pieces = [{"duration": "10 s", "rate": "2 requests/s"}, {"duration": "20 s", "rate": "5 requests/s"}]
    found = spans(3, rate={"kind": "pieces", "pieces": pieces})
    edges, rates = joined(found)
    assert len(found[0][1]) == 2 * 120  # an hour's turns at once
    assert edges.tolist() == [30 * (i // 2) + 10 * (i % 2) for i in range(len(edges))]
    assert rates.tolist() == [2, 5] * (len(rates) // 2)


def test_many_pieces_of_a_cycle_make_a_span_of_their_own():
    pieces = [{"duration": "1 s", "rate": f"{i % 7 + 1} requests/s"} for i in range(700)]
    assert [len(rates) for _, rates in spans(2, rate={"kind": "pieces", "pieces": pieces})] == [700, 700]
    assert [len(rates) for _, rates in spans(2, rate={"kind": "pieces", "pieces": pieces[:500]})] == [1000, 1000]


@pytest.mark.parametrize("own_mean", [None, "6 requests/s"])
def test_a_traced_rate_counts_rows_in_pieces(monkeypatch, own_mean):
    """Ten rows in 25 s: five, three and two in pieces of 10, 10 and 5 s."""
    arrival_s = np.array([0, 1, 2, 3, 9.5, 10, 15, 19, 20, 25.0])

    class Trace(SimpleNamespace):
        def __len__(self):
            return 10

    trace = Trace(arrival_s=arrival_s, span_s=25.0)
    monkeypatch.setattr("dcsim.workload.rates.read_trace", lambda *_: trace)
    rate = {"kind": "trace", "trace": "azure-2023-conv", "piece": "10 s"} | ({"mean": own_mean} if own_mean else {})
    edges, rates = spans(1, rate=rate, resolve=lambda name: name)[0]
    assert edges[:4].tolist() == [0, 10, 20, 25]
    scale = 6 / (10 / 25) if own_mean else 1
    np.testing.assert_allclose(rates[:3], np.array([5 / 10, 3 / 10, 2 / 5]) * scale)
    assert mean(edges, rates) == pytest.approx(6 if own_mean else 10 / 25)


CONSTANT = {"rate": {"kind": "constant", "mean": "10 requests/s"}}


@pytest.mark.parametrize("lull", [0.0, 0.25, 0.9])
@pytest.mark.parametrize(("on", "off"), [(20.0, 60.0), (30.0, 10.0)])
def test_bursts_keep_the_mean_and_lulls_are_lower_by_what_is_asked(lull, on, off):
    bursts = {"on": f"{on} s", "off": f"{off} s", "lull_fraction": lull}
    edges, rates = joined(spans(60, bursts=bursts, **CONSTANT))
    high, low = rates.max(), rates.min()
    assert low == pytest.approx(lull * high)
    assert set(np.round(rates, 9)) == {round(high, 9), round(low, 9)}
    assert high * on + low * off == pytest.approx(10 * (on + off))  # the mean over time
    share = np.diff(edges)[rates == high].sum() / edges[-1]
    turns = edges[-1] / (on + off)
    assert share == pytest.approx(on / (on + off), abs=4 * 0.5 / np.sqrt(turns))


def test_bursts_and_lulls_take_turns_of_exponential_lengths():
    bursts = {"on": "2 s", "off": "5 s", "lull_fraction": 0.0}
    edges, rates = joined(spans(20, bursts=bursts, **CONSTANT))
    turns = np.flatnonzero(np.diff(rates)) + 1
    lengths = np.diff(edges[turns])
    first_is_high = rates[turns[0]] > 0
    for offset, expected in ((0, 2 if first_is_high else 5), (1, 5 if first_is_high else 2)):
        own = lengths[offset::2]
        assert own.mean() == pytest.approx(expected, rel=4 / np.sqrt(len(own)))
        assert own.std() == pytest.approx(expected, rel=8 / np.sqrt(len(own)))


def test_a_run_begins_in_a_burst_as_often_as_bursts_take_time():
    bursts = {"on": "10 s", "off": "30 s", "lull_fraction": 0.0}
    starts = [spans(1, seed, bursts=bursts, **CONSTANT)[0][1][0] > 0 for seed in range(300)]
    assert np.mean(starts) == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / 300))


@pytest.mark.parametrize(("cv", "persistence"), [(0.5, 0.0), (0.3, 0.8)])
def test_noise_has_mean_one_its_own_spread_and_its_memory(cv, persistence):
    noise = {"cv": cv, "persistence": persistence, "piece": "30 s"}
    edges, rates = joined(spans(400, noise=noise, **CONSTANT))
    pieces = rates[np.searchsorted(edges, np.arange(15, edges[-1], 30.0), side="right") - 1] / 10
    count = len(pieces) * (1 - persistence) / (1 + persistence)  # independent ones
    assert pieces.mean() == pytest.approx(1, abs=4 * cv / np.sqrt(count))
    assert pieces.std() == pytest.approx(cv, rel=10 / np.sqrt(count))
    logs = np.log(pieces)
    assert np.corrcoef(logs[:-1], logs[1:])[0, 1] == pytest.approx(persistence, abs=4 / np.sqrt(len(pieces)))
    changes = edges[1:-1][np.abs(np.diff(rates)) > 0]
    assert (changes % 30 == 0).all()


def test_noise_times_bursts_on_a_day_is_the_product():
    both = {"noise": {"cv": 0.4, "piece": "45 s"}, "bursts": {"on": "100 s", "off": "300 s", "lull_fraction": 0.5}}
    found = {key: joined(spans(2, **DAY, **{key: both[key]})) for key in both}
    product, plain = joined(spans(2, **DAY, **both)), joined(spans(2, **DAY))

    def rate(of, t):
        return of[1][np.searchsorted(of[0], t, side="right") - 1]

    t = np.arange(0.5, 2 * 86400, 10.0)
    expected = rate(found["noise"], t) * rate(found["bursts"], t)
    np.testing.assert_allclose(rate(product, t) * rate(plain, t), expected, rtol=1e-9)
