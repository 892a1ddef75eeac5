"""Grids of settings, loads of one replica, fleets for a rate."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from dcsim.errors import CapacityError, SpecError
from dcsim.llm.program import Shape
from dcsim.spec.load import load
from dcsim.study.frontier import best_load, fleet, frontier, loads
from dcsim.study.machine import build
from dcsim.study.plan import plan
from dcsim.study.sweep import Case, parse_range, pick, sweep

CONTEXT = 512


@pytest.fixture(scope="module")
def machine():
    return build(load("64chip", settings=["mapping.tp=8", "mapping.pp=8"]).spec)


@pytest.fixture(scope="module")
def points(machine):
    return loads(machine, CONTEXT)


def test_ranges_are_read_or_refused():
    assert parse_range("mapping.tp=1, 2,4") == ("mapping.tp", ["1", "2", "4"])
    for text in ("mapping.tp", "=1,2", "mapping.tp=", "mapping.tp=,"):
        with pytest.raises(SpecError):
            parse_range(text)


def test_a_grid_has_every_combination_in_order_and_says_what_cannot_be():
    case = Case("64chip", ("mapping.pp=8",), context=CONTEXT)
    rows = sweep(case, [("mapping.tp", ["8", "16"]), ("network.link_cycles", ["217", "434"])])
    assert [(row["mapping.tp"], row["network.link_cycles"]) for row in rows] == [
        ("8", "217"),
        ("8", "434"),
        ("16", "217"),
        ("16", "434"),
    ]
    assert rows[1]["iteration_s"] > rows[0]["iteration_s"]
    assert all("error" in row and "iteration_s" not in row for row in rows[2:])  # 128 chips of 64
    assert "64" in rows[2]["error"]


def test_two_workers_give_the_same_rows():
    case = Case("node", context=64)
    ranges = [("network.link_cycles", ["217", "300"])]
    assert sweep(case, ranges, jobs=2) == sweep(case, ranges)


def test_metrics_are_picked_by_name():
    rows = [{"k": "1", "a": 1.0, "b": 2.0}, {"k": "2", "error": "no"}]
    assert pick(rows, ["k"], ["b"]) == [{"k": "1", "b": 2.0}, {"k": "2", "error": "no"}]
    with pytest.raises(SpecError, match="unknown metric 'c'"):
        pick(rows, ["k"], ["c"])
    with pytest.raises(SpecError, match="given twice"):
        sweep(Case("node"), [("a", ["1"]), ("a", ["2"])])


def test_a_load_is_paced_by_latency_or_by_the_busiest_stage(machine, points):
    for load_ in points:
        time = machine.time(Shape(load_.batch, CONTEXT))
        paced_s = max(time.latency_ps, load_.micro_batches * time.occupancy_ps) * 1e-12
        in_flight = load_.micro_batches > 1  # together they take somewhat longer than one alone
        assert paced_s <= load_.interval_s <= paced_s * (1.2 if in_flight else 1)
        assert load_.tokens_per_s == pytest.approx(load_.concurrency * load_.tokens_per_s_per_user)
        assert load_.concurrency * CONTEXT <= machine.mapping.memory.kv_tokens_max
        assert load_.energy_j_per_token * load_.tokens_per_s == pytest.approx(load_.power_w)
    first = points[0]
    assert (first.batch, first.micro_batches) == (1, 1)
    assert first.tokens_per_s_per_user == max(load_.tokens_per_s_per_user for load_ in points)


def test_power_of_one_replica_is_that_of_its_parts(machine, points):
    spec, first = machine.spec, points[0]
    work_w = machine.time(Shape(1, CONTEXT)).work_j / first.interval_s
    streaming_w = first.tokens_per_s * spec.host.detokenise_token_s * (spec.host.busy_w - spec.host.idle_w) / spec.host.cores
    optics_w = machine.site.bill.optical_ends.sum() * spec.power.optic_w
    parts_w = 64 * spec.chip.power.wait_w + work_w + 8 * (spec.host.idle_w + spec.node.fan_w) + streaming_w + optics_w
    assert first.it_power_w == pytest.approx(parts_w / spec.node.supply_efficiency)
    assert first.power_w == pytest.approx(first.it_power_w * spec.power.pue)


def test_the_frontier_holds_what_no_other_beats(points):
    kept = frontier(points)
    speeds = [load_.tokens_per_s_per_user for load_ in kept]
    assert speeds == sorted(speeds, reverse=True)
    assert len(kept) > 1
    for load_ in points:
        assert any(k.tokens_per_s_per_user >= load_.tokens_per_s_per_user and k.tokens_per_s >= load_.tokens_per_s for k in kept)


def test_more_speed_never_gives_more_throughput_and_too_much_is_refused(points):
    slow, fast = best_load(points, 1.0), best_load(points, points[0].tokens_per_s_per_user)
    assert slow.tokens_per_s >= fast.tokens_per_s
    with pytest.raises(CapacityError, match="out of reach"):
        best_load(points, 1e9)


def test_a_context_without_room_is_refused(machine):
    spec = machine.spec
    endless = spec.model_copy(update={"llm": spec.llm.model_copy(update={"context_max": 10**9})})
    with pytest.raises(CapacityError, match="does not fit"):
        loads(replace(machine, spec=endless), machine.mapping.memory.kv_tokens_max + 1)


def test_twice_the_rate_takes_twice_the_fleet(machine, points):
    best = best_load(points, 100.0)
    one, ten, twenty = (fleet(machine, best, rate) for rate in (1.0, 10 * best.tokens_per_s, 20 * best.tokens_per_s))
    assert (one.replicas, one.clusters, one.chips) == (1, 1, 64)
    assert (ten.replicas, twenty.replicas) == (10, 20)
    assert twenty.meters.power_w == pytest.approx(2 * ten.meters.power_w)
    assert twenty.racks == 2 * ten.racks


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_fleet_pays_and_draws_for_all_its_chips_whatever_share_its_replicas_use(replicas):
    """16 nodes of 8 H100, half of whose chips one replica uses, or all of them two."""
    settings = ["mapping.tp=4", "mapping.pp=1", f"mapping.replicas={replicas}", "network.replications=1"]
    resolved = load("dgx-h100", llm="llama-2-70b", settings=settings)
    point = loads(build(resolved.spec), 2048, (1,))[0]
    count = 16 * replicas - (replicas - 1)  # the last replica of two is not needed
    rate = count * point.tokens_per_s * 0.999
    result = plan(resolved, tokens_per_s=rate, tokens_per_s_per_user=point.tokens_per_s_per_user, context=2048)
    assert (result["clusters"], result["replicas"], result["chips"]) == (16, count, 128)
    chip, host, node, busy = resolved.spec.chip, resolved.spec.host, resolved.spec.node, 4 * count
    assert result["batch"] >= 1
    best = result["frontier"][0] if result["batch"] == 1 else next(f for f in result["frontier"] if f["batch"] == result["batch"])
    streaming_w = count * best["tokens_per_s"] * host.detokenise_token_s * (host.busy_w - host.idle_w) / host.cores
    work_w = count * best["work_j"] * best["micro_batches"] / best["interval_s"]
    parts_w = busy * chip.power.wait_w + (128 - busy) * chip.power.idle_w + work_w + streaming_w
    parts_w += 16 * (host.idle_w + node.fan_w)
    assert result["it_power_w"] == pytest.approx(parts_w / node.supply_efficiency)
    assert result["power_w"] == pytest.approx(1.3 * result["it_power_w"])
    racks_usd = 16 * resolved.spec.network.prices.rack_usd
    bought_usd = 128 * chip.price.buy_usd + 16 * (host.buy_usd + node.buy_usd) + racks_usd
    assert result["money"]["buy"]["capital_usd"] == pytest.approx(bought_usd)


def test_a_plan_adds_up():
    result = plan(load("1rack"), tokens_per_s=1e5, tokens_per_s_per_user=500, context=CONTEXT)
    assert result["replicas"] * result["tokens_per_s_per_replica"] >= 1e5
    assert (result["replicas"] - 1) * result["tokens_per_s_per_replica"] < 1e5
    assert result["tokens_per_s_per_user"] >= 500
    assert result["chips"] == 72 * result["clusters"]
    assert result["racks"] == result["clusters"]
    served = result["replicas"] * result["tokens_per_s_per_replica"]
    for money in result["money"].values():
        assert money["usd_per_mtoken"] == pytest.approx(money["usd_per_h"] / 3600 / served * 1e6)
    assert result["money"]["buy"]["capital_usd"] > result["money"]["build"]["capital_usd"]
    assert result["assumes"]


@pytest.mark.parametrize(
    "words",
    [
        ["sweep", "node", "--set-range", "network.link_cycles=217,300", "--context", "64", "--metric", "iteration_s"],
        ["plan", "64chip", "--tokens-per-s", "1e5", "--tokens-per-s-per-user", "300", "--context", "512"],
        ["explain", "node", "--context", "64"],
        ["validate", "--only", "C3"],
    ],
)
def test_commands_print_text_and_json(words, tmp_path, monkeypatch):
    from dcsim.cli import app

    monkeypatch.chdir(tmp_path)
    text = CliRunner().invoke(app, words)
    assert text.exit_code == 0, text.output
    assert len(text.stdout.splitlines()) > 2
    assert json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)


def test_a_sweep_writes_csv(tmp_path):
    from dcsim.cli import app

    out = tmp_path / "rows.csv"
    words = ["sweep", "node", "--set-range", "network.link_cycles=217,300", "--context", "64", "--csv", str(out)]
    assert CliRunner().invoke(app, words).exit_code == 0
    lines = out.read_text().splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("network.link_cycles,")
    assert lines[2].startswith("300,")
