"""All rows: computed, judged, stored, and summed up."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

from dcsim.errors import CapacityError, Problem, SpecError, WorkerError
from validation import arithmetic, fleets, footprint, measures, store
from validation.claims import FOLDER, Claim, read_claims
from validation.judge import ln_error, ratio_of, verdict
from validation.measures import Answer

FEW = 12  # rows that one process computes as fast as several, which have to start first

# A demonstration is what somebody saw or said of a deployment; a measurement was made and described to be compared.
SOURCES = {"demonstrations": "ESV", "measurements": "CLP", "served LPU systems": "R"}

Progress = Callable[[str], None]  # told what is being done

ROWS: dict[str, Callable[..., Answer]] = {
    function.__name__: function
    for function in (
        measures.iteration,
        measures.batch_job,
        measures.as_built,
        measures.collective,
        measures.path,
        measures.topology,
        measures.schedule,
        measures.workload,
        measures.chip_image,
        measures.chip_product,
        measures.layer,
        measures.spread_break_even_bytes,
        arithmetic.context_bytes_per_token,
        arithmetic.memory_bytes,
        arithmetic.fewest_chips,
        arithmetic.token_flop,
        arithmetic.cluster_power_w,
        arithmetic.chip_peak_flop_per_s,
        arithmetic.cycles_between_uses,
        arithmetic.processed_per_chip,
        arithmetic.generated_per_chip,
        arithmetic.batch_tokens_per_chip,
        arithmetic.rented_usd_per_ktoken,
        arithmetic.restated_gain,
        arithmetic.bandwidth_per_usd,
        arithmetic.board_usd,
        arithmetic.wafer_yield,
        arithmetic.die_yield,
        arithmetic.defects_ratio,
        arithmetic.break_even_y,
        arithmetic.boards_usd,
        arithmetic.bill_usd,
        fleets.duty_gain,
        fleets.speed_ratio,
        fleets.per_bandwidth_ratio,
        fleets.throughput_ratio,
        fleets.energy_ratio,
        fleets.racks_for,
        fleets.tco_gain,
        fleets.tco_gain_over,
        fleets.tokens_of_servers,
        fleets.racks_served,
        fleets.requests_a_day,
        fleets.elasticity,
        footprint.height_ratio,
        footprint.watts_per_chip,
        footprint.usd_ratio,
        footprint.peak_w,
        footprint.decoding_w_per_chip,
        footprint.memory_of_all_bytes,
        footprint.injection_bytes_per_s,
    )
}


def validate(
    only: Sequence[str] = (),
    *,
    stored: bool = True,
    progress: Progress | None = None,
    folder: Path = FOLDER,
    jobs: int = 0,
    seed: int = 1,
) -> dict[str, Any]:
    """Every row, or those named by `only` (an id, or a letter for its group), and the errors over the predictions.

    Rows computed before by this very version are read from `runs/validate` unless `stored` is off; the others are computed
    by `jobs` processes (0: as many as there are cores, one for few rows). `seed` is that of rows that draw anything and do
    not state their own. Raises SpecError for an unknown id.
    """
    claims = [_seeded(claim, seed) for claim in read_claims(folder) if _asked(claim.id, only)]
    unknown = [name for name in only if not any(_asked(claim.id, [name]) for claim in claims)]
    if unknown:
        raise SpecError(Problem("--only", f"no row '{unknown[0]}'", "`dcsim validate` lists all"))
    version = store.version()
    done = {claim.id: row for claim in claims if (row := store.read(claim, version) if stored else None)}
    missing = [claim for claim in claims if claim.id not in done]
    jobs = jobs or (os.cpu_count() or 1 if len(missing) > FEW else 1)
    tell = progress or (lambda _: None)
    if missing:
        tell(f"{len(missing)} of {len(claims)} rows to compute, {jobs} at once")
    for claim, row in _computed(missing, jobs):
        tell(f"computed {claim.id}")
        store.write(claim, version, row)
        done[claim.id] = row
    rows = [{**described(claim), **done[claim.id]} for claim in claims]
    return {**summary(rows), "rows": rows}


def _seeded(claim: Claim, seed: int) -> Claim:
    """The row with a seed, where it draws anything."""
    draws = "seed" in signature(ROWS[claim.run]).parameters
    return replace(claim, arguments={"seed": seed, **claim.arguments}) if draws and seed != 1 else claim


def _computed(claims: Sequence[Claim], jobs: int) -> Iterator[tuple[Claim, dict[str, Any]]]:
    """Each claim with its row, as they are done; rows of one topology in one process, since they share what they simulate."""
    together: dict[Any, list[Claim]] = {}
    for claim in claims:
        together.setdefault(claim.arguments.get("topology"), []).append(claim)
    if jobs == 1 or len(together) < 2:
        yield from ((claim, compute(claim)) for claim in claims)
        return
    from dcsim.workers import Lost, spread

    groups = sorted(together.values(), key=len, reverse=True)
    for index, rows in spread(_rows, groups, jobs):
        if isinstance(rows, Lost):
            raise WorkerError(f"row {groups[index][0].id} or one that shares its topology: {rows.reason}")
        yield from zip(groups[index], rows, strict=True)


def _rows(claims: list[Claim]) -> list[dict[str, Any]]:
    return [compute(claim) for claim in claims]


def _asked(name: str, only: Sequence[str]) -> bool:
    return not only or any(name == one or name[0] == one or name.startswith(f"{one}.") for one in only)


def described(claim: Claim) -> dict[str, Any]:
    """What the data say of a row. A range's open end is None."""
    published = [None if abs(end) == float("inf") else end for end in claim.published]
    return {
        "id": claim.id,
        "claim": claim.claim,
        "source": claim.source,
        "kind": claim.kind,
        "unit": claim.unit,
        "published": published[0] if claim.is_point else published,
        "is_point": claim.is_point,
        "command": claim.command,
        "same_as": claim.same_as,
        "factor": claim.factor,
        "missing": claim.missing,
        "moved": None if claim.ranges is None else list(claim.ranges),
    }


def compute(claim: Claim) -> dict[str, Any]:
    """Run one row, and again with each assumed figure at either end of its range."""
    function = ROWS[claim.run]
    answer = function(**claim.arguments)
    ratio = ratio_of(answer.value, claim.published)
    values = {
        name: tuple(_moved(function, claim, setting, answer.held) for setting in pair)
        for name, pair in answer.ends.items()
        if _is_moved(claim, name)
    }
    values |= {name: tuple(_otherwise(function, claim, name, value) for value in pair) for name, pair in claim.unstated.items()}
    ratios = {name: (ratio_of(pair[0], claim.published), ratio_of(pair[1], claim.published)) for name, pair in values.items()}
    words, turning = verdict(claim.kind, ratio, ratios, claim.is_point, claim.factor)
    return {
        "simulated": answer.value,
        "ratio": ratio,
        "ln_error": ln_error(ratio),
        "verdict": words,
        "depends_on": turning,
        "also": dict(answer.also),
        "ranges": {name: list(pair) for name, pair in values.items() if any(end != answer.value for end in pair)},
    }


def _is_moved(claim: Claim, name: str) -> bool:
    """Structures rest on no figure; other rows on all that were read, or those the row names, alone or by their section."""
    return claim.kind != "structure" and (
        claim.ranges is None or any(name == one or name.startswith(f"{one}.") for one in claim.ranges)
    )


def _moved(function: Callable[..., Answer], claim: Claim, setting: str, held: tuple[str, ...]) -> float:
    """The value with one figure at an end of its range: the mapping as it was, or chosen anew if that no longer fits."""
    try:
        return function(**claim.arguments, extra=[*held, setting]).value
    except CapacityError:
        return function(**claim.arguments, extra=[setting]).value


def _otherwise(function: Callable[..., Answer], claim: Claim, name: str, value: Any) -> float:
    """The value under another choice of what the source leaves open: a dotted setting, or arguments joined by `+`."""
    if "." in name:
        return function(**{**claim.arguments, "set": [*claim.arguments.get("set", []), f"{name}={value}"]}).value
    return function(**{**claim.arguments, **dict.fromkeys(name.split("+"), value)}).value


def _mean(rows: Sequence[dict[str, Any]]) -> float | None:
    return sum(abs(row["ln_error"]) for row in rows) / len(rows) if rows else None


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean |ln(simulated / published)| and worst ratio over predictions of one value, each counted once."""
    counted = [row for row in rows if row["kind"] == "prediction" and row["is_point"] and not row["same_as"]]
    known = [row for row in counted if row["ln_error"] is not None]
    worst = max(known, key=lambda row: abs(row["ln_error"]), default=None)
    verdicts = [row["verdict"].split(":")[0] for row in rows]
    sources = {name: [row for row in known if row["id"][0] in groups] for name, groups in SOURCES.items()}
    return {
        "prediction_count": len(counted),
        "prediction_ln_error_mean": _mean(known),
        "prediction_ratio_worst": worst["ratio"] if worst else None,
        "prediction_worst_id": worst["id"] if worst else None,
        "prediction_sources": {
            name: {"groups": list(SOURCES[name]), "count": len(found), "ln_error_mean": _mean(found)}
            for name, found in sources.items()
            if found
        },
        "verdicts": {name: verdicts.count(name) for name in ("reproduced", "depends on", "contradicted")},
    }
