"""The smallest size of each system that meets every target, and the best of them.

Each system is searched by `smallest`, which asks for looks; a `Crew` finds out what they ask, in this process or in several,
and keeps it in runs/plans, so that nothing is run twice. The best system is then run with several seeds, as are its neighbours:
what the first seed says of all others is an estimate. What is found depends on nobody who does it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

from dcsim.spec.unused import Keys
from dcsim.study.sizing.look import Look, Looker
from dcsim.study.sizing.rows import Row, Searched, Wanted, beyond, front
from dcsim.study.sizing.sizes import growth_of
from dcsim.study.sizing.smallest import AT_ONCE, MINIMISED, Looks, Smallest
from dcsim.study.store import hash_of, run_hash
from dcsim.study.sweep.case import Case, Done
from dcsim.study.sweep.journal import Journal
from dcsim.workers import Lost, Workers

REFUSED_TOLD = 2  # sizes of a system, of those that are not simulated
ASSUMES = (
    "clusters alike share the traffic evenly, each with requests so many times as rare",
    "the workload's requests come as it says, so many times as fast as the rate asks",
)


@dataclass(slots=True)
class Told:
    """What hears of the search, and what it took."""

    journal: Journal | None = None
    progress: Callable[[Mapping[str, Any]], None] | None = None
    keys: list[Keys] = field(default_factory=list)
    simulations: int = 0
    kept: int = 0
    before: dict[str, Done] = field(default_factory=dict)


def size(
    cases: Sequence[Case], wanted: Wanted, told: Told, jobs: int = 1, loads: Sequence[float] = (), *, best_only: bool = False
) -> dict[str, Any]:
    """The smallest of each system that meets every target at the rate, the best of these, and every candidate looked at.

    With `best_only` systems are in a contest: the most promising are looked at first, others as far as they could still be
    better. `answer` is None where none does. `jobs` processes look; what is found does not depend on it. `loads` says of each
    system how many times the rate it has to hold (left out: once). Raises SpecError for what cannot be asked, and whatever
    `told.progress` raises.
    """
    if told.journal and not told.before:
        told.before |= told.journal.read()
    systems = []
    for place, case in enumerate(cases):
        spec = case.load({}).resolved.spec
        systems.append(Searched(place, case, spec, growth_of(spec), loads[place] if loads else 1.0))
    searches = [Smallest(system, wanted) for system in systems]
    with Crew(systems, wanted, told, jobs) as crew:
        found = contest(crew, searches, {}) if best_only else crew.run(searches, [search.from_size() for search in searches])
        answer = _confirmed(crew, searches, found, wanted, best_only)
        if answer is not None:
            place, row = answer
            crew.run(searches, [searches[place].neighbours(row)])
            for beside in searches[place].rows:
                if not beside["estimated"] and beside is not row:
                    crew.tell(beside)
    held = [row for row in found if row is not None]
    within = [row for row in held if not beyond(row, wanted)]
    best = None if answer is None else answer[1]
    return {
        "rate_per_s": wanted.rate_per_s,
        "slo": {target.name: target.limit_s for target in wanted.targets},
        "minimise": wanted.minimise,
        "answer": None if best is None else _plain(best) | {"binding": best["binding"] or best["limited_by"]},
        "answers": [_plain(row) for row in held],
        "candidates": [_plain(row) for search in searches for row in _worth_telling(search.rows)],
        "front": [_plain(row) for row in front(within)],
        "simulations": told.simulations,
        "simulations_kept": told.kept,
        "assumes": list(ASSUMES),
    }


def contest(crew: Crew, searches: Sequence[Smallest], units: Mapping[int, int]) -> list[Row | None]:
    """What each search finds that has to beat those before it, from so many units on; None where it finds nothing better.

    They are asked a few at a time, however many look, so that the same is found.
    """
    key = MINIMISED[searches[0].wanted.minimise]
    crew.run(searches, [search.weighed() for search in searches])
    found: list[Row | None] = [None] * len(searches)
    order, best = sorted(range(len(searches)), key=lambda place: (searches[place].takes_per_rate, place)), inf
    for first in range(0, len(order), AT_ONCE):
        places = order[first : first + AT_ONCE]
        for place in places:
            searches[place].below = best
        rows = crew.run(searches, [searches[place].from_size(units.get(place, 1)) for place in places])
        for place, row in zip(places, rows, strict=True):
            found[place] = row
            if row is not None and not beyond(row, searches[place].wanted):
                best = min(best, row[key])
    return found


def _confirmed(
    crew: Crew, searches: Sequence[Smallest], found: list[Row | None], wanted: Wanted, best_only: bool
) -> tuple[int, Row] | None:
    """The best system's place and row, which holds with other seeds too; one that does not has to be laid otherwise, or larger.

    `found` takes the other one in its place; a contest begins anew, as what was to be beaten is no longer there.
    """
    key = MINIMISED[wanted.minimise]
    units: dict[int, int] = {}
    while True:
        within = [(place, row) for place, row in enumerate(found) if row is not None and not beyond(row, wanted)]
        if not within:
            return None
        place, row = min(within, key=lambda one: (one[1][key], one[1]["usd_per_h"], one[0]))
        crew.run(searches, [searches[place].with_seeds(row)])
        crew.tell(row)
        if row["holds"]:
            return place, row
        units[place] = row["units"]
        if best_only:
            found[:] = contest(crew, searches, units)
        else:
            (found[place],) = crew.run(searches, [searches[place].from_size(row["units"])])


def _worth_telling(rows: Sequence[Row]) -> list[Row]:
    """All that was simulated, and the largest sizes of those that were not, each with its reason."""
    refused = {row["units"]: row for row in rows if not row["seeds"]}  # of each size the last that was said
    told = [*(row for row in rows if row["seeds"]), *(refused[count] for count in sorted(refused)[-REFUSED_TOLD:])]
    return sorted(told, key=lambda row: row["units"])


def _plain(row: Row) -> Row:
    return {key: value for key, value in row.items() if key != "hopeless"}


class Crew:
    """Whoever finds out what searches ask: this process, or several, each of which stays with a system as long as it can."""

    def __init__(self, systems: Sequence[Searched], wanted: Wanted, told: Told, jobs: int) -> None:
        cases = tuple(system.case for system in systems)
        self._own, self._told = Looker(cases, wanted.targets, wanted.seed), told
        self._names = [run_hash(system.spec.saved(), wanted.seed) for system in systems]
        self._slo = sorted((target.metric, target.limit_s) for target in wanted.targets)
        self._pool = Workers(self._own, jobs) if jobs > 1 else None

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool:
            self._pool.end()

    def run(self, searches: Sequence[Smallest], asking: Sequence[Looks]) -> list[Row | None]:
        """What each of the searches returns once it has been told all that it asks for. `searches` are whose rows are told of."""
        lanes = [_Lane(looks) for looks in asking]
        heard = {search.system.place: len(search.rows) for search in searches}
        for lane, look, place, done in self._done(lanes):
            self._keep(look, done)
            lane.take(place, done)
            self._tell(searches, heard)
        return [lane.found for lane in lanes]

    def _done(self, lanes: Sequence[_Lane]) -> Iterator[tuple[_Lane, Look, int, Done]]:
        """Looks with what came of them: those known first, then those that are done, as long as any lane asks."""
        doing: dict[int, tuple[_Lane, Look, int]] = {}
        number = 0
        while True:
            while (known := self._next_known(lanes)) is not None:
                yield known
            waiting = [(lane, place) for lane in lanes for place in lane.waiting]
            if self._pool is None:
                if not waiting:
                    return
                lane, place = waiting[0]
                look = lane.begin(place)
                yield lane, look, place, self._own(look)
                continue
            while waiting and self._pool.has_room:
                lane, place = self._pick(waiting)
                waiting.remove((lane, place))
                look = lane.begin(place)
                doing[number] = lane, look, place
                self._pool.give(number, look, look.system)
                number += 1
            if not doing:
                return
            index, found = self._pool.take()
            lane, look, place = doing.pop(index)
            if isinstance(found, Lost):
                found = Done({**look.point, "error": found.reason}, lost=True)
            yield lane, look, place, found

    def _pick(self, waiting: Sequence[tuple[_Lane, int]]) -> tuple[_Lane, int]:
        """The look whose system an idle process knows; else the first of a system that nobody is busy with; else the first."""
        assert self._pool is not None
        for lane, place in waiting:
            if self._pool.knows(lane.asked[place].system):
                return lane, place
        return next(((lane, place) for lane, place in waiting if not lane.begun), waiting[0])

    def _next_known(self, lanes: Sequence[_Lane]) -> tuple[_Lane, Look, int, Done] | None:
        for lane in lanes:
            for place in lane.waiting:
                done = self._told.before.get(self._name(lane.asked[place]))
                if done is not None:
                    return lane, lane.begin(place), place, done
        return None

    def _name(self, look: Look) -> str:
        """What a look's answer is found again by: all that it follows from."""
        asked = [self._names[look.system], sorted(look.point.items()), look.rate_per_s, look.seed, self._slo]
        return hash_of(["ways" if look.ways else "served", *asked])

    def _keep(self, look: Look, done: Done) -> None:
        told, name = self._told, self._name(look)
        if name in told.before:
            told.kept += not look.ways
        else:
            told.simulations += not look.ways
            told.before[name] = done
            if told.journal and not done.lost:
                told.journal.append(name, done)
        if done.keys is not None:
            told.keys.append(done.keys)

    def _tell(self, searches: Sequence[Smallest], heard: dict[int, int]) -> None:
        for search in searches:
            place = search.system.place
            for row in search.rows[heard[place] :]:
                if row["seeds"]:
                    self.tell(row)
            heard[place] = len(search.rows)

    def tell(self, row: Row) -> None:
        """Let whoever listens hear of a candidate."""
        if self._told.progress is not None:
            self._told.progress(_plain(row))


class _Lane:
    """One search between two answers: the looks it asked for, which of them wait, and what came of the others."""

    def __init__(self, looks: Looks) -> None:
        self._looks = looks
        self.found: Row | None = None
        self.asked: list[Look] = []
        self.waiting: list[int] = []
        self._answers: dict[int, Done] = {}
        self._ask(None)

    @property
    def begun(self) -> bool:
        """Whether somebody has begun with what it asks for now."""
        return len(self.waiting) < len(self.asked)

    def begin(self, place: int) -> Look:
        """Take a look that waits."""
        self.waiting.remove(place)
        return self.asked[place]

    def take(self, place: int, done: Done) -> None:
        """What came of a look; after the last of them the search goes on."""
        self._answers[place] = done
        if len(self._answers) == len(self.asked):
            self._ask([self._answers[i] for i in range(len(self.asked))])

    def _ask(self, answers: list[Done] | None) -> None:
        try:
            self.asked = next(self._looks) if answers is None else self._looks.send(answers)
        except StopIteration as ended:
            self.asked, self.found = [], ended.value
        self.waiting, self._answers = list(range(len(self.asked))), {}
