"""Rounds of a few requests worked out by hand, of a millisecond each: what joins, waits, goes back and is lost at which one."""

import pytest
from small_cluster import PLAIN, Steps, constant, make_table, slow_copies

from dcsim.cluster.simpy.outage import Outage

MS = 1e-3


def rows(result):
    return result.tables["requests"]


def serve_rounds(serve_small, table, *settings, **setup):
    """Rounds of a millisecond, whatever they do."""
    return serve_small(table, constant(1000), settings=[*PLAIN, *settings], engine="simpy", **setup)


@pytest.mark.parametrize(("prompt", "reading"), [(1, 1), (128, 1), (256, 1), (257, 2), (512, 2), (513, 3)])
def test_a_prompt_takes_the_rounds_of_its_chunks_and_an_answer_one_a_token(serve_small, prompt, reading):
    """Two chunks of 128 tokens a round; the round that reads the last makes the first token."""
    done = rows(serve_rounds(serve_small, make_table([0.0], [prompt], [4]), "serving.prefill_tokens_max=256"))
    assert done["first_token_s"].tolist() == pytest.approx([reading * MS])
    assert done["finished_s"].tolist() == pytest.approx([(reading + 3) * MS])


@pytest.mark.parametrize(("room", "together"), [(60, True), (59, False)])
def test_two_requests_are_served_together_where_both_just_fit(serve_small, room, together):
    """Each stores 10 + 20 tokens in the end; where a token of room is short, the second waits for the first to end."""
    done = rows(serve_rounds(serve_small, make_table([0.0, 0.0], [10, 10], [20, 20]), kv_tokens=room))
    assert done["admitted_s"].tolist() == pytest.approx([0.0, 0.0 if together else 20 * MS])
    assert done["finished_s"].tolist() == pytest.approx([20 * MS, 20 * MS if together else 40 * MS])


@pytest.mark.parametrize(("room", "together"), [(202, True), (201, False)])
def test_a_replica_that_reads_holds_a_prompt_and_a_token_until_its_kv_is_away(serve_small, room, together):
    """Prompts of 100 tokens are read in a round and are a millisecond on the link: then there is room for the other."""
    settings, place = "serving.prefill_replicas=1", {"copies": slow_copies(1e-5)}
    table = make_table([0.0, 0.0], [100, 100], [2, 2])
    done = rows(serve_rounds(serve_small, table, settings, kv_tokens=room, replicas=2, place=place))
    assert done["admitted_s"].tolist() == pytest.approx([0.0, 0.0 if together else 2 * MS])
    assert done["first_token_s"].tolist() == pytest.approx([MS, MS if together else 3 * MS])
    # Where both decode there are two tokens short: the second's KV leaves when the first has ended, and takes a millisecond.
    assert done["finished_s"].tolist() == pytest.approx([3 * MS, 5 * MS])


ENGINE = [*PLAIN, "serving.engine=vllm", "serving.engine.step=0 s", "serving.engine.sequence=0 s"]
EVEN = Steps(base_s=MS, row_s=0.0, context_s=0.0)  # iterations of a millisecond


def serve_engine(serve_small, table, preemption, **setup):
    settings = [*ENGINE, f"serving.engine.preemption={preemption}", *setup.pop("settings", ())]
    return serve_small(table, EVEN, settings=settings, engine="simpy", **setup)


@pytest.mark.parametrize("preemption", ["recompute", "swap"])
@pytest.mark.parametrize(("room", "together"), [(202, True), (201, False)])
def test_under_an_engine_a_prompt_needs_room_for_itself_and_a_token(serve_small, preemption, room, together):
    """The answers' ends are not known, so that both begin together where they need 202 tokens of 203 in the end."""
    table = make_table([0.0, 0.0], [100, 100], [1, 1])
    done = rows(serve_engine(serve_small, table, preemption, kv_tokens=room))
    assert done["admitted_s"].tolist() == pytest.approx([0.0, 0.0 if together else MS])


@pytest.mark.parametrize("preemption", ["recompute", "swap"])
def test_of_two_answers_the_later_goes_back_when_the_next_tokens_have_no_room(serve_small, preemption):
    """100 + k tokens each before the round of their k + 1st: 230 hold them up to the 15th. The second waits for the first's end,
    at 60 ms; whether it is read again in a round, which makes its next token, or comes back at once and decodes, is all the same.
    """
    table = make_table([0.0, 0.0], [100, 100], [60, 60])
    result = serve_engine(serve_small, table, preemption, kv_tokens=230)
    assert rows(result)["finished_s"].tolist() == pytest.approx([60 * MS, (60 + 60 - 15) * MS])
    gaps = dict(zip(*(result.tables["gaps"][name].tolist() for name in ("gap_s", "count")), strict=True))
    assert sorted(gaps) == pytest.approx([MS, 46 * MS])
    assert [gaps[gap] for gap in sorted(gaps)] == [59 + 58, 1]


SLOW_BUS = "host.bus_bandwidth=5 kB/s"  # a token is a byte here


@pytest.mark.parametrize("fault", [False, True])
def test_what_was_swapped_is_copied_back_once_and_read_anew_after_a_fault(serve_small, fault):
    """As above: 115 tokens are 23 ms on the bus. A fault at 100 ms loses what was
    stored: 129 tokens are read again once it is over, a second later. A row of a round takes 10 us.
    """
    table, rows_take = make_table([0.0, 0.0], [100, 100], [60, 60]), Steps(base_s=MS, row_s=1e-5, context_s=0.0)
    settings = [*ENGINE, "serving.engine.preemption=swap", SLOW_BUS, "faults.detect=1 s"]
    if fault:
        settings.append("faults.events=[{at: 100 ms, part: chip, index: 3}]")
    place = {"weight_bytes": 0.0}
    result = serve_small(table, rows_take, settings=settings, engine="simpy", kv_tokens=230, place=place)
    both, alone = MS + 2e-5, MS + 1e-5  # rounds
    first = (MS + 200e-5) + 14 * both  # the 15th token of each
    end = first + 45 * alone
    back = end + 0.023
    whole = back + 45 * alone
    given = 15 + int((0.1 - back) / alone)  # at the fault
    anew = 1.1 + (MS + (100 + given) * 1e-5) + (60 - given - 1) * alone
    assert rows(result)["finished_s"].tolist() == pytest.approx([end, anew if fault else whole])
    limits = dict(zip(*(result.tables["limits"][name].tolist() for name in ("resource", "request_s")), strict=True))
    assert limits["kv_transfer"] == pytest.approx(0.023)


def test_the_bus_carries_one_copy_after_another(serve_small):
    """306 tokens hold three answers up to the 2nd of each, and then two up to the 53rd. The first ends while the second's copy
    leaves; what waits comes back behind it: 153 tokens out from 53 ms, 153 and 102 back, a fifth of a millisecond each.
    """
    table = make_table([0.0] * 3, [100] * 3, [60] * 3)
    done = rows(serve_engine(serve_small, table, "swap", kv_tokens=306, settings=[SLOW_BUS]))
    second = 53 + (153 + 153) / 5
    third = second + 102 / 5
    assert done["finished_s"].tolist() == pytest.approx([60 * MS, (second + 60 - 53) * MS, (third + 60 - 2) * MS])


@pytest.mark.parametrize("at_ms", [0, 30])
def test_a_replica_that_is_down_when_the_run_ends_was_down_until_then(small_processes, at_ms):
    """From its very first instant, too."""
    cluster = small_processes(make_table([0.0], [10], [50]), constant(1000), settings=[*PLAIN, "serving.drain=2 s"])

    def fault():
        yield cluster.env.timeout(at_ms * 10**9)
        cluster.replicas[0].process.interrupt(Outage(10**15, "pulled"))

    cluster.env.process(fault())
    cluster.run()
    assert cluster.env.now == 2 * 10**12
    assert cluster.replicas[0].down_ps == (2000 - at_ms) * 10**9
