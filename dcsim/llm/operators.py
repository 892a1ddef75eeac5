"""Time of one kernel of a GPU, from what its library's kernels of that kind reach (`spec.operators`).

All kinds have one form: a fixed cost, and the root of the sum of squares of the time to move the kernel's bytes and the time of
its arithmetic, which overlap but not perfectly. Kinds differ in what counts as bytes and as arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dcsim.spec.chip import RooflineChip
from dcsim.spec.operators import Formats, Kernel, OperatorsSpec

if TYPE_CHECKING:
    from dcsim.llm.cost import Work

OUTPUT_BYTES = 2  # of one element of a result, whatever was multiplied


def kernel_s(chip: RooflineChip, work: Work) -> float:
    """Seconds that `work` takes on a chip with `operators`."""
    operators = chip.operators
    assert operators is not None
    if work.part == "vector":
        return 0.0 if work.fused else _one(chip, operators, "vectors", "bits_16", operators.vectors, work)
    if work.part == "matrix":
        kind = "experts" if work.kernel == "experts" else "products"
        name, kernel = _of_width(getattr(operators, kind), work)
        return _one(chip, operators, kind, name, kernel, work)
    if work.kernel == "states":
        kind = "state_chunks" if work.products[0][1] > 1 else "states"
        return _one(chip, operators, kind, "bits_16", getattr(operators, kind), work)
    # A library takes the kernel that is faster for so many rows.
    return min(_one(chip, operators, kind, name, kernel, work) for kind, name, kernel in _attentions(operators, work))


def _one(chip: RooflineChip, operators: OperatorsSpec, kind: str, name: str, kernel: Kernel, work: Work) -> float:
    """By a kernel's figures, and by users' own tables where there are any."""
    seconds = TIMES[kind](chip, kernel, work)
    if not operators.tables:
        return seconds
    from dcsim.llm.timings import looked_up

    return seconds * looked_up(chip, operators, kind, name, kernel, work)


def _time(chip: RooflineChip, kernel: Kernel, size_bytes: float, flop: float, active_bytes: int | float) -> float:
    """The form of all kinds, of arrays too: tables are compared with it row by row at once."""
    moving = size_bytes / (chip.memory_bandwidth_bytes_per_s * kernel.memory_fraction)
    working = flop / (_peak(chip, active_bytes) * kernel.compute_fraction)
    both: float = (moving**2 + working**2) ** 0.5
    return kernel.launch_s + both


def _peak(chip: RooflineChip, active_bytes: int | float) -> float:
    """FLOP/s of products of elements of so many bytes at best."""
    if active_bytes < 1 and chip.fp4_flop_per_s is not None:
        return chip.fp4_flop_per_s
    return chip.int8_flop_per_s if active_bytes <= 1 else chip.fp16_flop_per_s


def _of_width(formats: Formats, work: Work) -> tuple[str, Kernel]:
    """The kernel for what `work` multiplies, by stored and active bytes of an element; and its name."""
    if work.stored_bytes < 1 and work.active_bytes == 1:  # 4-bit weights are read as where both are, and multiplied in 8 bits
        order: tuple[str, ...] = ("bits_4", "widened", "bits_8", "bits_16")
    elif work.stored_bytes < 1 < work.active_bytes:
        order = ("widened", "bits_16")
    elif work.active_bytes < 1:
        order = ("bits_4", "bits_8", "bits_16")
    else:
        order = ("bits_8", "bits_16") if work.active_bytes <= 1 else ("bits_16",)
    kernels = ((name, getattr(formats, name)) for name in order)
    return next((name, kernel) for name, kernel in kernels if kernel is not None)


def _attentions(operators: OperatorsSpec, work: Work) -> list[tuple[str, str, Kernel]]:
    """Kernels that can do it."""
    if work.kernel == "latent_prompts":
        return [("latent_prompts", "bits_16", operators.latent_prompts)]
    if work.kernel == "latent":
        return [("latent_decoding", "bits_16", operators.latent_decoding)]
    eight = operators.decoding.bits_8 if work.stored_bytes <= 1 else None
    decoding = ("decoding", "bits_8", eight) if eight else ("decoding", "bits_16", operators.decoding.bits_16)
    return [decoding] if work.together == 1 else [decoding, ("prompts", *_of_width(operators.prompts, work))]


def product_s(chip: RooflineChip, kernel: Kernel, work: Work) -> float:
    """Products with weights: these are read once, each matrix's rows in and out; rows and elements beside cost arithmetic.

    What narrows the input comes before.
    """
    inputs = sum(count * rows * k for count, rows, k, _ in work.products)
    size = work.matrix_elements * work.stored_bytes + inputs * work.active_bytes
    size += sum(count * rows * n * OUTPUT_BYTES for count, rows, _, n in work.products)
    flop = sum(2 * count * (rows + kernel.idle_rows) * k * n for count, rows, k, n in work.products)
    flop += 2 * work.products[0][2] * kernel.idle_elements
    narrowing = kernel.input_passes * inputs * (OUTPUT_BYTES + work.active_bytes) / chip.memory_bandwidth_bytes_per_s
    return narrowing + _time(chip, kernel, size, flop, work.active_bytes)


def attention_s(chip: RooflineChip, kernel: Kernel, work: Work) -> float:
    """Attention: keys and values are read once for each group of heads, queries and results; what a mask hides is skipped."""
    size, flop = 0.0, 4 * work.products[0][3] * kernel.idle_elements
    half = len(work.products) // 2
    for i, (count, rows, k, n) in enumerate(work.products):
        keys, width = (n, k) if i < half else (k, n)
        stored = 0 if 0 <= work.stored_products <= i else (keys + kernel.extra_keys) * width * work.stored_bytes
        size += count * (stored + rows * width * OUTPUT_BYTES)
        seen = keys * work.seen_fraction + kernel.extra_keys
        flop += 2 * count * (rows + kernel.idle_rows) * seen * (width + kernel.extra_columns)
    return _time(chip, kernel, size, flop, work.active_bytes)


def vector_s(chip: RooflineChip, kernel: Kernel, work: Work) -> float:
    """Every element is read and written once."""
    return _time(chip, kernel, 2 * work.elements * work.active_bytes, 0.0, work.active_bytes)


def state_s(chip: RooflineChip, kernel: Kernel, work: Work) -> float:
    """States: every one is read and written once, and each token's inputs and results; all products.

    A sequence's chunks follow one another, so that few states leave cores idle all along the longest chain of them.
    """
    count, rows, k, n = work.products[0]
    size = 2 * count * k * n * work.stored_bytes + count * rows * 2 * (k + n) * OUTPUT_BYTES
    idle = kernel.idle_elements * (work.together / rows) / (count * k * n)
    return _time(chip, kernel, size, work.flop * (1 + idle**2) ** 0.5, work.active_bytes)


TIMES: dict[str, Callable[[RooflineChip, Kernel, Work], float]] = {
    **dict.fromkeys(("products", "experts"), product_s),
    **dict.fromkeys(("prompts", "decoding", "latent_prompts", "latent_decoding"), attention_s),
    **dict.fromkeys(("states", "state_chunks"), state_s),
    "vectors": vector_s,
}
