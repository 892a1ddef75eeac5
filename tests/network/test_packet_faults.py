"""Cables that fail, slow down and are mended at given times: packets go round them, or the run says who is cut off."""

import json

import numpy as np
import pytest
from by_rule import load
from command import dcsim
from packet_runs import run_packets

from dcsim.errors import FabricError
from dcsim.llm.program import Shape
from dcsim.network.packet.engine.engine import Engine
from dcsim.network.packet.iteration import Attached, packet_tasks
from dcsim.network.packet.rules_of import faults_of, layers_of, software_of
from dcsim.network.packet.switches import attach
from dcsim.study.machine import build


@pytest.fixture(scope="module")
def machine():
    return build(load("64chip").spec)


def spec(*faults, extra=()):
    """64 chips on InfiniBand, on switches of 16 ports: eight leaves, with two cables to each of four others."""
    settings = ["network.switch_ports=16", *extra, f"network.faults={json.dumps(list(faults))}"]
    return load("64chip", network="infiniband-ndr", settings=["network.software=ideal", *settings]).spec


def latencies(machine, *faults, count=3, extra=()):
    return run_packets(spec(*faults, extra=extra), machine.fabric, machine.mapping, Shape(1, 1024), count).latency_ps


def test_a_lost_adapter_cuts_off_its_chip_if_it_is_the_only_one(machine):
    with pytest.raises(FabricError, match=r"chip 3 is cut off from chip .*down"):
        latencies(machine, {"at": "1 us", "chip": 3})


def test_with_several_adapters_the_others_take_over(machine):
    radix = ("network.fairness=equal_radix",)
    whole, lost = latencies(machine, extra=radix), latencies(machine, {"at": "0 s", "chip": 3, "adapter": 2}, extra=radix)
    assert lost.mean() == pytest.approx(whole.mean(), rel=0.01)


def test_a_cable_between_switches_is_avoided(machine):
    """Port 8 of leaf 0 leads up: after it fails no byte crosses it, and all others share the load."""
    down = spec({"at": "0 s", "switch": 0, "port": 8})
    network, fabric = attach(down.network, machine.fabric)
    layers = layers_of(network, fabric)
    (fault,) = faults_of(network, fabric)
    assert fabric.link_source[fault.link] == 64
    assert fabric.link_target[fault.link] >= 64 + 8
    tasks = packet_tasks(Attached(down, network, fabric, layers), machine.mapping, Shape(1, 1024))
    engines = {faults: Engine(fabric, layers.figures, tasks, software_of(layers), faults=faults) for faults in ((), (fault,))}
    used = {faults: engine.iteration().links.bytes for faults, engine in engines.items()}
    assert used[(fault,)][[fault.link, fabric.reverse[fault.link]]].sum() == 0
    up = (fabric.link_source == 64) & (fabric.link_target >= 64)
    assert used[(fault,)][up].sum() == used[()][up].sum() > 0


def test_a_slow_cable_slows_and_a_mended_one_does_not(machine):
    base = latencies(machine)
    slow = latencies(machine, {"at": "0 s", "chip": 3, "speed_fraction": 0.1})
    mended = latencies(machine, {"at": "0 s", "chip": 3, "speed_fraction": 0.1}, {"at": "50 us", "chip": 3, "speed_fraction": 1})
    assert slow.min() > base.max()
    assert base[0] <= mended[0] < slow[0]
    assert np.array_equal(mended[1:], base[1:])


def test_a_fault_strikes_at_its_time(machine):
    base = latencies(machine)
    later = latencies(machine, {"at": f"{base[0] * 1.01e-6} us", "chip": 3, "speed_fraction": 0.1})
    assert later[0] == base[0]
    assert later[2] > base[2]


@pytest.mark.parametrize(
    ("fault", "wrong"),
    [
        ({"chip": 300}, "no chip 300: there are 64"),
        ({"chip": 5, "adapter": 1}, "chip 5 has no adapter 1: there are 1"),
        ({"switch": 12}, "no switch 12: there are 12"),
        ({"switch": 0, "port": 16}, "switch 0 has no port 16"),
        ({}, "needs a chip"),
        ({"chip": 1, "switch": 1}, "needs a chip"),
    ],
)
def test_parts_that_are_not_there_are_named(machine, fault, wrong):
    with pytest.raises(FabricError, match=wrong):
        latencies(machine, {"at": "0 s", **fault})


def test_the_command_line_says_who_is_cut_off(tmp_path):
    options = ("--interconnect", "infiniband-ndr", "--replications", "1", "--set", 'network.faults=[{at: "0 s", chip: 3}]')
    code, _, err = dcsim("compare", "64chip", *options, cwd=tmp_path)
    assert code == 2
    assert "is cut off from chip 3: links on every way there are down" in err
