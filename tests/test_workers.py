"""Work over processes: all of it is done, errors come back, and no process outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import ROOT, alive, children

from dcsim.errors import CapacityError
from dcsim.workers import Lost, spread


def square(number):
    return os.getpid(), number * number


def stumble(number):
    if number == 2:
        raise CapacityError("too much", 3.0, 2.0)
    time.sleep(30 if number > 2 else 0)


def die(number):
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 2:
        os._exit(7)
    return number


def test_every_item_is_done_once_by_as_many_processes_as_asked():
    results = dict(spread(square, range(20), 3))
    assert [results[i][1] for i in range(20)] == [i * i for i in range(20)]
    pids = {pid for pid, _ in results.values()}
    assert len(pids) == 3
    assert os.getpid() not in pids
    assert not any(map(alive, pids))


def test_few_items_take_few_processes_and_none_takes_none():
    assert len({pid for _, (pid, _) in spread(square, [1, 2], 8)}) == 2
    assert list(spread(square, [], 2)) == []


def test_an_error_ends_all_and_comes_back_as_it_was():
    began = time.monotonic()
    with pytest.raises(CapacityError) as caught:
        list(spread(stumble, range(5), 2))
    assert (str(caught.value), caught.value.needed) == ("too much", 3.0)
    assert time.monotonic() - began < 20
    assert not [pid for pid in children(os.getpid()) if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]


def test_a_killed_worker_loses_its_own_item_only():
    results = dict(spread(die, range(6), 2))
    assert {i: results[i] for i in (0, 3, 4, 5)} == {0: 0, 3: 3, 4: 4, 5: 5}
    assert isinstance(results[1], Lost)
    assert "SIGKILL" in results[1].reason
    assert "exit code 7" in results[2].reason


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="needs /proc")
def test_workers_end_when_their_parent_is_killed(tmp_path):
    """In the middle of their work, with nobody left to tell them."""
    (tmp_path / "job.py").write_text(
        "import time\nfrom dcsim.workers import spread\ndef work(n):\n    time.sleep(60)\n"
        "if __name__ == '__main__':\n    list(spread(work, [1, 2], 2))\n"
    )
    process = subprocess.Popen([sys.executable, "job.py"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    deadline = time.monotonic() + 30
    while len(children(process.pid)) < 3 and time.monotonic() < deadline:  # two workers and the one that watches resources
        time.sleep(0.05)
    time.sleep(1)
    pids = children(process.pid)
    assert len(pids) >= 2
    process.kill()
    process.wait()
    deadline = time.monotonic() + 5
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, pids))
