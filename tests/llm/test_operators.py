"""Kernels of GPUs: what entries of topologies/operators say, against timings that none of their figures was fitted to."""

from pathlib import Path

import numpy as np
import pytest
from by_rule import load
from hypothesis import given
from hypothesis import strategies as st

from dcsim.errors import SpecError
from dcsim.llm.architecture import sublayers
from dcsim.llm.blocks import Operation, Shape
from dcsim.llm.cost import Work, operation_cost
from dcsim.llm.operators import product_s
from dcsim.llm.plan import Plan

SHARED = Path(__file__).resolve().parents[3] / "shared/operators"
# Chips of which no table was looked at when figures were fixed, and the generation whose figures they have.
LEFT_OUT = {"h100_sxm": "hopper", "gb200": "blackwell"}
LIBRARIES = ("vllm", "sglang", "trtllm")
# Where more than 15 % remains: chunks of prompts of linear attention, whose kernels an H100's tables have faster than an H200's.
MOST = {("h100_sxm", "state_chunks"): 0.35}
KINDS = ("products", "experts", "prompts", "decoding", "latent_prompts", "latent_decoding", "states", "state_chunks", "vectors")


def chip(system, operators=""):
    return load(system, settings=[f"chip.operators={operators}"] if operators else []).spec.chip


def kernel_of(operators, kind, name):
    formats = getattr(operators, kind)
    return getattr(formats, name, None) if hasattr(formats, "bits_16") else formats


def errors(system, kind, table):
    """Relative errors on the largest table of each library and format, with that library's entry."""
    from benchmarks.fit_operators import ENGINES, HOST_BOUND
    from dcsim.llm.timings import measured, predicted, tables

    found = []
    for library, _, rows in tables(SHARED / system, table):
        on = chip(system, f"{LEFT_OUT[system]}-{ENGINES.get(library, library)}")
        for column, name in table.formats.items():
            if (library, kind, column) in HOST_BOUND or (kind == "latent_prompts" and library != "trtllm"):
                continue
            if kind == "products" and column == ("fp8" if library != "vllm" else "fp8_block"):
                continue  # an entry has one figure for 8 bits: this library's products with scales of blocks, where timed
            some, kernel = measured(rows, table, column, 500), kernel_of(on.operators, kind, name)
            if some is not None and kernel is not None:
                found.append(np.abs(predicted(on, kernel, table, some) / some.seconds - 1))
    return np.concatenate(found)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the tables of measured kernels are not beside this checkout")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("system", LEFT_OUT)
def test_half_the_timings_of_a_chip_left_out_are_met_within_15_percent(system, kind):
    from dcsim.llm.timings import TABLES

    assert np.median(errors(system, kind, TABLES[kind])) <= MOST.get((system, kind), 0.15)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the tables of measured kernels are not beside this checkout")
@pytest.mark.parametrize("system", LEFT_OUT)
def test_products_of_every_head_are_near_what_products_are(system):
    """A table that nothing was fitted to, on any chip, and of another shape: a small product for every head."""
    from dcsim.llm.timings import BATCHED_PRODUCTS

    assert np.median(errors(system, "products", BATCHED_PRODUCTS)) <= 0.45


@pytest.mark.parametrize("system", ["b300_sxm", "gb300", "l40s", "mi300x", "mi325x", "mi355x"])
def test_kernels_of_a_chip_without_timings_are_all_assumed(system):
    figures = load(system).figures
    kinds = {figure.kind for path, figure in figures.items() if path[:2] == ("chip", "operators")}
    assert kinds == {"assumed"}


def test_kernels_of_a_chip_with_timings_name_their_table():
    figures = load("h200_sxm").figures
    launches = [f for path, f in figures.items() if path[:2] == ("chip", "operators") and path[-1] == "launch"]
    assert launches
    assert all("h200_sxm" in figure.source and "median error" in figure.source for figure in launches)


def test_a_serving_engine_brings_its_own_kernels_unless_others_are_named():
    def launch(*settings):
        return load("h200_sxm", settings=list(settings)).spec.chip.operators.name

    assert launch() == launch("serving.engine=vllm") == "Hopper, vLLM"
    assert launch("serving.engine=sglang") == "Hopper, SGLang"
    assert launch("serving.engine=tensorrt-llm") == "Hopper, TensorRT-LLM"
    assert launch("serving.engine=sglang", "chip.operators=blackwell-vllm") == "Blackwell, vLLM"


H200 = chip("h200_sxm")


def seconds(work):
    return operation_cost(H200, work).last_cycles / H200.clock_hz


def product(rows, k=8192, n=8192, stored=2.0, active=2.0):
    return Work("matrix", rows, rows, ((1, rows, k, n),), stored, active)


def attention(tokens, keys, heads=8, group=8, stored=2.0):
    """New tokens of one sequence, the last of which sees all keys."""
    products = ((heads, tokens * group, 128, keys), (heads, tokens * group, keys, 128))
    return Work("attention", tokens, tokens, products, stored, 2, seen_fraction=1 - (tokens - 1) / (2 * keys))


@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([(2.0, 2.0), (1.0, 1.0), (0.53, 2.0)]))
def test_more_rows_never_take_a_product_less_time(rows, more, widths):
    assert seconds(product(rows + more, 4096, 4096, *widths)) >= seconds(product(rows, 4096, 4096, *widths))


@given(st.integers(1, 4000), st.integers(1, 4000))
def test_more_tokens_never_take_attention_less_time(tokens, more):
    keys = 8192
    assert seconds(attention(tokens + more, keys)) >= seconds(attention(tokens, keys))


def test_few_rows_take_the_time_of_reading_the_weights_and_many_that_of_the_arithmetic():
    few, many = seconds(product(1)), seconds(product(32_768))
    assert few == pytest.approx(8192 * 8192 * 2 / H200.memory_bandwidth_bytes_per_s, rel=0.35)
    assert many == pytest.approx(2 * 32_768 * 8192 * 8192 / H200.fp16_flop_per_s, rel=0.35)


def test_an_empty_chip_time_is_the_launch():
    assert seconds(product(1, 1, 1)) == pytest.approx(H200.operators.products.bits_16.launch_s, rel=0.1)


def test_half_of_a_prompts_attention_to_itself_is_masked():
    whole = Work("attention", 1, 8192, attention(8192, 8192).products, 2, 2)
    assert seconds(attention(8192, 8192)) == pytest.approx(seconds(whole) / 2, rel=0.1)


def plan(llm, shape, system="h200_sxm", *settings):
    spec = load(system, llm=llm, settings=list(settings)).spec
    return Plan(spec.llm, spec.chip, spec.mapping, 8, shape), sublayers(spec.llm)


def operations(llm, shape, *settings):
    one, blocks = plan(llm, shape, "h200_sxm", *settings)
    steps = [step for block in dict.fromkeys(blocks) for step in block.steps(one, False)]
    return [step for step in steps if isinstance(step, Operation)]


@pytest.mark.parametrize("llm", ["llama-3.1-70b", "deepseek-r1", "gpt-oss-120b", "qwen3.5-397b-a17b", "nemotron-3-nano-30b-a3b"])
@pytest.mark.parametrize("shape", [Shape(4, 2048), Shape(1, 2048, 512)], ids=["decode", "prompt"])
def test_every_kind_of_layer_has_a_time_on_chips_with_kernels(llm, shape):
    found = operations(llm, shape)
    assert all(0 < max(op.last_cycles) < 1e9 for op in found if op.name != "activation" or max(op.last_cycles))
    assert not any(op.name in ("scores", "softmax", "weighted_sum") for op in found)


def test_a_prompt_of_experts_goes_by_tokens():
    """Not by all experts with room for every row: 512 tokens meet 4 of 128 experts each."""
    (up,) = {max(op.flop) for op in operations("gpt-oss-120b", Shape(1, 512, 512)) if op.name == "up"}
    assert up == pytest.approx(2 * 512 * 4 * 2880 * 2 * 2880 / 8, rel=0.02)


def own_tables(folder):
    """A folder of products in 16 bits on a chip where every one takes three times what it takes on an H200."""
    import pandas as pd

    kernel = H200.operators.products.bits_16
    sizes = [(m, n, k) for m in (1, 8, 64, 512, 4096) for n in (1024, 4096, 16384) for k in (1024, 4096, 16384)]
    rows = [
        {"gemm_dtype": "bfloat16", "m": m, "n": n, "k": k, "latency": 3e3 * product_s(H200, kernel, product(m, k, n))}
        for m, n, k in sizes
    ]
    path = folder / "gemm/mine/1.0/gemm_perf.parquet"
    path.parent.mkdir(parents=True)
    pd.DataFrame(rows).to_parquet(path)
    return folder


def test_tables_of_ones_own_are_looked_up_and_what_they_do_not_hold_keeps_its_figures(tmp_path):
    own = load("h200_sxm", settings=[f"chip.operators.tables={own_tables(tmp_path)}"]).spec.chip

    def ratio(work):
        return operation_cost(own, work).last_cycles / operation_cost(H200, work).last_cycles

    assert ratio(product(64, 4096, 4096)) == pytest.approx(3, rel=1e-3)  # a row
    assert ratio(product(200, 5000, 3000)) == pytest.approx(3, rel=1e-3)  # between rows
    assert ratio(product(64, 4096, 4096, 1.0, 1.0)) == 1
    assert ratio(attention(1, 4096)) == 1


def test_a_folder_without_tables_is_refused_where_it_is_named(tmp_path):
    own = load("h200_sxm", settings=[f"chip.operators.tables={tmp_path}"]).spec.chip
    with pytest.raises(SpecError, match=r"chip\.operators\.tables: no tables of kernels in"):
        operation_cost(own, product(1))


@pytest.mark.skipif(not SHARED.is_dir(), reason="the tables of measured kernels are not beside this checkout")
@pytest.mark.parametrize("kind", ["products", "decoding"])
def test_tables_bring_what_lies_between_their_rows_closer(kind):
    """Each row told by the others: its nearest neighbours' factors against the figures alone."""
    from dcsim.llm.timings import TABLES, Lookup, _place, measured, predicted, tables

    table = TABLES[kind]
    (rows,) = [rows for library, _, rows in tables(SHARED / "h100_sxm", table) if library == "vllm"]
    on = chip("h100_sxm", "hopper-vllm")
    timed = measured(rows, table, "bfloat16", 3000)
    off = np.log(timed.seconds / predicted(on, kernel_of(on.operators, kind, "bits_16"), table, timed))
    (work,) = timed.works
    places = _place(work)
    told = Lookup(places[1::2], off[1::2])
    alone = [np.exp(off[i]) / told.factor(_row(work, i)) for i in range(0, 600, 2)]
    assert np.median(np.abs(np.array(alone) - 1)) < 0.8 * np.median(np.abs(np.expm1(off)))


def _row(work, i):
    """One row of a work of arrays."""
    sizes = tuple(size[i] if np.ndim(size) else size for size in work.products[0])
    return Work(work.part, 1, 1, (sizes,))
