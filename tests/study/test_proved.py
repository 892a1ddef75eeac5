"""What is served is what is proved: micro-batches of one shape in flight take the interval of their schedule, and none meet."""

from functools import cache
from itertools import combinations

import pytest

import dcsim
from dcsim.cluster.programs import MicroBatches, Round
from dcsim.llm.program import Shape
from dcsim.network.scheduled.iteration import cycles_to_ps
from dcsim.network.scheduled.overlap import Usage, shared_chips, shared_slots
from dcsim.network.timing import InFlightTime, IterationTime
from dcsim.results.records import digest
from dcsim.spec.load import load
from dcsim.study import shape_times
from dcsim.study.machine import build
from dcsim.study.schedule import schedule
from dcsim.study.serve import serve_scenario
from dcsim.study.shape_times import ShapeTimes

SEQUENCES, BUCKET = 5, 1


@cache
def machine():
    return build(load("64chip").spec)


@cache
def flying():
    """Several micro-batches of one sequence each, as a run has them."""
    return machine().programs().decode(SEQUENCES, BUCKET)


def test_a_run_charges_the_interval_that_the_schedule_command_proves():
    (batches,) = flying().micro_batches
    assert (batches.count, batches.in_flight) == (SEQUENCES, True)
    said, hz = schedule(machine(), batches.shape), machine().spec.chip.clock_hz
    assert batches.occupancy_ps == flying().grid_ps == cycles_to_ps(said["interval_cycles"], hz)
    assert batches.latency_ps == flying().latency_ps == cycles_to_ps(said["in_flight_makespan_cycles"], hz)
    assert batches.latency_ps > cycles_to_ps(said["makespan_cycles"], hz)  # others in flight take room


def begins_cycles(counts):
    """When each micro-batch of successive rounds begins, as a replica has them follow each other."""
    begins, at_ps = [], 0
    for count in counts:
        round_ = machine().programs().decode(count, BUCKET)
        assert round_.goes_on(flying().first)
        begins += [at_ps + i * round_.grid_ps for i in range(count)]
        at_ps += round_.clean_ps
    hz = machine().spec.chip.clock_hz
    return [round(begin * hz / 1e12) for begin in begins]


def meetings(schedule, tasks, begins):
    """Link slots and chips that two of the micro-batches want at once."""
    usage, found = Usage(schedule, tasks), []
    for first, second in combinations(begins, 2):
        if second - first < usage.makespan_cycles:
            found.append((shared_slots(usage, usage, second - first), shared_chips(usage, usage, second - first)))
    assert len(found) > 3 * SEQUENCES
    return tuple(map(sum, zip(*found, strict=True)))


def test_rounds_of_any_number_of_micro_batches_follow_each_other_and_none_meet():
    """Counted by who knows neither the compiler nor the proof; a lone micro-batch's schedule would meet itself."""
    (batches,) = flying().micro_batches
    found, begins = machine().network.in_flight(batches.shape), begins_cycles([5, 3, 6, 2, 2, 7, 4])
    assert meetings(found.schedule, found.tasks, begins) == (0, 0)
    alone, many = machine().network.schedule(Shape(8, 1024)), machine().network.in_flight(Shape(8, 1024))
    eights = range(0, 8 * many.interval_cycles, many.interval_cycles)
    assert meetings(many.schedule, many.tasks, eights) == (0, 0)
    assert meetings(alone.schedule, alone.tasks, eights)[0] > 0


def test_a_lone_micro_batch_has_the_pipeline_to_itself():
    lone = machine().programs().decode(1, BUCKET)
    assert (lone.grid_ps, lone.drain_ps, lone.micro_batches[0].in_flight) == (0, 0, False)
    assert lone.clean_ps == lone.latency_ps == machine().time(lone.first).latency_ps


def a_round(count, interval_ps, latency_ps):
    shape = Shape(1, 128)
    batches = MicroBatches(shape, count, latency_ps, interval_ps, in_flight=True)
    return Round(latency_ps, count * interval_ps, first=shape, last=shape, micro_batches=(batches,), grid_ps=interval_ps)


@pytest.mark.parametrize(("count", "length_ps", "drain_ps"), [(2, 1050, 20), (10, 1050, 580), (15, 1050, 930), (20, 1400, 930)])
def test_a_round_in_flight_ends_on_its_grid_and_others_wait_until_it_is_through(count, length_ps, drain_ps):
    """An iteration takes 1,000, one enters every 70: the last of ten at 630, and it is through 580 after the round's end."""
    shape = Shape(1, 128)
    batches = MicroBatches(shape, count, 1000, 70, in_flight=True)
    round_ = Round(1000, count * 70, first=shape, last=shape, micro_batches=(batches,), grid_ps=70)
    assert (round_.clean_ps, round_.drain_ps) == (length_ps, drain_ps)
    assert round_.goes_on(shape)
    assert not round_.goes_on(Shape(2, 128))
    assert not Round(first=shape, last=shape).goes_on(shape)


def test_the_drained_time_is_charged():
    """Sequences decode together until prompts come: the round that reads one begins when all that was in flight is through."""
    case = dcsim.load("64chip", workload="glimpse", set=("workload.requests=8", "workload.arrivals.rate.mean=2000 requests/s"))
    run = case.run(rounds=True)
    waited = dict(zip(run.table("limits")["resource"], run.table("limits")["request_s"], strict=True))
    assert waited["program_switch"] > 0
    assert run.meta["shapes_in_flight"] == run.meta["shapes_proved"] > 0
    packets = case.with_(interconnect="infiniband-ndr").run()
    assert packets.meta["shapes_in_flight"] is None


class Counting:
    """A network that counts what it is asked for."""

    def __init__(self):
        self.asked, self.proved = [], []

    def time(self, shape, *, parts=False):
        self.asked.append(shape)
        return IterationTime(1000 * shape.batch, 70, 0.1 * shape.batch, hazard=1e-9)

    def prove(self, shape):
        self.proved.append(shape)
        return InFlightTime(70, 1000) if shape.batch == 1 else None

    def kept(self, spec, mapping):
        return ShapeTimes(self, self.prove, spec, mapping)


def test_what_was_found_is_found_again_and_nothing_else_is(monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    network, own = Counting(), machine()
    one, two, three = Shape(1, 128), Shape(2, 128), Shape(3, 128)
    first = network.kept(own.spec, own.mapping)
    assert [first.in_flight(one), first.in_flight(two)] == [InFlightTime(70, 1000), None]
    alone = [first.times(shape) for shape in (one, two, three)]
    again = network.kept(own.spec, own.mapping)
    assert [again.in_flight(one), again.in_flight(two)] == [InFlightTime(70, 1000), None]
    assert network.proved == [one, two]
    assert [again.times(shape) for shape in (three, one, two)] == [alone[2], *alone[:2]]
    assert network.asked == [one, two, three, three]  # the first is always compiled, for what it reads of the spec
    for other in ("chip.clock='1 GHz'", "mapping.weights=fp16", "host=xeon-8480x2"):
        network.kept(load("64chip", settings=[other]).spec, own.mapping).in_flight(one)
    elsewhere = build(load("64chip", settings=["mapping.pp=4"]).spec)
    network.kept(own.spec, elsewhere.mapping).in_flight(one)
    for same in ("workload.requests=5", "mapping.objective=cost"):
        network.kept(load("64chip", settings=[same]).spec, own.mapping).in_flight(one)
    assert network.proved == [one, two, one, one, one, one]


def test_a_run_says_and_reads_the_same_whether_its_programs_were_compiled_before(monkeypatch):
    files = {}
    monkeypatch.setattr(shape_times.kept, "read", lambda *name: files.get(name))
    monkeypatch.setattr(
        shape_times.kept, "write", lambda *name_and_content: files.update([(name_and_content[:3], name_and_content[3])])
    )

    def run():
        resolved = load("64chip", workload="glimpse", settings=["mapping.tp=8", "mapping.pp=8"])
        tables, summary, _ = serve_scenario(resolved, 1)
        return digest(tables, summary), summary, resolved.spec.reads()

    cold = run()
    assert len(files) == 1
    assert run() == cold
