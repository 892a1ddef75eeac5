"""Files of measured jobs: tables in the layouts of `served_gpu.csv` and `inferencemax.csv`, and results of `vllm bench serve`.

A row that is no job (a figure is missing, or no number) stays a row and says why; a file in no known layout is refused.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dcsim.errors import Problem, SpecError, shown
from dcsim.reading import JSON_MAX, read_json, read_text, reading
from validation.measured.jobs import Degrees, Job, Measured

# A client that draws lengths draws them evenly from this share of the nominal length up to it.
SHORTEST_FRACTION = 0.8

Row = Mapping[str, Any]

SERVED_GPU = ("backend", "model_path", "system", "isl", "osl", "tp_size", "silicon_ttft_ms", "silicon_tpot_ms", "concurrency")
INFERENCEMAX = ("hw", "llm", "framework", "precision", "isl", "osl", "tp", "conc", "ttft_s_mean", "tpot_s_mean")
BENCH_SERVE = ("model_id", "max_concurrency", "completed", "total_input_tokens", "total_output_tokens", "mean_tpot_ms")


def read_jobs(path: Path) -> list[Job]:
    """The jobs of a file, in its order. Raises SpecError for a file that cannot be read or is in no known layout."""
    with reading(path, SpecError):
        if path.suffix == ".json":
            return _of_json(path, read_json(path))
        rows = csv.DictReader(io.StringIO(read_text(path, JSON_MAX)))
        columns = rows.fieldnames or []
        for needed, job in ((SERVED_GPU, _served_gpu), (INFERENCEMAX, _inferencemax)):
            if set(needed) <= set(columns):
                return _jobs(list(rows), job, path)
    first = ", ".join(shown(name) for name in columns[:6]) or "nothing"
    raise SpecError(
        Problem(
            str(path),
            f"is in no known layout: its first columns are {first}",
            f"it needs {', '.join(SERVED_GPU)}, or {', '.join(INFERENCEMAX)}, or is a .json of vllm bench serve",
        )
    )


def _jobs(rows: list[Row], job: Callable[[Row, str], Job], path: Path) -> list[Job]:
    if not rows:
        raise SpecError(Problem(str(path), "holds no rows", "a line for each job after the line of names"))
    return [_job(row, job, f"{number}") for number, row in enumerate(rows, 1)]


def _job(row: Row, job: Callable[[Row, str], Job], number: str) -> Job:
    """A job, or a row that says why it is none."""
    try:
        return job(row, number)
    except _NoJob as error:
        name = str(row.get("id") or number)
        return Job(name, "", "", "", "", (1, 1), (1, 1), 1, Degrees(), Measured(), problem=str(error))


class _NoJob(ValueError):
    """What is wrong with a row."""


def _served_gpu(row: Row, number: str) -> Job:
    """Lengths are fixed where no date stands, else drawn as InferenceMAX's client does."""
    tp, pp = _count(row, "tp_size"), _count(row, "pp_size", 1)
    ep, moe_tp = _count(row, "moe_ep_size", 1), _count(row, "moe_tp_size", 0)
    # Feed-forward blocks lie on all chips, so their degrees say how many there are where attention's copies are not counted.
    copies = _count(row, "attention_dp_size", 0) or max(1, moe_tp * ep // tp)
    drawn = SHORTEST_FRACTION if _text(row, "measured_on", "") else 1.0
    return Job(
        id=_text(row, "id", number),
        system=_text(row, "system"),
        llm=_text(row, "model_path"),
        library=_text(row, "backend"),
        precision=_text(row, "precision", ""),
        prompt=_span(_count(row, "isl"), drawn),
        output=_span(_count(row, "osl"), drawn),
        concurrency=_count(row, "concurrency"),
        degrees=Degrees(tp, pp, copies, ep),
        measured=Measured(_number(row, "silicon_ttft_ms", 1e-3), _number(row, "silicon_tpot_ms", 1e-3)),
    )


def _inferencemax(row: Row, number: str) -> Job:
    apart = _text(row, "disagg", "false").lower() == "true"
    degrees = _worker(row, "decode_") if apart else _worker(row, "")
    system, llm, library, conc = _text(row, "hw"), _text(row, "llm"), _text(row, "framework"), _count(row, "conc")
    lengths = f"{_count(row, 'isl')}x{_count(row, 'osl')}"
    reads = _worker(row, "prefill_") if apart else None
    drafts = _text(row, "spec_decoding", "none") != "none"
    layout = f"{reads} + {degrees}" if reads else str(degrees)
    name = f"{number}: {llm} {system} {library} {lengths} c{conc} {layout}{' mtp' if drafts else ''}"
    per_chip = _number(row, "output_tokens_per_s_per_gpu")
    chips = degrees.chips + (reads.chips if reads else 0)
    # Where pools are apart the table counts output tokens by the chips that decode.
    counted = degrees.chips if apart else chips
    return Job(
        id=_text(row, "id", name),
        system=system,
        llm=llm,
        library=library,
        precision=_text(row, "precision", ""),
        prompt=_span(_count(row, "isl"), SHORTEST_FRACTION),
        output=_span(_count(row, "osl"), SHORTEST_FRACTION),
        concurrency=conc,
        degrees=degrees,
        measured=Measured(_number(row, "ttft_s_mean"), _number(row, "tpot_s_mean"), per_chip and per_chip * counted),
        reads=reads,
        drafts=drafts,
    )


def _worker(row: Row, pool: str) -> Degrees:
    """A pool's layout. With attention in copies, each on a chip of its own, the degree counts the copies."""
    degree, ep = _count(row, f"{pool}tp"), _count(row, f"{pool}ep", 1)
    copies = _text(row, f"{pool}dp_attention", "false").lower() == "true"
    workers = _count(row, f"{pool}workers", 1) if pool else 1
    return Degrees(1 if copies else degree, 1, degree if copies else 1, max(1, ep), workers)


def _of_json(path: Path, content: Any) -> list[Job]:
    """One result of `vllm bench serve`, or a list of them."""
    results = content if isinstance(content, list) else [content]
    if not results or not all(isinstance(one, dict) for one in results):
        raise SpecError(Problem(str(path), "is no result of vllm bench serve", "use --save-result there"))
    missing = [key for key in BENCH_SERVE if key not in results[0]]
    if missing:
        mend = "a result has it when made with --save-result and --max-concurrency"
        raise SpecError(Problem(str(path), f"is no result of vllm bench serve: it has no '{missing[0]}'", mend))
    return [
        _job(one, _bench_serve, f"{path.stem}" if len(results) == 1 else f"{path.stem}-{i}") for i, one in enumerate(results, 1)
    ]


def _bench_serve(row: Row, name: str) -> Job:
    """What the client cannot know of the server (the system, degrees, precision) is told it with `--metadata`."""
    system = _text(row, "system", "") or _text(row, "hw", "")
    if not system:
        raise _NoJob(
            "the result does not say on what it was measured: "
            "run vllm bench serve with --metadata system=h200_sxm tp=8 precision=fp8"
        )
    completed = _count(row, "completed")
    means = (_count(row, "total_input_tokens") // completed, _count(row, "total_output_tokens") // completed)
    prompt, output = (_listed(row.get(key), mean) for key, mean in zip(("input_lens", "output_lens"), means, strict=True))
    return Job(
        id=_text(row, "id", name),
        system=system,
        llm=_text(row, "model_id"),
        library=_text(row, "engine", "vllm"),
        precision=_text(row, "precision", ""),
        prompt=prompt,
        output=output,
        concurrency=_count(row, "max_concurrency"),
        degrees=Degrees(
            _count(row, "tp_size", 0) or _count(row, "tp", 1), _count(row, "pp", 1), _count(row, "dp", 1), _count(row, "ep", 1)
        ),
        measured=Measured(
            _number(row, "mean_ttft_ms", 1e-3), _number(row, "mean_tpot_ms", 1e-3), _number(row, "output_throughput")
        ),
        requests=completed,
    )


def _listed(lengths: Any, mean: int) -> tuple[int, int]:
    """The fewest and the most of the lengths a result lists, or their mean where it lists none."""
    known = [length for length in lengths if isinstance(length, int) and length > 0] if isinstance(lengths, list) else []
    return (min(known), max(known)) if known else (max(1, mean), max(1, mean))


def _span(nominal: int, shortest: float) -> tuple[int, int]:
    return max(1, round(nominal * shortest)), nominal


def _text(row: Row, key: str, default: str | None = None) -> str:
    value = str(row.get(key) if row.get(key) is not None else "").strip()
    if value:
        return value
    if default is None:
        raise _NoJob(f"no {key}")
    return default


def _number(row: Row, key: str, unit: float = 1.0) -> float | None:
    """A measured figure above 0 in `unit`, None where none stands."""
    text = _text(row, key, "")
    if not text:
        return None
    try:
        value = float(text) * unit
    except ValueError:
        raise _NoJob(f"{key}: {shown(text)} is no number") from None
    if not (math.isfinite(value) and value > 0):
        raise _NoJob(f"{key}: {shown(text)} is no measured figure")
    return value


def _count(row: Row, key: str, default: int | None = None) -> int:
    """A whole number, which tables may write as 8.0."""
    text = _text(row, key, "" if default is not None else None)
    if not text:
        return default or 0
    try:
        value = float(text)
    except ValueError:
        raise _NoJob(f"{key}: {shown(text)} is no number") from None
    if value != int(value) or not 0 < value <= 1e9:
        raise _NoJob(f"{key}: {shown(text)} is no count")
    return int(value)
