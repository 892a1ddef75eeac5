"""A run may be looked at while it is under way, which changes nothing of it."""

import pytest

from dcsim.study.scenario import load


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_looking_at_a_run_changes_nothing_and_sees_what_its_rows_say(engine):
    looks = []
    case = load("64chip", duration="60 s", set=[f"engine={engine}", "power.sample=2 s"])
    watched, alone = case.run(1, watch=looks.append), case.run(1)
    assert watched.summary["digest"] == alone.summary["digest"]
    assert len(looks) > 2
    requests, power = alone.requests, alone.power
    for look in looks[1:]:
        arrived = int((requests["arrival_s"] <= look.time_s).sum())
        assert look.in_system + look.closed in (arrived, arrived + 1)  # the moment of an arrival may be before or after it
        assert 0 <= sum(look.decoding) <= look.in_system
        assert set(look.rack_w) <= set(power["power_w"]), "a reading of its meters"
    assert looks[-1].time_s > 30
    assert any(look.rack_w for look in looks)
