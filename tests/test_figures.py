"""Figures show what the rows say: each curve is checked against numpy or a plain loop over the rows."""

import numpy as np
import pandas as pd
import pytest

from dcsim.results import pictures as figures
from dcsim.results import pictures_over_time as over_time
from dcsim.results.metrics import energy_j, weighted_percentile
from dcsim.results.records import TABLES
from dcsim.units import format_time

ELAPSED_S = 130.0


@pytest.fixture(scope="module")
def requests():
    """400 requests: most finished, some of a single token, some rejected and some in flight at the end."""
    random = np.random.default_rng(3)
    count = 400
    status = random.choice(["finished", "rejected", "failed", "in_flight"], count, p=[0.9, 0.04, 0.02, 0.04])
    served, done = np.isin(status, ["finished", "in_flight"]), status == "finished"
    arrival = np.sort(random.uniform(0, 100, count))
    first = arrival + random.gamma(2, 0.1, count)
    tokens = random.integers(1, 60, count)
    finished = np.where(tokens > 1, first + 0.01 * random.gamma(5, 1, count) * (tokens - 1), first)
    return pd.DataFrame(
        {
            "arrival_s": arrival,
            "status": status,
            "tokens_out": np.where(served, tokens, 0),
            "ready_s": arrival + 0.001,
            "admitted_s": np.where(served, arrival + 0.01, np.nan),
            "first_token_s": np.where(served, first, np.nan),
            "finished_s": np.where(done, finished, np.nan),
            "ttft_s": np.where(served, first - arrival, np.nan),
            "e2e_s": np.where(done, finished - arrival, np.nan),
            "tpot_s": np.where(done & (tokens > 1), (finished - first) / np.maximum(tokens - 1, 1), np.nan),
        }
    )


@pytest.fixture(scope="module")
def gaps():
    return pd.DataFrame({"gap_s": [0.004, 0.003, 0.05], "count": [100, 880, 20]})


def make_power(samples, racks=3, interval_s=1.0):
    """Samples of random power; the last interval is shorter, as at the end of a run."""
    random = np.random.default_rng(1)
    lengths = np.full(samples, interval_s)
    lengths[-1] *= 0.4
    time = np.cumsum(lengths)
    return pd.DataFrame(
        {
            "time_s": np.repeat(time, racks),
            "rack": np.tile(np.arange(racks), samples),
            "interval_s": np.repeat(lengths, racks),
            "power_w": random.uniform(5e3, 12e3, samples * racks),
        }
    )


def trace(figure, name):
    found = [t for t in figure.data if t.name == name]
    assert len(found) == 1, [t.name for t in figure.data]
    return found[0]


def share_at(curve, x):
    """The height at x of a curve that steps up (or down) before it runs on to its next point."""
    return curve.y[np.searchsorted(curve.x, x, side="left")]


def test_latency_curves_are_the_share_that_took_as_long(requests, gaps):
    figure = figures.latency(requests, gaps, 1.0, 0.01)
    done = requests[requests.status == "finished"]
    panels = (
        ("time to first token", "ttft_s"),
        ("time per output token", "tpot_s"),
        ("arrival to last token", "e2e_s"),
    )
    for name, column in panels:
        values = done[column].dropna().to_numpy()
        curve = trace(figure, name)
        for q in (1, 50, 90, 99):
            x = np.percentile(values, q)
            assert share_at(curve, x) == pytest.approx(np.mean(values >= x))
        assert curve.x[-1] == values.max()
        assert curve.y[-1] == pytest.approx(1 / len(values))
    curve = trace(figure, "gap between tokens")
    assert list(curve.x) == [0.003, 0.004, 0.05]
    assert list(curve.y) == pytest.approx([1.0, 0.12, 0.02])
    assert share_at(curve, weighted_percentile(*gaps.to_numpy().T, 99)) >= 0.01


def test_an_slo_is_a_line_in_its_own_panel(requests, gaps):
    figure = figures.latency(requests, gaps, slo_ttft_s=0.4, slo_tpot_s=0.02)
    lines = [t for t in figure.data if t.name == "SLO"]
    assert [(t.x[0], t.x[1], t.xaxis) for t in lines] == [
        (0.4, 0.4, trace(figure, "time to first token").xaxis),
        (0.02, 0.02, trace(figure, "time per output token").xaxis),
    ]
    assert not [t for t in figures.latency(requests, gaps).data if t.name == "SLO"]


def test_a_long_curve_is_thinned_but_keeps_its_tail():
    values = np.random.default_rng(2).lognormal(0, 1, 50_000)
    x, share = figures.ccdf(values)
    keep = figures._thin(share)
    assert len(keep) <= figures.POINTS_MAX + 2
    assert keep[0] == 0
    assert keep[-1] == len(x) - 1
    drop = share[keep][:-1] / share[keep][1:]
    assert np.all(drop[share[keep][1:] > 1e-3] < 1.05)
    assert list(keep[-20:]) == list(range(len(x) - 20, len(x)))  # each of the slowest is seen


def test_requests_in_system_is_the_time_average_of_a_count(requests):
    edges = np.linspace(0, ELAPSED_S, 27)
    mean = figures.in_system(requests, edges, ELAPSED_S) / np.diff(edges)
    column = {"finished": "finished_s", "rejected": "ready_s", "failed": "ready_s"}
    rows = requests.assign(in_flight=ELAPSED_S)
    ends = np.array([row[column.get(row["status"], "in_flight")] for _, row in rows.iterrows()], float)
    for i in (0, 5, 12, 25):
        overlap = np.minimum(ends, edges[i + 1]) - np.maximum(requests.arrival_s.to_numpy(), edges[i])
        assert mean[i] == pytest.approx(np.clip(overlap, 0, None).sum() / (edges[i + 1] - edges[i]), abs=1e-9)


def test_load_adds_up_to_the_rows(requests):
    figure = figures.load(requests, ELAPSED_S)
    seconds = np.diff(trace(figure, "arrivals/s").x)  # under three minutes: in seconds
    assert np.dot(trace(figure, "arrivals/s").y[1:], seconds) == pytest.approx(len(requests))
    assert np.dot(trace(figure, "output tokens/s").y[1:], seconds) == pytest.approx(requests.tokens_out.sum())
    little = requests.e2e_s.dropna().sum()  # Little's law: request-seconds are the sum of times in the system
    done = requests[requests.status == "finished"]
    held = figures.in_system(done, np.array([0, ELAPSED_S]), ELAPSED_S)
    assert held[0] == pytest.approx(little)


def test_twice_the_tokens_double_the_rate_and_one_token_is_a_point():
    row = {"arrival_s": [0.0], "status": ["finished"], "ready_s": [0.0], "admitted_s": [0.0]}
    edges = np.array([0.0, 1.0, 2.0, 3.0])
    for tokens in (11, 22):
        rows = row | {"first_token_s": [1.0], "finished_s": [2.0], "tokens_out": [tokens]}
        assert figures.output_tokens(rows, edges, 3.0) == pytest.approx([0, tokens, 0])
    half = row | {"first_token_s": [0.5], "finished_s": [2.5], "tokens_out": [5]}
    assert figures.output_tokens(half, edges, 3.0) == pytest.approx([1 + 4 * 0.25, 4 * 0.5, 4 * 0.25])
    single = row | {"first_token_s": [2.5], "finished_s": [2.5], "tokens_out": [1]}
    assert figures.output_tokens(single, edges, 3.0) == pytest.approx([0, 0, 1])


@pytest.mark.parametrize("samples", [1, 50, 4000])
def test_power_integrates_to_energy(samples):
    power = make_power(samples)
    figure = figures.power(power, pue=1.25)
    site = trace(figure, "site (PUE 1.25)")
    scale = {"s": 1, "minutes": 60, "hours": 3600}[figure.layout.xaxis.title.text.split("(")[1].rstrip(")")]
    seconds = np.diff(site.x) * scale
    assert np.dot(site.y[1:], seconds) == pytest.approx(energy_j(power, 1.25))
    racks = [t for t in figure.data if t.name.startswith("rack ")]
    assert len(racks) == 3
    for rack, curve in enumerate(racks):
        rows = power[power["rack"] == rack]
        assert np.dot(curve.y[1:], seconds) == pytest.approx((rows.power_w * rows.interval_s).sum())
    assert len(site.x) <= figures.INTERVALS_MAX + 1
    peaks = [t for t in figure.data if t.name == "site, largest sample"]
    assert len(peaks) == (samples > figures.INTERVALS_MAX)
    for peak in peaks:
        assert peak.y.max() == pytest.approx(1.25 * power.groupby("time_s").power_w.sum().max())
        assert np.all(peak.y >= site.y)


def test_power_keeps_every_sample_where_there_are_few():
    power = make_power(20)
    edges, racks_w = figures.rack_power(power.sample(frac=1, random_state=4))  # in any order of rows
    assert racks_w == pytest.approx(power.power_w.to_numpy().reshape(20, 3).T)
    assert edges == pytest.approx(np.append(np.arange(20.0), 19.4))


def test_many_racks_are_drawn_as_bands():
    power = make_power(3, racks=40)
    figure = figures.power(power, pue=1.0)
    bands = [t for t in figure.data if t.stackgroup == "racks"]
    assert [bands[0].name, bands[-1].name] == ["racks 0 to 2", "rack 39"]
    assert len(bands) <= figures.BANDS_MAX < 40
    assert np.sum([t.y for t in bands], axis=0) == pytest.approx(figure.data[-1].y)


def test_limits_are_shares_with_the_largest_on_top():
    table = pd.DataFrame({"resource": ["host", "prefill", "kv_memory"], "request_s": [1.0, 6.0, 3.0]})
    bar = figures.limits(table, {"prefill": "reading prompts"}).data[0]
    assert list(bar.y) == ["host", "kv memory", "prefill"]
    assert list(bar.x) == pytest.approx([0.1, 0.3, 0.6])
    assert bar.customdata[-1] == "reading prompts"


def test_an_empty_run_says_so():
    names = {column.name for table in TABLES.values() for column in table}
    none = pd.DataFrame({name: np.array([], float) for name in names})
    drawn = [figures.latency(none, none, 1.0, 0.01), figures.load(none, 0.0)]
    for figure in [*drawn, figures.power(none, 1.0), figures.limits(none)]:
        assert "no data in this run" in [note.text for note in figure.layout.annotations]


SPANS = [(3e-3, 3.2e-3), (3e-3, 9e-3), (5e-2, 1.0), (1e-4, 400.0), (0.02, 0.02)]


@pytest.mark.parametrize(("low", "high"), SPANS)
def test_time_axes_have_a_few_round_ticks_inside_their_range(low, high):
    axis = figures._log_time_axis(np.array([0.0, low, high]))
    assert 10 ** axis["range"][0] < low <= high < 10 ** axis["range"][1]
    assert 1 <= len(axis["tickvals"]) <= 4
    assert len({format_time(t, 3) for t in axis["tickvals"]}) == len(axis["tickvals"])
    assert all(10 ** axis["range"][0] <= t <= 10 ** axis["range"][1] for t in axis["tickvals"])


def test_requests_by_what_they_do_add_up_to_those_in_the_system(requests):
    drawn = over_time.phases(requests, ELAPSED_S)
    edges = np.linspace(0, ELAPSED_S, figures.INTERVALS_MAX + 1)
    together = sum(np.asarray(trace.y, float)[1:] for trace in drawn.data) * edges[1]
    assert together == pytest.approx(figures.in_system(requests, edges, ELAPSED_S), abs=1e-9)


def test_a_request_is_where_its_times_say():
    times = {"arrival_s": 0.0, "ready_s": 1.0, "admitted_s": 5.0, "first_token_s": 7.0, "finished_s": 10.0}
    rows = pd.DataFrame([times | {"status": "finished"}, times | {"status": "in_flight", "finished_s": np.nan}])
    rows.loc[1, "first_token_s"] = np.nan  # its prompt is read until the end
    drawn = over_time.phases(rows, 12.0)
    assert [trace.name for trace in drawn.data] == [name for name, _ in over_time.PHASES]
    spent = [float(np.sum(trace.y[1:]) * 12.0 / figures.INTERVALS_MAX) for trace in drawn.data]
    assert spent == pytest.approx([2.0, 8.0, 2.0 + 7.0, 3.0])
    shared = np.array([trace.y[1:] for trace in over_time.shares(rows, 24.0).data])
    tenths = figures.INTERVALS_MAX // 240  # intervals in a tenth of a second
    assert shared[:, 0] == pytest.approx([1, 0, 0, 0]), "both are at their hosts"
    assert shared[:, 80 * tenths] == pytest.approx([0, 0, 0.5, 0.5]), "after 8 s one is read, one answered"
    assert shared.sum(axis=0) == pytest.approx(1)


def test_failures_are_marked_at_their_times():
    faults = {"time_s": [60.0, 600.0], "part": ["node", "link"], "index": [3, 9], "down_s": [2.5, 0.1], "requests_hit": [4, 0]}
    empty = {name: [] for name in faults}
    figure = over_time.phases({name: np.array([]) for name in ("arrival_s", "status", *figures.MILESTONES, "finished_s")}, 1200.0)
    shapes = len(over_time.mark_faults(figure, empty, 1200.0).layout.shapes)
    marked = over_time.mark_faults(figure, faults, 1200.0)
    drawn = marked.layout.shapes[shapes:]
    assert [shape.x0 for shape in drawn if shape.type == "line"] == [1.0, 10.0], "minutes, as the axis has"
    assert [shape.x1 for shape in drawn if shape.type == "rect"] == pytest.approx([62.5 / 60, 600.1 / 60]), "until work goes on"
    assert list(marked.data[-1].x) == [1.0, 10.0]
    assert "node 3 fails; stands still 2.5 s, 4 requests hit" in marked.data[-1].customdata[0]
