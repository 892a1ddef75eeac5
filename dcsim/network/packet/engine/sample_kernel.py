"""Queues over time: what is queued at each link, looked at in equal intervals."""

from __future__ import annotations

from dcsim.kernels.jit import part
from dcsim.network.packet.engine.state import SAMPLE_PLACE, EngineState
from dcsim.network.packet.engine.wheel_kernel import PENDING, push


@part
def sample(s: EngineState, now: int) -> None:
    """Note every link's queue, ps of work, and set the next look.

    Looking changes nothing: cross traffic that came since a link's last packet is not counted. When the rows are full
    every second one is dropped and the interval doubles, so that any length of time fits.
    """
    tally = s.tally[0]
    if tally.sampled == len(s.samples):
        for row in range(len(s.samples) // 2):
            for link in range(len(s.links)):
                s.samples[row, link] = s.samples[2 * row, link]
        tally.sampled = len(s.samples) // 2
        tally.sample_ps *= 2
    for link in range(len(s.links)):
        s.samples[tally.sampled, link] = max(0, s.links[link].free - now) + s.links[link].waiting_ps
    tally.sampled += 1
    if s.wheel.at[PENDING] > 0:  # else nothing will ever happen again
        push(s.wheel, now + tally.sample_ps, len(s.links) + SAMPLE_PLACE, 0)
