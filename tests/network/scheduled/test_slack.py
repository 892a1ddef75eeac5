"""The least slack that is safe: a fixed point at compile time, enough for clocks however drawn; less is refused."""

import json

import numpy as np
import pytest
from by_rule import load
from command import dcsim

from dcsim.errors import SpecError
from dcsim.fabric.build import build_fabric
from dcsim.llm.program import Shape
from dcsim.network.scheduled.clocks import drifting_clocks, slack_needed_cycles
from dcsim.network.scheduled.slack import Margins, counter_errors, deskew_points, least_slack, longest_stretch, margins_of
from dcsim.study.machine import build
from dcsim.study.schedule import schedule

SHIPPED = ["node", "64chip", "1rack", "264chip", "8rack", "1500chip"]
DECODE, MANY, CHUNK, PROMPT = Shape(1, 1024), Shape(8, 1024), Shape(1, 512, 128), Shape(1, 512, 512)


def clock(**changes):
    return load("64chip").spec.network.clock.model_copy(update=changes)


def test_without_noise_or_drift_only_the_rounding_of_counters_is_left():
    fabric = build_fabric(load("64chip").spec.fabric)
    margins = margins_of(fabric, clock(drift=0.0, jitter_cycles=0, jitter_max_cycles=0))
    assert (margins.counters_cycles, margins.drift, margins.jitter_cycles) == (0, 0, 0)
    assert margins.slack_cycles(10**9) == 0


def test_counters_are_further_apart_the_deeper_in_the_tree():
    late, spread = counter_errors(clock(), 7)
    assert (np.diff(late) > 0).all()
    assert (np.diff(spread) > 0).all()
    assert (late[0], spread[0]) == (0, 0)


def test_less_risk_takes_more_slack():
    fabric = build_fabric(load("64chip").spec.fabric)
    apart = [margins_of(fabric, clock(late_rate=rate)).counters_cycles for rate in (1e-3, 1e-9, 1e-15)]
    assert apart == sorted(apart)
    assert apart[0] < apart[2]


def test_counters_that_cannot_follow_their_crystals_are_refused():
    fabric = build_fabric(load("64chip").spec.fabric)
    with pytest.raises(SpecError, match="a counter moves one at each"):
        margins_of(fabric, clock(drift=1e-4, exchange_cycles=5000))


def test_the_fixed_point_is_the_first_that_its_own_program_does_not_exceed():
    """A program of 100,000 cycles and 1,000 hops: each cycle of slack adds 1,000, and 1,000 add a fifth of a cycle of drift."""
    margins = Margins(counters_cycles=10.0, drift=2e-4, jitter_cycles=11)

    def stretch(slack):
        return 100_000 + 1000 * slack

    slack, program = least_slack(margins, margins.slack_cycles(0), lambda slack: slack, stretch)
    assert slack == program
    assert margins.slack_cycles(stretch(slack)) <= slack
    assert all(margins.slack_cycles(stretch(less)) > less for less in range(slack))


def test_stretches_between_points():
    starts = np.array([0, 10_000, 60_000, 70_000])
    each = deskew_points(clock(), starts, [2, 2], 75_000)
    assert each.tolist() == [10_000, 30_000, 50_000, 60_000, 70_000]
    assert longest_stretch(each, 75_000) == 20_000
    stages = deskew_points(clock(deskew="stage"), starts, [2, 2], 75_000)
    assert (stages.tolist(), longest_stretch(stages, 75_000)) == ([60_000], 60_000)
    none = deskew_points(clock(deskew="iteration"), starts, [2, 2], 75_000)
    assert (none.tolist(), longest_stretch(none, 75_000)) == ([], 75_000)


@pytest.mark.parametrize("deskew", ["layer", "stage", "iteration"])
def test_what_auto_finds_is_accepted_and_a_cycle_less_is_not(deskew):
    def machine(slack):
        settings = [f"network.clock.slack_cycles={slack}", f"network.clock.deskew={deskew}", "mapping.tp=8", "mapping.pp=8"]
        return build(load("64chip", settings=settings).spec)

    found = schedule(machine("auto"), DECODE)
    slack = found["slack_cycles"]
    assert schedule(machine(slack), DECODE)["makespan_cycles"] == found["makespan_cycles"]
    with pytest.raises(SpecError, match=rf"network.clock.slack_cycles: {slack - 1} cycles are too few, {slack} are needed"):
        machine(slack - 1).time(DECODE)


COMMANDS = ["run", "capacity", "plan", "iteration", "schedule", "collective", "power", "topology"]
BESIDES = {"plan": ["--tokens-per-s", "1000", "--tokens-per-s-per-user", "100"]}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_less_than_is_needed(command, tmp_path):
    arguments = [command, "64chip", *BESIDES.get(command, []), "--set", "network.clock.slack_cycles=12"]
    code, out, err = dcsim(*arguments, cwd=tmp_path)
    assert (code, out) == (2, "")
    assert "12 cycles are too few, 35 are needed" in err
    assert "give 35 or more, or `auto`" in err


def test_receivers_that_hold_too_little_are_refused():
    """35 cycles of slack: a vector waits up to 70, and two more come meanwhile, one every 24."""

    def machine(vectors):
        settings = [f"network.receive_vectors={vectors}", "mapping.tp=8", "mapping.pp=8"]
        return build(load("64chip", settings=settings).spec)

    slack = machine("auto").network.schedule(DECODE).figures.slack_cycles
    needed = 2 * slack // 24 + 1
    assert machine("auto").network.schedule(DECODE).figures.receive_vectors == needed
    assert machine(needed).time(DECODE) == machine(needed + 9).time(DECODE) == machine("auto").time(DECODE)
    with pytest.raises(SpecError, match=rf"network.receive_vectors: {needed - 1} are too few, {needed} are needed"):
        machine(needed - 1).time(DECODE)


@pytest.mark.parametrize("name", SHIPPED[:4])
@pytest.mark.parametrize("shape", [DECODE, MANY, CHUNK], ids=["decode", "many", "chunk"])
def test_shipped_topologies_pass_their_own_replay(name, shape):
    result = schedule(build(load(name).spec), within(name, shape))
    assert result["replay_drifting_cycles"] == result["replay_cycles"] == result["makespan_cycles"]
    assert result["slack_cycles_min"] <= result["slack_cycles"]
    assert result["slack_cycles"] < result["early_cycles_max"] <= 2 * result["slack_cycles"]


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("shape", [DECODE, MANY, CHUNK, PROMPT], ids=["decode", "many", "chunk", "prompt"])
def test_shipped_topologies_are_safe_for_many_clocks(name, shape):
    machine = build(load(name).spec)
    compiled, fabric = machine.network.schedule(within(name, shape)), machine.fabric
    figures = compiled.figures
    for seed in range(1, 6):
        drawn = drifting_clocks(fabric, machine.spec.network.clock, seed, compiled.deskew, compiled.schedule)
        assert slack_needed_cycles(compiled.schedule, fabric, drawn, figures.link_cycles) <= figures.slack_cycles


@pytest.mark.slow
def test_a_prompt_on_1500_chips_passes_its_own_replay(tmp_path):
    code, out, _ = dcsim("schedule", "1500chip", "--prefill", "512", "--json", cwd=tmp_path)
    result = json.loads(out)
    assert code == 0
    assert result["replay_drifting_cycles"] == result["makespan_cycles"]


def within(name, shape):
    """The shape, or one as long as the LLM of the topology reads."""
    most = load(name).spec.llm.context_max
    context = min(shape.context, most)
    return Shape(shape.batch, context, min(shape.new_tokens, context))
