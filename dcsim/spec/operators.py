"""What a GPU's library reaches in each kind of kernel: a few figures a kind and format, distilled from measured kernels."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dcsim.spec.section import Fraction, Named, Section, Time

Extra = Annotated[float, Field(ge=0, le=1e12)]


class Kernel(Section):
    """One kind of kernel takes `launch`, and the root of the sum of squares of the times of its reading and its arithmetic.

    It reads at `memory_fraction` of the chip's memory bandwidth and multiplies at `compute_fraction` of the peak of its
    format. What cores do for nothing counts as arithmetic on elements, rows, keys or columns that nobody asked for.
    """

    launch_s: Time = Field(le=1e-2, description="Fixed cost: launch, first reads, tail.")
    memory_fraction: Fraction = Field(gt=0, description="Share of memory bandwidth that its reads and writes reach.")
    compute_fraction: Fraction = Field(default=1.0, gt=0, description="Share of its format's peak that its arithmetic reaches.")
    idle_elements: Extra = Field(
        default=0.0, description="Elements of its output that are paid for beside those wanted: cores without a tile at the end."
    )
    idle_rows: Extra = Field(default=0.0, description="Rows paid for beside those of each stored matrix: tiles not full.")
    input_passes: Extra = Field(
        default=0.0, description="Passes over a product's input before it begins: what narrowing it to the format takes."
    )
    extra_keys: Extra = Field(default=0.0, description="Keys an attention pays for beside those that each row looks at.")
    extra_columns: Extra = Field(
        default=0.0, description="Columns an attention pays for beside those of each key and value: its exponentials."
    )


class Formats(Section):
    """A kind of kernel by the width of what it multiplies; a width that is not given takes the next wider one's."""

    bits_16: Kernel = Field(description="Both sides in 16 bits.")
    bits_8: Kernel | None = Field(default=None, description="Both sides in 8 bits; attention: keys and values stored in 8 bits.")
    bits_4: Kernel | None = Field(default=None, description="Both sides in 4 bits with scales of blocks.")
    widened: Kernel | None = Field(
        default=None, description="Weights of fewer than 8 bits, multiplied in a wider format; against the 16-bit peak."
    )


class OperatorsSpec(Named):
    """The kernels of one generation of chips under one library."""

    tables: str = Field(
        default="",
        description="Folder of timings of your own: OPERATOR/LIBRARY/VERSION/*_perf.parquet, as aiconfigurator-core has for a "
        "system. An operation takes what its nearest rows took, by the figures' form; none: the figures alone.",
    )
    library: str = Field(default="", description="Of `tables`, those of this library; none: the last by name that has most rows.")
    products: Formats = Field(description="Products with weights.")
    experts: Formats = Field(description="Products with the weights of those experts that tokens visit, all of a layer at once.")
    prompts: Formats = Field(description="Attention of many new tokens of a sequence.")
    decoding: Formats = Field(description="Attention of one or a few new tokens of each sequence.")
    latent_prompts: Kernel = Field(description="As `prompts`, to keys and values made of latent vectors.")
    latent_decoding: Kernel = Field(description="As `decoding`, to latent vectors themselves.")
    states: Kernel = Field(description="Change and use of a state by one new token of each sequence.")
    state_chunks: Kernel = Field(description="The same by the tokens of prompts, chunk by chunk.")
    vectors: Kernel = Field(description="Norms, activations and other kernels that read and write each element once.")
