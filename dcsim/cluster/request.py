"""One request on its way through the cluster."""

from __future__ import annotations

from dataclasses import dataclass

from dcsim.results.records import IN_FLIGHT

UNSET = -1  # a time that has not come


@dataclass(slots=True, eq=False)
class Request:
    """What was asked, where it is and what has happened to it; times in picoseconds."""

    index: int  # in order of arrival
    arrival_ps: int
    prompt: int  # tokens
    output: int  # tokens
    klass: int = 0  # index into the class names
    priority: int = 0  # higher is served first
    session: int = -1  # conversation; -1: none
    prefix: int = 0  # leading prompt tokens shared with the session's previous turn
    user: int = -1  # who asked, in a closed loop
    blocks: tuple[int, ...] = ()  # ids of the prompt's blocks, each of which stands for the prompt up to its end
    block_tokens: int = 0  # of one of them; 0: no blocks are known
    host: int = -1
    replica: int = -1  # the one that served it last
    since_ps: int = UNSET  # when it last came to a host, a replica, or on its way between two replicas
    ready_ps: int = UNSET
    admitted_ps: int = UNSET
    first_token_ps: int = UNSET  # as the user sees it
    finished_ps: int = UNSET  # as the user sees it
    given: int = 0  # output tokens made so far
    token_ps: int = UNSET  # when the last of them was made
    read: int = 0  # tokens of its text in KV
    swapped: bool = False  # what it stored is in its hosts' memory
    reused: int = 0  # prompt tokens found in KV instead of read
    replays: int = 0  # times a fault made it start again
    status: str = IN_FLIGHT
    reason: str = ""

    @property
    def to_read(self) -> int:
        """Tokens to be read before the next one can be made: the prompt, and after a fault what was given."""
        return self.prompt + self.given
