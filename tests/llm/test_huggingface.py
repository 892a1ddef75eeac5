"""Hugging Face configs as they are found, against the catalog."""

import pytest

from dcsim.errors import SpecError
from dcsim.spec.huggingface import dtype_of, llm_from_config
from dcsim.spec.llm import LlmSpec

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "num_hidden_layers": 80,
    "vocab_size": 32000,
    "hidden_act": "silu",
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
}
FALCON = {
    "model_type": "falcon",
    "hidden_size": 14848,
    "num_attention_heads": 232,
    "num_kv_heads": 8,
    "num_hidden_layers": 80,
    "vocab_size": 65024,
    "parallel_attn": True,
    "multi_query": True,
    "new_decoder_architecture": True,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}
BERT = {
    "model_type": "bert",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "vocab_size": 30522,
    "hidden_act": "gelu",
    "max_position_embeddings": 512,
}
WHISPER = {
    "model_type": "whisper",
    "d_model": 1280,
    "encoder_layers": 32,
    "decoder_layers": 32,
    "vocab_size": 51866,
    "encoder_attention_heads": 20,
    "decoder_attention_heads": 20,
    "encoder_ffn_dim": 5120,
    "decoder_ffn_dim": 5120,
    "max_source_positions": 1500,
    "max_target_positions": 448,
    "activation_function": "gelu",
}
MIXTRAL = {
    "model_type": "mixtral",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 32,
    "vocab_size": 32000,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": False,
}
GEMMA = {
    "model_type": "gemma",
    "hidden_size": 3072,
    "intermediate_size": 24576,
    "num_attention_heads": 16,
    "head_dim": 256,
    "num_key_value_heads": 16,
    "num_hidden_layers": 28,
    "vocab_size": 256000,
    "hidden_act": "gelu",
    "max_position_embeddings": 8192,
}


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("llama-2-70b", LLAMA),
        ("falcon-180b", FALCON),
        ("bert-large", BERT),
        ("whisper-large-v3", WHISPER),
        ("mixtral-8x7b", MIXTRAL),
        ("gemma-7b", GEMMA),
    ],
)
def test_a_config_gives_the_catalog_entry(catalog, name: str, config: dict) -> None:
    labels = {"name": "", "description": "", "source": ""}
    read = LlmSpec.model_validate(llm_from_config(config)).model_copy(update=labels)
    assert read == catalog.llm(name).model_copy(update=labels)


def test_nested_text_config_and_other_names_for_experts() -> None:
    text = {k: v for k, v in MIXTRAL.items() if k != "num_local_experts"}
    for key in ("num_experts", "n_routed_experts"):
        nested = {
            "model_type": "some_vision_model",
            "text_config": {**text, key: 8},
            "vision_config": {"hidden_size": 1},
        }
        assert llm_from_config(nested) | {"name": ""} == llm_from_config(MIXTRAL) | {"name": ""}


def test_dtype_under_both_names() -> None:
    assert dtype_of({"torch_dtype": "float16"}) == "fp16"
    assert dtype_of({"text_config": {"dtype": "bfloat16"}}) == "bf16"
    assert dtype_of({}) is None


def test_old_names() -> None:
    gpt2 = {
        "model_type": "gpt2",
        "n_layer": 12,
        "n_head": 12,
        "n_embd": 768,
        "vocab_size": 50257,
        "n_positions": 1024,
    }
    llm = llm_from_config(gpt2)
    assert (llm["d_ff"], llm["kv_heads"], llm["positions"], llm["tied_embeddings"]) == (3072, 12, 1024, True)
    old_falcon = {**FALCON, "model_type": "RefinedWebModel", "new_decoder_architecture": False}
    assert llm_from_config(old_falcon)["kv_heads"] == 1
    gptj = {
        "model_type": "gptj",
        "n_layer": 28,
        "n_head": 16,
        "n_embd": 4096,
        "vocab_size": 50400,
        "n_positions": 2048,
    }
    assert llm_from_config(gptj)["parallel_attention"] is True


def test_unknown_architectures_are_refused_by_name() -> None:
    with pytest.raises(SpecError, match=r"cfg.json: unknown architecture 'mamba'; known: bert, .*whisper"):
        llm_from_config({"model_type": "mamba"}, "cfg.json")
    with pytest.raises(SpecError, match="'none given'"):
        llm_from_config({})


@pytest.mark.parametrize(
    "extra",
    [
        {"layer_types": ["full_attention", "sliding_attention"]},
        {"first_k_dense_replace": 1},
        {"decoder_sparse_step": 2},
        {"n_shared_experts": 2},
    ],
)
def test_mixed_layers_are_refused(extra: dict) -> None:
    with pytest.raises(SpecError, match="not supported"):
        llm_from_config({**LLAMA, **extra})


def test_missing_and_broken_figures_are_named() -> None:
    with pytest.raises(SpecError, match="num_hidden_layers"):
        llm_from_config({k: v for k, v in LLAMA.items() if k != "num_hidden_layers"})
    with pytest.raises(SpecError, match="vocab_size"):
        llm_from_config({**LLAMA, "vocab_size": "many"})
