"""`dcsim llm`, and what the files of LLMs change in the answers of other commands."""

import json
import resource
import subprocess
import sys

import pytest

from dcsim.llm.architecture import kv_bytes
from dcsim.llm.program import Shape
from dcsim.spec.huggingface import llm_from_config
from dcsim.spec.llm import LlmSpec
from dcsim.spec.load import load, load_entry
from dcsim.study.iteration import iteration
from dcsim.study.llm import describe
from dcsim.study.machine import build

SMALL = {
    "model_type": "mistral",
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 16,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
    "max_position_embeddings": 65536,
    "torch_dtype": "bfloat16",
}


@pytest.fixture
def answer(tmp_path):
    """One iteration of a config on eight GPUs."""

    def ask(config, context=2048, prefill=0, topology="dgx-h100", settings=()):
        path = tmp_path / "config.json"
        path.write_text(json.dumps(config))
        machine = build(load(topology, llm=str(path), settings=["mapping.tp=8", "mapping.pp=1", *settings]).spec)
        return iteration(machine, Shape(1, context, prefill or 1))

    return ask


def described(path, context=4096):
    return describe(load_entry(str(path), "workloads/llms", LlmSpec)[0], context)


def test_a_name_a_file_a_folder_and_a_file_with_a_mark_are_the_same_llm(tmp_path):
    folder = tmp_path / "somebody--small"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(SMALL))
    marked = tmp_path / "marked.json"
    marked.write_bytes(b"\xef\xbb\xbf" + json.dumps(SMALL).encode())
    own = tmp_path / "own.yaml"
    own.write_text(
        "{layers: 16, d_model: 2048, heads: 16, kv_heads: 8, d_head: 128, d_ff: 5632, activation: swiglu,"
        " vocab: 32000, context_max: 65536, precision: {weights: bf16}}"
    )
    labels = ("name", "source")
    found = [{k: v for k, v in described(path).items() if k not in labels} for path in (folder, marked, own)]
    assert found[0] == found[1] == found[2]
    assert described("llama-3.1-8b")["parameters"] == described("workloads/llms/llama-3.1-8b.yaml")["parameters"]


def test_what_is_promised_is_said():
    said = described("deepseek-v3", 1000)
    parts = [said[f"parameters_{part}"] for part in ("text", "encoders")]
    assert said["parameters"] == sum(parts)
    assert said["parameters_mtp"] > 10e9
    assert said["parameters_active"] / 1e9 == pytest.approx(37.5, abs=0.1)
    assert said["kv_bytes"] == 1000 * 61 * (512 + 64) * 2
    assert said["weights_bytes"] == pytest.approx(said["parameters"], rel=0.01)  # 8 bits, and tables of 16
    assert said["layers"] == {"latent + dense": 3, "latent + routed and shared": 58}
    assert said["assumed"] == []


def test_it_takes_half_a_second():
    """Of processor time; the best of three."""

    def spent():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "dcsim", "llm", "deepseek-v3", "--json"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(spent() for _ in range(3)) < 0.5


def test_beyond_its_window_a_context_costs_nothing_more(answer):
    """In time, and in room: a sequence of eight windows keeps one."""
    windowed = {**SMALL, "sliding_window": 4096}
    short, long = (answer(windowed, context) for context in (4096, 32768))
    assert short["iteration_s"] == long["iteration_s"]
    assert long["kv_tokens"] == pytest.approx(8 * short["kv_tokens"], rel=1e-6)
    full = [answer({**SMALL, "sliding_window": None}, context) for context in (4096, 32768)]
    assert full[0] == short
    assert full[1]["iteration_s"] > long["iteration_s"]
    assert full[1]["kv_tokens"] == full[0]["kv_tokens"]


def test_half_of_the_layers_with_a_window_keep_half_of_a_long_context():
    qwen = {**SMALL, "model_type": "qwen2", "sliding_window": 4096, "use_sliding_window": True, "max_window_layers": 8}
    found = [
        kv_bytes(LlmSpec.model_validate(llm_from_config({**qwen, "use_sliding_window": on})), 65536, "fp16")
        for on in (True, False)
    ]
    assert found[0] / found[1] == (8 * 65536 + 8 * 4096) / (16 * 65536)


def test_a_parallel_residual_sums_once_a_layer(answer):
    """GPT-NeoX has it unless its file says otherwise."""
    neox = {**SMALL, "model_type": "gpt_neox", "hidden_act": "gelu"}
    told = answer(neox, settings=["llm.parallel_attention=true"])
    assert answer(neox)["iteration_s"] == told["iteration_s"]
    assert answer({**neox, "use_parallel_residual": False})["iteration_s"] > 1.2 * told["iteration_s"]


def test_experts_cost_a_gpu_what_their_tokens_do(answer):
    """Two of eight experts do the work of one dense block twice as wide; the others' weights are read besides."""
    moe = {**SMALL, "model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}
    all_ = {**moe, "intermediate_size": 1408, "num_experts_per_tok": 8}  # as much work a token, all experts visited
    some, every = (answer(config, 4096, 4096) for config in (moe, all_))
    assert some["breakdown_s"]["matrix"] == pytest.approx(every["breakdown_s"]["matrix"], rel=0.35)


def test_weights_are_taken_as_the_file_stores_them_unless_told_otherwise(answer):
    """8 bits halve the weights, so the room for keys and values grows by the other half."""
    large = {**SMALL, "num_hidden_layers": 64, "hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64}
    stored = {**large, "quantization_config": {"quant_method": "fp8", "activation_scheme": "dynamic"}}
    plain, narrow = answer(large), answer(stored)
    token = 2 * 64 * 8 * 128 * 2 / 8  # bytes on each of 8 chips
    products = 64 * (3 * 8192 * 28672 + 2 * 8192 * (8192 + 1024)) / 8
    assert narrow["kv_tokens"] - plain["kv_tokens"] == pytest.approx(products / token, rel=0.01)
    wide = answer(stored, settings=["mapping.weights=fp16", "mapping.activations=fp16"])
    assert wide["kv_tokens"] == plain["kv_tokens"]
