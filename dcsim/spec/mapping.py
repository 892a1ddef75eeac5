"""How an LLM is laid over chips: tensor- and pipeline-parallel degrees, replicas, precision."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dcsim.spec.section import Count, Positive, Section

Precision = Literal["int8", "fp8", "fp16", "bf16", "fp32"]

BYTES = {"int8": 1, "fp8": 1, "fp16": 2, "bf16": 2, "fp32": 4}


class MappingSpec(Section):
    """Degrees may be `auto`: the lowest decode iteration time at batch 1 that fits."""

    tp: Positive | Literal["auto"] = Field(default="auto", description="Chips that share each layer (tensor parallel).")
    pp: Positive | Literal["auto"] = Field(default="auto", description="Stages the layers are cut into (pipeline parallel).")
    replicas: Positive | Literal["auto"] = Field(default=1, description="Copies of the LLM, each on its own chips.")
    chips_max: Count = Field(default=0, description="Most chips one replica may use; 0: all active chips.")
    weights: Precision = Field(default="int8", description="Stored weights.")
    activations: Precision = Field(
        default="fp16", description="What enters matrix products; sums and messages have 16 bit at least."
    )
    kv: Precision = Field(default="fp16", description="Stored keys and values.")
    all_reduce: Literal["auto", "direct", "ring", "tree", "hierarchical"] = Field(
        default="auto", description="Message pattern of an all-reduce."
    )
    parallel_layer: Literal["joined", "summed", "apart"] = Field(
        default="joined",
        description="Attention and feed-forward that share an input: one product in and one out (joined), norms and products "
        "of their own and one all-reduce (summed), or an all-reduce each (apart).",
    )
