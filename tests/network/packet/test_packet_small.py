"""Small runs of the packet engine come to what was reviewed, and to the same where its kernels run as plain Python.

This compares the engine with what it gave before: it says that something changed, not which is right. What must hold whatever
the figures stands in `test_packet_engine`, closed forms in `test_packet_theory`. `small_cases` says how to print what is new.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_cases import NUMBERS, build, outcomes

HERE = Path(__file__).parent
REVIEWED = json.loads((HERE / "small_cases.json").read_text())


@pytest.mark.parametrize("number", NUMBERS)
def test_a_case_comes_to_what_was_reviewed(number):
    assert outcomes(number) == REVIEWED[str(number)]


def test_the_cases_reach_what_packets_can_meet():
    """Losses, marks, pauses and repeated packets; bytes and parts of each add up."""
    served = [first[:-1] for first, _ in REVIEWED.values()]
    totals = [sum(values) for values in zip(*served, strict=True)]
    _, packets, hops, resent, drops, marks, pauses = totals
    assert min(resent, drops, marks, pauses) > 20
    assert hops > 2 * packets


@pytest.mark.parametrize("number", NUMBERS[::4])
def test_bytes_packets_and_times_add_up(number):
    engine = build(number)
    iteration = engine.iteration()
    messages = iteration.parts_ps[engine.tasks.size_bytes > 0]
    assert (messages.sum(axis=1) == (iteration.last_ps - iteration.start_ps)[engine.tasks.size_bytes > 0]).all()
    assert iteration.critical_ps.sum() == iteration.finish_ps
    assert iteration.links.packets.sum() == iteration.packet_hops
    assert (iteration.links.busy_ps <= iteration.finish_ps + 10**6).all()


def test_compiled_kernels_do_what_their_python_does():
    if os.environ.get("NUMBA_DISABLE_JIT") == "1":
        pytest.skip("they run as Python already")
    code = f"import json, small_cases; print(json.dumps([small_cases.outcomes(n) for n in {NUMBERS[::4]}]))"
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    plain = subprocess.run([sys.executable, "-c", code], cwd=HERE, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(plain.stdout) == [outcomes(number) for number in NUMBERS[::4]]
