"""Programs and operation costs against theory."""

import pytest

from dcsim.llm import architecture as arch
from dcsim.llm.blocks import Collective, Operation
from dcsim.llm.cost import Work, operation_cost
from dcsim.llm.mapping import lay
from dcsim.llm.program import Program, Shape, build_program
from dcsim.spec.chip import RooflineChip
from dcsim.spec.mapping import MappingSpec
from validation import resnet

GPU = RooflineChip.model_validate(
    {
        "kind": "roofline",
        "clock": "1 GHz",
        "memory": "80 GB",
        "reserve_fraction": 0.1,
        "memory_bandwidth": "2 TB/s",
        "memory_efficiency": 1.0,
        "fp16": "300 TFLOP/s",
        "int8": "600 TFLOP/s",
        "compute_efficiency": 0.5,
        "kernel": "4 us",
        "small_kernel": "2 us",
        "price": {"buy": "1 USD", "build": "1 USD"},
        "power": {"idle": "1 W", "wait": "1 W", "matrix": "1 W", "vector": "1 W"},
    }
)


def operations(program: Program) -> list[Operation]:
    return [s for stage in program.stages for b in stage.blocks for s in b.steps if isinstance(s, Operation)]


def collectives(program: Program) -> list[Collective]:
    return [s for stage in program.stages for b in stage.blocks for s in b.steps if isinstance(s, Collective)]


def program_of(catalog, name: str, tp: int, pp: int, shape: Shape, chip=None, **spec: str) -> Program:
    llm, chip, mapping = catalog.llm(name), chip or catalog.lpu(), MappingSpec.model_validate(spec)
    return build_program(llm, lay(llm, chip, mapping, tp, pp, catalog.nodes(tp * pp)), chip, shape)


@pytest.mark.parametrize(("name", "tp", "pp"), [("llama-2-7b", 8, 8), ("llama-2-70b", 8, 64), ("falcon-180b", 29, 51)])
def test_flops_and_weight_bytes_of_a_decoded_token(catalog, name: str, tp: int, pp: int) -> None:
    """Matrices: 2 FLOPs a weight; attention: 4 a query-head element and context token; every weight read
    once.
    """
    llm, context = catalog.llm(name), 1000
    ops = operations(program_of(catalog, name, tp, pp, Shape(1, context)))
    done = sum(sum(op.flop) for op in ops if op.part != "vector")
    assert done == pytest.approx(arch.flop_per_token(llm, context), rel=0.03)  # key/value copies add a little
    assert done >= arch.flop_per_token(llm, context)
    read = sum(sum(op.weight_bytes) for op in ops)
    assert read == pytest.approx(arch.parameter_count(llm) - llm.vocab * llm.d_model, rel=0.03)


def test_kv_bytes_grow_with_context_and_batch(catalog) -> None:
    def kv(batch: int, context: int) -> int:
        return sum(sum(op.kv_bytes) for op in operations(program_of(catalog, "llama-2-70b", 8, 64, Shape(batch, context))))

    assert kv(1, 1000) == 327_680 * 1000
    assert kv(4, 2000) == 8 * kv(1, 1000)


def test_collectives_of_a_layer(catalog) -> None:
    """Two all-reduces of batch x width x 2 B a layer, one with parallel attention; at a stage's end its
    halves.
    """
    for name, tp, pp, each in (("llama-2-70b", 8, 64, 2), ("falcon-180b", 29, 51, 1)):
        llm = catalog.llm(name)
        found = collectives(program_of(catalog, name, tp, pp, Shape(3, 512)))
        rows = [c for c in found if c.size_bytes == 3 * llm.d_model * 2]
        reduced = [c for c in rows if c.op in ("all_reduce", "reduce_scatter")]
        gathered = [c for c in rows if c.op in ("all_reduce", "all_gather")]
        assert len(reduced) == each * llm.layers
        assert len(gathered) == each * llm.layers + 1  # and the embedding's
    assert not collectives(program_of(catalog, "llama-2-7b", 1, 60, Shape(1, 512)))


def test_a_library_may_compute_a_parallel_layer_apart_or_sum_it_once(catalog) -> None:
    """The same arithmetic in more operations; apart there are as many all-reduces as in a serial layer."""

    def told(mode: str) -> tuple[int, int, int]:
        program = program_of(catalog, "falcon-180b", 29, 51, Shape(1, 512), parallel_layer=mode)
        ops = [op for op in operations(program) if op.part == "matrix"]
        return sum(sum(op.flop) for op in ops), len(ops), sum(c.op != "all_gather" for c in collectives(program))

    layers = catalog.llm("falcon-180b").layers
    joined, summed, apart = told("joined"), told("summed"), told("apart")
    assert joined[0] == summed[0] == apart[0]
    assert summed[1] == apart[1] == joined[1] + 2 * layers
    assert (joined[2], summed[2], apart[2]) == (layers, layers, 2 * layers)


def test_doubling_tp_halves_matrix_streaming(catalog) -> None:
    chip = catalog.lpu(fixed_cycles=0, reserve_fraction=0.0)

    def streaming(tp: int, pp: int) -> int:
        ops = operations(program_of(catalog, "llama-2-70b", tp, pp, Shape(1, 512), chip))
        return sum(max(op.last_cycles) for op in ops if op.part == "matrix")

    assert streaming(8, 64) == pytest.approx(streaming(4, 128) / 2, rel=0.05)


def test_weights_stream_at_the_widening_rate_for_one_row(catalog) -> None:
    chip = catalog.lpu(fixed_cycles=0)
    for stored, active, rate in ((1, 2, 5120), (2, 2, 5120), (1, 1, 10240)):
        work = Work("matrix", 1, 1, ((1, 1, 3200, 3200),), stored, active)
        busy = operation_cost(chip, work).last_cycles
        assert busy == pytest.approx(3200 * 3200 / rate, rel=0.05)


def test_many_rows_run_at_the_peak_rate(catalog) -> None:
    """737 TOPS in 8 bit and 184 TFLOPS in 16 bit at 900 MHz (derived from the planes)."""
    chip = catalog.lpu(fixed_cycles=0)
    for active, peak in ((1, 737e12), (2, 184e12)):
        work = Work("matrix", 4096, 4096, ((1, 4096, 3200, 3200),), 1, active)
        seconds = operation_cost(chip, work).last_cycles / chip.clock_hz
        assert work.flop / seconds == pytest.approx(peak, rel=0.01)


def test_published_utilisation_of_a_large_product(catalog) -> None:
    """[2304 x 4096] x [4096 x N], N 1376..3500, uses at least 80 % of the 16-bit peak (ISCA 2022)."""
    chip = catalog.lpu()
    for n in (1376, 2000, 2752, 3500):
        work = Work("matrix", 2304, 2304, ((1, 2304, 4096, n),), 2, 2)
        assert work.flop / operation_cost(chip, work).last_cycles / 204_800 >= 0.8


def test_roofline_is_the_slower_of_memory_and_arithmetic() -> None:
    thin = operation_cost(GPU, Work("matrix", 1, 1, ((1, 1, 10_000, 10_000),), 2, 2))
    assert thin.last_cycles == pytest.approx(4000 + 2e8 / 2e12 * 1e9, rel=0.001)
    thick = operation_cost(GPU, Work("matrix", 10_000, 1, ((1, 10_000, 10_000, 10_000),), 2, 2))
    assert thick.last_cycles == pytest.approx(4000 + 2e12 / 150e12 * 1e9, rel=0.001)
    assert thick.lead_rows == 10_000


def test_equal_blocks_are_one_object(catalog) -> None:
    program = program_of(catalog, "llama-2-70b", 8, 64, Shape(1, 4096))
    blocks = [block for stage in program.stages for block in stage.blocks]
    assert len(blocks) == 162 + 63
    assert len({id(block) for block in blocks}) <= 8


def test_prefill_streams_in_sub_blocks_and_decode_does_not(catalog) -> None:
    prefill = operations(program_of(catalog, "llama-3-8b", 8, 8, Shape(1, 512, 512)))
    decode = operations(program_of(catalog, "llama-3-8b", 8, 8, Shape(1, 512)))
    assert {op.lead_rows for op in prefill if op.name == "up"} == {20}
    assert {op.rows for op in prefill if op.name == "up"} == {512}
    assert {op.rows for op in prefill if op.name == "head"} == {1}
    assert all(op.lead_rows == op.rows == 1 for op in decode)
    assert all(f <= t for op in prefill for f, t in zip(op.first_cycles, op.last_cycles, strict=True))


def test_experts_on_a_static_program(catalog) -> None:
    """One token streams the two experts it visits; many rows stream all eight; all are stored."""

    def read(batch: int) -> float:
        ops = operations(program_of(catalog, "mixtral-8x7b", 8, 64, Shape(batch, 512)))
        return sum(sum(op.weight_bytes) for op in ops)

    llm = catalog.llm("mixtral-8x7b")
    table = llm.vocab * llm.d_model
    assert read(1) == pytest.approx(arch.active_parameter_count(llm) - table, rel=0.01)
    assert read(16) == pytest.approx(arch.parameter_count(llm) - table, rel=0.01)


def test_encoder_only_has_no_loop_and_no_head(catalog) -> None:
    program = program_of(catalog, "bert-large", 1, 4, Shape(1, 384, 384))
    assert program.loop_back_bytes == 0
    ops = operations(program)
    assert sum(op.name == "scores" for op in ops) == 24
    flop = sum(sum(op.flop) for op in ops if op.part == "matrix")
    assert flop == 2 * 384 * 24 * 12 * 1024**2


def test_encoder_runs_once_in_front_of_a_decoder(catalog) -> None:
    first = operations(program_of(catalog, "whisper-large-v3", 4, 4, Shape(1, 4, 4)))
    later = operations(program_of(catalog, "whisper-large-v3", 4, 4, Shape(1, 5)))
    assert sum(op.name == "encoder_key_value" for op in first) == 32
    assert sum(op.name == "scores" for op in first) == 96  # encoder, decoder and between
    assert sum(op.name == "scores" for op in later) == 64
    assert not any(op.rows == 1500 for op in later)


def test_host_in_the_loop(catalog) -> None:
    llm, chip = catalog.llm("llama-3-8b"), catalog.lpu()
    mapping = lay(llm, chip, MappingSpec(), 8, 8, catalog.nodes(64))
    last = operations(build_program(llm, mapping, chip, Shape(1, 512), host_s=10e-6))[-1]
    assert (last.part, last.last_cycles[0]) == ("host", 9000)


def test_resnet_has_its_published_size(catalog) -> None:
    """25.5 M weights, 4.1 G multiplications (He et al. 2015: 3.8 G with the stride in the first convolution)."""
    products = [layer.product for layer in resnet.layers()]
    assert len(products) == 54
    assert sum(k * n for _, k, n in products) == 25_502_912
    assert sum(r * k * n for r, k, n in products) == pytest.approx(4.09e9, rel=0.001)


def test_a_packed_convolution_is_the_same_convolution() -> None:
    """Pixel for pixel: a patch's matrix holds the kernel once for each of its pixels, over the inputs that they share."""
    import numpy as np

    draw = np.random.default_rng(5)
    for kernel, stride in ((1, 1), (3, 1), (3, 2)):
        layer, down, across = resnet.ImageLayer(4, kernel, stride, 2, 3), 2, 4
        rows, k, n = layer.patched(down, across)
        image = draw.integers(-9, 9, (16, 16, 2))
        weights = draw.integers(-9, 9, (kernel, kernel, 2, 3))
        high, wide = kernel + (down - 1) * stride, kernel + (across - 1) * stride
        matrix = np.zeros((high, wide, 2, down, across, 3), int)
        for i, j in np.ndindex(down, across):
            matrix[i * stride : i * stride + kernel, j * stride : j * stride + kernel, :, i, j] = weights
        assert matrix.shape[3:] == (down, across, n // (down * across))
        assert matrix.reshape(-1, n).shape[0] == k or stride > kernel
        assert rows == (4 // down) * (4 // across)
        made = np.tensordot(image[:high, :wide], matrix, 3)
        for i, j in np.ndindex(down, across):
            pixel = np.tensordot(image[i * stride : i * stride + kernel, j * stride : j * stride + kernel], weights, 3)
            assert (made[i, j] == pixel).all()


def test_the_packed_program_takes_the_measured_time(catalog) -> None:
    """The chip's fixed cost is the one with which the packed program takes 49 us, between the two ends of its range."""
    chip = catalog.lpu()
    padded, packed, peak = resnet.fixed_cycles_for(chip, 49e-6)
    assert chip.fixed_cycles == round(packed)
    assert resnet.cycles(chip) / chip.clock_hz == pytest.approx(49e-6, rel=0.001)
    assert padded < packed < peak
    unpacked = chip.model_copy(update={"fixed_cycles": round(padded)})
    assert resnet.padded_cycles(unpacked) / chip.clock_hz == pytest.approx(49e-6, rel=0.001)
    peak_s = 2 * 4.089e9 / 737e12
    assert peak == pytest.approx((49e-6 - peak_s) * 900e6 / 54, rel=0.001)


def test_the_cost_of_an_operation_grows_with_the_measured_time(catalog) -> None:
    chip = catalog.lpu()
    for once, twice in zip(resnet.fixed_cycles_for(chip, 49e-6), resnet.fixed_cycles_for(chip, 98e-6), strict=True):
        assert twice == pytest.approx(once + 49e-6 * chip.clock_hz / 54)
