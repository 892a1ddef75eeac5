"""The smallest size of one system that holds: a search that asks for looks and goes on when it is told what they found.

Racks whose chips forward for each other are looked at from the smallest up, as more of them may hold less: another cut into
stages, less room for KV, fewer cables between two. Clusters alike, and replicas of nodes behind switches, share the traffic, so
that more of them only ever have less to do each: their number is bisected.

In a contest of systems a search has something to beat (`below`): it looks no further once what it looks at is as dear.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import ceil, inf

from dcsim.study.sizing.bound import MARGIN, chunks_beside
from dcsim.study.sizing.look import Look, ways_of
from dcsim.study.sizing.rows import Row, Searched, Wanted, of_seeds, refused, simulated
from dcsim.study.sizing.sizes import COUNT_MAX, NODES_A_REPLICA, Settings, counts
from dcsim.study.sweep.case import Done

SEEDS = 5  # of the winner and its neighbours
FAR = 10.0  # times a target: what misses one by more is not mended by other chunks
OVERLOAD = 1.5  # times the rate, where it is seen what gives way first
HOPELESS = 2  # pairs of sizes in a row, at each of which one user alone is too slow: more of the same is no help
AT_ONCE = 2  # sizes looked at together, whoever does it
ANY_RATE = 1e9  # requests a second that no way promises: its bound is asked for, and no shape is timed
WEIGHED = (1, 2, 4, 8, 16, 32)  # racks, of which the first that hold the LLM tell what it takes
DOUBT = 1.1  # times what is to be beaten: units that share a network do not cost quite as many times as much
MINIMISED = {"cost": "usd_per_h", "power": "power_w", "racks": "racks"}
UNITS = {"cost": ("USD/h", "even if idle"), "power": ("W", "even if idle"), "racks": ("racks", "filled")}
IDLE = {"cluster": 64, "node": 8}  # times as many as the bound asks for: if these do not hold, no number does

Looks = Generator[list[Look], list[Done], Row | None]


@dataclass(slots=True)
class Smallest:
    """The search of one system; `rows` has every size that was looked at.

    `below` is what the best of other systems takes of what is minimised: sizes that take as much are of no interest. A unit takes
    `unit_takes` of it at the least, and can serve `unit_rate_per_s` at the most, once it was `weighed`.
    """

    system: Searched
    wanted: Wanted
    rows: list[Row] = field(default_factory=list)
    below: float = inf
    unit_takes: float = 0.0
    unit_rate_per_s: float = 0.0

    @property
    def takes_per_rate(self) -> float:
        """What it takes for a request a second, at its best; systems are looked at in this order."""
        return self.unit_takes / self.unit_rate_per_s if self.unit_rate_per_s else inf

    def weighed(self) -> Looks:
        """Find out what a unit takes and can serve."""
        growth = self.system.growth
        for count in WEIGHED if growth.unit == "rack" else (self._together,):
            (answer,) = yield [Look(self.system.place, growth.point(count)[0], ANY_RATE, self.wanted.seed, ways=True)]
            ways = ways_of(answer)
            if ways.waiting and 0 < ways.requests_per_s < inf:
                self.unit_takes = ways.waiting[MINIMISED[self.wanted.minimise]] / count
                self.unit_rate_per_s = ways.requests_per_s / count
                break
        return None

    def from_size(self, units: int = 1) -> Looks:
        """The row of the smallest size of `units` or more that holds with the first seed, and what gives way beyond it.

        What was told before that it does not hold with other seeds is passed over. None where no size holds.
        """
        row = yield from (self._grown if self.system.growth.unit == "rack" else self._alike)(units)
        if row is not None:
            (over,) = yield [self._look(row["settings"], row["units"], load=OVERLOAD)]
            row["binding"] = over.row.get("limited_by") or str(over.row.get("error", ""))
        return row

    def with_seeds(self, row: Row) -> Looks:
        """A row with what other seeds say of it."""
        if "digest" not in row:
            return row  # it cannot be built, whatever the seed
        seeds = range(self.wanted.seed + 1, self.wanted.seed + SEEDS)
        found = yield [self._look(row["settings"], row["units"], seed) for seed in seeds]
        others = [simulated(self.system, self.wanted, row["settings"], row["units"], one.row) for one in found]
        row.update(of_seeds([row, *others]))
        return row

    def neighbours(self, row: Row) -> Looks:
        """One unit less and one more, each as it holds best, with as many seeds."""
        for count in (row["units"] - 1, row["units"] + 1):
            if count < 1:
                continue
            if not self._served_at(count):
                yield from self._beside(row, count)
            served = self._served_at(count)
            if served:
                yield from self.with_seeds(next((one for one in served if one["holds"]), served[0]))
        return row

    @property
    def _together(self) -> int:
        """Clusters, or nodes behind switches, that any way to lay the LLM fits."""
        return 1 if self.system.growth.unit == "cluster" else max(NODES_A_REPLICA)

    def _is_dear(self, count: int) -> bool:
        """Whether a size takes as much as what is to be beaten, as far as is known before it is looked at; its row says so."""
        takes = self.unit_takes * count
        if takes < self.below * (1.0 if self.system.growth.unit == "cluster" else DOUBT):
            return False
        unit, of_it = UNITS[self.wanted.minimise]
        reason = f"{'at least' if self.system.growth.unit == 'cluster' else 'about'} {takes:,.4g} {unit} {of_it}"
        self.rows.append(refused(self.system, count, f"{reason}, where {self.below:,.4g} do"))
        return True

    def _beside(self, row: Row, count: int) -> Looks:
        """Serve with a size whatever its bounds and promises say."""
        if self.system.growth.unit == "rack":
            return (yield from self._sizes([count], whatever=True))
        return (yield from self._one(row["settings"], count))

    def _one(self, settings: Settings, count: int) -> Generator[list[Look], list[Done], Row]:
        """The row of a size, laid as `settings` say."""
        point = {**settings, **self.system.growth.point(count)[0]}
        (found,) = yield [self._look(point, count)]
        return self._took(point, count, found)

    def _served_at(self, count: int) -> list[Row]:
        return [row for row in self.rows if row["units"] == count and row["seeds"]]

    @property
    def _rate_per_s(self) -> float:
        """What has to be held, in a day's peak if the traffic has one; its runs are given the day's mean."""
        return self.wanted.rate_per_s * self.system.load

    def _look(self, point: Settings, count: int, seed: int | None = None, load: float = 1.0) -> Look:
        """How a size serves, laid as the point says, at `load` times the rate."""
        copies = self.system.growth.point(count)[1]
        own = self.wanted.seed if seed is None else seed
        return Look(self.system.place, point, self.wanted.rate_per_s * load / copies, own)

    def _took(self, point: Settings, count: int, found: Done) -> Row:
        """The row of what was found, or that which the point has already, with what other seeds said of it."""
        for row in self._served_at(count):
            if row["settings"] == point:
                return row
        row = simulated(self.system, self.wanted, point, count, found.row)
        self.rows.append(row)
        return row

    def _near(self, row: Row) -> bool:
        """Whether other chunks might mend what a row misses."""
        return "digest" in row and all((row.get(one.metric) or 0.0) <= FAR * one.limit_s for one in self.wanted.targets)

    def _other_chunks(self, point: Settings) -> Iterator[Settings]:
        given = point.get("serving.chunk_tokens")
        for tokens in chunks_beside(self.system.spec, None if given is None else int(given)):
            yield {**point, "serving.chunk_tokens": str(tokens)}

    # Racks

    def _grown(self, units: int) -> Looks:
        """Looks at all sizes up to some, then in steps; what a step left out is looked at when something beyond it holds."""
        last, hopeless = units - 1, 0
        for block in _in_blocks(count for count in counts() if count >= units):
            if self._is_dear(block[0]):
                return None
            found = yield from self._sizes(block)
            if found:
                before = max(count for count in (last, *block) if count < found["units"])
                for left_out in _in_blocks(range(before + 1, found["units"])):
                    smaller = yield from self._sizes(left_out)
                    if smaller:
                        return smaller
                return found
            hopeless = hopeless + 1 if all(row["hopeless"] for row in self.rows if row["units"] in block) else 0
            if hopeless == HOPELESS:
                return None
            last = block[-1]
        return None

    def _sizes(self, block: Sequence[int], *, whatever: bool = False) -> Looks:
        """The first of some sizes that holds. `whatever`: those are simulated too that promise too little."""
        growth, rate = self.system.growth, 0.0 if whatever else self._rate_per_s
        own = {count: growth.point(count)[0] for count in block}
        answers = yield [Look(self.system.place, own[count], rate, self.wanted.seed, ways=True) for count in block]
        left: dict[int, Iterator[Settings]] = {}
        others: dict[int, list[Settings]] = {}
        for count, answer in zip(block, answers, strict=True):
            ways = ways_of(answer)
            if not ways.settings:
                self.rows.append(refused(self.system, count, ways.reason, ways.hopeless))
            left[count] = iter([{**own[count], **settings} for settings in ways.settings])
            others[count] = [{**own[count], **settings} for settings in ways.others]
        held: dict[int, Row] = {}
        while asked := {count: point for count in left if (point := next(left[count], None)) is not None}:
            found = yield [self._look(point, count) for count, point in asked.items()]
            for (count, point), done in zip(asked.items(), found, strict=True):
                row = self._took(point, count, done)
                if row["holds"]:
                    held[count] = row
                    left.pop(count)
                elif count in others and self._near(row):
                    left[count] = iter([*left[count], *others.pop(count), *self._other_chunks(point)])
            if held and min(left, default=block[-1] + 1) > min(held):
                break  # larger ones need not be looked at further
        return held[min(held)] if held else None

    # Clusters alike, and nodes

    def _alike(self, units: int) -> Looks:
        """The fewest with any way to lay the LLM, then with other chunks."""
        growth, together = self.system.growth, self._together
        (answer,) = yield [Look(self.system.place, growth.point(together)[0], 0.0, self.wanted.seed, ways=True)]
        ways = ways_of(answer)
        if not ways.settings:
            self.rows.append(refused(self.system, together, ways.reason))
            return None
        least = max(units, min(COUNT_MAX, ceil(self._rate_per_s * together / (ways.requests_per_s * MARGIN))))
        if least > units:
            self.rows.append(
                refused(self.system, least - 1, f"{ways.reason} with {together} {growth.unit}{'s' if together > 1 else ''}")
            )
        if self._is_dear(least):
            return None
        best: Row | None = None
        for settings in ways.settings:
            best = (yield from self._fewest(settings, least, best)) or best
        first = best or next((row for row in self.rows if row["seeds"]), None)
        if first is not None and self._near(first):
            for settings in self._other_chunks(first["settings"]):
                best = (yield from self._fewest(settings, least, best)) or best
        return best

    def _tried_first(self, least: int, best: Row | None) -> Iterator[int]:
        """Numbers of which one that holds is looked for, before those below it are."""
        if best is not None:
            yield best["units"] - 1
        elif self.below == inf or not self.unit_takes:
            yield from (least, 2 * least, IDLE[self.system.growth.unit] * least)
        else:  # the most that would take less than what is to be beaten: if they do not hold, nothing does that is of interest
            key, count = MINIMISED[self.wanted.minimise], max(least, ceil(self.below / self.unit_takes) - 1)
            while True:
                yield count
                taken = [row[key] for row in self._served_at(count) if "digest" in row]
                if not taken or min(taken) >= self.below:
                    return
                count = max(count + 1, int(count * self.below / min(taken)))

    def _fewest(self, settings: Settings, least: int, best: Row | None) -> Looks:
        """The fewest that hold, laid as `settings` say, of `least` or more, and fewer than the best has; None: none."""
        unit = self.system.growth.unit
        if unit == "node":  # a replica takes some
            least = max(least, int(settings.get("mapping.pp", 1)))
        low, held = least - 1, None  # `low` do not hold
        for count in self._tried_first(least, best):
            if not low < count <= COUNT_MAX:
                continue
            row = yield from self._one(settings, count)
            if row["holds"]:
                held = row
                break
            if "digest" not in row:
                return None  # it cannot be built, or one user alone is too slow
            low = count
        while held is not None and held["units"] > low + 1:
            high = held["units"]
            count = (low + high) // 2 if high <= 4 * max(low, 1) else round((max(low, 1) * high) ** 0.5)
            row = yield from self._one(settings, count)
            low, held = (low, row) if row["holds"] else (count, held)
        return held


def _in_blocks(numbers: Iterable[int]) -> Iterator[list[int]]:
    left = iter(numbers)
    while block := list(islice(left, AT_ONCE)):
        yield block
