"""An LLM from a Hugging Face `config.json`, under the many names its figures go by."""

from __future__ import annotations

from typing import Any

from dcsim.errors import Problem, SpecError, shown

# Ours -> theirs, the first present counts.
_ALIASES: dict[str, tuple[str, ...]] = {
    "layers": ("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
    "d_model": ("hidden_size", "n_embd", "d_model", "dim"),
    "heads": ("num_attention_heads", "n_head", "num_heads", "n_heads"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads", "n_head_kv"),
    "d_head": ("head_dim", "attention_head_dim"),
    "d_ff": ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"),
    "vocab": ("vocab_size",),
    "experts": ("n_routed_experts", "num_experts", "num_local_experts"),
    "experts_active": ("num_experts_per_tok", "num_experts_per_token", "moe_top_k"),
    "context_max": ("max_position_embeddings", "n_positions", "n_ctx", "seq_length", "max_sequence_length"),
    "activation": ("hidden_act", "hidden_activation", "activation_function"),
}

# What each family's code does that its config does not say.
_GATED, _LEARNED_POSITIONS, _PARALLEL, _ENCODER, _SPEECH = (
    "gated",
    "positions",
    "parallel",
    "encoder",
    "speech",
)
_FAMILIES: dict[str, frozenset[str]] = {
    **dict.fromkeys(
        (
            "llama",
            "mistral",
            "mixtral",
            "qwen2",
            "qwen3",
            "qwen2_moe",
            "qwen3_moe",
            "gemma",
            "gemma2",
            "phi3",
            "internlm2",
            "yi",
            "olmo",
        ),
        frozenset({_GATED}),
    ),
    "cohere": frozenset({_GATED, _PARALLEL}),
    **dict.fromkeys(("gpt2", "gpt_bigcode", "opt"), frozenset({_LEARNED_POSITIONS})),
    **dict.fromkeys(("gptj", "falcon", "phi"), frozenset({_PARALLEL})),
    **dict.fromkeys(("gpt_neox", "starcoder2", "bloom", "mpt"), frozenset[str]()),
    **dict.fromkeys(("bert", "roberta"), frozenset({_ENCODER, _LEARNED_POSITIONS})),
    "whisper": frozenset({_SPEECH, _LEARNED_POSITIONS}),
}
_ALIASED_FAMILIES = {"RefinedWeb": "falcon", "RefinedWebModel": "falcon"}

# Families whose checkpoints tie embedding and head unless the config says otherwise.
_TIED = frozenset(
    {
        "gpt2",
        "gpt_bigcode",
        "opt",
        "falcon",
        "bloom",
        "mpt",
        "gemma",
        "gemma2",
        "cohere",
        "bert",
        "roberta",
        "whisper",
    }
)

# Precisions by the names of `torch_dtype` or `dtype`.
_DTYPES = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32", "int8": "int8", "float8_e4m3fn": "fp8"}


def llm_from_config(config: dict[str, Any], where: str = "config.json") -> dict[str, Any]:
    """The keys of an LLM section from a Hugging Face config; figures of text only where text is nested.

    Raises SpecError for a family it does not know (listing those it does), a figure that is missing, or
    layers of different kinds, which would not be counted right.
    """
    nested = config.get("text_config")
    if isinstance(nested, dict):
        config = {**config, **nested, "model_type": nested.get("model_type", config.get("model_type"))}
    family = _family(config, where)
    traits = _FAMILIES[family]
    _refuse_mixed(config, where)
    if _SPEECH in traits:
        return _whisper(config, where)
    llm = _figures(config, family, traits, where)
    if _ENCODER in traits:
        llm = {**llm, "layers": 0, "encoder_layers": llm["layers"], "encoder_tokens": 0}
    return llm


def dtype_of(config: dict[str, Any]) -> str | None:
    """The precision a config's weights are stored in, in the words of `mapping.weights`; None if it does not
    say.
    """
    nested = config.get("text_config") if isinstance(config.get("text_config"), dict) else {}
    for part in (config, nested or {}):
        for key in ("torch_dtype", "dtype"):
            if isinstance(part.get(key), str):
                return _DTYPES.get(part[key].removeprefix("torch."))
    return None


def _family(config: dict[str, Any], where: str) -> str:
    name = str(config.get("model_type") or "")
    name = _ALIASED_FAMILIES.get(name, name)
    if name not in _FAMILIES:
        raise SpecError(
            Problem(
                where,
                f"unknown architecture '{name or 'none given'}'",
                f"known: {', '.join(sorted(_FAMILIES))}",
            )
        )
    return name


def _refuse_mixed(config: dict[str, Any], where: str) -> None:
    """Layers must be alike: attention all over the whole context, feed-forward blocks all dense or all of
    experts.
    """
    kinds = config.get("layer_types")
    names = sorted({str(kind) for kind in kinds}) if isinstance(kinds, list) else []
    if len(names) > 1:
        raise SpecError(Problem(where, f"layers of different kinds ({', '.join(names)}) are not supported"))
    dense_first = config.get("first_k_dense_replace") or config.get("mlp_only_layers")
    if dense_first or config.get("decoder_sparse_step", 1) != 1 or config.get("moe_layer_freq", 1) != 1:
        raise SpecError(Problem(where, "some layers have experts and others do not: mixed layers are not supported"))
    if config.get("n_shared_experts") or config.get("shared_expert_intermediate_size"):
        raise SpecError(Problem(where, "shared experts beside routed ones are not supported"))


def _figures(config: dict[str, Any], family: str, traits: frozenset[str], where: str) -> dict[str, Any]:
    heads = _number(config, "heads", where)
    d_model = _number(config, "d_model", where)
    experts = _number(config, "experts", where, 1)
    context = _number(config, "context_max", where, 2048)
    d_ff = _number(config, "d_ff", where, 4 * d_model)
    if experts > 1 and isinstance(config.get("moe_intermediate_size"), int):
        d_ff = config["moe_intermediate_size"]
    parallel = bool(config.get("parallel_attn", config.get("parallel_attention", _PARALLEL in traits)))
    return {
        "name": str(config.get("_name_or_path") or family),
        "source": where,
        "layers": _number(config, "layers", where),
        "d_model": d_model,
        "heads": heads,
        "kv_heads": _kv_heads(config, heads, where),
        "d_head": _number(config, "d_head", where, d_model // heads),
        "d_ff": d_ff,
        "vocab": _number(config, "vocab", where),
        "activation": _activation(config, _GATED in traits),
        "parallel_attention": parallel,
        "tied_embeddings": bool(config.get("tie_word_embeddings", family in _TIED)),
        "experts": experts,
        "experts_active": _number(config, "experts_active", where, 2 if experts > 1 else 1),
        "positions": context if _LEARNED_POSITIONS in traits else 0,
        "context_max": context,
    }


def _kv_heads(config: dict[str, Any], heads: int, where: str) -> int:
    """Falcon says it three ways: `new_decoder_architecture` counts them, else `multi_query` is one, else all."""
    if config.get("multi_query") and not config.get("new_decoder_architecture"):
        return 1
    return _number(config, "kv_heads", where, heads)


def _activation(config: dict[str, Any], gated: bool) -> str:
    name = str(_first(config, "activation") or ("silu" if gated else "gelu")).lower()
    if gated:
        return "geglu" if "gelu" in name else "swiglu"
    return "relu" if name == "relu" else "gelu"


def _whisper(config: dict[str, Any], where: str) -> dict[str, Any]:
    """Encoder and decoder have their own counts; heads and widths must agree."""
    pairs = (("encoder_attention_heads", "decoder_attention_heads"), ("encoder_ffn_dim", "decoder_ffn_dim"))
    for a, b in pairs:
        if config.get(a) != config.get(b):
            raise SpecError(Problem(where, f"{a} and {b} differ, which is not supported"))
    d_model, heads = _get(config, "d_model", where), _get(config, "decoder_attention_heads", where)
    positions = _get(config, "max_target_positions", where)
    return {
        "name": str(config.get("_name_or_path") or "whisper"),
        "source": where,
        "layers": _get(config, "decoder_layers", where),
        "encoder_layers": _get(config, "encoder_layers", where),
        "encoder_tokens": _get(config, "max_source_positions", where),
        "d_model": d_model,
        "heads": heads,
        "kv_heads": heads,
        "d_head": d_model // heads,
        "d_ff": _get(config, "decoder_ffn_dim", where),
        "vocab": _get(config, "vocab_size", where),
        "activation": _activation(config, False),
        "tied_embeddings": bool(config.get("tie_word_embeddings", True)),
        "positions": positions,
        "context_max": positions,
    }


def _first(config: dict[str, Any], ours: str) -> Any:
    """The first of the aliases that holds something."""
    return next((config[key] for key in _ALIASES[ours] if config.get(key) is not None), None)


def _number(config: dict[str, Any], ours: str, where: str, default: int | None = None) -> int:
    value = _first(config, ours)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise SpecError(Problem(where, f"needs a whole number for one of {', '.join(_ALIASES[ours])}, got {shown(value)}"))
    return value


def _get(config: dict[str, Any], key: str, where: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise SpecError(Problem(where, f"needs a whole number for {key}, got {shown(value)}"))
    return value
