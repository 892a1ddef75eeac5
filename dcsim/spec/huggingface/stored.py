"""How a checkpoint stores its weights: `torch_dtype` or `dtype`, and `quantization_config` with what it leaves out."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Any

from dcsim.spec.huggingface.keys import Config

Section = dict[str, Any]
Layer = tuple[Any, Section | None]  # sections of attention (one, several or none) and of feed-forward

_STATES = dict.fromkeys(("delta", "lightning", "mamba", "mamba2", "convolution"), "state")

_DTYPES = {
    "float16": "fp16",
    "half": "fp16",
    "bfloat16": "bf16",
    "float32": "fp32",
    "int8": "int8",
    "float8_e4m3fn": "fp8",
}

# One module of each part, as the many families call them. A pattern that leaves any of them out leaves the part out.
_MODULES: dict[str, tuple[str, ...]] = {
    "attention": ("self_attn.q_proj", "self_attn.q_b_proj", "attn.wq_b", "self_attn", "mixer.q_proj"),
    "state": ("linear_attn.in_proj_qkv", "linear_attn.in_proj_qkvz", "linear_attn", "mixer.in_proj", "mamba.in_proj"),
    "dense": ("mlp.gate_proj", "mlp.up_proj", "mlp", "feed_forward.gate_proj", "mixer.up_proj"),
    "experts": (
        *("mlp.experts.0.gate_proj", "mlp.experts", "block_sparse_moe.experts.0.w1", "ffn.experts.0.w1", "experts.gate_up_proj"),
        *("mixer.experts.0.up_proj", "feed_forward.experts.0.gate_proj", "mlp.experts.gate_up_proj"),
    ),
    "shared": (
        *("mlp.shared_experts.gate_proj", "mlp.shared_expert.gate_proj", "mlp.shared_experts", "mlp.shared_expert"),
        *("ffn.shared_experts.w1", "mixer.shared_experts.up_proj", "feed_forward.shared_expert.gate_proj"),
    ),
}
_PREFIXES = (
    "model.layers.{}.",
    "model.language_model.layers.{}.",
    "language_model.model.layers.{}.",
    "layers.{}.",
    "backbone.layers.{}.",
)
# Where a family's modules are called as another part's are elsewhere: Gemma 4 has its dense block beside the experts.
_FAMILY_MODULES: dict[str, dict[str, tuple[str, ...]]] = {
    "gemma4": {
        **_MODULES,
        "experts": ("experts.gate_up_proj", "experts.0.gate_proj", "moe.experts"),
        "shared": ("mlp.gate_proj",),
    },
}


def precision_of(config: Config, outer: dict[str, Any], quantisation: Section | None, layers: list[Layer]) -> Section | None:
    """A `precision` section, or None where the file says nothing of it. Norms, routers and tables stay in the plain format."""
    plain = _plain(config, outer)
    quantised = quantisation or outer.get("quantization_config") or config.get("quantization_config")
    if not isinstance(quantised, dict):
        experts = _DTYPES.get(str(config.get("expert_dtype")))
        return {"weights": plain} if plain else {"experts": experts} if experts else None
    found = _format(config, quantised)
    if found is None:
        return {"weights": plain} if plain else None
    weights, activations = found
    rest = plain or "bf16"
    section: Section = {"weights": weights, **dict.fromkeys(("router", "norm", "embedding", "head", "encoder"), rest)}
    section |= dict.fromkeys(_left_out(config, quantised, layers), rest)
    section |= _experts_apart(config, quantised)
    if activations:
        section["activations"] = activations
    kv = quantised.get("kv_cache_scheme") or quantised.get("kv_cache_quant_algo")
    if kv:
        config.assume("keys and values are counted in 16 bit unless the mapping says otherwise; the file has a scheme for 8 bit")
    return section


def _plain(config: Config, outer: dict[str, Any]) -> str | None:
    for part in (config.data, outer):
        for key in ("torch_dtype", "dtype"):
            if isinstance(part.get(key), str):
                return _DTYPES.get(part[key].removeprefix("torch."))
    return None


def _format(config: Config, quantised: Section) -> tuple[str, str | None] | None:
    """(weights, activations) of a scheme; None, noted, for one that is not known."""
    method = str(quantised.get("quant_method") or quantised.get("quant_algo") or "").lower()
    told = quantised.get("config_groups")
    groups = [group for group in told.values() if isinstance(group, dict)] if isinstance(told, dict) else []
    if groups:
        formats = {_numbers(group.get("weights") or {}) for group in groups}
        if len(formats) > 1:
            config.assume("the file stores groups of modules in formats of their own: all are counted as the first")
        group = groups[0]
        weights = _numbers(group.get("weights") or {})
        if weights:
            return weights, _numbers(group.get("input_activations") or {})
    bits = quantised.get("bits") or quantised.get("w_bit")
    if method in ("awq", "gptq", "auto-round", "autoround", "gptq_marlin", "awq_marlin", "intel/auto-round"):
        return ({4: "int4", 8: "int8"}.get(bits or 4, "int4"), None)
    if method == "bitsandbytes":
        return ("int4" if quantised.get("load_in_4bit") or quantised.get("_load_in_4bit") else "int8", None)
    algorithm = str(quantised.get("quant_algo") or "").upper()
    if method == "mxfp4":
        return ("mxfp4", None)
    if "NVFP4" in algorithm or method == "nvfp4":
        return ("nvfp4", "nvfp4")
    if method in ("fp8", "fbgemm_fp8") or "FP8" in algorithm or method == "modelopt":
        return ("fp8", "fp8")
    if "W4A16" in algorithm:
        return ("int4", None)
    config.assume(f"the quantisation '{method or 'without a name'}' is not known: weights are counted in the file's plain format")
    return None


def _numbers(section: Section) -> str | None:
    """The format of one side of a product in the words of compressed-tensors and modelopt."""
    bits, kind, group = section.get("num_bits"), section.get("type"), section.get("group_size")
    if bits == 8:
        return "fp8" if kind == "float" else "int8"
    if bits == 4:
        return ("nvfp4" if group == 16 else "mxfp4") if kind == "float" else "int4"
    return None


def _experts_apart(config: Config, quantised: Section) -> Section:
    """Experts in a format of their own: `expert_dtype`, or an algorithm for them."""
    algorithm = str(quantised.get("moe_quant_algo") or "").upper()
    if "NVFP4" in algorithm:
        return {"experts": "nvfp4", **dict.fromkeys(("attention", "dense", "shared", "state"), "fp8")}
    if str(config.get("expert_dtype")) == "fp4":
        return {"experts": "mxfp4"}
    return {}


def _left_out(config: Config, quantised: Section, layers: list[Layer]) -> list[str]:
    """The parts that a scheme leaves in the plain format: in most layers, for those that every layer has."""
    patterns = quantised.get("modules_to_not_convert") or quantised.get("ignore") or quantised.get("exclude_modules") or []
    if not isinstance(patterns, list) or not patterns:
        return []
    rules = [_rule(str(pattern)) for pattern in patterns]
    found = []
    for part, modules in _FAMILY_MODULES.get(config.family, _MODULES).items():
        places = [i for i, layer in enumerate(layers) if part in _parts(layer)]
        names = [[prefix.format(i) + module for prefix in _PREFIXES for module in modules] for i in places]
        out = sum(any(rule(name) for rule in rules for name in group) for group in names)
        if out * 2 > len(names):
            found.append(part)
        elif out:
            config.assume(f"{part}: left in 16 bit in {out} of {len(names)} layers, counted as if in none")
    return found


def _parts(layer: Layer) -> set[str]:
    """The parts of an LLM that a layer has."""
    attention, feed_forward = layer
    found = {
        _STATES.get(section["kind"], "attention")
        for section in (attention if isinstance(attention, list) else [attention])
        if section
    }
    if feed_forward:
        found |= {"experts"} if feed_forward["kind"] == "routed" else {"dense"}
        found |= {"shared"} if feed_forward.get("shared_d_ff") else set()
    return found


def _rule(pattern: str) -> Any:
    """Whether a module falls under a pattern: `re:...`, wildcards, or a name that it is or lies in."""
    if pattern.startswith("re:"):
        compiled = re.compile(pattern[3:])
        return lambda name: compiled.match(name) is not None
    if "*" in pattern:
        return lambda name: fnmatchcase(name, pattern)
    return lambda name: name == pattern or name.startswith(pattern + ".") or name.endswith("." + pattern)
