"""What a replica is told once, at the start of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dcsim.cluster.engine_programs import AnyPrograms
from dcsim.cluster.simpy.decoding import Growth
from dcsim.llm.kv import SequenceRoom
from dcsim.spec.topology import ServingSpec

if TYPE_CHECKING:
    from dcsim.cluster.simpy.chips import Chips

FOLLOWED = 0  # the replica whose rounds chips carry out, in chip zoom


@dataclass(frozen=True, slots=True)
class ReplicaSetup:
    """What all replicas of a run share, but for the chips of the one that is followed."""

    programs: AnyPrograms
    room: SequenceRoom
    serving: ServingSpec
    priorities: tuple[int, ...]
    switch_ps: int  # cost of a change of program
    reply_ps: int  # from a token made to the user seeing it
    token_pj: int  # energy of handing on one output token (see `power.hosts`)
    skip: bool
    growth: Growth | None  # of speculative decoding
    rounds: list[tuple[int, ...]] | None = None  # takes a row of the rounds table at each wake, if there
    chips: Chips | None = None  # carry every round out, in chip zoom
    swap_ps: Callable[[int], int] = lambda tokens: 0  # that a sequence of so many tokens takes to its hosts' memory, or back
