"""Serving engines of chips that schedule for themselves: what an iteration costs beside the chips' work, and what it holds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dcsim.policies.batching import BATCHING
from dcsim.spec.section import KindOf, Named, Positive, Time


class EngineSpec(Named):
    """A serving engine (vLLM, SGLang, TensorRT-LLM): its iterations take whatever tokens there are, padded to nothing.

    Without one, a replica runs programs compiled for `serving.batch_buckets` and `serving.context_buckets`.
    """

    step_s: Time = Field(le=1, description="The engine's own time in each iteration: choosing, launching, handing tokens on.")
    sequence_s: Time = Field(
        le=0.1,
        description="Its own time for each sequence it takes in and each layer of the LLM, in the iteration that ends its "
        "prompt: such iterations are not captured as graphs, so that kernels are launched one by one.",
    )
    batching: Annotated[str, KindOf(BATCHING)] = Field(
        description="How prompts and answers share iterations, in place of `serving.batching`."
    )
    preemption: Literal["recompute", "swap", "never"] = Field(
        description="recompute: a sequence's room grows as it is stored, and where none is left the one that joined last "
        "waits and is read anew; swap: what it stored goes to its hosts' memory over their buses instead, and comes back; "
        "never: it holds room for its longest answer from the beginning."
    )
    batched_tokens_max: Positive = Field(le=1_000_000, description="Tokens of one iteration: answers' and prompts'.")
