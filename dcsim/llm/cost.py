"""How many chip cycles one shard's share of an operation takes until its first and its last output vector.

One function for each kind of chip. The operations are the same for every LLM; nothing here knows which it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any

from dcsim.llm.operators import kernel_s
from dcsim.spec.chip import Chip, LpuChip, RooflineChip

ALL = -1  # of an operation's products


@dataclass(frozen=True, slots=True)
class Work:
    """One shard's share of an operation.

    `products` are (count, rows, k, n): `count` stored matrices of k x n, each met by `rows` rows. Their
    elements are stored in `stored_bytes` and multiplied in `active_bytes`. `elements` are what a vector
    operation touches. `together` input rows of `rows` meet the same stored matrix. A `fused` operation needs
    no kernel of its own on chips that launch kernels: it belongs to the kernel before it. `kernel` says which
    kind of kernel it is where chips tell them apart; of attention, `seen_fraction` is what a mask leaves of the
    rectangle of rows and keys. Only the first `stored_products` are with matrices of their own: the others'
    are parts of these, or made on the way.
    """

    part: str
    rows: int
    together: int = 1
    products: tuple[tuple[int, int, int, int], ...] = ()
    stored_bytes: int | float = 1
    active_bytes: int | float = 2
    elements: int = 0
    fused: bool = False
    kernel: str = ""
    seen_fraction: float = 1.0
    stored_products: int = ALL

    @property
    def matrix_elements(self) -> int:
        """Elements of all stored matrices."""
        stored = self.products if self.stored_products == ALL else self.products[: self.stored_products]
        return sum(count * k * n for count, _, k, n in stored)

    @property
    def read_bytes(self) -> int:
        """Bytes of all stored matrices."""
        return ceil(self.matrix_elements * self.stored_bytes)

    @property
    def flop(self) -> int:
        """A multiplication and an addition for each row and element; one operation for each vector element."""
        products = sum(2 * count * rows * k * n for count, rows, k, n in self.products)
        return self.elements + (products if self.seen_fraction == 1 else round(products * self.seen_fraction))


@dataclass(frozen=True, slots=True)
class Cost:
    """Cycles from start to first and last output vector, and how many input rows must be there to start."""

    first_cycles: int
    last_cycles: int
    lead_rows: int


def operation_cost(chip: Chip, work: Work) -> Cost:
    """Cost of `work` on `chip`."""
    return COSTS[chip.kind](chip, work)


def _lpu(chip: LpuChip, work: Work) -> Cost:
    """`fixed_cycles`, then streaming."""
    if work.part == "vector":
        busy = _divide(work.elements, chip.vector_lanes)
        first, lead = (
            _divide(busy, work.rows),
            1,
        )  # norms and softmax need a row's total before its first output
    elif work.part == "attention":
        busy = _lpu_attention(chip, work)
        first, lead = (
            _divide(busy, max(1, sum(count for count, *_ in work.products))),
            min(work.together, _load_cycles(chip, work)),
        )
    else:
        busy, first, lead = _lpu_matrix(chip, work)
    return Cost(chip.fixed_cycles + min(first, busy), chip.fixed_cycles + busy, lead)


def _lpu_matrix(chip: LpuChip, work: Work) -> tuple[int, int, int]:
    """Streaming cycles of a matrix product, cycles to its first output vector, rows needed to start.

    The planes are filled with a set of weight tiles in `load` cycles while the rows stream past the set
    before; a set therefore takes max(load, rows). Tiles at the edges are padded. Planes left over in the last
    set take a share of its rows. Partial sums stay in the planes, so the first output vector needs all tiles
    down k. With more rows than `load`, the matrix passes by once for each sub-block of `load` rows, whose
    installs hide behind its arithmetic: the time stays the same and a later operation can start after the
    first sub-block.
    """
    tile_k, planes = _planes(chip, work)
    load = _load_cycles(chip, work)
    tiles = [(count * _divide(k, tile_k) * _divide(n, chip.tile), rows) for count, rows, k, n in work.products]
    install = _divide(sum(count for count, _ in tiles), planes) * load
    compute = _divide(sum(count * rows for count, rows in tiles), planes)
    deepest = max((_divide(k, tile_k) for *_, k, _ in work.products), default=0)
    return max(install, compute), _divide(deepest, planes) * load, min(work.together, load)


def _planes(chip: LpuChip, work: Work) -> tuple[int, int]:
    """Rows of one weight tile and planes: two 8-bit planes make one 16-bit plane of half the depth.

    In one cycle four 8-bit products [1 x 320] x [320 x 320] or two 16-bit ones [1 x 160] x [160 x 320] (Abts
    et al., ISCA 2022).
    """
    if work.active_bytes == 1:
        return chip.tile, chip.matrix_planes
    return chip.tile // 2, max(1, chip.matrix_planes // 2)


def _load_cycles(chip: LpuChip, work: Work) -> int:
    """Cycles to fill all planes: the slowest of reading, widening to the active width, and installing.

    Installing moves the bytes of all planes in `install_cycles`. A pass of 16-bit weights is half those
    bytes.
    """
    tile_k, planes = _planes(chip, work)
    weights = tile_k * chip.tile * planes
    active_bytes = min(work.active_bytes, 2)  # the matrix unit knows nothing wider than 16 bit
    install = chip.install_cycles * weights * active_bytes / (chip.tile * chip.tile * chip.matrix_planes)
    read = weights * work.stored_bytes / chip.stream_bytes_per_cycle
    widen = weights / chip.widen_weights_per_cycle if work.stored_bytes < active_bytes else 0.0
    return max(1, ceil(max(install, read, widen)))


def _lpu_attention(chip: LpuChip, work: Work) -> int:
    """Streaming cycles of a product with stored keys or values, which enter the matrix unit like weights.

    They are read once, unpadded; the arithmetic goes by padded tiles.
    """
    tile_k, planes = _planes(chip, work)
    read = _divide(work.read_bytes, int(chip.stream_bytes_per_cycle))
    widen = _divide(work.matrix_elements, chip.widen_weights_per_cycle) if work.stored_bytes < work.active_bytes else 0
    tile_rows = sum(c * rows * _divide(k, tile_k) * _divide(n, chip.tile) for c, rows, k, n in work.products)
    return max(read, widen, _divide(tile_rows, planes))


def _roofline(chip: RooflineChip, work: Work) -> Cost:
    """The slower of memory and arithmetic, plus the kernel. A kernel needs all of its input and yields all at
    its end.
    """
    bandwidth = chip.memory_bandwidth_bytes_per_s * chip.memory_efficiency
    if work.part == "vector":
        seconds = 0.0 if work.fused else 2 * work.elements * work.active_bytes / bandwidth + chip.small_kernel_s
    else:
        rate = _product_rate(chip, work.active_bytes)
        traffic = work.matrix_elements * work.stored_bytes + work.active_bytes * sum(
            count * rows * (k + n) for count, rows, k, n in work.products
        )
        seconds = max(traffic / bandwidth, work.flop / rate) + (0.0 if work.fused else chip.kernel_s)
    cycles = ceil(seconds * chip.clock_hz)
    return Cost(cycles, cycles, work.rows)


def _kernels(chip: RooflineChip, work: Work) -> Cost:
    """What the chip's library reaches in each kind of kernel, where the chip says it."""
    if chip.operators is None:
        return _roofline(chip, work)
    cycles = ceil(kernel_s(chip, work) * chip.clock_hz)
    return Cost(cycles, cycles, work.rows)


COSTS: dict[str, Callable[[Any, Work], Cost]] = {"lpu": _lpu, "roofline": _kernels}


def _product_rate(chip: RooflineChip, active_bytes: int | float) -> float:
    """FLOP/s of large products of elements of so many bytes."""
    if active_bytes < 1 and chip.fp4_flop_per_s is not None:
        return chip.fp4_flop_per_s * (chip.compute_efficiency_8bit or chip.compute_efficiency)
    if active_bytes <= 1:
        return chip.int8_flop_per_s * (chip.compute_efficiency_8bit or chip.compute_efficiency)
    return chip.fp16_flop_per_s * chip.compute_efficiency


def summed_bytes_per_cycle(chip: Chip) -> float:
    """Bytes of sums a chip makes of two vectors each cycle: a vector (LPU), or what memory takes to read two and write one."""
    if isinstance(chip, LpuChip):
        return chip.vector_bytes
    return chip.memory_bandwidth_bytes_per_s * chip.memory_efficiency / 3 / chip.clock_hz


def _divide(total: int, share: int) -> int:
    """Ceiling of a quotient of integers."""
    return -(-total // share)
