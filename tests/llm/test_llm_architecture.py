"""Parameters, KV cache and FLOPs against published numbers and textbook formulas."""

from pathlib import Path

import pytest

from dcsim.llm import architecture as arch
from dcsim.llm.storage import head_groups, split
from dcsim.spec.llm import LlmSpec
from dcsim.spec.load import load_entry

LLMS = Path(__file__).parents[2] / "workloads" / "llms"

# Published parameters in billions: lowest and highest that the printed digits allow.
PUBLISHED = {
    "llama-2-7b": (6.7375, 6.7385),
    "llama-2-13b": (13.0155, 13.0165),
    "llama-2-70b": (68.9765, 68.9775),
    "llama-3-8b": (8.0295, 8.0305),
    "llama-3-70b": (70.5535, 70.5545),
    "llama-3.1-405b": (405.845, 405.855),
    "falcon-180b": (178.55, 179.55),
    "mixtral-8x7b": (46.695, 46.705),
    "gpt-3-175b": (174.55, 174.65),
    "gpt-20b": (19.5, 20.5),
    "gpt-89b": (87.5, 89.5),
    "palm-540b-64-heads": (557.5, 558.5),  # 18 billion more than without the padding
    "palm-540b": (540.35, 540.45),
    "mt-nlg-530b": (529.45, 529.6),
    "gemma-7b": (8.535, 8.545),
    "bert-large": (0.3333, 0.345),
    "whisper-large-v3": (1.535, 1.545),
    "llama-3.1-8b": (8.0295, 8.0305),
    "llama-3.1-70b": (70.55, 70.65),
    "llama-4-scout": (107.5, 108.5),  # text; the card's 109 with its tower
    "llama-4-maverick": (400, 401.5),
    "mixtral-8x22b": (140.55, 140.65),
    "gpt-oss-120b": (116.75, 116.85),
    "gpt-oss-20b": (20.85, 20.95),
    "deepseek-v3": (670.5, 671.5),
    "deepseek-r1": (670.5, 671.5),
    "kimi-k2": (1000, 1050),
    "qwen3-8b": (8.15, 8.25),
    "qwen3-32b": (32.75, 32.85),
    "qwen3-30b-a3b": (30.45, 30.55),
    "qwen3-235b-a22b": (234.5, 235.5),
    "qwen3.5-397b-a17b": (396, 398),
    "glm-5": (743.5, 744.5),
    "minimax-m2.5": (228.5, 229.5),
    "gemma-3-27b": (27.4, 27.45),
    "gemma-4-26b-a4b": (25.2, 26.8),
    "qwen3-coder-480b-a35b": (480.15, 480.25),
    "deepseek-v4-flash": (284, 284.6),
    "nemotron-3-nano-30b-a3b": (31.55, 31.65),
    "llava-1.5-7b": (7.055, 7.065),
}


def load(name: str) -> LlmSpec:
    return load_entry(str(LLMS / f"{name}.yaml"), "workloads/llms", LlmSpec)[0]


def test_every_file_is_checked() -> None:
    assert {path.stem for path in LLMS.glob("*.yaml")} == set(PUBLISHED)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_parameters_match_the_published(name: str) -> None:
    low, high = PUBLISHED[name]
    llm = load(name)
    assert low <= arch.parameter_count(llm) / 1e9 <= high
    assert llm.source


def test_active_parameters_of_experts() -> None:
    assert arch.active_parameter_count(load("mixtral-8x7b")) / 1e9 == pytest.approx(12.88, abs=0.005)
    assert arch.active_parameter_count(load("llama-2-7b")) == arch.parameter_count(load("llama-2-7b"))


def test_kv_bytes_of_grouped_heads() -> None:
    assert arch.kv_bytes_per_token(load("llama-2-70b"), 2) == 327_680
    assert arch.kv_bytes(load("llama-2-70b"), 1000, "fp16") == 327_680_000
    assert arch.kv_bytes_per_token(load("bert-large"), 2) == 0


@pytest.mark.parametrize("name", ["llama-2-7b", "llama-2-70b", "llama-3.1-405b", "falcon-180b"])
def test_flops_are_twice_the_parameters_of_a_dense_llm(name: str) -> None:
    llm = load(name)
    assert arch.flop_per_token(llm, 0) == pytest.approx(2 * arch.parameter_count(llm), rel=0.03)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
@pytest.mark.parametrize("tp", [3, 8, 16])
def test_shards_hold_all_of_a_block(name: str, tp: int) -> None:
    """Without copies (norms, router, shared key/value heads) the shards add up to the block; nothing is lost."""
    for sublayer in {id(block): block for block in arch.sublayers(load(name))}.values():
        for whole, cut in zip(sublayer.weights(1), sublayer.weights(tp), strict=True):
            if cut.shapes == whole.shapes * tp:  # latent vectors, what routes, picks and mixes streams are made on every shard
                assert cut.part in ("norm", "router", "attention", "shared")
            elif cut.part in ("attention", "state", "norm"):  # a key/value head, and its convolution, may be wanted on two shards
                assert sum(cut.elements) >= whole.elements[0]
            else:
                assert sum(cut.elements) == whole.elements[0]


def test_key_value_heads_are_copied_when_there_are_more_shards() -> None:
    assert [len(groups) for groups in head_groups(64, 8, 8)] == [1] * 8
    assert [len(groups) for groups in head_groups(64, 8, 16)] == [1] * 16
    attention = next(sublayer for sublayer in arch.sublayers(load("llama-2-70b")) if sublayer.kind == "attention")
    kept = [sum(sum(stored.elements) for stored in attention.stored(tp)) for tp in (8, 16)]
    assert kept[1] == 2 * kept[0]


def test_uneven_heads() -> None:
    assert split(232, 16) == (15,) * 8 + (14,) * 8
    groups = head_groups(232, 8, 16)  # 29 query heads a key/value head
    assert groups[0] == (15,)
    assert groups[1] == (14, 1)
    assert sum(map(sum, groups)) == 232
    assert head_groups(2, 1, 4) == ((1,), (1,), (), ())
