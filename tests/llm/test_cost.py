"""What an operation costs, counted by hand on chips of small round figures."""

from math import ceil

import pytest

from dcsim.llm.cost import Cost, Work, operation_cost, summed_bytes_per_cycle
from dcsim.spec.chip import LpuChip, RooflineChip

COMMON = {
    "clock": "1 GHz",
    "memory": "1 GB",
    "reserve_fraction": 0.1,
    "price": {"buy": "1 USD", "build": "1 USD"},
    "power": {"idle": "1 W", "wait": "1 W", "matrix": "1 W", "vector": "1 W"},
}
FIXED = 100


def lpu(**changes) -> LpuChip:
    """Two planes of 4 x 4 eight-bit weights, or one of 2 x 4 sixteen-bit ones."""
    figures = {
        "kind": "lpu",
        "vector": "40 B",
        "matrix_planes": 2,
        "tile": 4,
        "install_cycles": 8,
        "widen_weights_per_cycle": 2,
        "stream_bytes_per_cycle": 8,
        "vector_lanes": 4,
        "fixed_cycles": FIXED,
        "local_ports": 1,
        "global_ports": 1,
    }
    return LpuChip.model_validate(COMMON | figures | changes)


def gpu(**changes) -> RooflineChip:
    figures = {
        "kind": "roofline",
        "memory_bandwidth": "2 TB/s",
        "memory_efficiency": 0.5,
        "fp16": "300 TFLOP/s",
        "int8": "600 TFLOP/s",
        "compute_efficiency": 0.5,
        "kernel": "4 us",
        "small_kernel": "2 us",
    }
    return RooflineChip.model_validate(COMMON | figures | changes)


def matrix(rows=1, together=1, count=1, k=10, n=9, stored=1, active=1, part="matrix", **more) -> Work:
    return Work(part, rows, together, ((count, rows, k, n),), stored, active, **more)


def test_elements_bytes_and_flop_of_several_products() -> None:
    work = Work("attention", 5, 1, ((3, 5, 7, 11), (2, 4, 13, 6)), 0.5, 2, elements=17)
    assert work.matrix_elements == 3 * 7 * 11 + 2 * 13 * 6 == 387
    assert work.read_bytes == ceil(387 / 2) == 194
    assert work.flop == 17 + 2 * 3 * 5 * 7 * 11 + 2 * 2 * 4 * 13 * 6
    half_seen = Work("attention", 5, 1, work.products, 0.5, 2, elements=17, seen_fraction=0.5)
    assert half_seen.flop == 17 + 3 * 5 * 7 * 11 + 2 * 4 * 13 * 6


@pytest.mark.parametrize(
    ("rows", "last", "first"),
    [
        (1, 5 * 8, 2 * 8),  # 3 x 3 tiles are 5 sets of two planes, filled in 8 cycles each; 3 tiles down k are 2 sets
        (8, 5 * 8, 2 * 8),  # rows stream past while the next set is filled
        (9, ceil(9 * 9 / 2), 2 * 8),  # 9 rows past 9 tiles, two at once
        (20, 90, 2 * 8),
    ],
)
def test_a_matrix_streams_by_sets_of_tiles(rows: int, last: int, first: int) -> None:
    assert operation_cost(lpu(), matrix(rows)) == Cost(FIXED + first, FIXED + last, 1)


def test_a_matrix_starts_with_as_many_rows_as_pass_while_planes_are_filled() -> None:
    leads = [operation_cost(lpu(), matrix(20, together)).lead_rows for together in (1, 7, 8, 9, 20)]
    assert leads == [1, 7, 8, 8, 8]


@pytest.mark.parametrize(
    ("stored", "active", "load"),
    [
        (1, 1, 8),  # 32 weights: installed in 8 cycles, read in 4
        (4, 1, 16),  # read in 16
        (0.5, 1, 16),  # widened at 2 a cycle
        (2, 2, 4),  # 8 weights of 2 bytes: installed in 4, read in 2
        (1, 2, 4),  # widened in 4, read in 1
        (8, 2, 8),  # read in 8
        (4, 4, 4),  # nothing wider than 16 bit is installed: 4, read in 4
    ],
)
def test_planes_are_filled_by_the_slowest_of_reading_widening_and_installing(stored: float, active: int, load: int) -> None:
    sets = 5 if active == 1 else 5 * 3  # 16-bit tiles are half as deep, one at a time
    down = 2 if active == 1 else 5
    cost = operation_cost(lpu(), matrix(stored=stored, active=active, together=100))
    assert cost == Cost(FIXED + down * load, FIXED + sets * load, load)


def test_planes_take_a_cycle_at_least() -> None:
    """However fast weights are read, widened and installed: nine sets down, then across, one after another."""
    for stream in (32, 1000):  # in one cycle, and in a thirtieth
        fast = lpu(install_cycles=1, stream_bytes_per_cycle=stream)
        assert operation_cost(fast, matrix(k=24, n=12)) == Cost(FIXED + 3, FIXED + 9, 1)


def test_products_side_by_side_share_sets() -> None:
    """Three matrices of one tile each are two sets, not three."""
    assert operation_cost(lpu(), matrix(count=3, k=4, n=4)).last_cycles == FIXED + 2 * 8
    two = Work("matrix", 1, 1, ((1, 1, 4, 4), (1, 1, 12, 4)), 1, 1)
    assert operation_cost(lpu(), two) == Cost(FIXED + 2 * 8, FIXED + 2 * 8, 1)


@pytest.mark.parametrize(
    ("stored", "active", "busy"),
    [
        (1, 1, 30),  # 240 elements, 8 bytes a cycle; 36 tile rows by two planes take 18
        (2, 2, 60),  # as long to read as 60 tile rows take
        (1, 2, 120),  # widened at 2 a cycle
        (0.1, 0.1, 60),  # arithmetic of the 16-bit tiles alone
    ],
)
def test_attention_reads_keys_once_and_computes_by_padded_tiles(stored: float, active: float, busy: int) -> None:
    work = matrix(rows=2, count=3, k=10, n=8, stored=stored, active=active, part="attention", together=1)
    assert operation_cost(lpu(), work) == Cost(FIXED + ceil(busy / 3), FIXED + busy, 1)


def test_attention_starts_with_as_many_rows_as_pass_while_planes_are_filled() -> None:
    work = matrix(rows=2, part="attention", together=100)
    assert operation_cost(lpu(), work).lead_rows == 8


def test_a_vector_operation_ends_its_first_row_after_its_share() -> None:
    cost = operation_cost(lpu(), Work("vector", 5, 100, elements=50))
    assert cost == Cost(FIXED + 3, FIXED + 13, 1)  # 50 elements on 4 lanes, a fifth of that


@pytest.mark.parametrize("active", [1, 2])
def test_a_gpu_moves_rows_in_and_out_beside_the_matrices(active: int) -> None:
    """Thin matrices that many rows meet: what is read and written of these decides."""
    count, rows, k, n = 2, 1_000_000, 64, 128
    work = matrix(rows, count=count, k=k, n=n, stored=1, active=active)
    moved = count * k * n * 1 + active * count * rows * (k + n)
    assert moved / 1e12 > work.flop / 150e12  # memory it is
    cycles = ceil((moved / 1e12 + 4e-6) * 1e9)
    assert operation_cost(gpu(), work) == Cost(cycles, cycles, rows)


def test_a_gpu_reads_every_stored_matrix_once() -> None:
    work = matrix(1, count=8, k=4000, n=1000, stored=0.5, active=2)
    moved = 8 * 4000 * 1000 * 0.5 + 2 * 8 * 5000
    assert operation_cost(gpu(), work).last_cycles == ceil((moved / 1e12 + 4e-6) * 1e9)


@pytest.mark.parametrize(
    ("active", "changes", "rate"),
    [
        (2, {}, 150e12),
        (1, {}, 300e12),
        (1, {"compute_efficiency_8bit": 0.25}, 150e12),
        (2, {"compute_efficiency_8bit": 0.25}, 150e12),
        (0.5, {}, 300e12),
        (0.5, {"fp4": "1200 TFLOP/s"}, 600e12),
        (0.5, {"fp4": "1200 TFLOP/s", "compute_efficiency_8bit": 0.25}, 300e12),
        (1, {"fp4": "1200 TFLOP/s"}, 300e12),
    ],
)
def test_large_products_run_at_the_rate_of_their_precision(active: float, changes: dict, rate: float) -> None:
    work = matrix(4096, k=8192, n=8192, stored=1, active=active)
    seconds = 2 * 4096 * 8192 * 8192 / rate + 4e-6
    assert operation_cost(gpu(**changes), work).last_cycles == ceil(seconds * 1e9)


def test_small_kernels_and_fused_ones() -> None:
    vector = Work("vector", 3, active_bytes=2, elements=1_000_000)
    assert operation_cost(gpu(), vector).last_cycles == ceil((2 * 2 * 1e6 / 1e12 + 2e-6) * 1e9)
    assert operation_cost(gpu(), Work("vector", 3, elements=1_000_000, fused=True)).last_cycles == 0
    apart, fused = (operation_cost(gpu(), matrix(1, k=4000, n=4000, fused=is_fused)).last_cycles for is_fused in (False, True))
    assert apart - fused == 4000


def test_sums_of_two_vectors_take_a_vector_a_cycle_or_three_passes_of_memory() -> None:
    assert summed_bytes_per_cycle(lpu()) == 40
    assert summed_bytes_per_cycle(gpu()) == pytest.approx(1e12 / 3 / 1e9)
