"""What requests' time goes to: every picosecond of each request is booked once, under what would have shortened it."""

from __future__ import annotations

from dcsim.cluster.simpy.over_time import TimeSpent
from dcsim.cluster.simpy.pace import Drawn, Steady


class Attribution:
    """One replica's part of what the run's requests spend their time on, booked in bulk at each wake.

    Between two wakes the numbers of requests read, decoded and kept waiting are constant but for those that come in.
    """

    def __init__(self, spent: TimeSpent) -> None:
        self._spent = spent
        self._blocked, self._why = 0, "kv_memory"  # requests not admitted at the last wake, and for want of what
        self._came: list[int] = []  # when requests have come since

    def begin(self, blocked: int, why: str) -> None:
        """From now on `blocked` requests wait for `why`."""
        self._blocked, self._why = blocked, why

    def came(self, now: int) -> None:
        """A request came in, and waits for the round's end."""
        self._came.append(now)

    def idle(self, now: int, since: int) -> None:
        """No round ran since the last wake."""
        self._spent.book(self._why, self._blocked * (now - since), since, now)
        self._book_came(now, "fault" if self._why == "fault" else "iteration_latency")

    def rounds(self, pace: Steady | Drawn, rounds: int, now: int, span: int, prompts: int, decoding: int, decodes: bool) -> None:
        """`rounds` rounds of `span` in all ended now; while they ran so many prompts were read and sequences decoded.

        A decoding sequence's time is what a lone token would take, and then what made the rounds longer.
        """
        book, since = self._spent.book, now - span
        book(self._why, self._blocked * span, since, now)
        if self._came:
            self._book_came(now, "iteration_latency")
        book("prefill", prompts * span, since, now)
        if not decoding:
            return
        if not decodes:
            book("prefill", decoding * span, since, now)
            return
        parts = list(pace.parts(rounds))
        begin = now - sum(length * times for _, length, times in parts)
        book("program_switch", decoding * (begin - since), since, begin)
        for part, length, times in parts:
            alone = min(length, part.alone_ps)
            free = part.clean_ps
            cause = "pipeline" if part.occupancy_ps > part.latency_ps else "prefill" if prompts else "iteration_latency"
            share, end = decoding * times, begin + length * times
            if cause == "iteration_latency":
                alone = free
            else:
                book(cause, share * (free - alone), begin, end)
            book("iteration_latency", share * alone, begin, end)
            if length > free:
                book("fault", share * part.rerun_ps, begin, end)
                book("power_cap", share * (length - free - part.rerun_ps), begin, end)
            begin = end

    def lost(self, now: int, since: int, active: int) -> None:
        """A fault ended a round that began at `since`: its time was for nothing."""
        self._spent.book("fault", (active + self._blocked) * (now - since), since, now)
        self._book_came(now, "fault")
        self.begin(0, "fault")

    def end(self, now: int, since: int, prompts: int, decoding: int, decodes: bool) -> None:
        """The run ends now, in the midst of a round that began at `since` or, with none under way, of waiting."""
        self.idle(now, since)
        self._spent.book("prefill", prompts * (now - since), since, now)
        self._spent.book("iteration_latency" if decodes else "prefill", decoding * (now - since), since, now)

    def copied(self, begun: int, now: int) -> None:
        """A request's KV came from another replica; from now on it waits for the round's end."""
        self.copy_ended(begun, now)
        self.came(now)

    def copy_ended(self, begun: int, now: int) -> None:
        """Copying a request's KV ended, done or not."""
        self._spent.book("kv_transfer", now - begun, begun, now)

    def set_aside(self) -> list[int]:
        """Requests come since the last wake, kept out of what is booked next; for `put_back`."""
        came, self._came = self._came, []
        return came

    def put_back(self, came: list[int]) -> None:
        """See `set_aside`."""
        self._came = came

    def _book_came(self, now: int, why: str) -> None:
        for came in self._came:
            self._spent.book(why, now - came, came, now)
        self._came = []
