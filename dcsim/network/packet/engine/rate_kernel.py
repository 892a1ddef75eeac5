"""Rate control: how a sender heeds notices of congestion. A rule is a number of `KINDS`, named as its section of a transport.

A rule's figures stand in `rules.rate` in the order of its section's fields, times in picoseconds; the gap between notices, which
all rules have, is not among them. What it remembers of a queue pair stands in PAIR; rates are shares of the line rate.
"""

from __future__ import annotations

from typing import Any

from dcsim.kernels.jit import part

DCQCN = 1
KINDS = {"dcqcn": DCQCN}

GAIN, TIMER, BYTES, STEP, LEAP, LEAST, FAST = range(7)  # figures of DCQCN


@part
def pace(rules: Any, pairs: Any, pair: int, now: int, size: int, serial_ps: int) -> None:
    """Note a packet of `size` bytes sent now by a queue pair and when it may send the next."""
    state = pairs[pair]
    _recover(rules, pairs, pair, now)
    state.bytes_sent += size
    state.next_send = now + int(serial_ps / state.now_rate)


@part
def cut_rate(rules: Any, pairs: Any, pair: int, now: int) -> None:
    """A congestion notice (or a loss) reaches the sender."""
    _recover(rules, pairs, pair, now)
    if rules[0].rate_control == DCQCN:
        _cut_dcqcn(rules, pairs, pair, now)


@part
def _recover(rules: Any, pairs: Any, pair: int, now: int) -> None:
    """Raise a cut rate as time has passed and packets were sent since."""
    if rules[0].rate_control == DCQCN:
        _recover_dcqcn(rules, pairs, pair, now)


@part
def _recover_dcqcn(rules: Any, pairs: Any, pair: int, now: int) -> None:
    """By the timer and byte-counter steps since (DCQCN, Zhu et al., SIGCOMM 2015)."""
    rule, state = rules[0], pairs[pair]
    timer, fast = int(rule.rate[TIMER]), int(rule.rate[FAST])
    while state.alpha_at + timer <= now:
        state.alpha_at += timer
        state.alpha *= 1.0 - rule.rate[GAIN]
    while state.now_rate < 1.0:
        by_time = state.cut_at + (state.timer_steps + 1) * timer <= now
        by_bytes = state.bytes_sent >= (state.byte_steps + 1) * int(rule.rate[BYTES])
        if not by_time and not by_bytes:
            return
        if by_time:
            state.timer_steps += 1
        else:
            state.byte_steps += 1
        most, least = max(state.timer_steps, state.byte_steps), min(state.timer_steps, state.byte_steps)
        if most >= fast:
            state.target_rate += rule.rate[LEAP] if least >= fast else rule.rate[STEP]
        state.target_rate = min(1.0, state.target_rate)
        state.now_rate = 0.5 * (state.now_rate + state.target_rate)
        if state.now_rate > 0.9999:
            state.now_rate = 1.0


@part
def _cut_dcqcn(rules: Any, pairs: Any, pair: int, now: int) -> None:
    """Cut the rate by alpha / 2, raise alpha."""
    rule, state = rules[0], pairs[pair]
    state.target_rate = state.now_rate
    state.now_rate = max(rule.rate[LEAST], state.now_rate * (1.0 - 0.5 * state.alpha))
    state.alpha = (1.0 - rule.rate[GAIN]) * state.alpha + rule.rate[GAIN]
    state.cut_at, state.alpha_at = now, now
    state.bytes_sent, state.timer_steps, state.byte_steps = 0, 0, 0
