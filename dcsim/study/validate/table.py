"""All rows: computed, judged, stored, and summed up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dcsim.errors import CapacityError, Problem, SpecError
from dcsim.study.validate import arithmetic, fleets, measures, store
from dcsim.study.validate.claims import FOLDER, Claim, read_claims
from dcsim.study.validate.judge import ln_error, ratio_of, verdict
from dcsim.study.validate.measures import Answer

Progress = Callable[[str], None]  # told the id of each row before it is computed

ROWS: dict[str, Callable[..., Answer]] = {
    function.__name__: function
    for function in (
        measures.iteration, measures.batch_job, measures.collective, measures.path, measures.topology, measures.schedule,
        measures.workload, measures.chip_image, measures.chip_product, measures.layer,
        measures.spread_break_even_bytes,
        arithmetic.context_bytes_per_token, arithmetic.memory_bytes, arithmetic.fewest_chips, arithmetic.token_flop,
        arithmetic.cluster_power_w, arithmetic.chip_peak_flop_per_s, arithmetic.cycles_between_uses,
        arithmetic.processed_per_chip, arithmetic.generated_per_chip, arithmetic.batch_tokens_per_chip,
        arithmetic.rented_usd_per_ktoken, arithmetic.restated_gain, arithmetic.bandwidth_per_usd, arithmetic.board_usd,
        arithmetic.wafer_yield, arithmetic.break_even_y, arithmetic.boards_usd, arithmetic.bill_usd,
        fleets.duty_gain, fleets.speed_ratio, fleets.per_bandwidth_ratio, fleets.throughput_ratio, fleets.energy_ratio,
        fleets.racks_for, fleets.tco_gain, fleets.elasticity,
    )
}


def validate(only: Sequence[str] = (), *, stored: bool = True, progress: Progress | None = None,
             folder: Path = FOLDER) -> dict[str, Any]:
    """Every row, or those named by `only` (an id, or a letter for its group), and the errors over the predictions.

    Rows computed before by this very version are read from `runs/validate` unless `stored` is off. Raises SpecError
    for an unknown id.
    """
    claims = [claim for claim in read_claims(folder) if _asked(claim.id, only)]
    unknown = [name for name in only if not any(_asked(claim.id, [name]) for claim in claims)]
    if unknown:
        raise SpecError(Problem("--only", f"no row '{unknown[0]}'", "`dcsim validate` lists all"))
    version = store.version()
    rows = []
    for claim in claims:
        row = store.read(claim, version) if stored else None
        if row is None:
            if progress:
                progress(claim.id)
            row = compute(claim)
            store.write(claim, version, row)
        rows.append({**described(claim), **row})
    return {**summary(rows), "rows": rows}


def _asked(name: str, only: Sequence[str]) -> bool:
    return not only or any(name == one or name[0] == one or name.startswith(f"{one}.") for one in only)


def described(claim: Claim) -> dict[str, Any]:
    """What the data say of a row. A range's open end is None."""
    published = [None if abs(end) == float("inf") else end for end in claim.published]
    return {
        "id": claim.id, "claim": claim.claim, "source": claim.source, "kind": claim.kind, "unit": claim.unit,
        "published": published[0] if claim.is_point else published, "is_point": claim.is_point, "command": claim.command,
        "same_as": claim.same_as, "missing": claim.missing, "unmoved": claim.ranges == (),
    }


def compute(claim: Claim) -> dict[str, Any]:
    """Run one row, and again with each assumed figure at either end of its range."""
    function = ROWS[claim.run]
    answer = function(**claim.arguments)
    ratio = ratio_of(answer.value, claim.published)
    values = {
        name: tuple(_moved(function, claim, setting, answer.held) for setting in pair)
        for name, pair in answer.ends.items() if _is_moved(claim, name)
    }
    values |= {name: tuple(_otherwise(function, claim, name, value) for value in pair) for name, pair in claim.unstated.items()}
    ratios = {name: (ratio_of(pair[0], claim.published), ratio_of(pair[1], claim.published)) for name, pair in values.items()}
    words, turning = verdict(claim.kind, ratio, ratios)
    return {
        "simulated": answer.value, "ratio": ratio, "ln_error": ln_error(ratio), "verdict": words, "depends_on": turning,
        "also": dict(answer.also),
        "ranges": {name: list(pair) for name, pair in values.items() if any(end != answer.value for end in pair)},
    }


def _is_moved(claim: Claim, name: str) -> bool:
    """Structures rest on no figure; other rows on all that were read, or those of the sections the row names."""
    return claim.kind != "structure" and (claim.ranges is None or name.split(".")[0] in claim.ranges)


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


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean |ln(simulated / published)| and worst ratio over predictions of one value, each counted once."""
    counted = [row for row in rows if row["kind"] == "prediction" and row["is_point"] and not row["same_as"]]
    known = [row for row in counted if row["ln_error"] is not None]
    worst = max(known, key=lambda row: abs(row["ln_error"]), default=None)
    verdicts = [row["verdict"].split(":")[0] for row in rows]
    return {
        "prediction_count": len(counted),
        "prediction_ln_error_mean": sum(abs(row["ln_error"]) for row in known) / len(known) if known else None,
        "prediction_ratio_worst": worst["ratio"] if worst else None,
        "prediction_worst_id": worst["id"] if worst else None,
        "verdicts": {name: verdicts.count(name) for name in ("reproduced", "depends on", "contradicted")},
    }
