"""A candidate of a plan as a row: what it is, draws and costs, whether it holds, and if not, why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from dcsim.power.steady import with_spares
from dcsim.spec.topology import Topology
from dcsim.study.sizing.sizes import GrowthPath, Settings
from dcsim.study.sizing.slo import Target
from dcsim.study.sweep.case import Case

MET_FRACTION = 0.95  # of replications
Row = dict[str, Any]


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


@dataclass(frozen=True, slots=True)
class Searched:
    """One system that is searched: `place` among the others. It serves `load` times the rate, as many as come in a day's peak."""

    place: int
    case: Case
    spec: Topology
    growth: GrowthPath
    load: float = 1.0


def refused(system: Searched, count: int, reason: str, hopeless: bool = False) -> Row:
    """Of a size that is not simulated; `hopeless` if more of the same is no help."""
    own, copies = system.growth.point(count)
    head = {**_head(system, own, count, copies), "estimated": True, "seeds": 0, "hopeless": hopeless}
    return {**head, "holds": False, "reason": reason}


def simulated(system: Searched, wanted: Wanted, point: Settings, count: int, found: Mapping[str, Any]) -> Row:
    """Of a size that served the rate, from the row of that run: one seed says it, which is an estimate of what others say."""
    copies = system.growth.point(count)[1]
    head = {**_head(system, point, count, copies), "estimated": True, "seeds": 1, "hopeless": bool(found.get("hopeless"))}
    if "error" in found:
        return {**head, "holds": False, "reason": found["error"]}
    reasons = [text for target in wanted.targets if (text := target.missed(found))]
    unserved = found["requests_in"] - found["requests_beyond_llm"] - found["requests_finished"]
    if unserved:
        reasons.append(f"{unserved:,} requests not served")
    row = {**head, **_built(system, wanted, found, count, copies)}
    return row | {"holds": not reasons, "reason": "; ".join([*reasons, *beyond(row, wanted)])}


def of_seeds(rows: Sequence[Row]) -> Row:
    """The first of a candidate's rows, one for each seed, with what all of them say: it holds if `MET_FRACTION` of them do."""
    held = sum(row["holds"] for row in rows)
    row = {**rows[0], "seeds": len(rows), "seeds_held": held, "estimated": False, "holds": held >= MET_FRACTION * len(rows)}
    if not row["holds"] and held:
        missed = next(one["reason"] for one in rows if not one["holds"])
        row["reason"] = f"holds with {held} of {len(rows)} seeds: {missed}"
    return row


def _head(system: Searched, point: Settings, count: int, copies: int) -> Row:
    """What a candidate is."""
    return {
        "topology": system.spec.name,
        "file": system.case.topology,
        "interconnect": system.spec.network.name,
        "unit": system.growth.unit,
        "units": count,
        "clusters": copies,
        "settings": point,
    }


def _built(system: Searched, wanted: Wanted, found: Mapping[str, Any], count: int, copies: int) -> Row:
    """What all clusters are, draw and cost together, spare units included."""
    spare = _spare_units(system, wanted, found, count)
    more = (count + spare) / count
    together = found["clusters_a_rack"] if system.growth.unit == "cluster" else 0
    racks = ceil(copies * more / together) if together else ceil(found["racks"] * copies * more)
    idle_w = found["idle_w"] * copies * (more - 1)
    tokens_per_s = found["output_tokens_per_s"] * copies / system.load  # over the day, if it is a day's peak that was served
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
        "digest": found["digest"],
    }


def _spare_units(system: Searched, wanted: Wanted, found: Mapping[str, Any], count: int) -> int:
    """Units of the system that hold as many racks, nodes or chips as `--spare` asks for."""
    number, what = wanted.spare
    if not number:
        return 0
    units = 1 if system.growth.unit == "cluster" else count
    of_one = float({"rack": found["racks"], "node": found["nodes"], "chip": found["chips"]}[what]) / units
    if what == "rack" and system.growth.unit == "cluster" and found["clusters_a_rack"]:
        of_one = 1 / float(found["clusters_a_rack"])
    return ceil(number / of_one - 1e-9)


def beyond(row: Mapping[str, Any], wanted: Wanted) -> list[str]:
    """Limits on power and money that a candidate is beyond."""
    found = []
    if wanted.power_w_max is not None and row["power_w_max"] > wanted.power_w_max:
        found.append(f"draws {row['power_w_max'] / 1e3:,.4g} kW, more than {wanted.power_w_max / 1e3:,.4g} kW")
    if wanted.capital_usd_max is not None and row["capital_usd"] > wanted.capital_usd_max:
        found.append(f"costs {row['capital_usd'] / 1e6:,.4g} MUSD, more than {wanted.capital_usd_max / 1e6:,.4g} MUSD")
    return found


def front(rows: Sequence[Row]) -> list[Row]:
    """Systems that no other beats in cost, power and speed of the median user at once, the cheapest first."""

    def worth(row: Mapping[str, Any]) -> tuple[float, float, float]:
        return row["usd_per_h"], row["power_w"], -(row["tokens_per_s_per_user_p50"] or 0.0)

    def beats(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        pairs = list(zip(worth(one), worth(other), strict=True))
        return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)

    return [dict(row) for row in sorted(rows, key=worth) if not any(beats(other, row) for other in rows)]
