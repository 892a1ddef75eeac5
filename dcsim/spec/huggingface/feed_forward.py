"""What works on each token alone in each layer of a config: dense, routed experts, both side by side, or nothing."""

from __future__ import annotations

from typing import Any

from dcsim.errors import shown
from dcsim.spec.huggingface.families import Family
from dcsim.spec.huggingface.keys import ALIASES, BLOCKS, Config

Section = dict[str, Any]

# Entries of a list of blocks where a block is a whole layer: what stands in it beside attention and state.
_ALONE = {"moe": "routed", "E": "routed", "mlp": "dense", "-": "dense"}


def feed_forward_section(config: Config, family: Family, layer: int, layers: int) -> Section | None:
    """The section of one layer's feed-forward block: one of `spec.layers`, or none."""
    alone = config.get(*BLOCKS)
    if isinstance(alone, (list, str)) and set(map(str, alone)) & set(_ALONE):  # a layer is one block
        kind = _ALONE.get(str(alone[layer % len(alone)]))
        return (
            None
            if kind is None
            else _routed(config, family, layer)
            if kind == "routed"
            else _dense(config, family, layer, layers)
        )
    if config.family in ("mamba", "mamba2", "falconmamba"):
        return None
    blocks = config.sections("block_configs")
    if blocks is not None:
        return _thinned(config, family, blocks[layer].get("ffn") or {}, layer, layers)
    if _experts(config, layer) > 1 and _has_experts(config, layer):
        return _routed(config, family, layer)
    return _dense(config, family, layer, layers)


def activation_of(config: Config, family: Family) -> str:
    """The activation in our words: gated or not by the family, the rest by the config."""
    name = config.get(*ALIASES["activation"])
    name = str(name or ("silu" if family.gated else "gelu")).lower()
    if family.gated:
        return "geglu" if "gelu" in name else "reglu" if "relu" in name else "swiglu"
    if "relu2" in name or "squared" in name:
        return "relu2"
    return "relu" if name == "relu" else "gelu"


def _experts(config: Config, layer: int) -> int:
    value = _of_text(config.get(*ALIASES["experts"], layer=None if _apart(config) else layer))
    return config.whole(value, ALIASES["experts"]) if value else 1


def _apart(config: Config) -> bool:
    """Whether text and images have experts of their own, in pairs of figures (Ernie 4.5 VL)."""
    widths = config.get("moe_intermediate_size")
    return isinstance(widths, list) and len(widths) == 2 and config.number("layers") > 2


def _of_text(value: Any) -> Any:
    """The first of a pair."""
    return value[0] if isinstance(value, list) and value else value


def _has_experts(config: Config, layer: int) -> bool:
    """Whether a layer has experts: by a list of kinds or of layers, by a period, or by where the dense ones end."""
    types = config.get("mlp_layer_types")
    if isinstance(types, list) and layer < len(types):
        return str(types[layer]) != "dense"
    places = config.get("moe_layers_enum", "moe_layers")
    if isinstance(places, str):
        places = [text.strip() for text in places.split(",") if text.strip()]
        if not all(text.isdigit() for text in places):
            raise config.error(f"needs numbers of layers in moe_layers_enum, got {shown(','.join(places))}")
        return str(layer) in places
    if isinstance(places, list):
        return layer in places
    period = config.count("expert_layer_period")
    if period:
        return bool(layer % period == (config.get("expert_layer_offset") or 0))
    return _after_dense(config, layer) and _in_step(config, layer)


def _after_dense(config: Config, layer: int) -> bool:
    """Not one of the first layers, which are dense, nor one of a list of dense layers."""
    first = config.count(
        *("first_k_dense_replace", "first_k_dense_layers", "num_dense_layers", "n_dense_first_layers", "moe_layer_num_skipped")
    )
    start, end = config.get("moe_layer_start_index"), config.get("moe_layer_end_index")
    if isinstance(start, list):
        start, end = min(start), max(end) if isinstance(end, list) else end
    inside = (start is None or layer >= start) and (end is None or end < 0 or layer <= end)
    return layer >= first and inside and layer not in (config.get("mlp_only_layers") or [])


def _in_step(config: Config, layer: int) -> bool:
    """Every so many layers."""
    frequency = config.get("moe_layer_freq", "moe_layer_frequency")
    if isinstance(frequency, list):
        return bool(frequency[layer % len(frequency)])
    if frequency and layer % config.whole(frequency, ("moe_layer_freq",)):
        return False
    step = config.count("decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_interval", "moe_every_n_layers") or 1
    return (layer + 1) % step == 0


def _routed(config: Config, family: Family, layer: int) -> Section:
    experts = _experts(config, layer)
    own = None if _apart(config) else layer
    width = config.get(*ALIASES["d_expert"], layer=own) or config.get(*ALIASES["d_ff"], layer=layer)
    d_ff = config.whole(_of_text(width), ("moe_intermediate_size", "intermediate_size"))
    active = config.get(*ALIASES["experts_active"], layer=layer)
    if active is None:
        config.assume("tokens visit two experts: the file does not say how many")
    section: Section = {
        "kind": "routed",
        "experts": experts,
        "experts_active": config.whole(active or 2, ALIASES["experts_active"]),
        "d_ff": d_ff,
        "activation": activation_of(config, family),
    }
    shared = _shared(config, layer, d_ff)
    if shared:
        section["shared_d_ff"] = shared
    latent = config.count("moe_latent_size", "routed_expert_hidden_size", "moe_hidden_size")
    if latent:
        section["d_latent"] = latent
    if _apart(config):
        section |= {"experts_aside": experts, "d_ff_aside": config.whole(width[1], ("moe_intermediate_size",))}
    if config.get("zero_expert_num"):
        section["experts_empty"] = config.number("zero_expert_num")
    return section


def _shared(config: Config, layer: int, d_expert: int) -> int:
    """Hidden width of what every token visits, all shared experts together."""
    told = config.count(
        *(
            "shared_expert_intermediate_size",
            "moe_shared_expert_intermediate_size",
            "shared_intermediate_size",
            "share_expert_dim",
        ),
        layer=layer,
    )
    number = config.count(
        *("n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts", "shared_expert_num"),
        layer=layer,
    )
    if config.family in ("llama4", "gemma4") or config.get("residual_moe"):  # one as wide as a dense block
        return config.number("d_ff", layer=layer)
    if config.family == "longcatflash":  # a dense block beside the experts
        return config.number("d_ff")
    if config.get("parallel_attn_mlp_res"):  # Arctic: a dense block of the layer's width beside the experts
        return config.number("d_model")
    return told or number * d_expert


def _dense(config: Config, family: Family, layer: int, layers: int) -> Section:
    d_model = config.number("d_model")
    width = _dense_width(config, family, layer)
    d_ff = config.number("d_ff", 4 * d_model, layer) if width is None else width
    shared = config.count("num_kv_shared_layers")
    if config.get("use_double_wide_mlp") and shared and layer >= layers - shared:
        d_ff *= 2
    return {"kind": "dense", "d_ff": d_ff, "activation": activation_of(config, family)}


def _dense_width(config: Config, family: Family, layer: int) -> int | None:
    """Widths that families say in ways of their own."""
    d_model = config.number("d_model")
    if config.family == "llama4" and config.get("intermediate_size_mlp"):
        return config.number("intermediate_size_mlp")
    if config.family == "qwen":  # the first of the name counts gate and up together
        return config.number("d_ff") // 2
    if config.family == "lfm2":
        width = config.count("block_ff_dim") or config.number("d_ff")
        if config.get("block_auto_adjust_ff_dim") is not False:
            width = int(2 * width / 3 * (config.get("block_ffn_dim_multiplier") or 1))
            multiple = config.count("block_multiple_of") or 256
            width = multiple * -(-width // multiple)
        return width
    ratio = config.get("expansion_ratio", "mlp_ratio")
    if ratio and config.get(*ALIASES["d_ff"]) is None:
        return round(float(ratio) * d_model)
    factors = config.get("ffn_multipliers")
    if isinstance(factors, list):  # OpenELM
        multiple = config.count("ffn_dim_divisor") or 256
        nearest: int = int(factors[layer] * d_model + multiple / 2) // multiple * multiple
        return max(multiple, nearest)
    return None


def _thinned(config: Config, family: Family, block: Section, layer: int, layers: int) -> Section | None:
    """A layer of a search (Nemotron): no block, one product, or a share of the widest, to the next 256 above."""
    if block.get("no_op"):
        return None
    if block.get("replace_with_linear"):
        return {"kind": "linear"}
    if block.get("moe"):
        raise config.error("layers of a kind that is not known: experts chosen by a search ('block_configs.ffn.moe')")
    if block.get("ffn_mult") is None:
        width = config.whole(block.get("intermediate_size") or config.get(*ALIASES["d_ff"]), ("ffn_mult", "intermediate_size"))
    else:
        width = 256 * -(-int(2 * block["ffn_mult"] * config.number("d_model") / 3) // 256)
    return {"kind": "dense", "d_ff": width, "activation": activation_of(config, family)}
