"""A measured job as dcsim runs it: the system's topology, the LLM, the engine, and the client that asked.

One choice for all jobs, made before any was compared:
- weights are stored as the checkpoint has them; where that is wider than the job's precision, as quantisers leave a checkpoint of
  that precision: embedding, head, routers and norms in 16 bit, attention over latent vectors too if it is of 4 bits;
- weights of 4 bits whose file names no format of inputs meet inputs of 8 bits on chips that multiply 4-bit numbers, and of 16 bit
  on others, as serving libraries do for MXFP4;
- keys and values in 8 bits where weights have 8 or fewer, else in 16;
- multi-token prediction drafts two tokens, each accepted with a probability of 0.62;
- a replica takes as many sequences as the client has in flight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from dcsim import library
from dcsim.cluster.engine_programs import AnyPrograms, EnginePrograms
from dcsim.errors import DcsimError, SpecError
from dcsim.results.records import FINISHED
from dcsim.spec.llm import LlmSpec
from dcsim.spec.load import load_entry
from dcsim.spec.mapping import BYTES, Precision
from dcsim.spec.topology import Topology
from dcsim.spec.workload import ClosedWorkload
from dcsim.study.machine import Machine, build
from dcsim.study.serve import programs_of, serve_on
from validation.frozen import load
from validation.measured.jobs import Degrees, Job

PRECISIONS: dict[str, Precision] = {
    **{name: name for name in ("nvfp4", "mxfp4", "int4", "int8", "fp8", "fp16", "bf16")},
    "fp4": "nvfp4",
    "fp8_block": "fp8",
}
WIDE: Precision = "bf16"
# Multi-token prediction as TensorRT-LLM's recipes for DeepSeek set it, 1 to 3 tokens. Chunks of 20 iterations carry 34.6 to 46.2
# tokens in `inferencemax.csv`, so that an iteration yields 1.73 to 2.31: 2 is what two drafts give, each accepted by 0.62.
DRAFTS = ("serving.speculation.draft_tokens=2", "serving.speculation.acceptance=0.62")


@dataclass(frozen=True, slots=True)
class Predicted:
    """Means over requests in seconds, and output tokens per second."""

    ttft_s: float
    tpot_s: float
    output_tokens_per_s: float


def predict(job: Job, llms: Path | None = None, seed: int = 1, overhead: Overhead | None = None) -> Predicted:
    """Run the job, with the engine's own time as its entry says or as `overhead` does.

    Raises DcsimError, in a user's words, where it cannot be run.
    """
    if job.problem:
        raise SpecError(job.problem)
    machine, programs = _prepared(replace(job, **_SAME), llms)
    spec = _with_client(machine.spec, job)
    if overhead is not None:
        assert isinstance(programs, EnginePrograms)
        programs = programs.under(programs.engine.model_copy(update=asdict(overhead)))
    tables, summary, _ = serve_on(machine, programs, spec, seed)
    requests = tables["requests"]
    refused = np.asarray(requests["status"]) != FINISHED
    if refused.any():
        reason = str(np.asarray(requests["reason"])[refused][0]) or "some requests never ended"
        raise DcsimError(f"{int(refused.sum())} of {len(refused)} requests were not served: {reason}")
    ttft_s, tpot_s = (float(np.nanmean(requests[name])) for name in ("ttft_s", "tpot_s"))
    return Predicted(ttft_s, tpot_s, float(summary["output_tokens_per_s"]))


@dataclass(frozen=True, slots=True)
class Overhead:
    """An engine's own time, as `serving.engine`: in each iteration, and for each sequence taken in."""

    step_s: float
    sequence_s: float


# What jobs on one machine may differ in: the client, and what was measured.
_SAME: Mapping[str, Any] = {
    "id": "", "prompt": (1, 1), "output": (1, 1), "concurrency": 1, "requests": 0, "measured": None, "terms": {},
}  # fmt: skip


@lru_cache(maxsize=32)
def _prepared(job: Job, llms: Path | None) -> tuple[Machine, AnyPrograms]:
    """The machine of a job and the iterations timed on it, which all jobs on the same machine share."""
    name, topology = llm_of(job.llm, llms), topology_of(job.system)
    settings = [
        f"serving.engine={engine_of(job.library)}",
        *layout(job.degrees, has_experts(name), job.reads),
        *(DRAFTS if job.drafts else ()),
        "mapping.weights=stored",
        "mapping.activations=stored",
    ]
    resolved = load(topology, llm=name, settings=settings)
    spec = resolved.spec
    llm = stored_as(spec.llm, job.precision)
    if spec.chip.kind == "roofline" and spec.chip.fp4_flop_per_s is not None:
        llm = with_narrow_inputs(llm)
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
    together = -(-job.concurrency // job.degrees.workers)
    serving = spec.serving.model_copy(update={"sequences_max": together})
    return spec.model_copy(update={"workload": workload, "serving": serving})


@lru_cache(maxsize=64)
def has_experts(name: str) -> bool:
    """Whether an LLM has routed layers."""
    llm = load_entry(name, "workloads/llms", LlmSpec)[0]
    return llm.experts > 1 or any(section.kind == "routed" for section in llm.feed_forward.values())


def layout(degrees: Degrees, experts: bool, reads: Degrees | None = None) -> list[str]:
    """Settings of the mapping. Copies of attention share feed-forward blocks if these have experts; else all is copied."""
    if not experts:
        degrees = replace(degrees, attention_dp=1, ep=1, workers=degrees.workers * degrees.attention_dp)
    own = [
        f"mapping.tp={degrees.tp * degrees.attention_dp}",
        f"mapping.pp={degrees.pp}",
        f"mapping.replicas={degrees.workers + (reads.workers if reads else 0)}",
        f"mapping.attention_dp={degrees.attention_dp}",
        f"mapping.ep={degrees.ep}",
    ]
    if reads is None:
        return own
    return [
        *own,
        f"serving.prefill_replicas={reads.workers}",
        f"mapping.prefill.tp={reads.tp * reads.attention_dp}",
        f"mapping.prefill.attention_dp={reads.attention_dp}",
        f"mapping.prefill.ep={reads.ep}",
    ]


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


def with_narrow_inputs(llm: LlmSpec) -> LlmSpec:
    """The LLM with 8-bit inputs of its 4-bit weights, unless its file names a format for them."""
    stored = llm.precision
    if stored is None or stored.activations is not None or min(BYTES[name] for name in _formats(llm)) >= 1:
        return llm
    return llm.model_copy(update={"precision": stored.model_copy(update={"activations": "fp8"})})


def _formats(llm: LlmSpec) -> list[Precision]:
    """The formats of what an LLM's products meet."""
    if llm.precision is None:
        return [WIDE]
    own = llm.precision
    return [own.weights, *(name for name in (own.attention, own.dense, own.experts) if name)]
