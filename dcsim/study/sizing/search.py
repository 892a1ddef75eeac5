"""The smallest size of each system that meets every target, and the best of them.

Of each system sizes are looked at from the smallest up. What the bound refuses is not simulated; what it lets pass is, in each
layout, until one holds: so the first that holds is the smallest, whether more hardware always helps or not. The winner and its
neighbours are run with several seeds, where seeds make a difference. Everything is kept in runs/plans, and never run twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import ceil, inf
from typing import Any

from dcsim.errors import CapacityError, FabricError, SpecError
from dcsim.power.steady import with_spares
from dcsim.spec.topology import Topology
from dcsim.spec.unused import Keys
from dcsim.study.machine import build
from dcsim.study.sizing.bound import MARGIN, RateBound, Traffic, bound_of, chunks_beside, traffic_of
from dcsim.study.sizing.sizes import GrowthPath, Settings, counts, growth_of, layouts
from dcsim.study.sizing.slo import Target
from dcsim.study.store import hash_of, run_hash
from dcsim.study.sweep.case import Case, Done, Worker
from dcsim.study.sweep.journal import Journal

FAR = 10.0  # times a target: what misses one by more is not mended by other chunks
OVERLOAD = 1.5  # times the rate, where it is seen what gives way first
SEEDS = 5  # of the winner and its neighbours
REFUSED_TOLD = 2  # sizes of a system, of those that an estimate refuses
MET_FRACTION = 0.95  # of replications
ASSUMES = (
    "clusters alike share the traffic evenly, each with requests so many times as rare",
    "the workload's requests come as it says, so many times as fast as the rate asks",
)
MINIMISED = {"cost": "usd_per_h", "power": "power_w", "racks": "racks"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be held, within what, and what counts."""

    rate_per_s: float
    targets: tuple[Target, ...]
    minimise: str = "cost"
    power_w_max: float | None = None
    capital_usd_max: float | None = None
    spare: tuple[int, str] = (0, "rack")  # so many units that may fail or be serviced
    seed: int = 1


@dataclass(slots=True)
class Searched:
    """One system while it is searched."""

    case: Case
    spec: Topology
    growth: GrowthPath
    worker: Worker
    traffic: Traffic
    bounds: dict[str, RateBound] = field(default_factory=dict)  # by settings
    rows: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Told:
    """What hears of the search, and what it took."""

    journal: Journal | None = None
    progress: Callable[[Mapping[str, Any]], None] | None = None
    keys: list[Keys] = field(default_factory=list)
    simulations: int = 0
    kept: int = 0
    before: dict[str, Done] = field(default_factory=dict)


def size(cases: Sequence[Case], wanted: Wanted, told: Told) -> dict[str, Any]:
    """The smallest of each system that meets every target at the rate, the best of these, and every candidate looked at.

    `answer` is None where none does. Raises SpecError for what cannot be asked.
    """
    told.before = told.journal.read() if told.journal else {}
    found, seen = list[dict[str, Any]](), list[dict[str, Any]]()
    for case in cases:
        spec = case.load({}).resolved.spec
        searched = Searched(case, spec, growth_of(spec), Worker(case), traffic_of(spec, wanted.seed))
        best = _smallest(searched, wanted, told)
        seen += _worth_telling(searched.rows)
        if best is not None:
            found.append(best)
    key = MINIMISED[wanted.minimise]
    within = [row for row in found if not _beyond(row, wanted)]
    answer = min(within, key=lambda row: (row[key], row["usd_per_h"]), default=None)
    return {
        "rate_per_s": wanted.rate_per_s,
        "slo": {target.name: target.limit_s for target in wanted.targets},
        "minimise": wanted.minimise,
        "answer": None if answer is None else {**answer, "binding": answer["binding"] or answer["limited_by"]},
        "answers": found,
        "candidates": seen,
        "front": _front(within),
        "simulations": told.simulations,
        "simulations_kept": told.kept,
        "assumes": list(ASSUMES),
    }


def _worth_telling(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """All that was simulated, and of what an estimate refused the largest sizes, each with its reason."""
    refused = sorted({row["units"] for row in rows if row["estimated"]})[-REFUSED_TOLD:]
    return [row for row in sorted(rows, key=lambda row: row["units"]) if not row["estimated"] or row["units"] in refused]


def _smallest(one: Searched, wanted: Wanted, told: Told) -> dict[str, Any] | None:
    """The row of the smallest size that holds with every seed; None where none does."""
    last = 0
    for count in counts():
        if _first_that_holds(one, wanted, told, count) is None:
            last = count
            if _is_hopeless(one, count):
                return None
            continue
        for below in range(last + 1, count + 1):  # what a step left out
            row = _first_that_holds(one, wanted, told, below)
            if row is not None and _holds_with_seeds(one, wanted, told, row):
                return _finished(one, wanted, told, row)
        last = count
    return None


def _is_hopeless(one: Searched, count: int) -> bool:
    """Whether more of the system cannot help: at every layout one user alone is too slow, or there can be no more of it."""
    last = [row for row in one.rows if row["units"] == count]
    return bool(last) and all(row["hopeless"] for row in last)


def _first_that_holds(one: Searched, wanted: Wanted, told: Told, count: int) -> dict[str, Any] | None:
    """The first layout of a size that holds; every one looked at is a row."""
    known = [row for row in one.rows if row["units"] == count]
    if known:
        return next((row for row in known if row["holds"]), None)
    own, copies = one.growth.point(count)
    passed: list[tuple[Settings, dict[str, Any]]] = []
    for layout in layouts(one.spec, one.growth):
        row, may = _bounded(one, wanted, told, {**own, **layout}, count, copies)
        if not may:
            one.rows.append(row)
            continue
        row = _simulated(one, wanted, told, {**own, **layout}, count, copies)
        one.rows.append(row)
        if row["holds"]:
            return row
        passed.append((layout, row))
    for layout, row in passed[:1]:
        if any((row.get(target.metric) or 0.0) > FAR * target.limit_s for target in wanted.targets):
            continue
        for tokens in chunks_beside(one.spec):
            chunk = {"serving.chunk_tokens": str(tokens)}
            other = _simulated(one, wanted, told, {**own, **layout, **chunk}, count, copies)
            one.rows.append(other)
            if other["holds"]:
                return other
    return None


def _bounded(one: Searched, wanted: Wanted, told: Told, point: Settings, count: int, copies: int) -> tuple[dict[str, Any], bool]:
    """An estimated row, and whether the point must be simulated."""
    row = {**_head(one, point, count, copies), "holds": False, "estimated": True, "hopeless": False}
    name = str(sorted(point.items()))
    if name not in one.bounds:
        one.bounds[name] = _bound(one, wanted, told, point, count)
    bound = one.bounds[name]
    may = copies * bound.requests_per_s * MARGIN >= wanted.rate_per_s
    return {**row, "reason": _told(bound, copies), "hopeless": bound.hopeless}, may


def _bound(one: Searched, wanted: Wanted, told: Told, point: Settings, count: int) -> RateBound:
    """The bound of a point, from what was kept or computed; 0 requests a second, with the reason, where it cannot be built."""
    grows = one.growth.settings is not None
    tpot_s = min((target.limit_s for target in wanted.targets if target.metric.startswith("tpot_s")), default=None)
    try:
        spec = one.case.load(point).resolved.spec
        name = hash_of(["bound", run_hash(spec.saved(), wanted.seed), tpot_s])
        kept = told.before.get(name)
        if kept is not None:
            rate = kept.row["requests_per_s"]
            return RateBound(inf if rate is None else rate, kept.row["reason"], kept.row["hopeless"])
        bound = bound_of(build(spec, wanted.seed), one.traffic, tpot_s)
    except CapacityError as error:
        return RateBound(0.0, str(error), hopeless=not grows or error.needed == inf)
    except FabricError as error:
        return RateBound(0.0, str(error), hopeless=not grows or count > 1)
    except SpecError as error:  # such as more stages than blocks, or shards than heads
        return RateBound(0.0, str(error), hopeless=not grows)
    told.before[name] = Done(asdict(bound) | {"requests_per_s": None if bound.requests_per_s == inf else bound.requests_per_s})
    if told.journal:
        told.journal.append(name, told.before[name])
    return bound


def _told(bound: RateBound, copies: int) -> str:
    return bound.reason + (f" in each of {copies}" if copies > 1 else "")


def _head(one: Searched, point: Settings, count: int, copies: int) -> dict[str, Any]:
    """What a candidate is."""
    return {
        "topology": one.spec.name,
        "file": one.case.topology,
        "interconnect": one.spec.network.name,
        "unit": one.growth.unit,
        "units": count,
        "clusters": copies,
        "settings": point,
    }


def _point(wanted: Wanted, point: Settings, copies: int, load: float = 1.0) -> dict[str, str]:
    return {**point, "rate": f"{wanted.rate_per_s * load / copies!r} requests/s"}


def _run(one: Searched, told: Told, point: dict[str, str], seed: int) -> dict[str, Any]:
    """The row of a point, from what was kept or by simulation; by the compiled copy where it knows all that is asked for."""
    name = one.case.name_of(one.case.load(point), seed)
    done = told.before.get(name)
    if done is not None:
        told.kept += 1
    else:
        done = one.worker(({**point, "engine": "compiled"}, seed))
        if "the compiled copy does not know" in str(done.row.get("error", "")):
            done = one.worker(({**point, "engine": "simpy"}, seed))
        told.simulations += 1
        told.before[name] = done
        if told.journal and not done.lost:
            told.journal.append(name, done)
    if done.keys is not None:
        told.keys.append(done.keys)
    return done.row


def _simulated(
    one: Searched, wanted: Wanted, told: Told, point: Settings, count: int, copies: int, seed: int | None = None
) -> dict[str, Any]:
    """A candidate's row with what it draws, costs, and whether it holds, or why not."""
    seed = wanted.seed if seed is None else seed
    found = _run(one, told, _point(wanted, point, copies), seed)
    head = {**_head(one, point, count, copies), "estimated": False, "hopeless": False}
    if "error" in found:
        row = {**head, "holds": False, "reason": found["error"]}
    else:
        reasons = [text for target in wanted.targets if (text := target.missed(found))]
        unserved = found["requests_in"] - found["requests_beyond_llm"] - found["requests_finished"]
        if unserved:
            reasons.append(f"{unserved:,} requests not served")
        row = {**head, **_built(one, wanted, found, count, copies)}
        beyond = _beyond(row, wanted)
        row |= {"holds": not reasons, "reason": "; ".join([*reasons, *beyond])}
    if told.progress:
        told.progress(row)
    return row


def _built(one: Searched, wanted: Wanted, found: Mapping[str, Any], count: int, copies: int) -> dict[str, Any]:
    """What all clusters are, draw and cost together, spare units included."""
    spare = _spare_units(one, wanted, found, count)
    more = (count + spare) / count
    together = found["clusters_a_rack"] if one.growth.unit == "cluster" else 0
    racks = ceil(copies * more / together) if together else ceil(found["racks"] * copies * more)
    idle_w = found["idle_w"] * copies * (more - 1)
    tokens_per_s = found["output_tokens_per_s"] * copies
    usd_per_h = found["usd_per_h"] * copies * more
    return {
        "racks": racks,
        "nodes": round(found["nodes"] * copies * more),
        "chips": round(found["chips"] * copies * more),
        "spare_units": spare,
        "replicas": found["replicas"] * copies,
        "tp": found["tp"],
        "pp": found["pp"],
        "chunk_tokens": found["chunk_tokens"],
        "power_w": with_spares(found["power_w_mean"] * copies, idle_w),
        "power_w_max": with_spares(found["power_w_max"] * copies, idle_w),
        "capital_usd": found["capital_usd"] * copies * more,
        "usd_per_h": usd_per_h,
        "usd_per_mtoken": usd_per_h / (tokens_per_s * 3600) * 1e6 if tokens_per_s else None,
        **{target.metric: found[target.metric] for target in wanted.targets},
        "tokens_per_s_per_user_p50": found["tokens_per_s_per_user_p50"],
        "limited_by": found["limited_by"],
        "limited_by_fraction": found["limited_by_fraction"],
        "binding": "",
        "seeds": 1,
        "digest": found["digest"],
    }


def _spare_units(one: Searched, wanted: Wanted, found: Mapping[str, Any], count: int) -> int:
    """Units of the system that hold as many racks, nodes or chips as `--spare` asks for."""
    number, what = wanted.spare
    if not number:
        return 0
    units = 1 if one.growth.unit == "cluster" else count
    of_one = float({"rack": found["racks"], "node": found["nodes"], "chip": found["chips"]}[what]) / units
    if what == "rack" and one.growth.unit == "cluster" and found["clusters_a_rack"]:
        of_one = 1 / float(found["clusters_a_rack"])
    return ceil(number / of_one - 1e-9)


def _beyond(row: Mapping[str, Any], wanted: Wanted) -> list[str]:
    """Limits on power and money that a candidate is beyond."""
    found = []
    if wanted.power_w_max is not None and row["power_w_max"] > wanted.power_w_max:
        found.append(f"draws {row['power_w_max'] / 1e3:,.4g} kW, more than {wanted.power_w_max / 1e3:,.4g} kW")
    if wanted.capital_usd_max is not None and row["capital_usd"] > wanted.capital_usd_max:
        found.append(f"costs {row['capital_usd'] / 1e6:,.4g} MUSD, more than {wanted.capital_usd_max / 1e6:,.4g} MUSD")
    return found


def _holds_with_seeds(one: Searched, wanted: Wanted, told: Told, row: dict[str, Any]) -> bool:
    """Whether a size that holds does so with `MET_FRACTION` of the seeds; `seeds` in its row says how many made a difference."""
    held = 1
    for seed in range(wanted.seed + 1, wanted.seed + SEEDS):
        other = _simulated(one, wanted, told, row["settings"], row["units"], row["clusters"], seed)
        if seed == wanted.seed + 1 and _same(other, row):
            return True  # seeds draw nothing here
        held += other["holds"]
        row["seeds"] += 1
    row["holds"] = held >= MET_FRACTION * row["seeds"]
    if not row["holds"]:
        row["reason"] = f"holds with {held} of {row['seeds']} seeds"
    return bool(row["holds"])


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one.get(key) == other.get(key) for key in one if key not in ("seeds", "digest", "binding"))


def _finished(one: Searched, wanted: Wanted, told: Told, row: dict[str, Any]) -> dict[str, Any]:
    """The winner: what gives way beyond it, and its neighbours run, so that the table says what one more or less does."""
    over = _run(one, told, _point(wanted, row["settings"], row["clusters"], OVERLOAD), wanted.seed)
    row["binding"] = over.get("limited_by") or str(over.get("error", ""))
    layout = {key: value for key, value in row["settings"].items() if not key.startswith("fabric.")}
    for count in (row["units"] - 1, row["units"] + 1):
        if count < 1 or any(other["units"] == count and not other["estimated"] for other in one.rows):
            continue
        own, copies = one.growth.point(count)
        beside = _simulated(one, wanted, told, {**own, **layout}, count, copies)
        one.rows = [other for other in one.rows if not (other["units"] == count and other["settings"] == beside["settings"])]
        one.rows.append(beside)
    return row


def _front(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Systems that no other beats in cost, power and speed of the median user at once, the cheapest first."""

    def worth(row: Mapping[str, Any]) -> tuple[float, float, float]:
        return row["usd_per_h"], row["power_w"], -(row["tokens_per_s_per_user_p50"] or 0.0)

    def beats(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        pairs = list(zip(worth(one), worth(other), strict=True))
        return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)

    return [dict(row) for row in sorted(rows, key=worth) if not any(beats(other, row) for other in rows)]
