"""A measured job as dcsim runs it: the system's topology, the LLM, the engine, and the client that asked.

One choice for all jobs, made before any was compared:
- weights are stored as the checkpoint has them; where that is wider than the job's precision, as quantisers leave a checkpoint of
  that precision: embedding, head, routers and norms in 16 bit, attention over latent vectors too if it is of 4 bits;
- keys and values in 8 bits where weights have 8 or fewer, else in 16;
- a replica takes as many sequences as the client has in flight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from dcsim import library
from dcsim.cluster.engine_programs import AnyPrograms
from dcsim.errors import DcsimError, SpecError
from dcsim.results.records import FINISHED
from dcsim.spec.llm import LlmSpec
from dcsim.spec.load import load
from dcsim.spec.mapping import BYTES, Precision
from dcsim.spec.topology import Topology
from dcsim.spec.workload import ClosedWorkload
from dcsim.study.machine import Machine, build
from dcsim.study.serve import programs_of, serve_on
from validation.measured.jobs import Job

PRECISIONS: dict[str, Precision] = {
    **{name: name for name in ("nvfp4", "mxfp4", "int4", "int8", "fp8", "fp16", "bf16")},
    "fp4": "nvfp4",
    "fp8_block": "fp8",
}
WIDE: Precision = "bf16"


@dataclass(frozen=True, slots=True)
class Predicted:
    """Means over requests in seconds, and output tokens per second."""

    ttft_s: float
    tpot_s: float
    output_tokens_per_s: float


def predict(job: Job, llms: Path | None = None, seed: int = 1) -> Predicted:
    """Run the job. Raises DcsimError, in a user's words, where it cannot be run."""
    if job.problem:
        raise SpecError(job.problem)
    machine, programs = _prepared(replace(job, **_SAME), llms)
    spec = _with_client(machine.spec, job)
    tables, summary, _ = serve_on(machine, programs, spec, seed)
    requests = tables["requests"]
    refused = np.asarray(requests["status"]) != FINISHED
    if refused.any():
        reason = str(np.asarray(requests["reason"])[refused][0]) or "some requests never ended"
        raise DcsimError(f"{int(refused.sum())} of {len(refused)} requests were not served: {reason}")
    ttft_s, tpot_s = (float(np.nanmean(requests[name])) for name in ("ttft_s", "tpot_s"))
    return Predicted(ttft_s, tpot_s, float(summary["output_tokens_per_s"]))


# What jobs on one machine may differ in: the client, and what was measured.
_SAME: Mapping[str, Any] = {
    "id": "", "prompt": (1, 1), "output": (1, 1), "concurrency": 1, "requests": 0, "measured": None, "terms": {},
}  # fmt: skip


@lru_cache(maxsize=32)
def _prepared(job: Job, llms: Path | None) -> tuple[Machine, AnyPrograms]:
    """The machine of a job and the iterations timed on it, which all jobs on the same machine share."""
    if job.reads:
        raise SpecError("separate pools for prompts and answers are not run yet")
    if job.drafts:
        raise SpecError("multi-token prediction is not run yet")
    degrees = job.degrees
    settings = [
        f"serving.engine={engine_of(job.library)}",
        f"mapping.tp={degrees.tp}",
        f"mapping.pp={degrees.pp}",
        f"mapping.replicas={degrees.attention_dp}",
        "mapping.weights=stored",
        "mapping.activations=stored",
    ]
    resolved = load(topology_of(job.system), llm=llm_of(job.llm, llms), settings=settings)
    spec = resolved.spec
    llm = stored_as(spec.llm, job.precision)
    eight = min(BYTES[name] for name in _formats(llm)) <= 1
    mapping = spec.mapping.model_copy(update={"kv": "fp8" if eight else "fp16"})
    spec = spec.model_copy(update={"llm": llm, "mapping": mapping, "engine": "simpy"})
    machine = build(spec)
    return machine, programs_of(machine, machine.times)


def _with_client(spec: Topology, job: Job) -> Topology:
    """The closed loop that asked."""
    each = -(-job.requests_all // job.concurrency)
    workload = ClosedWorkload.model_validate(
        {
            "name": "measured",
            "kind": "closed",
            "users": job.concurrency,
            "think": "0 s",
            "requests": job.requests_all,
            "requests_per_user": 10 * each,  # a user whose answers are short asks more often
            "lengths": {
                "kind": "uniform",
                "prompt_tokens": {"min": job.prompt[0], "max": job.prompt[1]},
                "output_tokens": {"min": job.output[0], "max": job.output[1]},
            },
        }
    )
    together = -(-job.concurrency // spec.mapping.replicas) if isinstance(spec.mapping.replicas, int) else job.concurrency
    serving = spec.serving.model_copy(update={"sequences_max": together})
    return spec.model_copy(update={"workload": workload, "serving": serving})


def topology_of(system: str) -> str:
    """The topology of a system, by its name or by the chip's alone. SpecError with the nearest names."""
    known = library.names("topologies")
    return f"{system}_sxm" if system not in known and f"{system}_sxm" in known else system


def engine_of(name: str) -> str:
    """The entry of a serving library, by the names that benchmarks give it."""
    return {"trtllm": "tensorrt-llm", "trt": "tensorrt-llm", "dynamo-trt": "tensorrt-llm", "dynamo-trtllm": "tensorrt-llm"}.get(
        name, name
    )


def llm_of(model_path: str, folder: Path | None) -> str:
    """The config of an LLM in `folder` (`maker--name_config.json`), or the library's entry whose words its name begins with.

    Raises SpecError where there is neither.
    """
    if folder is not None:
        own = folder / f"{model_path.replace('/', '--')}_config.json"
        if library.is_file(own):
            return str(own)
    words = model_path.rpartition("/")[2].lower().removeprefix("meta-").split("-")
    for end in range(len(words), 0, -1):
        name = "-".join(words[:end])
        if name in library.names("workloads/llms"):
            return name
    where = f"in {folder} nor in the library" if folder is not None else "in the library"
    raise SpecError(f"no LLM '{model_path}' {where}")


def stored_as(llm: LlmSpec, precision: str) -> LlmSpec:
    """The LLM as its checkpoint stores it, or as one of `precision` would, where that is narrower."""
    if precision and precision not in PRECISIONS:
        raise SpecError(f"precision '{precision}' is not known")
    wanted = PRECISIONS[precision] if precision else WIDE
    if llm.precision is not None and min(BYTES[name] for name in _formats(llm)) <= BYTES[wanted]:
        return llm
    from dcsim.spec.llm import StoredPrecision

    latent = any(section.kind == "latent" for section in llm.attention.values())
    stored: dict[str, str] = {"weights": wanted, **dict.fromkeys(("router", "norm", "embedding", "head"), WIDE)}
    if latent and BYTES[wanted] < 1:
        stored["attention"] = WIDE
    if BYTES[wanted] <= 1 and wanted != "int4":
        stored["activations"] = wanted
    return llm.model_copy(update={"precision": StoredPrecision.model_validate(stored)})


def _formats(llm: LlmSpec) -> list[Precision]:
    """The formats of what an LLM's products meet."""
    if llm.precision is None:
        return [WIDE]
    own = llm.precision
    return [own.weights, *(name for name in (own.attention, own.dense, own.experts) if name)]
