"""What an LLM holds and keeps, by itself: parameters, bytes, and its layers by kind."""

from __future__ import annotations

from typing import Any

from dcsim.llm.architecture import kv_bytes, layer_kinds, own_weight_bytes, parameters
from dcsim.llm.precision import RELEASED, told
from dcsim.spec.llm import LlmSpec
from dcsim.spec.mapping import MappingSpec

# Keys and values are counted in 16 bit; states of linear attention in their own precision.
KV_PRECISION = "fp16"


def describe(llm: LlmSpec, context: int) -> dict[str, Any]:
    """Parameters, bytes of weights as stored, and bytes that one sequence of `context` tokens keeps.

    `parameters` are those of text and towers; layers that predict further tokens stand apart. `assumed` is what was taken for
    granted because the file does not say it.
    """
    count = parameters(llm)
    assumed = list(llm.assumed)
    if llm.precision is None:
        assumed.append(f"weights are counted in {RELEASED}: the file does not say how they are stored")
    kept = kv_bytes(llm, context, KV_PRECISION)
    return {
        "name": llm.name,
        "source": llm.source,
        "parameters": count.total,
        "parameters_text": count.text,
        "parameters_encoders": count.encoders,
        "parameters_mtp": count.prediction,
        "parameters_active": count.active,
        "parameters_embedding": count.embedding,
        "precision": told(llm, MappingSpec(weights="stored" if llm.precision else RELEASED)),
        "weights_bytes": own_weight_bytes(llm),
        "context": context,
        "context_max": llm.context_max,
        "kv_precision": KV_PRECISION,
        "kv_bytes": kept,
        "kv_bytes_per_token": kept / context,
        "layers": layer_kinds(llm),
        "assumed": assumed,
    }
