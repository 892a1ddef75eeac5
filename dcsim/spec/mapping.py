"""How an LLM is laid over chips: tensor- and pipeline-parallel degrees, replicas, precision."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from dcsim.spec.section import Count, Positive, Section

ObjectiveName = Literal["capacity", "latency", "throughput", "cost"]
Objective = Literal["auto", "capacity", "latency", "throughput", "cost"]

Precision = Literal["int4", "mxfp4", "nvfp4", "int8", "fp8", "fp16", "bf16", "fp32"]

# Bytes of one element, scales of blocks included: mxfp4 has a byte for 32 elements (OCP Microscaling Formats 1.0), nvfp4 one for
# 16 (NVIDIA, "Introducing NVFP4", 2025), int4 a 16-bit scale and a 4-bit zero point for 128 (AWQ's and GPTQ's usual group). All
# are sums of powers of two, so that products with whole numbers are exact. Scales of 8-bit blocks (128 x 128 or a channel) are
# under 0.1 % and left out.
BYTES: dict[str, int | float] = {
    "int4": 66.5 / 128,
    "mxfp4": 17 / 32,
    "nvfp4": 9 / 16,
    "int8": 1,
    "fp8": 1,
    "fp16": 2,
    "bf16": 2,
    "fp32": 4,
}


def stored_bytes(elements: int, precision: str) -> int:
    """Whole bytes of `elements` in `precision`."""
    return math.ceil(elements * BYTES[precision])


class PoolSpec(Section):
    """How the replicas that only read prompts are laid, where prefill and decode are apart and their degrees differ."""

    tp: Positive = Field(description="Chips that share each layer.")
    attention_dp: Positive = Field(default=1, description="Copies of attention, as in the mapping.")
    ep: Positive = Field(default=1, description="Groups of chips that whole experts are spread over, as in the mapping.")


class MappingSpec(Section):
    """Degrees that are `auto` are searched for, for the best `objective`, or follow from a `rule` where one is named."""

    rule: Literal["auto", "inside_nodes", "layer_per_stage"] = Field(
        default="auto",
        description="How degrees that are `auto` are found. `auto`: searched for, for the `objective`. "
        "`inside_nodes`: groups inside a node on all chips, those with the shortest iteration for one user. `layer_per_stage`: "
        "as a static pipeline is built, a stage for each layer on the smallest power of two of chips that hold one; it "
        "also takes `experts: all` and `serving.chunk_tokens: 1` unless these are given.",
    )
    objective: Objective = Field(
        default="auto",
        description="What degrees that are `auto` are searched for. `capacity`: the largest rate of the workload that holds the "
        "SLO; `latency`: the shortest iteration for one user; `throughput`: the most tokens per second in KV room; `cost`: the "
        "fewest USD per token. `auto`: `capacity` where a workload and an SLO are given, else `latency`.",
    )
    experts: Literal["auto", "all", "capacity", "routed", "own_chips", "visited"] = Field(
        default="auto",
        description="Experts a program works through. `routed`: those that tokens may visit (auto); `all`: every one, whoever is "
        "visited; `capacity`: every one, on `capacity_factor` times the mean of its tokens, others dropped; `own_chips`: each "
        "whole on chips of its own, which work if it is visited; `visited`: those that are visited on the tokens that do, on "
        "average, which no schedule knows beforehand.",
    )
    capacity_factor: float = Field(
        default=1.25,
        gt=0,
        le=1e6,
        allow_inf_nan=False,
        description="Tokens that each expert has room for with `experts: capacity`, over their mean.",
    )
    tp: Positive | Literal["auto"] = Field(default="auto", description="Chips that share each layer (tensor parallel).")
    pp: Positive | Literal["auto"] = Field(default="auto", description="Stages the layers are cut into (pipeline parallel).")
    attention_dp: Positive = Field(
        default=1,
        description="Copies of attention in a stage, each with sequences of its own on an equal share of its `tp` chips.",
    )
    ep: Positive = Field(
        default=1, description="Groups of a stage's chips that whole experts are spread over; 1: every chip has its part of each."
    )
    expert_load: Literal["balanced", "zipf"] | tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default="balanced",
        description="How often experts are chosen: evenly, the k-th as 1/k (zipf), or in proportion to so many numbers in turn.",
    )
    prefill: PoolSpec | None = Field(
        default=None, description="Layout of the first `serving.prefill_replicas` replicas; none: as the others."
    )
    replicas: Positive | Literal["auto"] | None = Field(
        default=None,
        description="Copies of the LLM, each on its own chips; `auto`: as many as there are chips for. Left out: as many as the "
        "objective wants where degrees are `auto`, else one.",
    )
    chips_max: Count = Field(default=0, description="Most chips one replica may use; 0: all active chips.")
    weights: Precision | Literal["stored"] = Field(
        default="int8",
        description="Stored weights; `stored`: part by part as the LLM's own `precision` says. An LLM that is stored in 8 bits "
        "or fewer is taken as it is, unless the command line says otherwise.",
    )
    activations: Precision | Literal["stored"] = Field(
        default="fp16",
        description="What enters matrix products; sums and messages have 16 bit at least. `stored`: as the LLM's own `precision` "
        "says, where the chip multiplies it, and 16 bit elsewhere.",
    )
    kv: Precision = Field(default="fp16", description="Stored keys and values.")
    all_reduce: Literal["auto", "direct", "ring", "tree", "hierarchical", "one_shot", "two_shot", "in_network"] = Field(
        default="auto", description="Message pattern of an all-reduce; `auto` is the quickest that a library has, at each size."
    )
    parallel_layer: Literal["joined", "summed", "apart"] = Field(
        default="joined",
        description="Attention and feed-forward that share an input: one product in and one out (joined), norms and products "
        "of their own and one all-reduce (summed), or an all-reduce each (apart).",
    )
