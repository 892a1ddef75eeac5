"""Towers that make tokens of images and sound, by their shape: these sections have as many forms as there are makers."""

from __future__ import annotations

from typing import Any

from dcsim.spec.huggingface.keys import Config

Section = dict[str, Any]

_LAYERS = ("depth", "num_hidden_layers", "vt_num_hidden_layers", "num_layers", "layers", "encoder_layers", "n_layers")
_WIDTH = ("embed_dim", "hidden_size", "vt_hidden_size", "width", "d_model", "hidden_dim", "dim")
_HEADS = (
    "num_heads",
    "num_attention_heads",
    "vt_num_attention_heads",
    "attention_heads",
    "encoder_attention_heads",
    "heads",
    "n_heads",
)
_HIDDEN = ("intermediate_size", "vt_intermediate_size", "encoder_ffn_dim", "mlp_dim", "ffn_dim")
_PATCH = ("patch_size", "spatial_patch_size")

# Keys that tell of a tower whose figures stand in another file or in the code.
_ELSEWHERE = {"vision": ("mm_vision_tower", "img_processor", "embd_layer"), "audio": ("audio_processor", "mm_audio_tower")}

# Families of towers whose feed-forward has a gate though its activation is a plain one.
_GATED = ("gemma4", "pixtral")


def towers_of(config: Config, outer: dict[str, Any], d_model: int) -> dict[str, Section]:
    """An encoder for each of `vision_config` and `audio_config` that can be read; what cannot be is noted."""
    found: dict[str, Section] = {}
    for name, keys in (
        ("vision", ("vision_config", "visual", "vision_tower", "vision_encoder", "vit_config")),
        ("audio", ("audio_config", "audio_encoder")),
    ):
        section = next((outer[key] for key in keys if isinstance(outer.get(key), dict)), None)
        if section is None:
            hidden = next((key for key in _ELSEWHERE[name] if outer.get(key)), None)
            if hidden:
                config.assume(f"the {name} tower is left out: its figures are not in the file ('{hidden}')")
            continue
        tower = Config(section, config.where, assumed=config.assumed)
        made = _tower(tower, outer, name, d_model)
        if made:
            found[name] = made
    return found


def _tower(tower: Config, outer: dict[str, Any], name: str, d_model: int) -> Section | None:
    d, layers = tower.count(*_WIDTH), tower.count(*_LAYERS)
    if not d or not layers:
        tower.assume(f"the {name} tower is left out: its width or its number of layers is not in the file")
        return None
    layers += tower.count("num_global_layers")
    heads = tower.count(*_HEADS)
    if not heads:
        heads = max(1, d // 64)
        tower.assume(f"the {name} tower has {heads} heads of 64: the file does not say")
    patch = _patch(tower)
    tokens, tokens_out = _tokens(tower, outer, name, patch)
    return {
        "joins": "prompt" if not outer.get("text_config", {}).get("cross_attention_layers") else "cross_attention",
        "inputs": 0,
        "layers": layers,
        "d_model": d,
        "heads": heads,
        "kv_heads": tower.count("num_key_value_heads") or heads,
        "d_head": tower.count("head_dim") or d // heads,
        "d_ff": _hidden(tower, name, d),
        "activation": _activation(tower),
        "tokens": tokens,
        "d_input": _input(tower, name, patch),
        "tokens_out": tokens_out,
        "projections": _projections(tower, outer, d, d * max(1, tokens // tokens_out), d_model),
    }


def _patch(tower: Config) -> int:
    """Pixels of a patch's side, where both sides are given the first."""
    told = tower.get(*_PATCH)
    return tower.whole(told[0] if isinstance(told, list) and told else told or 14, _PATCH)


def _projections(tower: Config, outer: dict[str, Any], d: int, merged: int, d_model: int) -> list[list[int]]:
    """The products between a tower and the LLM, as the families that are common have them.

    Positions are averaged and pass one product (Gemma); or lie side by side and pass two, at their own width (Qwen, once more for
    every layer whose output is used as well) or at the LLM's (InternVL, Llama 4, LLaVA).
    """
    whole = Config(outer, tower.where)
    if whole.count("vision_soft_tokens_per_image", "mm_tokens_per_image"):
        return [[d, d_model]]
    if tower.get("pixel_shuffle_ratio"):
        into, out = tower.count("projector_input_dim") or d_model, tower.count("projector_output_dim") or d_model
        return [[merged, into], [into, out], [out, d_model]]
    if tower.get("vision_output_dim"):  # several layers' outputs side by side
        return [[tower.number("vision_output_dim"), d_model]]
    if tower.get("spatial_merge_size") and not whole.get("spatial_merge_size"):
        out = tower.count("out_hidden_size") or d_model
        return [[merged, merged], [merged, out]] * (1 + len(tower.get("deepstack_visual_indexes") or []))
    if whole.get("spatial_merge_size"):
        return [[merged, d], [d, d_model], [d_model, d_model]]
    return [[merged, d_model], [d_model, d_model]]


def _hidden(tower: Config, name: str, d: int) -> int:
    width = tower.count(*_HIDDEN)
    if width:
        return width
    ratio = tower.get("mlp_ratio")
    if not ratio:
        tower.assume(f"the {name} tower's feed-forward is four times as wide as its tokens: the file does not say")
    return round(d * (ratio or 4))


def _activation(tower: Config) -> str:
    name = str(tower.get("hidden_act", "hidden_activation", "activation_function") or "gelu").lower()
    kind = str(tower.get("model_type") or "").replace("_", "")
    if "silu" in name or any(kind.startswith(gated) for gated in _GATED):
        return "swiglu" if "silu" in name else "geglu"
    return "gelu"


def _input(tower: Config, name: str, patch: int) -> int:
    """Elements of one patch; of sound, the mel bins of three frames."""
    if name == "audio":
        return 3 * (tower.count("num_mel_bins", "input_feat_size") or 128)
    channels = tower.count("in_channels", "in_chans", "num_channels", "in_channel") or 3
    return channels * patch * patch * (tower.count("temporal_patch_size") or 1)


def _tokens(tower: Config, outer: dict[str, Any], name: str, patch: int) -> tuple[int, int]:
    """Positions of one input, and the tokens they become."""
    whole = Config(outer, tower.where)
    if name == "audio":
        tokens = tower.count("max_source_positions") or 1500
        return tokens, tokens // 2
    size = tower.get("image_size")
    size = max(size) if isinstance(size, list) else size
    given = whole.count("vision_soft_tokens_per_image", "mm_tokens_per_image", "image_seq_length")
    merge = tower.get("spatial_merge_size") or whole.get("spatial_merge_size") or tower.get("pooling_kernel_size") or 1
    ratio = whole.get("downsample_ratio") or tower.get("pixel_shuffle_ratio")
    merge = round(1 / ratio) if ratio else merge
    if size and size < 2048:
        tokens = (size // patch) ** 2 * (tower.count("max_num_tiles") or 1)
    elif given:
        tokens = given * merge**2
    else:
        tokens = tower.count("num_position_embeddings") or 1024
        if not tower.get("num_position_embeddings"):
            tower.assume("an image has 1024 patches: the file does not say")
    return tokens, min(tokens, given) if given else max(1, tokens // merge**2)
