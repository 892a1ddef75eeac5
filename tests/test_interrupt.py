"""Ctrl-C from Python, as a notebook sends it: the run ends with KeyboardInterrupt, and the next one is as if it had not been."""

import os
import signal
import threading
import time

import pytest

import dcsim
from dcsim.interrupt import careful_interrupts


@pytest.fixture(autouse=True)
def _interrupts_are_heeded():
    """A shell starts what runs in the background with Ctrl-C ignored, and the tests may run so."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


# An interrupt in a callback of the collector, of which other tests leave one, is lost with a warning, and comes again.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_run_may_be_interrupted_and_the_next_is_whole():
    short = dcsim.load("64chip", duration="20 s")
    digest = short.run().summary["digest"]
    long = dcsim.load("64chip", workload="million", set=["workload.requests=3000000"])  # 10 s, should no interrupt come
    for wait_s in (0.3, 0.7):
        timer = threading.Timer(wait_s, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            long.run()
        timer.join()
        assert short.run().summary["digest"] == digest
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_is_lost_comes_again():
    """As in a callback of the garbage collector, which lets no exception through."""

    class Lost:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def lose_one_and_go_on():
        thing = Lost()
        del thing
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            pass

    with pytest.raises(KeyboardInterrupt), careful_interrupts():
        lose_one_and_go_on()


def test_handlers_of_others_and_other_threads_are_left_alone():
    def handlers():
        return signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM)

    seen = []

    def look():
        with careful_interrupts():
            seen.append(handlers())

    before = handlers()
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    own = signal.signal(signal.SIGALRM, lambda *_: None)
    look()
    signal.signal(signal.SIGALRM, own)
    assert seen[0] == before
    assert seen[1][0] is signal.default_int_handler
    look()
    assert seen[2][0] is not signal.default_int_handler
    assert handlers() == before
