"""Power by part, level and moment: parts add up, energy is the integral, a cap at any level holds."""

import numpy as np
import pytest
from by_rule import load
from hypothesis import given, settings
from hypothesis import strategies as st

from dcsim.errors import SpecError
from dcsim.llm.program import Shape
from dcsim.power.chain import levels
from dcsim.study import power as study
from dcsim.study.machine import build

SMALL = ("64chip", "dgx-h100")


@pytest.mark.parametrize("name", SMALL)
def test_parts_add_up_to_the_site_at_every_load(name):
    result = study.power(
        build(load(name, settings=["power=hall", "network.replications=1"][: 1 + (name != "64chip")]).spec), Shape(1, 2048)
    )
    for load_ in result["loads"]:
        assert sum(load_["parts_w"].values()) == pytest.approx(load_["power_w"])
        assert min(load_["parts_w"].values()) >= 0
    idle, alone, full = (load_["power_w"] for load_ in result["loads"])
    assert idle < alone <= full


def test_levels_read_what_is_below_them_and_what_is_lost():
    spec = load("8rack", settings=["power=hall", "power.racks_per_pdu=3", "power.pdus_per_hall=2"]).spec
    chain = {level.name: level for level in levels(spec, 8)}
    parts = np.linspace(1000.0, 2000.0, 8)
    readings = {name: level.meter_w(parts) for name, level in chain.items()}
    assert [len(reading) for reading in readings.values()] == [8, 3, 2, 1]
    assert readings["pdu"].sum() == pytest.approx(readings["rack"].sum() / 0.98)
    assert readings["hall"].sum() == pytest.approx(readings["pdu"].sum() / 0.95)
    assert readings["site"][0] == pytest.approx(readings["rack"].sum() * 1.3)


def test_losses_beyond_the_pue_are_refused():
    with pytest.raises(SpecError, match="losses of PDUs and UPS alone"):
        load("8rack", settings=["power.pue=1.01", "power.ups_efficiency=0.9"])


@given(
    spans=st.lists(st.tuples(st.integers(0, 1), st.floats(0, 5), st.floats(0.01, 5), st.floats(1, 100)), min_size=1, max_size=8),
    bins=st.integers(1, 20),
    period=st.floats(0.5, 4),
)
@settings(max_examples=60, deadline=None)
def test_folded_power_keeps_its_energy(spans, bins, period):
    racks, start, length, watts = (np.array(column) for column in zip(*spans, strict=True))
    drawn = np.zeros((2, bins))
    study._spread(drawn, racks, start, start + length, watts, period)
    for rack in (0, 1):
        energy = (length * watts)[racks == rack].sum()
        assert drawn[rack].sum() * period / bins == pytest.approx(energy, rel=1e-9, abs=1e-9)
    assert (drawn > -1e-9).all()


def test_a_lone_stage_swings_by_its_chips_matrix_draw():
    """One micro-batch works on one stage at a time, whose chips go from waiting to matrix work and back."""
    machine = build(load("64chip", settings=["mapping.tp=8", "mapping.pp=8"]).spec)
    spec = machine.spec
    alone = study.power(machine, Shape(1, 2048))["loads"][1]
    most = 8 * (spec.chip.power.matrix_w - spec.chip.power.wait_w) / spec.node.supply_efficiency
    assert alone["rack_swing_w"] == pytest.approx(most, rel=1e-6)
