"""Under a serving engine: iterations of whatever tokens there are, seen from the requests."""

import numpy as np
import pytest
from by_rule import load

import dcsim
from dcsim.cluster.service import serve
from dcsim.study.machine import build
from dcsim.study.serve import _placement, programs_of
from dcsim.workload.closed import make_closed_loop


def settings(tmp_path, users=4, requests=12, prompt=(200, 300), output=(20, 40), *more):
    lengths = f"prompt_tokens: {{min: {prompt[0]}, max: {prompt[1]}}}, output_tokens: {{min: {output[0]}, max: {output[1]}}}"
    (tmp_path / "w.yaml").write_text(
        f"kind: closed\nusers: {users}\nthink: 0 s\nrequests: {requests}\nrequests_per_user: {requests}\n"
        f"lengths: {{kind: uniform, {lengths}}}\n"
    )
    own = ["serving.engine=vllm", "mapping.tp=2", "mapping.pp=1", "mapping.replicas=1", *more]
    return {"llm": "llama-3-8b", "workload": str(tmp_path / "w.yaml")}, own


def run(tmp_path, *args):
    names, own = settings(tmp_path, *args)
    return dcsim.load("h100_sxm", **names, set=own).run()


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tensorrt-llm"])
def test_skipping_equal_iterations_gives_the_rows_of_each_iteration(tmp_path, engine):
    names, own = settings(tmp_path, 5, 25, (100, 9000), (1, 90), f"serving.engine={engine}")
    spec = load("h100_sxm", **names, settings=own).spec
    machine = build(spec)
    programs, loop = programs_of(machine, machine.times), make_closed_loop(spec.workload, 1)
    one, other = (serve(spec, machine.fabric, _placement(machine), programs, loop, skip=skip).tables for skip in (True, False))
    for name in ("requests", "gaps"):
        for column in one[name]:
            np.testing.assert_array_equal(one[name][column], other[name][column], err_msg=f"{name}.{column}")


def test_a_lone_user_pays_one_iteration_a_token(tmp_path):
    alone = run(tmp_path, 1, 3, (1000, 1000), (50, 50), "serving.engine.step=0 s", "serving.engine.sequence=0 s")
    machine = build(load("h100_sxm", llm="llama-3-8b", settings=["mapping.tp=2", "mapping.pp=1", "mapping.replicas=1"]).spec)
    step_s = machine.network.lockstep().iteration(1, 1025).sum()
    assert alone.requests["tpot_s"].mean() == pytest.approx(step_s, rel=0.01)


def test_the_engines_own_time_is_in_every_iteration(tmp_path):
    plain = run(tmp_path, 4, 12, (200, 300), (40, 40), "serving.engine.step=0 s", "serving.engine.sequence=0 s")
    slow = run(tmp_path, 4, 12, (200, 300), (40, 40), "serving.engine.step=5 ms", "serving.engine.sequence=1 ms")
    added = (slow.requests["tpot_s"] - plain.requests["tpot_s"]).mean()
    assert 0.005 < added < 0.0085  # 5 ms, and 32 ms for each of up to three prompts beside 39 tokens
    first = (slow.requests["ttft_s"] - plain.requests["ttft_s"]).min()
    assert first >= 0.037 - 1e-9  # an iteration, and a sequence taken in by 32 layers


def test_a_budget_of_tokens_cuts_prompts(tmp_path):
    whole = run(tmp_path, 1, 1, (4000, 4000), (2, 2))
    cut = run(tmp_path, 1, 1, (4000, 4000), (2, 2), "serving.engine.batched_tokens_max=512")
    assert cut.requests["ttft_s"][0] > whole.requests["ttft_s"][0]


def test_prompts_first_keeps_answers_waiting(tmp_path):
    beside = run(tmp_path, 8, 40, (2000, 2000), (10, 60), "serving.engine.batching=continuous")
    first = run(tmp_path, 8, 40, (2000, 2000), (10, 60), "serving.engine.batching=prefill_first")
    assert first.summary["itl_s_p99"] > 0
    assert first.requests["tpot_s"].mean() > beside.requests["tpot_s"].mean()


def test_pools_of_unequal_degrees_read_and_decode(tmp_path):
    pools = ("mapping.replicas=3", "mapping.prefill.tp=1", "serving.prefill_replicas=2", "mapping.tp=4")
    apart = run(tmp_path, 6, 30, (400, 500), (20, 40), *pools)
    assert set(apart.requests["status"]) == {"finished"}
    assert set(apart.requests["replica"]) == {2}  # the one that decodes served it last
    assert apart.meta["chips_used"] == 2 * 1 + 4
    assert apart.meta["kv_copies"]["sent_bytes"] > 0
    alone = run(tmp_path, 1, 4, (400, 500), (30, 30), *pools)
    narrow = run(tmp_path, 1, 4, (400, 500), (30, 30), "mapping.tp=4")
    assert alone.requests["tpot_s"].mean() == pytest.approx(narrow.requests["tpot_s"].mean(), rel=0.15)
    assert alone.requests["ttft_s"].mean() > narrow.requests["ttft_s"].mean()


def test_drafts_cost_a_layer_and_the_head_and_yield_tokens(tmp_path):
    drafts = ("serving.speculation.draft_tokens=2",)
    plain = run(tmp_path, 1, 3, (300, 300), (200, 200))
    all_kept = run(tmp_path, 1, 3, (300, 300), (200, 200), *drafts, "serving.speculation.acceptance=1.0")
    none_kept = run(tmp_path, 1, 3, (300, 300), (200, 200), *drafts, "serving.speculation.acceptance=0.0")
    tpot = [one.requests["tpot_s"].mean() for one in (plain, all_kept, none_kept)]
    assert tpot[0] / 3 < tpot[1] < tpot[0] / 2
    assert tpot[0] < tpot[2] < 1.5 * tpot[0]


def test_unequal_pools_need_an_engine_and_replicas_of_both():
    for own in (("serving.prefill_replicas=1", "mapping.replicas=1"), ("mapping.replicas=3",)):
        with pytest.raises(dcsim.errors.SpecError, match=r"mapping\.prefill"):
            dcsim.load(
                "h100_sxm", llm="llama-3-8b", set=["mapping.prefill.tp=1", "serving.engine=vllm", "mapping.tp=2", *own]
            ).run()


def test_no_engine_where_programs_are_compiled():
    with pytest.raises(dcsim.errors.SpecError, match="runs compiled programs"):
        dcsim.load("node", set=["serving.engine=vllm", "mapping.pp=1", "mapping.tp=8"], duration="1 s").run()


def tight(tmp_path, *more):
    """Twelve users on a chip with room for about 4,200 tokens, who all may need 1,000."""
    return settings(tmp_path, 12, 36, (300, 400), (400, 600), "mapping.tp=1", "chip.memory=9.33 GB", *more)


def served(spec, skip=True):
    machine = build(spec)
    programs, loop = programs_of(machine, machine.times), make_closed_loop(spec.workload, 1)
    return machine, serve(spec, machine.fabric, _placement(machine), programs, loop, skip=skip, record_rounds=True).tables


def test_sequences_hold_what_they_store_and_the_last_is_read_anew_where_room_ends(tmp_path):
    names, own = tight(tmp_path)
    spec = load("h100_sxm", **names, settings=own).spec
    machine, tables = served(spec)
    room = machine.mapping.memory.room
    assert 3_000 < room.capacity < 6_000
    requests, rounds = tables["requests"], tables["rounds"]
    assert set(requests["status"]) == {"finished"}
    assert (requests["tokens_out"] == requests["output_tokens"]).all()
    # Had each held its whole answer from the beginning, no more than these would ever have decoded together.
    reserved = room.capacity // (300 + 400)
    assert rounds["decoding"].max() > reserved


def test_an_engine_that_never_preempts_holds_the_longest_answer_from_the_beginning(tmp_path):
    names, own = tight(tmp_path, "serving.engine.preemption=never")
    machine, tables = served(load("h100_sxm", **names, settings=own).spec)
    assert tables["rounds"]["decoding"].max() <= machine.mapping.memory.room.capacity // (300 + 400)


@pytest.mark.parametrize("preemption", ["recompute", "swap"])
def test_preemption_is_the_same_however_rounds_are_simulated(tmp_path, preemption):
    names, own = tight(tmp_path, f"serving.engine.preemption={preemption}")
    spec = load("h100_sxm", **names, settings=own).spec
    (_, one), (_, other) = served(spec), served(spec, skip=False)
    for column in one["requests"]:
        np.testing.assert_array_equal(one["requests"][column], other["requests"][column], err_msg=column)


def test_a_swapped_sequence_comes_back_over_the_bus_and_is_not_read_anew(tmp_path):
    def means(*more):
        names, own = tight(tmp_path, *more)
        _, tables = served(load("h100_sxm", **names, settings=own).spec)
        requests = tables["requests"]
        assert (requests["tokens_out"] == requests["output_tokens"]).all()
        waits = sum(
            float(np.sum(seconds))
            for why, seconds in zip(tables["limits"]["resource"], tables["limits"]["request_s"], strict=True)
            if why == "kv_transfer"
        )
        return requests["e2e_s"].mean(), waits

    swap = "serving.engine.preemption=swap"
    (anew, none), (fast, short), (slow, long) = means(), means(swap), means(swap, "host.bus_bandwidth=100 MB/s")
    assert none == 0 < short < long / 100
    assert fast < anew < slow


def test_room_bounds_what_is_stored_and_is_all_given_back(tmp_path, monkeypatch):
    from dcsim.cluster.simpy.kv import KvRoom

    most, rooms = [], set()
    fits = KvRoom.fits

    def watched(self, tokens):
        rooms.add(self)
        most.append((self.used + self.growing()) / self.capacity)
        return fits(self, tokens)

    monkeypatch.setattr(KvRoom, "fits", watched)
    names, own = tight(tmp_path)
    served(load("h100_sxm", **names, settings=own).spec)
    assert 0.8 < max(most) <= 1.0
    assert {room.used + room.growing() for room in rooms} == {0}
