"""The mapping is what serves a stated objective best: searched for, named, kept, and held against all others."""

import json
from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import pytest

from dcsim.cli import app
from dcsim.errors import CapacityError, DcsimError
from dcsim.kernels import kept
from dcsim.llm.mapping import Layout, choices, lay
from dcsim.llm.program import Shape
from dcsim.spec.load import load
from dcsim.spec.topology import Topology
from dcsim.study import found, search
from dcsim.study.capacity import meets
from dcsim.study.machine import active_nodes, build, with_chunk
from dcsim.study.serve import serve_on

# What is asked of a workload here: few requests, and a rate that small machines are busy with.
QUICK = ("workload.duration=300 s", "mapping.objective=capacity")
LONG = ("workload.lengths.prompt_tokens.max=5000", "workload.lengths.prompt_tokens.fixed=3000")
NETWORKS = ("scheduled", "infiniband-ndr")
SEARCHED = ("mapping.tp=auto", "mapping.pp=auto")


@pytest.fixture(autouse=True)
def answers(monkeypatch):
    """Answers are kept for this test alone, in memory; kernels are where they always are."""
    known = {}
    own = SimpleNamespace(read=lambda *name: known.get(name), write=lambda *name: known.__setitem__(name[:-1], name[-1]))
    monkeypatch.setattr(found, "kept", own)
    return known


def spec_of(*settings, topology="64chip", network="scheduled", llm=None):
    return load(topology, network=network, llm=llm, settings=[*QUICK, *settings]).spec


def choice_of(machine):
    mapping = machine.mapping
    return mapping.tp, mapping.pp, mapping.replicas, machine.chunk_tokens


def test_with_an_slo_the_objective_is_capacity_and_without_one_latency():
    spec = load("64chip", settings=[QUICK[0]]).spec
    assert (spec.mapping.objective, build(spec).found.objective) == ("auto", "capacity")
    without = Topology.model_validate({name: getattr(spec, name) for name in spec.model_fields_set - {"slo"}})
    assert build(without).found.objective == "latency"


def test_degrees_given_and_rules_are_not_searched_for():
    given = build(load("64chip", settings=["mapping.tp=8", "mapping.pp=8", "mapping.objective=cost"]).spec)
    assert (given.found, given.chosen["objective"]) == (None, "given")
    by_rule = build(load("64chip", settings=["mapping.rule=inside_nodes"]).spec)
    assert (by_rule.found, by_rule.chosen["objective"], by_rule.mapping.tp) == (None, "inside_nodes", 8)


def test_a_mapping_too_small_for_a_request_of_the_mean_size_is_found_all_the_same():
    """At 148.5 MiB a chip the one mapping holds 994 tokens of KV, the shortest request, and not the mean one of 1,365."""
    machine = build(load("64chip", settings=["chip.memory=148.5 MiB", "mapping.objective=throughput"]).spec)
    assert 64 < machine.mapping.memory.kv_tokens_max < 1365
    assert machine.found.mappings == 1


def test_a_workload_too_short_to_load_a_mapping_is_decided_by_what_steady_rounds_promise():
    """A dozen requests meet their SLO however soon they come, which says nothing of a rate."""
    machine = build(load("node", workload="glimpse").spec)
    assert 100 < machine.found.winner.value < 100_000
    assert machine.found.served < 10


@pytest.mark.parametrize("network", NETWORKS)
def test_no_mapping_decodes_a_lone_sequence_faster_than_the_one_for_latency(network):
    machine = build(spec_of("mapping.objective=latency", network=network))
    assert machine.found.objective == "latency"
    assert machine.found.winner.value == pytest.approx(machine.time(probe(machine.spec)).latency_ps * 1e-12)
    for other in others(machine, widths=(2, 4, 8, 16, 32), cuts=3):
        assert other.time(probe(machine.spec)).latency_ps >= 0.95 * machine.time(probe(machine.spec)).latency_ps


def probe(spec):
    return Shape(1, spec.llm.context_max // 2)


def others(machine, widths=(), cuts=0):
    """The machine under other mappings: groups inside a node and of whole nodes, cut into any number of stages that fits.

    `widths` are the groups' (default: all); of the numbers of stages as many as `cuts` (default: all), the most among them.
    """
    spec, nodes = machine.spec, active_nodes(machine.fabric)
    chips = sum(map(len, nodes))
    for tp in widths or (1, 2, 4, 8, *range(16, chips + 1, 8)):
        found = []
        for pp in range(chips // tp, 0, -1):
            copies = spec.mapping.model_copy(update={"replicas": chips // (tp * pp)})
            try:
                found.append(lay(spec.llm, spec.chip, copies, tp, pp, nodes))
            except DcsimError:
                continue
        for mapping in found[:: max(1, len(found) // cuts)] if cuts else found:
            yield replace(machine, network=machine.network.laid(mapping), mapping=mapping, found=None)


def test_the_mapping_for_capacity_holds_the_rate_it_names_and_no_other_holds_much_more():
    machine = build(spec_of())
    assert machine.found.objective == "capacity"
    named = machine.found.winner.value
    assert holds(machine, machine.chunk_tokens, 0.97 * named)
    assert machine.found.runner_up.value <= named
    for chunk, pair in product((32, 256), [(4, 16), (8, 8), (16, 4)]):
        other = build(spec_of(f"mapping.tp={pair[0]}", f"mapping.pp={pair[1]}"))
        if other.mapping.memory.kv_tokens_max >= 4096:
            assert not holds(other, chunk, 1.05 * named)


def holds(machine, chunk, requests_per_s):
    """Whether a mapping holds the SLO while the workload comes at this rate."""
    spec = with_chunk(
        machine.spec.model_copy(update={"serving": machine.spec.serving.model_copy(update={"chunk_tokens": "auto"})}), chunk
    )
    spec = spec.model_copy(update={"engine": "compiled"})
    served = replace(machine, spec=spec)
    head = search._head(spec)
    span_s = float(head.arrival_s[-1] - head.arrival_s[0])
    traffic = replace(head, arrival_s=head.arrival_s * (len(head) / span_s / requests_per_s))
    _, summary, _ = serve_on(served, served.programs(served.time), spec, 1, traffic=traffic)
    return meets(summary, spec.slo.ttft_s, spec.slo.tpot_s)


def test_a_search_is_each_networks_own():
    found = {choice_of(build(spec_of("mapping.objective=latency", network=network))) for network in NETWORKS}
    assert len(found) == len(NETWORKS)  # packets are not confined to nodes


def test_degrees_given_by_hand_stay():
    assert choice_of(build(spec_of("mapping.tp=4", "mapping.pp=16"))) == (4, 16, 1, 128)
    machine = build(spec_of("mapping.tp=4", "chip.memory=300 MiB"))
    assert (machine.mapping.tp, machine.found.mappings > 1) == (4, True)
    assert build(spec_of("mapping.pp=8")).mapping.pp == 8
    assert build(spec_of("serving.chunk_tokens=77")).chunk_tokens == 77


def test_copies_are_made_for_capacity_and_not_for_latency():
    roomy = ("chip.memory=2 GiB",)
    many = build(spec_of(*roomy))
    assert many.mapping.replicas > 1
    assert build(spec_of(*roomy, "mapping.objective=latency")).mapping.replicas == 1
    assert build(spec_of(*roomy, "mapping.replicas=2")).mapping.replicas == 2


def test_seed_and_pace_of_the_traffic_choose_no_other_mapping():
    one = choice_of(build(spec_of(), seed=1))
    assert choice_of(build(spec_of("workload.rate_scale=7"), seed=2)) == one


def test_a_mapping_that_cannot_hold_a_request_is_not_chosen():
    """As memory shrinks the mapping goes on to hold the longest request, until none holds even the shortest."""
    tokens = search.demand_of(search._head(spec_of()), spec_of().llm)
    for memory in ("220 MiB", "190 MiB", "157 MiB"):
        for objective in search.UNITS:
            spec = spec_of(f"chip.memory={memory}", f"mapping.objective={objective}")
            machine = build(spec)
            room = machine.mapping.memory.room
            assert room.cost(tokens.tokens_max) <= room.capacity
    kept_to = build(spec_of("chip.memory=150 MiB"))  # where not all that come can be held, as many as can be
    assert tokens.tokens_min < kept_to.mapping.memory.kv_tokens_max < tokens.tokens_max
    with pytest.raises(CapacityError, match="holds one request"):
        build(load("64chip", workload="glimpse", settings=["chip.memory=150 MiB", QUICK[1], *LONG]).spec)


def test_kept_answers_are_the_same_and_whatever_is_kept_badly_is_found_anew(monkeypatch, tmp_path):
    fresh = build(spec_of())  # with all that is compiled on the way
    monkeypatch.setattr(kept, "places", lambda: iter([tmp_path / "kept"]))
    monkeypatch.setattr(found, "kept", kept)
    first, again = spec_of(), spec_of()
    assert build(first).found == fresh.found
    assert (tmp_path / "kept").exists()
    assert build(again).found == fresh.found
    assert first.reads() == again.reads()
    for path in (tmp_path / "kept").iterdir():
        path.write_bytes(path.read_bytes()[:-20])
    assert build(spec_of()).found == fresh.found


def test_an_answer_of_other_sources_or_another_workload_is_not_taken(monkeypatch):
    asked = []
    monkeypatch.setattr(found, "search", lambda spec, tell: asked.append(spec) or search.search(spec, tell))
    build(spec_of("mapping.objective=latency"))
    build(spec_of("mapping.objective=latency"))
    assert len(asked) == 1
    build(spec_of("mapping.objective=latency", "workload.duration=200 s"))
    assert len(asked) == 2
    monkeypatch.setattr(found, "fingerprint", lambda: "0" * 12)
    build(spec_of("mapping.objective=latency"))
    assert len(asked) == 3


@pytest.mark.parametrize("objective", search.UNITS)
def test_commands_name_the_winner_the_next_best_and_what_binds(capsys, objective):
    command = ["iteration", "64chip", "--objective", objective, "--set", QUICK[0]]
    app([*command, "--json"], standalone_mode=False)
    told = json.loads(capsys.readouterr().out)
    assert told["objective"] == objective
    assert {"winner", "runner_up", "limit", "cliffs", "unit"} <= set(told["search"])
    assert (told["search"]["winner"]["tp"], told["search"]["winner"]["pp"]) == (told["tp"], told["pp"])
    app(command, standalone_mode=False)
    printed = " ".join(capsys.readouterr().out.split())
    assert f"best for {objective} of {told['search']['mappings']} mappings: tp {told['tp']}, pp {told['pp']}" in printed
    assert "; next tp" in printed
    assert "bound by" in printed


def test_an_objective_for_a_mapping_given_by_hand_has_no_effect(capsys):
    given = ["--set", "mapping.tp=8", "--set", "mapping.pp=8", "--objective", "cost", "--json"]
    app(["iteration", "64chip", *given], standalone_mode=False)
    told = json.loads(capsys.readouterr().out)
    assert (told["objective"], told["search"]) == ("given", None)
    assert "--objective" in told["unused_keys"]


def test_choices_fit_and_use_no_more_chips_than_there_are():
    spec = spec_of()
    for chips in (64, 60):
        for degrees in choices(spec.llm, spec.chip, spec.mapping, chips, 8):
            assert isinstance(degrees, Layout)
            assert degrees.tp * degrees.pp * degrees.replicas <= chips


def test_cliffs_are_numbers_of_stages_whose_room_is_as_said():
    """Fewer stages that hold as much, and more that hold much more than their chips would let one expect."""
    machine = build(load("8rack", settings=["mapping.tp=8", "mapping.objective=throughput"]).spec)
    own, room = machine.mapping.pp, machine.mapping.memory.kv_tokens_max
    for cliff in machine.found.cliffs:
        assert cliff["chips"] == 8 * cliff["pp"]
        assert cliff["kv_tokens"] == room if cliff["pp"] < own else cliff["kv_tokens"] > 1.5 * room * cliff["pp"] / own
    assert [cliff["pp"] for cliff in machine.found.cliffs if cliff["pp"] > own] == [80]


def test_an_llm_that_keeps_nothing_has_no_cliffs_of_room(capsys):
    app(["iteration", "node", "--llm", "bert-large", "--context", "128", "--objective", "latency"], standalone_mode=False)
    assert "best for latency of" in (printed := capsys.readouterr().out)
    assert "nearby" not in printed


# Nodes of eight chips and the memory of one, so that LLMs of many sizes fit.
MACHINES = (
    (1, "llama-3-8b", "2 GiB"),
    (1, "llama-2-7b", "1200 MiB"),
    (2, "llama-3-8b", "700 MiB"),
    (2, "qwen3-8b", "900 MiB"),
    (3, "llama-2-7b", "440 MiB"),
    (4, "llama-3-8b", "440 MiB"),
    (4, "llama-2-13b", "600 MiB"),
    (6, "llama-2-13b", "440 MiB"),
    (8, "llama-3-8b", "220 MiB"),
    (8, "llama-2-13b", "300 MiB"),
)


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(("nodes", "llm", "memory"), MACHINES)
def test_no_mapping_tried_exhaustively_beats_the_one_found_by_more_than_a_twentieth(nodes, llm, memory, network):
    asked = [f"fabric.nodes={nodes}", f"chip.memory={memory}", "slo.tpot=50 ms"]
    machine = build(spec_of(*asked, network=network, llm=llm))
    named = machine.found.winner.value
    assert machine.found.objective == "capacity"
    needed = search.demand_of(search._head(machine.spec), machine.spec.llm).tokens_max
    beaten = [
        (*choice_of(other)[:3], chunk)
        for other, chunk in product(others(machine), (16, 64, 256, 1024))
        if other.mapping.memory.room.cost(needed) <= other.mapping.memory.room.capacity and holds(other, chunk, 1.05 * named)
    ]
    assert not beaten, f"found {choice_of(machine)} with {named:.3g} requests/s"
