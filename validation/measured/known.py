"""How far predictions of each chip and LLM are known to be off: the mean error of TPOT over what somebody measured.

`known.json` is written with docs/MEASURED.md, from jobs that no figure was fixed on, and for chips that are scheduled from the
speeds of docs/VALIDATION.md that are predictions. It holds sums of |ln(simulated / measured)|, so that means over more are exact.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from dcsim.spec.load import load
from dcsim.spec.topology import Topology
from dcsim.writing import write_text

FILE = Path(__file__).with_name("known.json")
SPEEDS = ("tokens/s", "tokens/s/user")  # units of rows that give one user's speed
# Rows of docs/VALIDATION.md that read prompts, or that are served as a batch job, say nothing of a token's time.
_SPEED_RUNS = ("as_built", "iteration")


def error_of(spec: Topology) -> dict[str, Any]:
    """What is known of the error of TPOT for a spec's LLM on its chips, with or without a library between them.

    Of other LLMs there, if that is all that is known.
    """
    entries = [one for one in _known() if (one["chip"], one["library"]) == _place(spec)]
    own = [one for one in entries if one["llm"] == spec.llm.name]
    used = own or entries
    count = sum(one["jobs"] for one in used)
    return {
        "tpot_ln_error_mean": sum(one["ln_error_sum"] for one in used) / count if count else None,
        "error_jobs": count,
        "error_of": spec.llm.name if own else "other LLMs" if used else None,
    }


def _place(spec: Topology) -> tuple[str, bool]:
    """The chip, and whether a library carries its messages, as on all networks but scheduled ones."""
    return spec.chip.name, spec.network.terms["software"] is not None


@lru_cache(maxsize=1)
def _known() -> tuple[dict[str, Any], ...]:
    return tuple(json.loads(FILE.read_text())["entries"])


def entries_of(measured: Iterable[Mapping[str, Any]], claimed: Sequence[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
    """Entries of rows of `validation.measured.compare`, and of what was claimed of scheduled chips (`claimed_speeds`)."""
    from validation.measured.predict import llm_of, topology_of

    sums: dict[tuple[str, bool, str], list[float]] = {}
    for row in measured:
        if row["tpot_ratio"]:
            spec = _spec(topology_of(row["system"]), llm_of(row["llm"], None))
            sums.setdefault((*_place(spec), spec.llm.name), []).append(abs(math.log(row["tpot_ratio"])))
    for row in claimed:
        sums.setdefault((row["chip"], row["library"], row["llm"]), []).append(abs(row["ln_error"]))
    return [
        {"chip": chip, "library": library, "llm": llm, "jobs": len(errors), "ln_error_sum": round(sum(errors), 4)}
        for (chip, library, llm), errors in sorted(sums.items())
    ]


@lru_cache(maxsize=256)
def _spec(topology: str, llm: str | None) -> Topology:
    return load(topology, llm=llm).spec


def claimed_speeds() -> list[dict[str, Any]]:
    """One user's speeds on scheduled chips that are predictions of docs/VALIDATION.md, computed or as stored."""
    from validation.claims import read_claims
    from validation.table import validate

    asked = {}
    for claim in read_claims():
        reads = {"prompt", "prefill"} & set(claim.arguments)
        if (
            claim.kind == "prediction"
            and claim.unit in SPEEDS
            and claim.run in _SPEED_RUNS
            and claim.is_point
            and not reads
            and not claim.same_as
        ):
            spec = _spec(claim.arguments["topology"], claim.arguments.get("llm"))
            chip, library = _place(spec)
            if not library:
                asked[claim.id] = {"chip": chip, "library": library, "llm": spec.llm.name}
    rows = validate(list(asked))["rows"] if asked else []
    return [
        asked[row["id"]] | {"ln_error": row["ln_error"]} for row in rows if row["id"] in asked and row["ln_error"] is not None
    ]


def write(measured: Iterable[Mapping[str, Any]]) -> None:
    """Write the file from rows of measured jobs, and the claims."""
    about = "Written by `python -m validation.measured`: |ln(simulated / measured)| of TPOT, by chip, library or none, LLM."
    entries = ",\n".join(f"  {json.dumps(one)}" for one in entries_of(measured, claimed_speeds()))
    write_text(FILE, f'{{\n "about": {json.dumps(about)},\n "entries": [\n{entries}\n ]\n}}\n')
