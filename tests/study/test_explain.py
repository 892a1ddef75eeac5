"""What moves the answer: elasticities against closed forms."""

import pytest
from by_rule import load

from dcsim.llm.program import Shape
from dcsim.study.explain import answers, as_json, can_move, explain, moved
from dcsim.study.machine import build

STEP = 1 / (1 - 0.1**2)  # (1/1.1 - 1/0.9) / -0.2: what a tenth both ways makes of an exact inverse


def elasticities(topology, *settings, metric="iteration_s", context=512):
    result = explain(load(topology, settings=list(settings)), Shape(1, context), metric)
    return {effect.key: effect.elasticity(metric, result.answer[metric]) for effect in result.effects}, result


def test_a_clock_a_tenth_faster_takes_a_tenth_of_the_cycles_time_off():
    # One LPU does not talk to others, so that all its time is cycles of its clock.
    effect, _ = elasticities("node", "mapping.tp=1", "mapping.pp=8", context=64)
    assert effect["chip.clock"] == pytest.approx(-STEP, rel=0.02)  # links alone keep seconds
    clock_up = answers_at("node", "chip.clock", 1.1) / answers_at("node", "chip.clock", 1.0)
    assert clock_up == pytest.approx(1 / 1.1, rel=0.02)


def answers_at(topology, key, factor):
    machine = build(load(topology).spec)
    spec = moved(machine.spec, tuple(key.split(".")), factor)
    return answers(machine.on(spec), Shape(1, 64))["iteration_s"]


def test_a_roofline_alone_on_its_chip_scales_as_a_whole():
    # T = sum of max(bytes/bandwidth, FLOP/rate) + kernels: all rates 10 % up and all kernels 10 % down is 10 % off,
    # so the elasticities of a homogeneous function add up (Euler).
    effect, _ = elasticities("wse-3")
    kernels = effect["chip.kernel"] + effect["chip.small_kernel"]
    rates = effect["chip.memory_bandwidth"] + effect["chip.fp16"]
    assert kernels - rates == pytest.approx(1, abs=0.005)
    assert effect["chip.memory_bandwidth"] == pytest.approx(effect["chip.memory_efficiency"], rel=1e-6)
    assert kernels > 0 > rates
    assert effect["chip.clock"] == pytest.approx(0, abs=1e-3)  # kernels are seconds, only rounded to cycles


def test_waiting_power_moves_energy_by_its_share_and_no_time():
    effect, result = elasticities("64chip", metric="energy_j")
    answer = result.answer
    waiting_j = 64 * load("64chip").spec.chip.power.wait_w * answer["iteration_s"]
    # More waiting draw costs while chips wait; while they work their own state's draw stands for it.
    assert 0 < effect["chip.power.wait"] < waiting_j / answer["energy_j"] + 1e-9
    time_effect, _ = elasticities("64chip")
    assert time_effect["chip.power.wait"] == 0


def test_every_figure_in_force_is_listed_with_its_source_and_the_widest_come_first():
    resolved = load("64chip")
    result = explain(resolved, Shape(1, 512))
    assert {effect.key for effect in result.effects} == {".".join(path) for path in resolved.figures}
    swings = [effect.swing("iteration_s") for effect in result.effects]
    assert swings == sorted(swings, reverse=True)
    assert swings[0] > 0
    assert all(effect.source and effect.kind for effect in result.effects)
    still = {effect.key for effect in result.effects if effect.swing("iteration_s") == 0}
    assert {"chip.price.buy", "host.cores", "node.fan"} <= still


def test_a_range_in_a_setting_is_no_figure_any_more():
    keys = {effect.key for effect in explain(load("64chip", settings=["network.link_cycles=200"]), Shape(1, 512)).effects}
    assert "network.link_cycles" not in keys
    assert "network.end_cycles" in keys


def test_moving_copies_rounds_and_leaves_the_rest():
    spec = load("64chip").spec
    other = moved(spec, ("chip", "fixed_cycles"), 1.1)
    assert (other.chip.fixed_cycles, spec.chip.fixed_cycles) == (462, 420)
    assert other.network is spec.network
    assert moved(spec, ("chip", "clock"), 0.5).chip.clock_hz == 450e6


def test_small_whole_numbers_and_text_cannot_move_by_a_tenth():
    spec = load("64chip").spec
    assert can_move(spec, ("chip", "clock"))
    assert can_move(spec, ("chip", "fixed_cycles"))
    assert not can_move(spec, ("chip", "matrix_planes"))
    assert not can_move(spec, ("network", "clock", "deskew"))


def test_json_and_tornado_show_the_same_bars():
    from dcsim.results.pictures import tornado

    content = as_json(explain(load("64chip"), Shape(1, 512)))
    top = content["figures"][0]
    figure = tornado(content)
    low = figure.data[0]
    assert low.y[-1] == top["key"]
    assert low.x[-1] == pytest.approx(top["low"]["iteration_s"] / content["answer"]["iteration_s"] - 1)


def test_a_librarys_costs_are_listed_and_move_the_answer():
    effect, result = elasticities("dgx-h100", "network.replications=1")
    library_keys = [key for key in effect if key.startswith("network.software.")]
    assert "network.software.island.patterns.0.step" in library_keys
    # A ring of eight takes 13 later steps in each of two all-reduces a layer; all that time is the library's.
    step = 160 * 13 * 0.12e-6 / result.answer["iteration_s"]
    assert effect["network.software.island.patterns.0.step"] == pytest.approx(step, rel=0.02)
    assert effect["network.software.network.send"] == 0


def test_what_a_network_names_is_part_of_the_run():
    from dcsim.study.scenario import run_hash

    def named(*settings):
        return run_hash(load("dgx-h100", settings=settings).spec.model_dump(mode="json", by_alias=True), 1)

    as_it_is = named()
    assert named() == as_it_is
    for setting in ("network.software.island.send=9 us", "network.jitter=host", "network.prices.cable=1 USD"):
        assert named(setting) != as_it_is
