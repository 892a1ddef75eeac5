"""Kernels of GPUs: what entries of topologies/operators say, against timings that none of their figures was fitted to."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcsim.llm.architecture import sublayers
from dcsim.llm.blocks import Operation, Shape
from dcsim.llm.cost import Work, operation_cost
from dcsim.llm.plan import Plan
from dcsim.spec.load import load

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
    from validation.operators import measured, predicted, tables

    found = []
    for library, _, rows in tables(SHARED, system, table):
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
    from validation.operators import TABLES

    assert np.median(errors(system, kind, TABLES[kind])) <= MOST.get((system, kind), 0.15)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the tables of measured kernels are not beside this checkout")
@pytest.mark.parametrize("system", LEFT_OUT)
def test_products_of_every_head_are_near_what_products_are(system):
    """A table that nothing was fitted to, on any chip, and of another shape: a small product for every head."""
    from validation.operators import BATCHED_PRODUCTS

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
