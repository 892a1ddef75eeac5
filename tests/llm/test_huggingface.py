"""Hugging Face configs as they are found, against the catalog."""

import csv
import json
from pathlib import Path

import pytest
from families import KNOWN, WITH_TOWERS

from dcsim.errors import SpecError
from dcsim.llm.architecture import kv_bytes, layer_kinds, own_weight_bytes, parameters
from dcsim.spec.huggingface import llm_from_config, quantisation_beside
from dcsim.spec.llm import LlmSpec

SHARED = Path(__file__).parents[3] / "shared" / "configs"

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
    labels = {"name": "", "description": "", "source": "", "precision": None}
    read = LlmSpec.model_validate(llm_from_config(config)).model_copy(update=labels)
    assert read == catalog.llm(name).model_copy(update=labels)


def test_nested_text_config_and_other_names_for_experts() -> None:
    text = {k: v for k, v in MIXTRAL.items() if k != "num_local_experts"}
    for key in ("num_experts", "n_routed_experts"):
        nested = {"model_type": "some_vision_model", "text_config": {**text, key: 8}, "tie_word_embeddings": False}
        assert llm_from_config(nested) | {"name": ""} == llm_from_config(MIXTRAL) | {"name": ""}


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


# Families: sizes as published


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_a_family_has_its_published_size_and_layers(name: str) -> None:
    """Published active parameters count both tables, one or none of them, as makers please."""
    known = KNOWN[name]
    llm = LlmSpec.model_validate(llm_from_config(known.config))
    found = parameters(llm)
    assert found.text / 1e9 == pytest.approx(known.billions, rel=known.rounding)
    assert layer_kinds(llm) == (known.kinds or {"full + dense": llm.layers})
    if known.active:
        assert (found.active - 2 * found.embedding) / 1e9 * 0.97 <= known.active <= found.active / 1e9 * 1.03
    assert not [note for note in llm.assumed if "context" not in note]


@pytest.mark.parametrize("name", sorted(WITH_TOWERS))
def test_a_tower_is_counted_with_the_text(name: str) -> None:
    known = WITH_TOWERS[name]
    llm = LlmSpec.model_validate(llm_from_config(known.config))
    assert parameters(llm).total / 1e9 == pytest.approx(known.billions, rel=known.rounding)
    assert parameters(llm).encoders > 0.3e9
    if known.kinds:
        assert layer_kinds(llm) == known.kinds


@pytest.mark.skipif(not SHARED.is_dir(), reason="the collected configs are not here")
def test_the_collected_configs_are_read_right() -> None:
    """Parameters within 3 % (4.5 % where the published size is rounded), and KV bytes of a token exactly."""
    rows = {row["file"]: row for row in csv.DictReader((SHARED / "published.csv").read_text().splitlines())}
    files = sorted(SHARED.glob("*_config.json"))
    assert len(files) >= len(rows) > 40
    for path in files:
        llm = LlmSpec.model_validate(llm_from_config(json.loads(path.read_text()), str(path)))
        row = rows.get(path.name.removesuffix("_config.json"))
        if row is None:
            continue
        found = parameters(llm)
        count = found.text if row["counted"] == "text" else found.total
        assert count / 1e9 == pytest.approx(float(row["parameters_b"]), rel=0.045 if "rounded" in row["note"] else 0.03), (
            path.name
        )
        if row["active_b"]:  # published with both tables, one or none of them, and rounded to a whole number
            low, high = (found.active - 2 * found.embedding) / 1e9, found.active / 1e9
            assert low * 0.97 - 0.5 <= float(row["active_b"]) <= high * 1.03 + 0.5, path.name
        if row["kv_fp16_bytes_per_token"]:
            assert kv_bytes(llm, 100, "fp16") == 100 * int(row["kv_fp16_bytes_per_token"]), path.name


# What is not listed is read by its shape and said; what is not known is refused by name


def test_a_family_nobody_has_listed_is_read_by_its_shape_and_that_is_said() -> None:
    shape = {k: v for k, v in LLAMA.items() if k != "architectures"}
    named = llm_from_config({**shape, "model_type": "somebodys_new_family"})
    labels = {"name": "", "assumed": []}
    assert {k: v for k, v in named.items() if k not in labels} == {k: v for k, v in llm_from_config(LLAMA).items() if k != "name"}
    (said,) = named["assumed"]
    assert "'somebodys_new_family' is not listed" in said
    assert "gated" in said
    plain = llm_from_config({**shape, "model_type": "another", "hidden_act": "gelu_new"})
    assert plain["activation"] == "gelu"
    assert "plain feed-forward" in plain["assumed"][0]
    by_class = llm_from_config({**LLAMA, "model_type": "another"})
    assert by_class["assumed"] == ["the family 'another' is not listed: read as its class LlamaForCausalLM says"]
    with_experts = {**DEEPSEEK, "model_type": "another_deepseek"}
    assert llm_from_config(with_experts)["attention"] == llm_from_config(DEEPSEEK)["attention"]


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({**LLAMA, "model_type": "rwkv6"}, "RWKV time mixing"),
        ({**LLAMA, "model_type": "zamba2", "num_mem_blocks": 2}, "a shared attention block"),
        ({**LLAMA, "model_type": "new", "lru_width": 2560}, "RG-LRU recurrence"),
        ({**LLAMA, "model_type": "new", "layer_types": ["full_attention", "mystery"] * 40}, "'mystery'"),
        ({**LLAMA, "model_type": "t5"}, "an encoder-decoder"),
        ({**LLAMA, "model_type": "jetmoe"}, "experts of attention heads"),
        ({**LLAMA, "model_type": "new", "cca_time0": 2}, "compressed convolutional attention"),
        ({**LLAMA, "model_type": "new", "n_recurrent_loops": 2}, "layers that are gone through several times"),
    ],
)
def test_kinds_of_layers_that_are_not_known_are_refused_by_name(config: dict, kind: str) -> None:
    with pytest.raises(SpecError, match=f"cfg.json: .*of a kind that is not known: {kind}"):
        llm_from_config(config, "cfg.json")


DEEPSEEK = {
    "model_type": "deepseek_v3",
    "hidden_size": 7168,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "first_k_dense_replace": 3,
    "num_nextn_predict_layers": 1,
    "vocab_size": 129280,
    "max_position_embeddings": 163840,
    "tie_word_embeddings": False,
}


def _kinds(config: dict) -> tuple[dict[str, int], int, int]:
    """Layers by kind, parameters, and bytes that a sequence of 100,000 tokens keeps."""
    llm = LlmSpec.model_validate(llm_from_config(config))
    return layer_kinds(llm), parameters(llm).total, kv_bytes(llm, 100_000, "fp16")


def test_what_newer_files_say_in_other_words_is_read_alike() -> None:
    """Layers by name, layers of their own under padded numbers, blocks counted by their list, sides of a patch."""
    sparse = {**DEEPSEEK, "model_type": "deepseek_v32", "index_n_heads": 64, "index_head_dim": 128, "index_topk": 2048}
    names = {"layer_types": ["indexed_attention"] * 61, "mlp_layer_types": ["dense"] * 3 + ["sparse"] * 58}
    assert _kinds({**sparse, **names, "first_k_dense_replace": 0}) == _kinds(sparse)

    gemma = {**GEMMA, "model_type": "gemma4", "sliding_window": 1024, "layer_types": ["sliding_attention", "full_attention"] * 14}
    padded = {f"{i:02}": {"head_dim": 512} for i in range(1, 28, 2)}
    assert _kinds({**gemma, "per_layer_config": padded}) == _kinds({**gemma, "global_head_dim": 512})

    hybrid = {**LLAMA, "model_type": "nemotron_h", "mamba_num_heads": 128, "mamba_head_dim": 64, "n_groups": 8}
    hybrid |= {"ssm_state_size": 128, "mlp_hidden_act": "relu2", "num_hidden_layers": 8}
    listed = {key: value for key, value in hybrid.items() if key != "num_hidden_layers"}
    names = {"layers_block_type": ["linear_attention", "mlp", "full_attention", "mlp"] * 2}
    assert _kinds({**listed, **names}) == _kinds({**hybrid, "hybrid_override_pattern": "M-*-M-*-"})

    vision = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    square, sides = ({**vision, "patch_size": patch, "image_size": size} for patch, size in ((14, 448), ([14, 14], [448, 448])))
    assert _kinds({**LLAMA, "vision_config": sides}) == _kinds({**LLAMA, "vision_config": square})


def test_a_window_caps_latent_vectors_too() -> None:
    """Latent attention in windows keeps latent vectors of the last tokens only, with figures of its own."""
    own = {str(i): {"kv_lora_rank": 1024, "num_attention_heads": 64} for i in range(1, 61, 2)}
    config = {**DEEPSEEK, "num_nextn_predict_layers": 0, "sliding_window": 512, "per_layer_config": own}
    config["layer_types"] = ["full_attention", *["sliding_attention", "full_attention"] * 30]
    llm = LlmSpec.model_validate(llm_from_config(config))
    assert kv_bytes(llm, 100_000, "fp16") == 2 * (31 * 100_000 * (512 + 64) + 30 * 512 * (1024 + 64))
    assert {llm.attention[name].heads for name in llm.attention} == {64, 128}


def test_experts_of_images_are_stored_and_not_met_by_text() -> None:
    moe = {**MIXTRAL, "moe_intermediate_size": 14336}
    pair = {**moe, "num_local_experts": [8, 8], "moe_intermediate_size": [14336, 7168]}
    alone, both = (parameters(LlmSpec.model_validate(llm_from_config(config))) for config in (moe, pair))
    assert both.active == alone.active
    assert both.text - alone.text == 32 * 8 * 3 * 4096 * 7168


def test_prediction_layers_are_counted_apart() -> None:
    """The maker's own count: 11.5 billion beside 671, tables that are shared left out (DeepSeek-V3, README_WEIGHTS.md)."""
    found = parameters(LlmSpec.model_validate(llm_from_config(DEEPSEEK)))
    assert found.total / 1e9 == pytest.approx(671, abs=0.5)
    assert found.prediction / 1e9 == pytest.approx(11.5, rel=0.02)
    assert parameters(LlmSpec.model_validate(llm_from_config({**DEEPSEEK, "num_nextn_predict_layers": 0}))).prediction == 0


def test_which_layers_see_a_window() -> None:
    """`use_sliding_window` and `max_window_layers` of Qwen2: layers from the second on. Elsewhere a window is in all layers."""
    qwen = {**LLAMA, "model_type": "qwen2", "sliding_window": 1024, "max_window_layers": 20}
    for flag, windows in ((True, 60), (False, 0), (None, 0)):
        llm = LlmSpec.model_validate(llm_from_config({**qwen, "use_sliding_window": flag}))
        assert layer_kinds(llm).get("windowed + dense", 0) == windows
    mistral = {**LLAMA, "model_type": "mistral", "sliding_window": 1024}
    assert layer_kinds(LlmSpec.model_validate(llm_from_config(mistral))) == {"windowed + dense": 80}
    beyond = llm_from_config({**mistral, "sliding_window": 4096})  # as long as the longest context: no window
    assert layer_kinds(LlmSpec.model_validate(beyond)) == {"full + dense": 80}


# How weights are stored


@pytest.mark.parametrize(
    ("quantised", "expected"),
    [
        ({"quant_method": "fp8", "fmt": "e4m3"}, {"weights": "fp8", "head": "bf16", "activations": "fp8"}),
        ({"quant_method": "awq", "bits": 4}, {"weights": "int4", "norm": "bf16", "activations": None}),
        ({"quant_method": "gptq", "bits": 8}, {"weights": "int8"}),
        (
            {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]},
            {"weights": "mxfp4", "attention": "bf16"},
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {
                    "group_0": {"weights": {"num_bits": 8, "type": "int"}, "input_activations": {"num_bits": 8, "type": "int"}}
                },
                "ignore": ["lm_head", "re:.*self_attn.*"],
            },
            {"weights": "int8", "attention": "bf16", "activations": "int8"},
        ),
        (
            {
                "quant_method": "modelopt",
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "float", "group_size": 16}}},
                "ignore": ["model.layers.3.self_attn*"],
            },
            {"weights": "nvfp4", "attention": None},
        ),
    ],
)
def test_precision_is_taken_from_the_file_part_by_part(quantised: dict, expected: dict) -> None:
    llm = LlmSpec.model_validate(llm_from_config({**LLAMA, "torch_dtype": "bfloat16", "quantization_config": quantised}))
    assert llm.precision is not None
    assert {part: getattr(llm.precision, part) for part in expected} == expected


def test_what_is_not_clear_of_a_precision_is_said() -> None:
    """A part left out in a few layers, and a scheme that is not known."""
    ignore = {"quant_method": "fp8", "modules_to_not_convert": ["model.layers.3.self_attn"]}
    (said,) = llm_from_config({**LLAMA, "quantization_config": ignore})["assumed"]
    assert "attention: left in 16 bit in 1 of 80 layers" in said
    unknown = llm_from_config({**LLAMA, "quantization_config": {"quant_method": "somebodys"}})
    assert "'somebodys' is not known" in unknown["assumed"][0]
    assert unknown["precision"] == {"weights": "fp16"}


def test_modelopt_keeps_its_scheme_beside_the_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, "torch_dtype": "bfloat16"}))
    scheme = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4", "exclude_modules": ["lm_head"]}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(scheme))
    section = llm_from_config(LLAMA, quantisation=quantisation_beside(tmp_path / "config.json"))
    assert section["precision"]["weights"] == "nvfp4"
    assert quantisation_beside(tmp_path / "elsewhere" / "config.json") is None


def test_experts_may_have_a_format_of_their_own() -> None:
    fp8 = {"quant_method": "fp8"}
    llm = LlmSpec.model_validate(llm_from_config({**DEEPSEEK, "expert_dtype": "fp4", "quantization_config": fp8}))
    assert llm.precision is not None
    assert (llm.precision.weights, llm.precision.experts) == ("fp8", "mxfp4")
    weights = own_weight_bytes(llm)
    assert weights == pytest.approx(671e9 * 17 / 32, rel=0.05)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "falcon_h1", "mamba_d_state": 16, "mamba_expand": "two"}, "needs a number for mamba_expand"),
        ({"block_configs": [1, 2]}, "needs a section for each layer in 'block_configs'"),
        ({"num_experts": 4, "moe_layers_enum": "1,b"}, "needs numbers of layers in moe_layers_enum"),
        ({"sliding_window": -3, "model_type": "mistral"}, "needs a whole number for sliding_window"),
        ({"num_hidden_layers": True}, "needs a whole number for one of num_hidden_layers"),
    ],
)
def test_a_figure_of_another_kind_is_named(changes: dict, message: str) -> None:
    with pytest.raises(SpecError, match=f"cfg.json: {message}"):
        llm_from_config({**LLAMA, **changes}, "cfg.json")


def test_no_more_experts_are_visited_than_there_are() -> None:
    for config in ({**MIXTRAL, "num_experts_per_tok": 9}, {**DEEPSEEK, "num_experts_per_tok": 257}):
        with pytest.raises(ValueError, match="is more than the"):
            LlmSpec.model_validate(llm_from_config(config))


def test_a_width_that_heads_do_not_divide_is_said() -> None:
    """As the families' own code divides; none says how wide a head is."""
    (said,) = llm_from_config({**LLAMA, "num_attention_heads": 60, "num_key_value_heads": 4})["assumed"]
    assert said == "a head is 136 wide: the file does not say, and 8192 is no multiple of 60 heads"


def test_missing_and_broken_figures_are_named() -> None:
    with pytest.raises(SpecError, match="num_hidden_layers"):
        llm_from_config({k: v for k, v in LLAMA.items() if k != "num_hidden_layers"})
    with pytest.raises(SpecError, match="vocab_size"):
        llm_from_config({**LLAMA, "vocab_size": "many"})
