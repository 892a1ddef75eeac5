"""Comparisons of interconnects: rows, waterfalls, intervals, reasons, sizes, patterns, users."""

import json
import re
import time

import numpy as np
import pytest
from by_rule import RULE, compare, load

from dcsim.errors import SpecError
from dcsim.llm.program import Shape
from dcsim.network.timing import PARTS
from dcsim.study.compare import PACKETS_MAX, correlation, half_width
from dcsim.study.scale import largest_llm, scale, size_settings
from dcsim.study.traffic import FlowsAsked, three_tier_radix, traffic

SHAPE = Shape(1, 1024)
LIBRARIES = ("ideal", "verbs", "nccl", "posted")
FEW = ("network.replications=4",)
ALL = ("--set", RULE, "--same-mapping")


@pytest.fixture(scope="module")
def result():
    return compare("64chip", ["scheduled", "infiniband-ndr", "roce-400g"], SHAPE, packet_settings=FEW)


def test_one_row_for_the_schedule_and_four_for_each_packet_network(result):
    rows = [(row["interconnect"], row["software"]) for row in result["candidates"]]
    packets = [(name, software) for name in ("infiniband-ndr", "roce-400g") for software in LIBRARIES]
    assert rows == [("scheduled", None), *packets]
    assert result["gpu_library"] == "nccl"  # what a GPU's would cost; the last is the chips' own
    keys = {"iteration_s_mean", "iteration_s_p50", "iteration_s_p99", "iteration_s_p999", "tokens_per_s_per_user", "waterfall_s"}
    assert all(keys <= set(row) for row in result["candidates"])
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_waterfalls_sum_to_the_mean_and_gaps_to_the_gap(result):
    first = result["candidates"][0]
    for row in result["candidates"]:
        assert tuple(row["waterfall_s"]) == PARTS
        assert sum(row["waterfall_s"].values()) == pytest.approx(row["iteration_s_mean"], rel=1e-6)
        gap_s = row["iteration_s_mean"] - first["iteration_s_mean"]
        assert sum(row["gap_s"].values()) == pytest.approx(gap_s, abs=2e-9)
        assert row["waterfall_s"]["other"] < 0.01 * row["iteration_s_mean"]
        assert row["tokens_per_s_per_user"] == pytest.approx(1 / row["iteration_s_mean"])
        assert row["iteration_s_p50"] <= row["iteration_s_p99"] <= row["iteration_s_p999"]


def test_the_networks_share_is_what_an_ideal_network_saves(result):
    """Compute and cables are left: what a row takes beyond them, to a hundredth of its time."""
    shares = [row["network_p99_fraction"] for row in result["candidates"]]
    assert 0 < shares[0] < shares[1] < shares[2] < shares[3] < 1
    for row in result["candidates"][1:3]:
        kept_s = row["waterfall_s"]["compute"] + row["waterfall_s"]["wire"]
        assert row["network_p99_fraction"] == pytest.approx(1 - kept_s / row["iteration_s_p99"], abs=0.01)


def test_an_island_is_ideal_too():
    row = compare("dgx-h100", ["infiniband-ndr"], SHAPE, packet_settings=FEW)["candidates"][0]
    ends_s = sum(row["waterfall_s"][part] for part in ("switch", "serialisation", "queueing", "slowest"))
    assert row["network_p99_fraction"] == pytest.approx(ends_s / row["iteration_s_p99"], rel=0.1)


def test_libraries_cost_what_their_part_says_and_the_wire_stays(result):
    none, verbs, nccl = result["candidates"][1:4]
    added_s = verbs["iteration_s_mean"] - none["iteration_s_mean"]
    assert added_s == pytest.approx(verbs["waterfall_s"]["software"], rel=0.02)
    assert verbs["waterfall_s"]["switch"] == pytest.approx(none["waterfall_s"]["switch"], rel=0.02)
    assert nccl["waterfall_s"]["software"] > 5 * verbs["waterfall_s"]["software"]


def test_every_candidate_has_the_chips_bandwidth_and_the_same_mapping(result):
    rows = result["candidates"]
    assert [row["chip_bytes_per_s"] for row in rows] == pytest.approx([137.5e9] * len(rows))
    assert {(row["tp"], row["pp"]) for row in rows} == {(result["tp"], result["pp"])}
    assert rows[0]["adapters"] == 0
    assert rows[1]["adapters"] == 3 * 64
    assert rows[1]["network_w"] == pytest.approx(192 * 25 + 192 * 15)  # one switch tier: a port for each adapter


def test_equal_cost_spends_the_same_on_every_interconnect():
    rows = compare(
        "64chip",
        ["scheduled", "infiniband-ndr", "slingshot", "nvlink4"],
        SHAPE,
        packet_settings=[*FEW, "network.fairness=equal_cost"],
    )
    assert rows["fairness"] == "equal_cost"
    usd = [row["network_usd"] for row in rows["candidates"]]
    assert usd[0] == 352 * 150
    assert usd == pytest.approx([usd[0]] * len(usd), rel=0.05)  # whole adapters and ports
    assert [row["ports_per_chip"] < 1 for row in rows["candidates"][1::4]] == [True, True, False]  # NVLink has no adapters


def test_less_bandwidth_for_the_money_makes_prompts_slower():
    rows = [
        compare(
            "64chip",
            ["infiniband-ndr"],
            Shape(1, 128, 128),
            packet_settings=["network.replications=1", f"network.fairness={choice}"],
        )["candidates"][0]
        for choice in ("equal_bandwidth", "equal_cost")
    ]
    assert rows[1]["iteration_s_mean"] > 1.2 * rows[0]["iteration_s_mean"]
    assert rows[1]["network_usd"] < rows[0]["network_usd"]


def test_a_bad_name_is_found_before_anything_is_timed():
    said = []
    with pytest.raises(SpecError, match="infiniband-ndr"):
        compare("64chip", ["scheduled", "infinband-ndr"], SHAPE, progress=said.append)
    assert said == []


@pytest.mark.parametrize("name", ["dgx-h100", "h100x16"])
def test_systems_with_islands_are_compared_too(name):
    rows = compare(name, ["infiniband-ndr", "roce-400g"], SHAPE, packet_settings=["network.replications=1"])
    times = [row["iteration_s_mean"] for row in rows["candidates"]]
    if name == "dgx-h100":  # nothing leaves the island
        assert times[0] == pytest.approx(times[3], rel=1e-3)
        assert rows["candidates"][0]["adapters"] == 0
    else:
        assert rows["candidates"][0]["adapters"] == 16
        assert times[0] != times[3]


def test_the_order_of_candidates_changes_no_time(result):
    turned = compare("64chip", ["infiniband-ndr", "scheduled"], SHAPE, packet_settings=FEW)
    times = {(row["interconnect"], row["software"]): row["iteration_s_mean"] for row in result["candidates"]}
    for row in turned["candidates"]:
        assert row["iteration_s_mean"] == times[row["interconnect"], row["software"]]


def test_identical_candidates_are_explained(tmp_path, result):
    assert result["identical"] == []
    twin = tmp_path / "twin.yaml"
    twin.write_text("base: infiniband-ndr\nname: twin\nport: {value: 9 USD, kind: assumed, source: test}\n")
    same = compare("64chip", ["infiniband-ndr", str(twin)], SHAPE, packet_settings=FEW)["identical"]
    assert len(same) == 4  # each library with itself
    assert all("differ only in port_usd" in reason for reason in same)
    again = compare("64chip", ["scheduled", "scheduled"], SHAPE)["identical"]
    assert again == ["scheduled and scheduled take the same time: they are the same network"]


def test_a_program_without_messages_is_explained():
    alone = compare(
        "node",
        ["infiniband-ndr"],
        Shape(1, 128, 128),
        llm="bert-large",
        settings=["mapping.tp=1", "mapping.pp=1", "chip.memory=1 GB"],
        packet_settings=FEW,
    )
    assert any("sends nothing" in reason for reason in alone["identical"])


def test_jitter_and_load_slow_packets_down_and_leave_the_schedule_alone():
    disturbed = ('network.jitter="host"', "network.load_fraction=0.3", "network.replications=20")
    calm = compare("64chip", ["scheduled", "infiniband-ndr"], SHAPE, packet_settings=FEW)["candidates"]
    busy = compare("64chip", ["scheduled", "infiniband-ndr"], SHAPE, packet_settings=disturbed)["candidates"]
    assert busy[0]["iteration_s_mean"] == calm[0]["iteration_s_mean"]
    assert busy[1]["iteration_s_mean"] > calm[1]["iteration_s_mean"] + 3 * busy[1]["iteration_s_interval"]
    assert busy[1]["waterfall_s"]["jitter"] > 0
    assert busy[1]["iteration_s_interval"] > 0


def test_few_iterations_do_where_nothing_disturbs_them():
    """A fifth of the iterations, and a mean within a millionth; with traffic beside it, all are simulated."""

    def row_of(packets_max, *settings):
        return compare("64chip", ["infiniband-ndr"], SHAPE, packets_max=packets_max, packet_settings=settings)["candidates"][0]

    few, many = row_of(PACKETS_MAX), row_of(0)
    assert (few["replications"], many["replications"]) == (20, 100)
    assert few["iteration_s_mean"] == pytest.approx(many["iteration_s_mean"], rel=1e-6)
    assert row_of(PACKETS_MAX, 'network.jitter="host"')["replications"] > 20


def test_unknown_networks_are_named():
    with pytest.raises(SpecError, match="infiniband-ndr"):
        compare("64chip", ["infiniband-nd"], SHAPE)
    with pytest.raises(SpecError, match="at least one"):
        compare("64chip", [], SHAPE)


def test_intervals_cover_the_mean_as_often_as_they_say():
    """Independent normal values: the 95 % interval holds the true mean in 95 % of cases."""
    random = np.random.default_rng(7)
    samples = random.normal(5.0, 1.0, (2000, 100))
    held = [abs(sample.mean() - 5.0) <= half_width(sample) for sample in samples]
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)
    assert half_width(np.array([1.0])) == 0.0


def test_intervals_widen_with_correlation():
    """An AR(1) series of coefficient 0.8: blocks of ten see most of it, values one by one none."""
    random = np.random.default_rng(8)
    noise = random.normal(size=(500, 100))
    series = np.zeros_like(noise)
    for i in range(1, 100):
        series[:, i] = 0.8 * series[:, i - 1] + noise[:, i]
    blocks = np.mean([half_width(row) for row in series])
    naive = np.mean([1.96 * row.std(ddof=1) / 10 for row in series])
    assert blocks > 1.8 * naive
    assert np.mean([correlation(row) for row in series]) == pytest.approx(0.8, abs=0.1)
    assert correlation(np.ones(10)) is None


def test_sizes_follow_the_packaging():
    assert size_settings("8rack", 264, ()) == ["fabric.nodes=33", "fabric.racks=0", "mapping.chips_max=264"]
    assert size_settings("8rack", 272, ())[0] == "fabric.racks=5"
    assert size_settings("8rack", 512, ())[0] == "fabric.racks=8"
    assert largest_llm("8rack", ["llama-3-8b", "falcon-180b"], size_settings("8rack", 64, ())) == "llama-3-8b"
    assert largest_llm("8rack", ["falcon-180b"], size_settings("8rack", 64, ())) is None


def test_scale_compares_each_size_with_its_own_first():
    found = scale(
        "8rack",
        ["scheduled", "infiniband-ndr"],
        SHAPE,
        sizes=[8, 64, 128],
        settings=[RULE],
        same_mapping=True,
        packet_settings=FEW,
    )
    assert found["no_llm_fits"] == [8]
    assert [row["chips"] for row in found["rows"]] == [64] * 5 + [128] * 5
    assert [row["slower_than_first_ratio"] for row in found["rows"]][::5] == [1.0, 1.0]
    assert all(row["chips_used"] <= row["chips"] for row in found["rows"])


def test_three_tiers_have_the_radix_of_the_textbook():
    assert three_tier_radix(1024) == 16
    assert three_tier_radix(1025) == 18
    assert three_tier_radix(2) == 2


def test_a_permutation_counts_its_packets_and_loses_none():
    done = traffic(None, "infiniband-hdr", FlowsAsked("perm", 128, 64 * 1024))
    assert done["packets"] == 128 * 16
    assert 2 * done["packets"] <= done["packet_hops"] <= 6 * done["packets"]
    assert done["drops"] == 0
    wire_s = 16 * (4096 + 26) / 25e9
    assert wire_s < done["flow_s_p50"] <= done["flow_s_p99"] <= done["finish_s"]
    again = traffic(None, "infiniband-hdr", FlowsAsked("perm", 128, 64 * 1024))
    assert again["finish_s"] == done["finish_s"]


def test_an_incast_takes_what_the_last_link_takes():
    """k flows of S bytes on one link of rate B: k S / B, and the way there."""
    done = traffic(None, "infiniband-hdr", FlowsAsked("incast", 16, 256 * 1024))
    link_s = 15 * 64 * (4096 + 26) / 25e9
    assert done["finish_s"] == pytest.approx(link_s, rel=0.03)
    assert done["link_use_fraction_max"] > 0.95


@pytest.mark.parametrize("pattern", ["uniform", "adversarial", "all_to_all"])
def test_patterns_run_on_a_topology_and_on_each_kind_of_network(pattern):
    assert traffic("64chip", "roce-400g", FlowsAsked(pattern, 64, 8192))["drops"] == 0
    lossy = traffic(None, "ethernet-100g", FlowsAsked(pattern, 32, 8192))
    assert lossy["packets"] == lossy["flows"] * 6


def test_traffic_says_what_it_cannot_do():
    with pytest.raises(SpecError, match="perm"):
        traffic(None, "infiniband-hdr", FlowsAsked("swirl", 16, 1024))
    with pytest.raises(SpecError, match="64 chips"):
        traffic("64chip", "infiniband-hdr", FlowsAsked("perm", 65, 1024))
    with pytest.raises(SpecError, match="no packets"):
        traffic("64chip", "scheduled", FlowsAsked("perm", 16, 1024))


def test_users_see_the_network_and_pay_for_headroom():
    served = compare(
        "64chip",
        ["scheduled", "infiniband-ndr"],
        SHAPE,
        packet_settings=("network.replications=2",),
        settings=["serving.draw_block=2"],
        serve="5 s",
    )["users"]
    scheduled, none, verbs, nccl, own = served
    assert scheduled["headroom_chips"] == 1.0
    assert 0 < scheduled["network_tpot_p99_fraction"] < none["network_tpot_p99_fraction"] < verbs["network_tpot_p99_fraction"]
    assert nccl["network_tpot_p99_fraction"] > 0.5
    assert 1 < none["headroom_chips"] < verbs["headroom_chips"] < nccl["headroom_chips"]
    assert own["headroom_chips"] <= verbs["headroom_chips"]  # the same writes, small sums in one step


def test_other_traffic_reaches_the_users_tail():
    """More of p99 TPOT is the network's, and holding the SLO takes more chips, when hosts share the links."""
    served = []
    for gbps in (0, 60):
        host = [f"network.background.host={gbps} GB/s"] if gbps else []
        rows = compare(
            "64chip",
            ["scheduled", "infiniband-ndr"],
            SHAPE,
            packet_settings=["network.replications=3", *host],
            settings=["serving.batch_buckets=[1,8]"],
            serve="1 s",
        )["users"]
        served.append(rows[1])
    quiet, busy = served
    assert busy["network_tpot_p99_fraction"] > quiet["network_tpot_p99_fraction"] > 0
    assert busy["tpot_s_p99"] > quiet["tpot_s_p99"]
    assert busy["headroom_chips"] > quiet["headroom_chips"] > 1


def test_commands_print_json_and_tables(capsys):
    from dcsim.cli import app

    two = ["compare", "64chip", "--interconnect", "scheduled,infiniband-ndr", "--replications", "2", *ALL]
    app([*two, "--json"], standalone_mode=False)
    assert len(json.loads(capsys.readouterr().out)["candidates"]) == 5
    app(two, standalone_mode=False)
    assert "infiniband-ndr nccl" in capsys.readouterr().out
    app(["scale", "8rack", "--sizes", "64", "--replications", "2", *ALL], standalone_mode=False)
    assert "Llama-3-8B" in capsys.readouterr().out
    app(["traffic", "--endpoints", "16", "--bytes", "8KiB", "--json"], standalone_mode=False)
    found = json.loads(capsys.readouterr().out)
    keys = {"finish_s", "packets", "packet_hops", "packet_hops_per_wall_s", "flow_s_p50", "flow_s_p99", "drops", "pauses"}
    assert keys <= set(found)


def test_tables_fit_their_hundred_columns(capsys):
    """Jitter adds a column to the waterfall; drops, pauses and other traffic are lines of their own."""
    from dcsim.cli import app

    disturbed = ["--jitter", "host", "--load", "0.3", "--replications", "2", "--interconnect", "scheduled,infiniband-ndr"]
    app(["compare", "64chip", *disturbed, *ALL], standalone_mode=False)
    app(["scale", "8rack", "--sizes", "64", *disturbed, *ALL], standalone_mode=False)
    printed = capsys.readouterr().out
    assert "other traffic on the busiest link: infiniband-ndr 30.0 %" in printed
    assert "jitter host: Excess over the minimum" in printed
    assert "\N{HORIZONTAL ELLIPSIS}" not in printed


def test_the_pictures_show_every_candidate(result):
    from dcsim.results.pictures import scale as draw
    from dcsim.results.pictures import waterfall

    bars = waterfall(result["candidates"])
    software = next(trace for trace in bars.data if trace.name == "software")
    assert sum(software.x) == pytest.approx(1e6 * sum(row["waterfall_s"]["software"] for row in result["candidates"]))
    lines = draw([{**row, "chips": 64, "llm": "x"} for row in result["candidates"]])
    assert len(lines.data) == len(result["candidates"])


def test_comparisons_of_searched_mappings_name_each_winner_the_next_best_and_what_binds(capsys):
    """Mappings as `compare` and `scale` print them, on a node of which every search is quick."""
    from dcsim.cli import app

    small = ("--interconnect", "scheduled,infiniband-ndr", "--replications", "1", "--set", "workload.duration=60 s")
    app(["compare", "node", *small, "--objective", "latency", "--json"], standalone_mode=False)
    rows = json.loads(capsys.readouterr().out)["candidates"]
    assert {row["objective"] for row in rows} == {"latency"}
    app(
        ["scale", "8rack", *small, "--sizes", "8", "--llm", "bert-large", "--context", "128", "--objective", "latency"],
        standalone_mode=False,
    )
    printed = " ".join(capsys.readouterr().out.split())
    for network in ("scheduled", "infiniband-ndr"):
        assert re.search(rf"8 chips, {network}[^:]*: best for latency of \d+ mappings: tp \d+, pp \d+ with [\d.]+ us", printed)
    assert printed.count("bound by") >= 2


@pytest.mark.parametrize("cores", [1, 2])
def test_a_comparison_asked_again_is_read_and_says_the_same(monkeypatch, tmp_path, cores):
    """Whether one process simulated it or several; what it read of the spec counts as read all the same."""
    from dcsim.network.packet.network import SimulatedNetwork
    from dcsim.network.scheduled.network import CompiledNetwork
    from dcsim.study import candidate

    monkeypatch.setattr(candidate, "free_cores", lambda: cores)
    never_asked = f"name={tmp_path.name}-{time.time_ns()}"
    settings = ["mapping.tp=4", "mapping.pp=2", "network.jitter=host", "network.replications=4", "host.cores=100", never_asked]

    def ask():
        return compare("node", ["scheduled", "roce-400g"], Shape(1, 128), settings=settings)

    first = ask() if cores == 1 else None
    for network in (SimulatedNetwork, CompiledNetwork):
        monkeypatch.setattr(network, "iterations", None)
    second = ask()
    assert second == (first or ask())
    assert second["unused_keys"]


def test_answers_kept_are_of_the_question(tmp_path):
    from dcsim.study import candidate
    from dcsim.study.machine import build

    never_asked = f"name={tmp_path.name}-{time.time_ns()}"

    def machine(*settings):
        return build(load("node", settings=[*settings, never_asked]).spec)

    narrow = "mapping.tp=4", "mapping.pp=2"
    asked = [
        (machine(*narrow), Shape(1, 128)),
        (machine(*narrow), Shape(1, 128, 64)),
        (machine("mapping.tp=2", "mapping.pp=4"), Shape(1, 128)),
        (machine(*narrow, "chip.fixed_cycles=1000"), Shape(1, 128)),
    ]
    simulated = [int(one.network.iterations(shape).latency_ps[0]) for one, shape in asked]
    assert len(set(simulated)) == len(asked)
    for _ in range(2):  # simulated, then read
        assert [int(candidate.iterations_of(*one).latency_ps[0]) for one in asked] == simulated
