"""What mixes tokens in each layer of a config: which kind, and its figures."""

from __future__ import annotations

from typing import Any

from dcsim.spec.huggingface.families import Family
from dcsim.spec.huggingface.keys import ALIASES, BLOCKS, Config

Section = dict[str, Any]

# The names of kinds in `layer_types` and its relatives. `state`: whichever linear attention the config has figures of.
_TYPES = {
    **dict.fromkeys(("full_attention", "attention", "global", "global_attention", "full", "*", "mla"), "full"),
    **dict.fromkeys(("sliding_attention", "sliding_window_attention", "sliding", "local", "local_attention"), "windowed"),
    "chunked_attention": "chunked",
    **dict.fromkeys(("linear_attention", "lightning_attention", "kda", "gated_delta_net"), "state"),
    **dict.fromkeys(("mamba", "mamba2", "M"), "mamba"),
    **dict.fromkeys(("conv", "short_conv"), "convolution"),
    **dict.fromkeys(("compressed_sparse_attention", "heavily_compressed_attention"), "compressed"),
    **dict.fromkeys(("deepseek_sparse_attention", "sparse_attention", "indexed_attention"), "full"),
    "hybrid": "beside",
    **dict.fromkeys(("moe", "mlp", "E", "-"), ""),
}


def attention_types(config: Config, family: Family, layers: int) -> list[str]:
    """For each layer the kind that mixes its tokens; empty where a layer has none."""
    for read in (_from_blocks, _from_lists, _from_periods):
        found = read(config, layers)
        if found is not None:
            return found
    return _from_windows(config, family, layers)


def _from_blocks(config: Config, layers: int) -> list[str] | None:
    """Layers thinned by a search: each with a section of its own."""
    blocks = config.sections("block_configs")
    if blocks is None:
        return None
    return [_block_type(block.get("attention") or {}) for block in blocks[:layers]]


def _block_type(attention: Section) -> str:
    if attention.get("no_op"):
        return ""
    if attention.get("replace_with_linear"):
        return "linear"
    return "windowed" if attention.get("window_length") else "full"


def _from_lists(config: Config, layers: int) -> list[str] | None:
    """One entry a layer, by name, letter or number."""
    ratios = config.get("compress_ratios")
    if isinstance(ratios, list):
        return ["compressed"] * layers
    names = config.get(*BLOCKS, "layer_types", "block_types", "attention_pattern")
    if isinstance(names, (list, str)) and names:
        return _repeated(config, [_type(config, str(name)) for name in names], layers)
    hybrid = config.get("hybrid_layer_pattern")
    if isinstance(hybrid, list):
        return _repeated(config, ["windowed" if entry else "full" for entry in hybrid], layers)
    kinds = config.get("attn_type_list")
    if isinstance(kinds, list):
        return _repeated(config, ["full" if entry else "state" for entry in kinds], layers)
    pairs = config.get("attention_types")
    if isinstance(pairs, list) and pairs and isinstance(pairs[0], list):
        return [_type(config, str(name)) for group, count in pairs for _ in range(count) for name in group][:layers]
    return None


def _repeated(config: Config, types: list[str], layers: int) -> list[str]:
    if len(types) < layers and layers % len(types):
        raise config.error(f"kinds are listed for {len(types)} layers, and there are {layers}")
    return (types * -(-layers // len(types)))[:layers]


def _type(config: Config, name: str) -> str:
    if name not in _TYPES:
        known = ", ".join(sorted(key for key in _TYPES if len(key) > 1))
        raise config.error(f"layers of a kind that is not known: '{name}'", f"known: {known}")
    return _TYPES[name]


def _from_periods(config: Config, layers: int) -> list[str] | None:
    """One layer in so many differs."""
    linear = config.get("linear_attn_config")
    if isinstance(linear, dict) and isinstance(linear.get("full_attn_layers"), list):  # counted from 1
        return ["full" if i + 1 in linear["full_attn_layers"] else "state" for i in range(layers)]
    cross = config.get("cross_attention_layers")
    if isinstance(cross, list):
        return ["cross" if i in cross else "full" for i in range(layers)]
    period = config.get("attn_layer_period")
    if period:
        return ["full" if i % period == config.get("attn_layer_offset") else "mamba" for i in range(layers)]
    places = config.get("attn_layer_indices")
    if isinstance(places, list):
        return ["full" if i in places else "mamba" for i in range(layers)]
    if config.get("linear_num_value_heads"):
        every = config.count("full_attention_interval") or 4
        return ["state" if (i + 1) % every else "full" for i in range(layers)]
    every = config.count("layer_group_size")
    if every and config.get("linear_attn_norm_type", "linear_silu", "group_norm_size") is not None:  # Bailing's linear LLMs
        return ["state" if (i + 1) % every else "full" for i in range(layers)]
    if config.family == "falconh1":
        return ["beside"] * layers
    if config.family == "bamba":  # no list of attention layers: there are none
        return ["mamba"] * layers
    if config.get("heads", "num_attention_heads", "n_head", "n_heads") is None and config.get("state_size", "ssm_state_size"):
        return ["mamba"] * layers
    if config.get("attention_chunk_size"):
        rotary = config.get("no_rope_layers")
        if isinstance(rotary, list) and rotary:
            return ["chunked" if rotary[i] else "full" for i in range(layers)]
        every = config.count("no_rope_layer_interval") or 4
        return ["chunked" if (i + 1) % every else "full" for i in range(layers)]
    return None


def _from_windows(config: Config, family: Family, layers: int) -> list[str]:
    """A window in all layers, in those a period or a flag names, or in none."""
    if not config.get("sliding_window", "sliding_window_size", "window_size"):
        return ["full"] * layers
    pattern = config.get("sliding_window_pattern", "_sliding_window_pattern")
    if isinstance(pattern, str):
        return [("full" if pattern[i % len(pattern)] == "G" else "windowed") for i in range(layers)]
    every = pattern or {"gemma3": 6, "gemma3n": 5, "gemma4": 6, "cohere2": 4, "exaone4": 4, "olmo3": 4, "gptoss": 2}.get(
        config.family
    )
    if every:
        return ["windowed" if (i + 1) % every else "full" for i in range(layers)]
    if family.windows == "second":
        return ["full" if i % 2 else "windowed" for i in range(layers)]
    flag = config.get("use_sliding_window")
    if flag is False or (flag is None and family.windows == "flag"):
        return ["full"] * layers
    first = config.get("max_window_layers") if flag else 0
    return ["windowed" if i >= (first or 0) else "full" for i in range(layers)]


def attention_section(config: Config, family: Family, kind: str, layer: int, layers: int) -> Section | list[Section] | None:
    """The section of one layer's attention: one of `spec.layers`, several side by side, or none."""
    if not kind:
        return None
    if kind == "linear":
        return {"kind": "linear"}
    if kind == "beside":
        return [_mamba(config), _softmax(config, family, "full", layer, layers)]
    if kind == "mamba":
        return _mamba(config)
    if kind == "state":
        return _state(config)
    if kind == "convolution":
        return {"kind": "convolution", "convolution": config.count("conv_L_cache", "conv_kernel") or 3}
    if kind == "compressed":
        return _compressed(config, layer)
    if kind == "cross":
        heads = config.number("heads")
        return {
            "kind": "cross",
            "heads": heads,
            "kv_heads": config.number("kv_heads", heads),
            "d_head": _d_head(config, heads, layer),
        }
    if kind in ("full", "windowed") and config.get("kv_lora_rank"):
        return _latent(config, kind, layer)
    return _softmax(config, family, kind, layer, layers)


def _d_head(config: Config, heads: int, layer: int | None) -> int:
    d_model = config.number("d_model")
    if config.get(*ALIASES["d_head"], layer=layer) is None and d_model % heads:
        config.assume(f"a head is {d_model // heads} wide: the file does not say, and {d_model} is no multiple of {heads} heads")
    return config.number("d_head", d_model // heads, layer)


def _softmax(config: Config, family: Family, kind: str, layer: int, layers: int) -> Section:
    window = kind == "windowed"
    other = config.get("attention_other_setting") if window else None
    swa = _Swa(config, other if isinstance(other, dict) else {}, window)
    block = _block(config, layer)
    heads = swa.number("heads", "swa_num_attention_heads", config.number("heads", layer=layer))
    kv_heads = heads // block["n_heads_in_group"] if block.get("n_heads_in_group") else _kv_heads(config, heads, layer)
    if not window and config.get("attention_k_eq_v") and config.get("num_global_key_value_heads"):
        kv_heads = config.number("num_global_key_value_heads")
    kv_heads = swa.number("kv_heads", "swa_num_key_value_heads", kv_heads)
    d_head = config.number("global_head_dim") if not window and config.get("global_head_dim") else _d_head(config, heads, layer)
    d_head = swa.number("d_head", "swa_head_dim", d_head)
    d_value = swa.number("d_value", "swa_v_head_dim", config.count("v_head_dim", layer=layer) or d_head)
    section: Section = {"kind": "full", "heads": heads, "kv_heads": kv_heads, "d_head": d_head}
    if d_value != d_head:
        section["d_value"] = d_value
    if config.get("share_q_dim"):
        section["q_rank"] = config.number("share_q_dim")
    gate = _gate(config, family)
    if gate != "none":
        section["gate"] = gate
    keys = _keys(config, kind, layer, layers)
    if keys != "own":
        section["keys"] = keys
    return _limited(config, section, kind, block)


class _Swa:
    """Figures that windowed layers have of their own."""

    def __init__(self, config: Config, other: Section, window: bool) -> None:
        self._config, self._other, self._window = config, other, window

    def number(self, ours: str, key: str, default: int) -> int:
        names = {"heads": "num_attention_heads", "kv_heads": "num_attention_groups", "d_head": "head_dim"}
        if not self._window:
            return default
        value = self._config.get(key) or self._other.get(names.get(ours, ""))
        return self._config.whole(value, (key,)) if value else default


def _block(config: Config, layer: int) -> Section:
    """What a list of sections says of this layer's attention."""
    blocks = config.get("block_configs")
    return (blocks[layer].get("attention") or {}) if isinstance(blocks, list) else {}


def _limited(config: Config, section: Section, kind: str, block: Section) -> Section:
    """With its window or chunk, unless that is as long as the longest context."""
    if kind == "windowed":
        window = _window(config, block)
        return {**section, "kind": "windowed", **window} if window else section
    if kind == "chunked":
        chunk = config.number("attention_chunk_size")
        return section if chunk >= config.number("context_max", 2048) else {**section, "kind": "chunked", "chunk": chunk}
    return section


def _window(config: Config, block: Section) -> Section:
    """The window that windowed layers see; nothing if it is as long as the longest context."""
    names = ("sliding_window", "sliding_window_size", "window_size", "attention_window_size")
    told = block.get("window_length") or config.get(*names)
    if told is None:
        raise config.error("some layers see a window and 'sliding_window' is not there")
    window = config.whole(told, ("sliding_window",))
    return {} if window >= config.number("context_max", 2048) else {"window": window}


def _kv_heads(config: Config, heads: int, layer: int) -> int:
    """Falcon says it three ways: `new_decoder_architecture` counts them, else `multi_query` is one, else all."""
    single = config.get("multi_query")
    if single is None:
        single = config.family in ("gptbigcode", "falcon")
    if single and not config.get("new_decoder_architecture"):
        return 1
    if config.get("multi_query_attention") is False:
        return heads
    return config.number("kv_heads", heads, layer)


def _gate(config: Config, family: Family) -> str:
    if config.get("use_head_wise_attn_gate"):
        return "head"
    told = config.get("attn_output_gate")
    return family.gate if told is None else "channel" if told else "none"


def _keys(config: Config, kind: str, layer: int, layers: int) -> str:
    shared = config.count("num_kv_shared_layers")
    if shared and layer >= layers - shared:
        return "of_earlier_layer"
    every = config.count("cla_share_factor") if config.get("use_cla") else 0
    if every and layer % every:
        return "of_earlier_layer"
    return "also_values" if config.get("attention_k_eq_v") and kind == "full" else "own"


def _latent(config: Config, kind: str, layer: int) -> Section:
    d_rope = config.count("qk_rope_head_dim", layer=layer)
    d_nope = config.count("qk_nope_head_dim", layer=layer) or config.count("qk_head_dim", layer=layer) - d_rope
    section: Section = {
        "kind": "latent",
        "heads": config.number("heads", layer=layer),
        "q_rank": config.count("q_lora_rank", layer=layer),
        "kv_rank": config.number("kv_lora_rank", layer=layer),
        "d_nope": config.whole(d_nope, ("qk_nope_head_dim",)),
        "d_rope": d_rope,
        "d_value": config.number("v_head_dim", layer=layer),
    }
    if config.get("mla_use_output_gate"):
        section["gate"] = "channel"
    if kind == "windowed":
        return {**section, **_window(config, {})}
    if config.get("index_topk"):
        if config.count("index_kpool"):
            config.assume("the indexer's keys are counted for every token: the file pools some of them")
        types = config.get("indexer_types")
        shared = isinstance(types, list) and layer < len(types) and types[layer] == "shared"
        section["index"] = {**_index(config), **({"shared": True} if shared else {})}
    return section


def _index(config: Config) -> Section:
    return {
        "heads": config.number("index_n_heads"),
        "d_head": config.number("index_head_dim"),
        "tokens": config.number("index_topk"),
    }


def _compressed(config: Config, layer: int) -> Section:
    """DeepSeek-V4: a ratio of 0 is a window alone, of 4 with an indexer and overlapping entries, of 128 neither."""
    rates = config.get("compress_rates") or {"compressed_sparse_attention": 4, "heavily_compressed_attention": 128}
    ratios, types = config.get("compress_ratios"), config.get("layer_types")
    if isinstance(ratios, list):
        ratio = ratios[layer] if layer < len(ratios) else 0
        sparse = ratio == rates.get("compressed_sparse_attention", 4)
    else:
        name = types[layer] if isinstance(types, list) and layer < len(types) else ""
        ratio, sparse = rates.get(name, 0), name == "compressed_sparse_attention"
    section: Section = {
        "kind": "compressed",
        "heads": config.number("heads"),
        "d_head": config.number("d_head"),
        "q_rank": config.number("q_lora_rank"),
        "o_rank": config.number("o_lora_rank"),
        "o_groups": config.number("o_groups"),
        "window": config.number("sliding_window"),
    }
    if ratio:
        section["ratio"] = config.whole(ratio, ("compress_ratios",))
    if ratio and sparse:
        section |= {"overlap": True, "index": _index(config)}
    return section


def _state(config: Config) -> Section:
    """Linear attention: of whichever kind the config has figures."""
    kimi = config.get("linear_attn_config")
    if isinstance(kimi, dict):
        own = Config(kimi, config.where)
        heads, d_head = own.number("num_heads"), own.number("head_dim")
        full_rank = bool(kimi.get("use_full_rank_gate"))
        section: Section = {"kind": "delta", "key_heads": heads, "value_heads": heads, "d_key": d_head, "d_value": d_head}
        section |= {"convolution": own.count("short_conv_kernel_size") or 4, "decay_rank": d_head}
        return section if full_rank else {**section, "gate_rank": d_head}
    if config.get("linear_num_value_heads"):
        return {
            "kind": "delta",
            "key_heads": config.number("linear_num_key_heads"),
            "value_heads": config.number("linear_num_value_heads"),
            "d_key": config.number("linear_key_head_dim"),
            "d_value": config.number("linear_value_head_dim"),
            "convolution": config.count("linear_conv_kernel_dim") or 4,
        }
    if config.get("linear_num_heads") and config.get("linear_head_dim"):  # as Kimi's, its figures at the top
        heads, d_head = config.number("linear_num_heads"), config.number("linear_head_dim")
        section = {"kind": "delta", "key_heads": heads, "value_heads": heads, "d_key": d_head, "d_value": d_head}
        return {**section, "convolution": config.count("linear_conv_kernel_dim") or 4, "decay_rank": d_head, "gate_rank": d_head}
    if config.get("mamba_num_heads", "mamba_n_heads", "ssm_state_size", "mamba_d_state"):
        return _mamba(config)
    heads = config.number("heads")
    if not config.family.startswith(("minimax", "bailing")):
        config.assume("linear attention without figures of its own is read as lightning attention with the heads of the others")
    return {"kind": "lightning", "heads": heads, "d_head": _d_head(config, heads, None)}


def _mamba(config: Config) -> Section:
    """Mamba-2 where there are heads of it, else Mamba."""
    d_model = config.number("d_model")
    convolution = config.count("mamba_d_conv", "conv_kernel", "d_conv") or 4
    state = config.whole(
        config.get("mamba_d_state", "ssm_state_size", "state_size", "d_state"), ("mamba_d_state", "ssm_state_size")
    )
    heads = config.count("mamba_num_heads", "mamba_n_heads") or (config.count("num_heads") if config.family == "mamba2" else 0)
    expand = config.factor("mamba_expand", "expand", default=2)
    inner = config.count("mamba_d_ssm", "mamba_intermediate_size") or int(expand * d_model)
    if heads:
        d_head = config.get("mamba_head_dim", "mamba_d_head") or (config.get("head_dim") if config.family == "mamba2" else None)
        d_head = inner // heads if d_head in (None, "auto") else config.whole(d_head, ("mamba_head_dim",))
        groups = config.count("mamba_n_groups", "n_groups") or 1
        return {
            "kind": "mamba2",
            "heads": heads,
            "d_head": d_head,
            "d_state": state,
            "groups": groups,
            "convolution": convolution,
        }
    if config.family in ("mamba", "falconmamba"):
        inner = config.count("intermediate_size", "d_inner") or inner
    rank = config.get("mamba_dt_rank", "time_step_rank")
    rank = -(-d_model // 16) if rank in (None, "auto") else config.whole(rank, ("mamba_dt_rank",))
    return {"kind": "mamba", "d_inner": inner, "d_state": state, "dt_rank": rank, "convolution": convolution}
