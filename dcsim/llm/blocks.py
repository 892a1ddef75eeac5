"""One block of an LLM as a chain of operations and collectives, the same on every shard.

Each shard works through the steps one after another: a step depends on the step before it on the same shard,
and a collective joins the shards. Which steps a block has is said in `kinds`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """What one iteration does: `batch` sequences advance by `new_tokens` each, the last at position
    `context`.

    Decode: new_tokens 1. A prefill chunk: batch 1, context = tokens already there plus new_tokens.
    """

    batch: int
    context: int
    new_tokens: int = 1

    @property
    def rows(self) -> int:
        """Rows of activations: one for each new token of each sequence."""
        return self.batch * self.new_tokens


@dataclass(frozen=True, slots=True)
class Operation:
    """Work on every chip of a stage; tuples hold one entry for each shard.

    `part` is "matrix", "attention", "vector" or "host". It starts when `lead_rows` of `rows` input rows are
    there; its first and last output vectors are ready `first_cycles` and `last_cycles` after that.
    """

    name: str
    part: str
    first_cycles: tuple[int, ...]
    last_cycles: tuple[int, ...]
    rows: int
    lead_rows: int
    flop: tuple[int, ...] = ()
    weight_bytes: tuple[int, ...] = ()
    kv_bytes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Collective:
    """All shards of a stage exchange: `op` is "all_reduce", "reduce_scatter" or "all_gather".

    `size_bytes` is the whole: what each shard holds before a reduction, and after a gathering.
    """

    name: str
    op: str
    size_bytes: int
    rows: int = 1


Step = Operation | Collective


@dataclass(frozen=True, slots=True)
class Block:
    """The steps of one block. Equal blocks of a program are the same object, so that each is compiled once."""

    kind: str
    steps: tuple[Step, ...]
