"""The whole of one run's spec: a topology with everything it names put in place."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from dcsim.policies.admission import ADMISSION
from dcsim.policies.batching import BATCHING
from dcsim.policies.routers import ROUTERS
from dcsim.spec.chip import ChipSpec
from dcsim.spec.engine import EngineSpec
from dcsim.spec.fabric import FabricSpec
from dcsim.spec.faults import FaultsSpec
from dcsim.spec.host import HostSpec, NodeSpec, PowerSpec
from dcsim.spec.llm import LlmSpec
from dcsim.spec.mapping import MappingSpec
from dcsim.spec.network import NetworkSpec
from dcsim.spec.section import Count, Fraction, KindOf, Named, Positive, Section, Time, some
from dcsim.spec.workload import WorkloadSpec

# What a compiled program may hold: beyond these sizes a schedule alone would outgrow any memory.
BatchBuckets = Annotated[tuple[Annotated[Positive, Field(le=100_000)], ...], AfterValidator(some)]
ContextBuckets = Annotated[tuple[Annotated[Positive, Field(le=100_000_000)], ...], AfterValidator(some)]


class SpeculationSpec(Section):
    """A small LLM drafts tokens, the served one checks them all in one iteration."""

    draft_tokens: Positive = Field(le=1000, description="Tokens drafted ahead for each sequence.")
    acceptance: Fraction = Field(description="Probability that a drafted token is accepted, each by itself.")
    draft_token_s: Time | None = Field(
        default=None,
        le=60,
        description="Time to draft one token; drafts come before each iteration. None, under an engine: what a layer of the "
        "LLM and its head take, as layers that predict further tokens do.",
    )


class ServingSpec(Section):
    """How requests become iterations."""

    engine: EngineSpec | None = Field(
        default=None,
        description="The serving engine of chips that schedule for themselves, an entry of topologies/engines; "
        "none: replicas run compiled programs.",
    )
    host_servers: Positive = Field(default=8, le=10_000, description="Host servers that take in requests, in turn.")
    router: Annotated[str, KindOf(ROUTERS)] = Field(
        default="least_loaded",
        description="Which replica a request goes to; `session`: always the same for one session; `prefix`: the one that "
        "has most of its prompt in KV, as far as waiting there does not outweigh it.",
    )
    batching: Annotated[str, KindOf(BATCHING)] = Field(
        default="continuous",
        description="Prompt chunks beside decoding; or decoding waits for prompts; or a batch runs to its end before the next.",
    )
    admission: Annotated[str, KindOf(ADMISSION)] = Field(
        default="in_turn",
        description="Of those that wait, the first by priority and arrival, once it fits; `first_fit`: the first that fits.",
    )
    prefix_reuse: bool = Field(
        default=True,
        description="Keep an ended turn's KV for its session's next turn, or whole blocks of prompts for all that begin alike, "
        "while there is room.",
    )
    speculation: SpeculationSpec | None = Field(default=None, description="Speculative decoding; none by default.")
    prefill_replicas: Count = Field(
        default=0, description="The first so many replicas only read prompts, the others only decode; 0: all do both."
    )
    patience_s: Time = Field(default=0.0, ge=0, description="A client without a first token after this gives up; 0: never.")
    timeout_s: Time = Field(default=0.0, ge=0, description="An answer not finished this long after arrival is dropped; 0: never.")
    draw_block: Positive = Field(
        default=16, description="Successive iterations drawn together from a packet network's replications."
    )
    warmup_s: Time = Field(default=0.0, ge=0, description="Requests that arrive before this are served but not measured.")
    chunk_tokens: Annotated[Positive, Field(le=100_000)] | Literal["auto"] = Field(
        default="auto",
        description="Prompt tokens of one prefill chunk; the last chunk is padded. `auto`: 128, or what the search for the "
        "mapping with the largest capacity finds.",
    )
    prefill_tokens_max: Positive = Field(default=2048, description="Prompt tokens one iteration may carry.")
    sequences_max: Positive = Field(default=512, le=100_000, description="Sequences one replica serves at once.")
    batch_buckets: BatchBuckets | None = Field(
        default=None,
        description="Batch sizes that iterations are padded to. Left out: 1, 2, 4 and so on up to 64 on chips whose programs are "
        "compiled beforehand; on others, whose kernels take any batch, up to what memory holds.",
    )
    context_buckets: ContextBuckets = Field(
        default=(512, 1024, 2048, 4096, 8192, 16384, 32768),
        description="Context lengths programs are compiled for; a sequence is padded to the next.",
    )
    drain_s: Time = Field(
        default=600.0, description="How long a run goes on after the last arrival; what is left then counts as in flight."
    )
    queue_max: Count = Field(default=100_000, description="Requests that may wait for one replica; more are rejected.")


class SloSpec(Section):
    """What a request must meet to count as good."""

    ttft_s: Time = Field(default=1.0, gt=0, description="Time to first token.")
    tpot_s: Time = Field(default=0.01, gt=0, description="Time per output token after the first.")


class Topology(Named):
    """A cluster, what it serves by default and how."""

    chip: ChipSpec
    node: NodeSpec
    host: HostSpec
    fabric: FabricSpec
    network: NetworkSpec
    llm: LlmSpec
    mapping: MappingSpec = Field(default_factory=MappingSpec)
    serving: ServingSpec = Field(default_factory=ServingSpec)
    workload: WorkloadSpec
    slo: SloSpec = Field(default_factory=SloSpec)
    power: PowerSpec
    engine: Literal["auto", "simpy", "compiled"] = Field(
        default="auto",
        description="Who serves: SimPy's processes, their compiled copy, or whichever suits the number of requests.",
    )
    faults: FaultsSpec = Field(default_factory=FaultsSpec)
