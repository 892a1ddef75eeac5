"""Money against hand arithmetic, loans paid month by month, dies laid on wafers, and limits."""

import doctest
import math
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest
from by_rule import load
from hypothesis import given, settings
from hypothesis import strategies as st

from dcsim.economics.bill import Parts, bill, parts_of, site_again, total_usd
from dcsim.economics.cost import cost_tornado, owned_cost, rented_cost
from dcsim.economics.silicon import card_cost, gross_dies, yield_fraction, yield_with_spares
from dcsim.economics.tco import break_even_life_y, interest_usd, owned_usd_per_h, tco
from dcsim.errors import SpecError
from dcsim.fabric.build import build_fabric
from dcsim.fabric.direct import island, torus
from dcsim.fabric.switched import leaf_spine, with_islands
from dcsim.network.network import make_network
from dcsim.power.site import site_of
from dcsim.results.sensitivity import Parameter, parameters_of, tornado
from dcsim.spec.document import Figure
from dcsim.spec.price import EnergyFigures, RentPrices, SiliconPrices, TcoPrices, read_prices
from validation import published_money as claims
from validation.energy import token_energy

ROOT = Path(__file__).resolve().parents[1]
SUMMARY = {"output_tokens_per_s": 1000.0, "tokens_per_s_per_user_p50": 200.0, "concurrency_mean": 5.0, "power_w_mean": 130.0}


@pytest.fixture(scope="module")
def prices():
    return read_prices("chiplet-cloud", TcoPrices)[0]


@pytest.fixture(scope="module")
def silicon():
    return read_prices("silicon-14nm", SiliconPrices)[0]


ROUND = [
    "chip.price.buy=1000 USD",
    "chip.price.build=100 USD",
    *(f"chip.power.{state}=1 W" for state in ("idle", "wait", "vector")),
    "chip.power.matrix=30 W",
    "host.buy=500 USD",
    "host.idle=10 W",
    "host.busy=20 W",
    "node.buy=50 USD",
    "node.fan=10 W",
    "node.supply_efficiency=0.9",
    "network.port=7 USD",
    "network.switch_power=2 W",
    "network.adapter_power=3 W",
    "power.pue=1.3",
    "power.optic=2 W",
]


@pytest.fixture
def spec():
    """Round numbers."""
    return load("node", network="infiniband-ndr", settings=ROUND).spec


NONE = {field.name: 0 for field in fields(Parts)}
PARTS = Parts(**{**NONE, "chips": 2, "nodes": 1, "racks": 1, "switch_ports": 4, "switches": 1, "adapters": 2, "cables": 3})


def parts_in(fabric, *settings, name="node", network=None):
    """What is counted of a fabric between the chips of a small topology."""
    return parts_of(site_of(make_network(load(name, network=network, settings=list(settings)).spec, fabric)))


# Owning ------------------------------------------------------------------------------------------------------------


def interest_month_by_month(principal, rate, months):
    """Find the level payment that clears the loan by bisection; add up each month's interest."""

    def left(payment):
        balance = principal
        for _ in range(months):
            balance = balance * (1 + rate / 12) - payment
        return balance

    low, high = 0.0, 2.0 * principal
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if left(middle) > 0 else (low, middle)
    balance, paid = principal, 0.0
    for _ in range(months):
        paid += balance * rate / 12
        balance = balance * (1 + rate / 12) - high
    return paid


@pytest.mark.parametrize(("principal", "rate", "years"), [(3000, 0.08, 1.5), (10, 0.08, 12), (1e6, 0.01, 30), (5, 0.5, 1)])
def test_interest_is_that_of_a_loan_paid_month_by_month(principal, rate, years):
    expected = interest_month_by_month(principal, rate, round(12 * years))
    assert interest_usd(principal, rate, years) == pytest.approx(expected, rel=1e-9)


def test_no_interest_without_rate_or_principal():
    assert interest_usd(1000, 0, 3) == 0
    assert interest_usd(0, 0.08, 3) == 0
    assert interest_usd(1000, 1e-9, 3) == pytest.approx(0, abs=1e-4)


def test_every_term_by_hand(prices):
    terms = tco(2000, 3000, prices).terms()
    assert terms.pop("server_interest") == pytest.approx(interest_month_by_month(3000, 0.08, 18))
    assert terms.pop("datacenter_interest") == pytest.approx(interest_month_by_month(10, 0.08, 144) * 2000 * 1.5 / 12)
    assert terms == pytest.approx(
        {
            "server": 3000,
            "server_upkeep": 150,
            "datacenter": 10 * 2000 * 1.5 / 12,
            "datacenter_upkeep": 0.04 * 2000 * 18,
            "electricity": 0.067 * 2 * 720 * 18,
            "overhead": 0.067 * 2 * 720 * 18 * 0.5,
        }
    )


@given(peak_w=st.floats(1, 1e6), usd=st.floats(1, 1e7), life_y=st.floats(0.1, 20))
@settings(max_examples=60, deadline=None)
def test_power_terms_scale_with_power_and_server_terms_with_price(peak_w, usd, life_y):
    prices = read_prices("chiplet-cloud", TcoPrices)[0]
    base = tco(peak_w, usd, prices, life_y=life_y)
    both = tco(2 * peak_w, usd, prices, life_y=life_y).terms(), tco(peak_w, 2 * usd, prices, life_y=life_y).terms()
    for name, value in base.terms().items():
        of_server = name.startswith("server")
        assert both[0][name] == pytest.approx(value if of_server else 2 * value)
        assert both[1][name] == pytest.approx(2 * value if of_server else value)
    assert base.total_usd == pytest.approx(sum(base.terms().values()))
    assert base.total_usd > usd


def test_an_endless_life_leaves_interest_building_and_power(prices):
    rent_of_capital = 8000 * 0.08 / 8640
    per_watt = (10 + interest_month_by_month(10, 0.08, 144)) / 12 / 8640 + 0.04 * 12 / 8640 + 0.067 / 1000 * 1.5
    assert owned_usd_per_h(700, 8000, prices, 1e6) == pytest.approx(rent_of_capital + 700 * per_watt, rel=1e-5)
    lives = [owned_usd_per_h(700, 8000, prices, y) for y in (0.01, 0.5, 1.5, 5, 50, 5000)]
    assert lives == sorted(lives, reverse=True)


def test_break_even_is_where_owning_costs_the_rent(prices):
    life_y = break_even_life_y(500, 15000, prices, 1.0)
    assert owned_usd_per_h(500, 15000, prices, life_y) == pytest.approx(1.0, rel=1e-5)
    assert break_even_life_y(500, 15000, prices, 2.0) < life_y < break_even_life_y(500, 15000, prices, 0.87)
    assert break_even_life_y(500, 15000, prices, 0.0) == math.inf
    assert break_even_life_y(500, 0, prices, 10.0) < 1e-6


@pytest.mark.parametrize("life_y", [0.01, 0.3, 3.0, 30.0])
def test_break_even_is_the_inverse_of_the_cost_an_hour(prices, life_y):
    """To a millionth, for lives of days too."""
    worth = owned_usd_per_h(500, 15000, prices, life_y)
    assert break_even_life_y(500, 15000, prices, worth) == pytest.approx(life_y, rel=1.1e-6)


def test_what_a_run_measured_replaces_the_assumption(prices):
    assumed, measured = tco(100, 0, prices), tco(100, 0, prices, average_power_fraction=0.25, pue=1.1)
    assert measured.electricity_usd == pytest.approx(assumed.electricity_usd / 4)
    assert measured.overhead_usd == pytest.approx(measured.electricity_usd * 0.1)
    assert measured.datacenter_usd == assumed.datacenter_usd


# Silicon -----------------------------------------------------------------------------------------------------------


def test_a_large_14_nm_die(silicon):
    card = card_cost(725, silicon)
    assert card.gross_dies == pytest.approx(70685.83 / 725 - 942.4778 / 38.07887, rel=1e-5)
    assert round(card.gross_dies, 1) == 72.7
    assert card.yield_fraction == pytest.approx(1 / 1.0725**10)
    assert [round(usd) for usd in (card.raw_die_usd, card.good_die_usd)] == [82, 166]
    tested = 6000 / 72.74702 * 1.0725**10 * 1.01
    assert card.packaged_usd == pytest.approx((tested + 725 * 4 * 0.005) / 0.99, rel=1e-6)
    assert card.card_usd - card.packaged_usd == 300


@pytest.mark.parametrize("side_mm", [5.0, 12.0, 20.0])
def test_gross_dies_come_near_a_count_on_the_wafer(side_mm):
    """Whole squares inside the circle, best of 100 placements. The formula is an estimate: 6 % for few dies."""
    best = 0
    for dx in np.arange(0, 1, 0.1):
        for dy in np.arange(0, 1, 0.1):
            edges = np.arange(-40, 40)[:, None] + np.array([0, 1])
            x, y = np.abs((edges + dx) * side_mm).max(1), np.abs((edges + dy) * side_mm).max(1)
            best = max(best, int(np.sum(np.hypot(x[:, None], y[None, :]) <= 150)))
    assert gross_dies(side_mm**2, 0.3) == pytest.approx(best, rel=0.06)


def test_a_die_larger_than_the_wafer_cannot_be_had(silicon):
    assert gross_dies(100_000, 0.3) == 0
    assert card_cost(100_000, silicon).card_usd == math.inf


def test_yield_counts_clustered_defects(silicon):
    """Poisson defects whose mean is gamma-distributed from die to die."""
    random = np.random.default_rng(5)
    defects = random.poisson(random.gamma(10, 7.25 * 0.1 / 10, 400_000))
    assert yield_fraction(725, silicon) == pytest.approx(np.mean(defects == 0), abs=0.004)
    assert yield_with_spares(725, 2, silicon) == pytest.approx(np.mean(defects <= 2), abs=0.004)


def test_yield_at_its_limits(silicon):
    poisson = silicon.model_copy(update={"clustering": 1e7})
    assert yield_fraction(725, poisson) == pytest.approx(math.exp(-0.725), rel=1e-6)
    assert yield_fraction(1e-9, silicon) == pytest.approx(1)
    assert yield_with_spares(725, 0, silicon) == yield_fraction(725, silicon)
    yields = [yield_fraction(area, silicon) for area in (50, 100, 400, 800, 46225)]
    assert yields == sorted(yields, reverse=True)
    assert yields[-1] < 1e-6  # a wafer as one die, without spares
    assert yield_with_spares(46225, 9000, silicon) == pytest.approx(1)  # a hundredth of 900,000 cores spare


def test_many_small_dies_cost_less_than_one_large(silicon):
    large, small = card_cost(800, silicon).good_die_usd, card_cost(100, silicon).good_die_usd
    assert 8 * small < 0.7 * large


# Bill and cost of a run ----------------------------------------------------------------------------------------------


def test_a_bill_line_by_line(spec):
    lines = {line.item: (line.count, line.unit_usd, line.usd) for line in bill(PARTS, spec, "buy")}
    assert lines == {
        "chip card": (2, 1000, 2000),
        "host server": (1, 500, 500),
        "chassis": (1, 50, 50),
        "rack": (1, 3000, 3000),
        "switch port": (4, 7, 28),
        "adapter": (2, 1200, 2400),
    }
    buy, build = (total_usd(bill(PARTS, spec, basis)) for basis in ("buy", "build"))
    assert (buy, buy - build) == (7978, 2 * 900)
    assert bill(Parts(**NONE), spec, "buy") == []


def test_prices_of_the_topology_are_those_of_its_bill(spec):
    dear = load("node", network="infiniband-ndr", settings=[*ROUND, "network.prices.rack=4000 USD"]).spec
    assert total_usd(bill(PARTS, dear, "buy")) == 7978 + 1000
    own = load("node", network="infiniband-ndr", settings=[*ROUND, "network.adapter_price=200 USD"]).spec
    assert total_usd(bill(PARTS, own, "buy")) == 7978 - 2 * 1000


def test_a_bill_says_what_it_rests_on(spec):
    figures = {("chip", "price", "buy"): Figure("1000 USD", "measured", "a shop")}
    lines = bill(PARTS, spec, "buy", figures)
    assert (lines[0].kind, lines[0].source) == ("measured", "a shop")
    assert lines[1].source == "not stated"


def test_peak_power_by_hand(spec):
    """Chips in their hungriest state, a busy host, fans, ports and adapters, over the supply's efficiency; optics if any."""
    assert site_again(PARTS, spec).peak().it_power_w == pytest.approx((2 * 30 + 20 + 10 + 4 * 2 + 2 * 3) / 0.9)
    optical = replace(PARTS, optical_ends=5)
    assert site_again(optical, spec).peak().it_power_w == pytest.approx((2 * 30 + 20 + 10 + 4 * 2 + 2 * 3 + 5 * 2) / 0.9)
    bare = load("node", settings=["chip.power.matrix=300 W", "node.supply_efficiency=1"]).spec
    assert site_again(Parts(**{**NONE, "chips": 512}), bare).peak().it_power_w == 153_600  # "150 kW"


@pytest.mark.parametrize("name", ["8rack", "h100x16", "tpu-v4-64", "wse-3x4", "chiplet-cloud-gpt3"])
def test_a_cluster_put_together_from_its_parts_draws_as_much_at_its_peak(name):
    spec = load(name).spec
    site = site_of(make_network(spec, build_fabric(spec.fabric)))
    assert site_again(parts_of(site), spec).peak().power_w == pytest.approx(site.peak().power_w, rel=1e-12)


def test_parts_are_counted_on_the_graph():
    rack8 = parts_in(build_fabric(load("8rack").spec.fabric), name="8rack")
    counted = {"chips": 576, "nodes": 72, "racks": 8, "cables": 576 * 11 // 2, "chip_cables": 576 * 11 // 2}
    assert asdict(rack8) == NONE | counted | {"optical_ends": 1152}
    leaves = leaf_spine(64, 32, 4)
    switched = parts_in(leaves, network="infiniband-ndr")
    assert (switched.chips, switched.nodes, switched.racks) == (64, 8, 2)
    assert (switched.adapters, switched.switch_ports, switched.switches) == (64, 64 + 2 * 2 * 4, 2 + 4)
    assert (switched.cables, switched.chip_cables) == (64 + 2 * 4, 0)
    island_ = "node.island.adapter=1 us", "node.island.switch=1 us", "node.island.bandwidth=1 GB/s"
    assert replace(parts_in(with_islands(leaves, 8), *island_, network="infiniband-ndr"), racks=2) == switched
    assert parts_in(torus((4, 4, 4))).cables == 192
    assert parts_in(torus((8, 8, 8))).racks == math.ceil(512 / 8 / (42 // 4))  # ten nodes of 4 units a rack
    alone = parts_in(island(8, switch=True), *island_, network="nvlink4")
    assert asdict(alone) == NONE | {"chips": 8, "nodes": 1, "racks": 1}


def test_what_bonded_ports_stand_for_counts():
    """137.5 GB/s of a chip's own cables are three ports of 50 GB/s."""
    spec = load("8rack", network="infiniband-ndr").spec
    site = site_of(make_network(spec, build_fabric(spec.fabric)))
    parts = parts_of(site)
    assert (parts.adapters, parts.switch_ports, parts.switches, parts.cables) == (1728, 5184, 3 * 34, 3456)
    assert site.network_w == 1728 * 25 + 5184 * 15 == 120_960
    assert site.draw().by_part["switches and adapters"].sum() == pytest.approx(120_960)


def test_switches_that_do_not_fit_beside_the_nodes_take_racks_of_their_own():
    """102 units of switches (three planes of 18 leaves and 16 spines), 48 left in eight racks of nine nodes of 4 units."""
    spec = load("8rack", network="infiniband-ndr").spec
    assert parts_in(build_fabric(spec.fabric), name="8rack", network="infiniband-ndr").switch_racks == math.ceil((102 - 48) / 42)
    high = parts_in(build_fabric(spec.fabric), "network.switch_units=2", name="8rack", network="infiniband-ndr")
    assert high.switch_racks == math.ceil((204 - 48) / 42)


def test_a_runs_electricity_is_its_energy_at_the_price_of_a_kwh(spec):
    cost = owned_cost(SUMMARY, PARTS, spec, "buy")
    joules_per_token = SUMMARY["power_w_mean"] / SUMMARY["output_tokens_per_s"]
    assert cost.terms["electricity"] + cost.terms["overhead"] == pytest.approx(joules_per_token / 3.6e6 * 0.067 * 1e6)
    assert cost.terms["overhead"] == pytest.approx(0.3 * cost.terms["electricity"])


def test_cost_of_a_run_by_hand(spec):
    cost = owned_cost(SUMMARY, PARTS, spec, "build")
    tokens = 1000 * 1.5 * 360 * 86400
    assert (cost.basis, cost.capital_usd) == ("build", 6178)
    assert cost.terms["server"] == pytest.approx(6178 / tokens * 1e6)
    assert cost.usd_per_mtoken == pytest.approx(sum(cost.terms.values()))
    assert cost.usd_per_h * 1.5 * 8640 == pytest.approx(cost.usd_per_mtoken * tokens / 1e6)
    assert cost.usd_per_user_speed == pytest.approx(6178 / 200)
    assert cost.usd_per_throughput == pytest.approx(6178 / 1000)
    assert cost.concurrency_mean == 5


def test_twice_the_tokens_at_the_same_power_cost_half(spec):
    twice = {**SUMMARY, "output_tokens_per_s": 2000.0}
    one, two = (owned_cost(s, PARTS, spec, "buy") for s in (SUMMARY, twice))
    assert two.usd_per_mtoken == pytest.approx(one.usd_per_mtoken / 2)
    assert two.usd_per_h == pytest.approx(one.usd_per_h)


def test_no_tokens_no_cost_a_token(spec):
    idle = {"output_tokens_per_s": 0.0, "tokens_per_s_per_user_p50": None, "concurrency_mean": 0.0, "power_w_mean": None}
    cost = owned_cost(idle, PARTS, spec, "buy")
    assert (cost.usd_per_mtoken, cost.usd_per_user_speed, cost.usd_per_throughput) == (None, None, None)
    assert cost.usd_per_h > 0
    assert rented_cost(idle, 8, read_prices("rent-a100", RentPrices)[0]).usd_per_mtoken is None


def test_rent_by_hand():
    rent = read_prices("rent-a100", RentPrices)[0]
    cost = rented_cost(SUMMARY, 8, rent)
    assert cost.usd_per_mtoken == pytest.approx(8 / 3.6)
    free = rented_cost(SUMMARY, 8, rent.model_copy(update={"chip_hour_usd": 0.0}))
    assert (free.basis, free.usd_per_mtoken, free.usd_per_h) == ("rent", 0, 0)


# Energy ------------------------------------------------------------------------------------------------------------


def test_switching_energy_of_a_token():
    """70 billion one-byte weights, batch 1: each read once, one multiply-add each."""
    e = read_prices("energy-7nm", EnergyFigures)[0]
    sram, hbm, dram = (
        token_energy(weight_bytes=70e9, kv_bytes=1e9, flop=140e9, memory_byte_j=j, fma_j=e.fma_j)
        for j in (e.sram_byte_j, e.hbm_byte_j, e.dram_byte_j)
    )
    assert (sram.weights_j, sram.compute_j) == pytest.approx((0.0875, 0.091))
    assert hbm.weights_j == pytest.approx(2.184)
    assert dram.kv_j == pytest.approx(0.08)
    assert sram.total_j == pytest.approx(0.0875 + 0.00125 + 0.091)
    many = token_energy(
        weight_bytes=70e9,
        kv_bytes=1e9,
        flop=140e9,
        memory_byte_j=e.sram_byte_j,
        fma_j=e.fma_j,
        batch=10,
        link_bytes=1e6,
        link_byte_j=e.link_byte_j,
    )
    assert many.weights_j == pytest.approx(sram.weights_j / 10)
    assert (many.kv_j, many.compute_j) == (sram.kv_j, sram.compute_j)
    assert many.links_j == pytest.approx(1e6 * 8 * 8e-12)  # 8 pJ a bit


# Sensitivities -----------------------------------------------------------------------------------------------------


def test_a_tornado_of_a_formula():
    parameters = [Parameter(n, v, 0.9 * v, 1.1 * v) for n, v in (("c", 9.0), ("b", 2.0), ("a", 3.0), ("none", 4.0))]
    bars = tornado(parameters, lambda v: v["a"] ** 2 * v["b"] + v["c"])
    assert [bar.parameter.name for bar in bars] == ["a", "b", "c", "none"]
    a, b, c, none = bars
    assert (a.answer, a.answer_low, a.answer_high) == pytest.approx((27, 9 * 0.81 * 2 + 9, 9 * 1.21 * 2 + 9))
    assert a.elasticity == pytest.approx(2 * 18 / 27)
    assert (b.elasticity, c.elasticity, none.elasticity) == pytest.approx((18 / 27, 9 / 27, 0))
    assert tornado([], lambda v: 1.0) == []


def test_parameters_move_by_a_tenth_or_over_their_range():
    tree = {"a": {"time": 0.002, "count": 5, "share": 0.5}}
    figures = {
        ("a", "time"): Figure("2 ms", "assumed", "s", (1, 8)),
        ("a", "count"): Figure(5, "spec", "s"),
        ("a", "share"): Figure(0.5, "spec", "s"),
        ("b", "gone"): Figure(1.0, "spec", "s"),
    }
    tenth = {p.name: (p.low, p.high) for p in parameters_of(tree, figures)}
    assert tenth == {"a.time": pytest.approx((0.0018, 0.0022)), "a.share": pytest.approx((0.45, 0.55))}
    ranged = {p.name: (p.low, p.high) for p in parameters_of(tree, figures, over_range=True)}
    assert ranged == {"a.time": pytest.approx((0.001, 0.008)), "a.share": pytest.approx((0.45, 0.55))}
    figures["a", "time"] = Figure("2 ms", "assumed", "s", (1000, 8000))
    with pytest.raises(SpecError, match=r"a\.time: range .* does not hold the value 2 ms"):
        parameters_of(tree, figures, over_range=True)


def test_elasticities_of_a_cost_add_up(spec):
    """Cost is homogeneous of degree 1 in all prices: their elasticities sum to 1."""
    figures = {
        path: Figure(1, "assumed", "s")
        for path in [
            ("chip", "price", "buy"),
            ("host", "buy"),
            ("node", "buy"),
            ("network", "port"),
            ("network", "prices", "rack"),
            ("network", "prices", "adapter"),
            ("network", "prices", "electricity_kwh"),
            ("network", "prices", "datacenter_watt"),
            ("network", "prices", "datacenter_watt_month"),
            ("network", "prices", "pue"),
            ("chip", "price", "build"),
        ]
    }
    bars = cost_tornado(SUMMARY, PARTS, spec, "buy", figures)
    assert sum(bar.elasticity for bar in bars) == pytest.approx(1)
    assert all(bar.swing > 0 for bar in bars)
    names = [bar.parameter.name for bar in bars]
    assert "chip.price.build" not in names  # another basis
    assert "network.prices.pue" not in names  # the run has its own
    server = owned_cost(SUMMARY, PARTS, spec, "buy")
    share = sum(server.terms[t] for t in ("server", "server_interest", "server_upkeep")) / server.usd_per_mtoken
    chips = next(bar for bar in bars if bar.parameter.name == "chip.price.buy")
    assert chips.elasticity == pytest.approx(share * 2000 / 7978)


# Claims ------------------------------------------------------------------------------------------------------------


def test_18_and_211_tokens_per_s_are_one_measurement():
    processed = claims.processed_tokens_per_s(74e12, 175e9)
    assert round(processed) == 211
    assert processed * claims.generated_share(512, 50) == pytest.approx(211.43 * 50 / 562, rel=1e-4)
    assert claims.generated_share(0, 50) == 1


def test_cost_of_a_thousand_tokens():
    assert claims.usd_per_ktoken(1.0, 211) == pytest.approx(1000 / 759_600)
    assert claims.usd_per_ktoken(0.87, 211) == pytest.approx(0.87 * claims.usd_per_ktoken(1.0, 211))
    assert round(claims.restated_gain(94, 0.02, claims.usd_per_ktoken(1.0, 211)), 1) == 6.2


def test_tokens_of_a_large_batch():
    assert claims.batch_tokens_per_s_per_chip(256, 128 + 8, 9.614, 24) == pytest.approx(34_816 / 9.614 / 24)
    assert round(claims.batch_tokens_per_s_per_chip(256, 136, 9.614, 24)) == 151
    assert claims.batch_tokens_per_s_per_chip(256, 8, 9.614, 24) == pytest.approx(8.876, rel=1e-3)  # generated


def test_boards_against_an_octal_gpu():
    cluster = claims.cluster_usd(512, 500, host_factor=2)
    assert cluster == 512_000
    assert cluster / 180_000 == pytest.approx(2.84, abs=0.01)  # bought
    assert cluster / 50_000 == pytest.approx(10.24)  # built


def test_gain_per_dollar_and_repayment():
    assert claims.gain_per_usd(10, 2, 5, 4) == 4
    assert claims.repay_tokens(1e6, 3.0, 1.0) == pytest.approx(5e11)
    assert claims.repay_tokens(1e6, 1.0, 1.0) == math.inf


# Files and docs ----------------------------------------------------------------------------------------------------

KINDS = {"tco": TcoPrices, "silicon": SiliconPrices, "rent": RentPrices, "energy": EnergyFigures}


@pytest.mark.parametrize("path", sorted((ROOT / "topologies/prices").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_figure_shipped_has_source_and_a_range_that_holds_it(path):
    kind = next(line.split()[1] for line in path.read_text().splitlines() if line.startswith("kind:"))
    prices, figures = read_prices(path.stem, KINDS[kind])
    dumped = prices.model_dump(by_alias=True)
    numbers = {key for key, value in dumped.items() if isinstance(value, float)}
    assert {path[1] for path in figures} == numbers
    assert all(figure.source for figure in figures.values())
    parameters = parameters_of({"price": dumped}, figures, over_range=True)
    assert {p.name.removeprefix("price.") for p in parameters} == numbers
    assert all(p.low <= p.value <= p.high for p in parameters)
    assert all(figure.range for figure in figures.values() if figure.kind == "assumed")


def test_a_bad_price_file_says_where_and_what(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("kind: rent\nchip_hour: 3\nchip_day: 4 USD\n")
    with pytest.raises(SpecError) as caught:
        read_prices(str(path), RentPrices)
    text = str(caught.value)
    assert f"{path}:2:1: chip_hour: needs a unit" in text
    assert f"{path}:3:1: chip_day" in text
    with pytest.raises(SpecError, match="kind"):
        read_prices("chiplet-cloud", RentPrices)
    with pytest.raises(SpecError, match="did you mean"):
        read_prices("rent-a1000", RentPrices)


def test_the_page_on_money_runs():
    assert doctest.testfile(str(ROOT / "docs/MONEY.md"), module_relative=False).failed == 0
