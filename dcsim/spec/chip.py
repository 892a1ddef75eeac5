"""Chips: what computes. `lpu` (deterministic SRAM chip) or `roofline` (GPU, TPU: bandwidth, FLOP/s, kernel overheads)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dcsim.spec.operators import OperatorsSpec
from dcsim.spec.section import (
    Area,
    Compute,
    Count,
    Data,
    Fraction,
    Frequency,
    Money,
    Named,
    Positive,
    Power,
    Rate,
    Section,
    Time,
)


class ChipPower(Section):
    """Draw of one chip by state. A chip waiting in lock step still clocks its program."""

    idle_w: Power = Field(description="No program running.")
    wait_w: Power = Field(description="In a program, waiting in lock step for its next operation.")
    matrix_w: Power = Field(description="Matrix unit busy.")
    vector_w: Power = Field(description="Vector unit or attention busy.")


class ChipPrice(Section):
    """What one chip's card costs, on two bases."""

    buy_usd: Money = Field(description="Price a customer pays for one card.")
    build_usd: Money = Field(description="What it costs its maker to build.")


CYCLES_MOST = 1_000_000  # of one operation's fixed costs: a millisecond


class _Chip(Named):
    clock_hz: Frequency = Field(description="Chip clock; all chip work is counted in its cycles.")
    memory_bytes: Data = Field(ge=1e6, le=1e15, description="Memory that holds weights and KV cache.")
    reserve_fraction: Annotated[float, Field(ge=0, le=0.99)] = Field(
        description="Share of memory kept for program text, activations and buffers."
    )
    power: ChipPower
    price: ChipPrice
    die_mm2: Area = Field(default=0.0, description="Die area, for silicon cost.")
    software: str = Field(
        default="nccl", description="Library such chips use on packet networks, an entry of topologies/software."
    )


class LpuChip(_Chip):
    """A deterministic SRAM chip: weights stream through the matrix unit, every operation has a fixed cost."""

    kind: Literal["lpu"]
    vector_bytes: Data = Field(gt=0, description="One vector: the unit of every stream and link.")
    matrix_planes: Positive = Field(le=10_000, description="Matrix planes working side by side on 8-bit weights.")
    tile: Positive = Field(le=100_000, description="Rows and columns of one plane's weight tile, 8-bit.")
    install_cycles: Positive = Field(le=CYCLES_MOST, description="Cycles to load all planes with 8-bit weights.")
    widen_weights_per_cycle: Positive = Field(description="8-bit weights widened to 16 bit per cycle by the vector unit.")
    stream_bytes_per_cycle: Positive = Field(description="Bytes per cycle from SRAM to the units on one direction of streams.")
    vector_lanes: Positive = Field(description="32-bit vector ALUs.")
    fixed_cycles: Count = Field(le=CYCLES_MOST, description="Cost of each dependent operation besides its streaming.")
    local_ports: Count = Field(description="Links to chips of the same node, where its fabric says no other number.")
    global_ports: Count = Field(description="Links that leave the node, where its fabric says no other number.")
    program_switch_s: Time = Field(default=0.0, description="Cost of switching to another compiled program.")


class RooflineChip(_Chip):
    """A chip whose operations take max(bytes / bandwidth, FLOPs / rate) plus a kernel overhead, or what its `operators` say."""

    kind: Literal["roofline"]
    memory_bandwidth_bytes_per_s: Rate = Field(description="Peak memory bandwidth.")
    memory_efficiency: Fraction = Field(gt=0, description="Share of it that large reads reach.")
    fp16_flop_per_s: Compute = Field(description="Dense 16-bit matrix rate.")
    int8_flop_per_s: Compute = Field(description="Dense 8-bit matrix rate.")
    fp4_flop_per_s: Compute | None = Field(
        default=None, description="Dense rate of 4-bit floating-point products; none: they are made in 16 bit."
    )
    compute_efficiency: Fraction = Field(gt=0, description="Share of the matrix rate that large products reach.")
    compute_efficiency_8bit: Fraction | None = Field(
        default=None, gt=0, description="The same of 8-bit products; none: as of 16-bit ones."
    )
    kernel_s: Time = Field(description="Fixed cost of one matrix or attention kernel.")
    small_kernel_s: Time = Field(description="Cost of one norm, activation or other small kernel.")
    operators: OperatorsSpec | None = Field(
        default=None,
        description="What its library's kernels reach, an entry of topologies/operators; none: `memory_efficiency`, "
        "`compute_efficiency` and the two costs of kernels say it of all.",
    )


Chip = LpuChip | RooflineChip
ChipSpec = Annotated[Chip, Field(discriminator="kind")]
