"""DCQCN's rate as a sender meets notices, time and its own bytes, against its closed forms (Zhu et al., SIGCOMM 2015)."""

import numpy as np
import pytest

from dcsim.kernels.jit import entry
from dcsim.kernels.plain import readable
from dcsim.network.packet.engine import routing
from dcsim.network.packet.engine.rate_kernel import cut_rate, pace
from dcsim.network.packet.engine.rules import LinkFigures, PacketRules, RateControl
from dcsim.network.packet.engine.setup import make_pairs, make_rules

GAIN, TIMER, BYTES, STEP, LEAP, LEAST, FAST = 1 / 4, 1000, 500, 1 / 64, 1 / 16, 1 / 10, 3


@entry
def _cut(rules, pairs, pair, now):
    cut_rate(rules, pairs, pair, now)


@entry
def _pace(rules, pairs, pair, now, size, serial):
    pace(rules, pairs, pair, now, size, serial)


class Sender:
    """The second of two queue pairs."""

    def __init__(self):
        control = RateControl("dcqcn", 0.0, (GAIN, TIMER, BYTES, STEP, LEAP, LEAST, FAST))
        figures = PacketRules({"adapter": LinkFigures(1e9)}, rate_control=control)
        self.rules = readable(make_rules(figures, routing.Lanes(np.zeros(1, np.int64), 1, 1, 0)))
        self.pairs = readable(make_pairs(2))

    def cut(self, *times):
        for now in times:
            _cut(self.rules, self.pairs, 1, now)

    def rate(self, now, size=0):
        """What a packet of `size` bytes leaves at."""
        _pace(self.rules, self.pairs, 1, now, size, 10**9)
        assert self.pairs["next_send"][1] == pytest.approx(now + 10**9 / self.pairs["now_rate"][1], abs=1)
        assert self.pairs["now_rate"][0] == 1.0
        return float(self.pairs["now_rate"][1])


def test_the_first_notice_halves_the_rate_and_no_number_of_them_stops_a_sender():
    sender = Sender()
    assert sender.rate(0) == 1.0
    for expected in (1 / 2, 1 / 4, 1 / 8, LEAST, LEAST):  # alpha is one, and stays so
        sender.cut(5)
        assert sender.rate(5) == expected


@pytest.mark.parametrize("quiet", [1, 2, 5])
def test_a_sender_left_alone_for_longer_is_cut_by_less(quiet):
    """Alpha falls by its gain each time the timer runs out, and rises by what it lacks of one with each cut."""
    sender = Sender()
    sender.cut(0)
    before = sender.rate(quiet * TIMER)
    alpha = (1 - GAIN) ** quiet
    sender.cut(quiet * TIMER)
    assert sender.rate(quiet * TIMER) == pytest.approx(before * (1 - alpha / 2))
    before = sender.rate(quiet * TIMER + TIMER - 1)
    sender.cut(quiet * TIMER + TIMER - 1)
    alpha += GAIN * (1 - alpha)
    assert sender.rate(quiet * TIMER + TIMER - 1) == pytest.approx(before * (1 - alpha / 2))


def _after(steps_of_time, steps_of_bytes):
    """The rate after two cuts and so many steps: halfway to the target each time, which rises from `FAST` steps on."""
    target, rate, seen = 1 / 2, 1 / 4, [0, 0]
    for kind in [0] * steps_of_time + [1] * steps_of_bytes:
        seen[kind] += 1
        if max(seen) >= FAST:
            target += LEAP if min(seen) >= FAST else STEP
        target = min(1.0, target)
        rate = (rate + target) / 2
    return rate


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 4, 7])
def test_a_rate_recovers_by_halves_and_then_rises_steadily(steps):
    by_time, by_bytes = Sender(), Sender()
    for sender in (by_time, by_bytes):
        sender.cut(0, 0)
    assert by_time.rate(steps * TIMER) == pytest.approx(_after(steps, 0))
    assert by_time.rate((steps + 1) * TIMER - 1) == pytest.approx(_after(steps, 0)), "not before the timer"
    by_bytes.rate(1, steps * BYTES)
    assert by_bytes.rate(2, BYTES - 1) == pytest.approx(_after(0, steps)), "bytes are counted as they are sent"
    assert by_bytes.rate(3) == pytest.approx(_after(0, steps))
    assert by_bytes.rate(4, 1) == pytest.approx(_after(0, steps))
    assert by_bytes.rate(5) == pytest.approx(_after(0, steps + 1))


@pytest.mark.parametrize(("times", "many"), [(2, 5), (3, 3), (4, 6), (6, 4)])
def test_both_late_in_their_steps_make_it_leap(times, many):
    sender = Sender()
    sender.cut(0, 0)
    sender.rate(0, many * BYTES)
    assert sender.rate(times * TIMER) == pytest.approx(_after(times, many))


def test_within_a_ten_thousandth_of_line_rate_is_line_rate():
    for rate, expected in ((1 - 3e-4, 1 - 1.5e-4), (1 - 1.6e-4, 1.0)):  # halfway to a target of one
        sender = Sender()
        sender.cut(0)
        sender.pairs["now_rate"][1], sender.pairs["target_rate"][1] = rate, 1.0
        assert sender.rate(TIMER) == pytest.approx(expected, rel=1e-12)


def test_a_cut_begins_all_anew_and_at_the_end_is_line_rate():
    sender = Sender()
    sender.cut(0, 0)
    sender.rate(2 * TIMER + 7, 2 * BYTES)
    sender.cut(2 * TIMER + 7)
    low = sender.rate(2 * TIMER + 7)
    assert sender.rate(3 * TIMER + 6) == low, "its timer starts with the cut"
    assert sender.rate(3 * TIMER + 7) > low
    assert sender.rate(10**6) == 1.0
