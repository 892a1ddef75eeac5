"""Parameters, KV cache and FLOPs against published numbers and textbook formulas."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from dcsim.llm import architecture as arch
from dcsim.llm.shards import block_kv_elements, block_weights, cut, split
from dcsim.spec.llm import LlmSpec

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
}


def load(name: str) -> LlmSpec:
    return LlmSpec.model_validate(YAML(typ="safe").load((LLMS / f"{name}.yaml").read_text()))


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
    assert arch.kv_bytes_per_token(load("bert-large"), 2) == 0


@pytest.mark.parametrize("name", ["llama-2-7b", "llama-2-70b", "llama-3.1-405b", "falcon-180b"])
def test_flops_are_twice_the_parameters_of_a_dense_llm(name: str) -> None:
    llm = load(name)
    assert arch.flop_per_token(llm, 0) == pytest.approx(2 * arch.parameter_count(llm), rel=0.03)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
@pytest.mark.parametrize("tp", [1, 3, 8, 16])
def test_shards_hold_all_of_a_block(name: str, tp: int) -> None:
    """Without copies (norms, router, shared key/value heads) the shards add up to the block."""
    llm = load(name)
    shards = cut(llm, tp)
    assert sum(shards.heads) == llm.heads
    assert sum(shards.ff) == llm.d_ff
    assert sum(shards.vocab) == llm.vocab
    assert min(shards.kv_heads) >= 1
    for kind in set(arch.block_kinds(llm)):
        stored = sum(block_weights(llm, shards, kind))
        if tp == 1:
            assert stored == arch.block_parameters(llm, kind)
        else:
            assert stored >= arch.block_parameters(llm, kind)


def test_key_value_heads_are_copied_when_there_are_more_shards() -> None:
    llm = load("llama-2-70b")
    assert cut(llm, 8).kv_heads == (1,) * 8
    assert cut(llm, 16).kv_heads == (1,) * 16
    assert sum(block_kv_elements(llm, cut(llm, 16), arch.ATTENTION)) == 2 * sum(
        block_kv_elements(llm, cut(llm, 8), arch.ATTENTION)
    )


def test_uneven_heads() -> None:
    assert split(232, 16) == (15,) * 8 + (14,) * 8
    groups = cut(load("falcon-180b"), 16).groups  # 29 query heads a key/value head
    assert groups[0] == (15,)
    assert groups[1] == (14, 1)
    assert sum(map(sum, groups)) == 232
