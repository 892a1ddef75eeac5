"""What each family's code does that its config does not say, as transformers (version 5) and the makers' own code have it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from dcsim.spec.huggingface.keys import Config, plain


@dataclass(frozen=True, slots=True)
class Family:
    """`gated` feed-forward; `tied` embeddings where the config is silent; learned `positions`; `parallel` attention and
    feed-forward; `norms` of a block; what `sliding_window` alone means; an output `gate` of attention.
    """

    gated: bool = True
    tied: bool = False
    positions: bool = False
    parallel: bool = False
    norms: int = 1
    windows: Literal["all", "flag", "second", "none"] = "all"
    gate: Literal["none", "head", "channel"] = "none"
    reads: Literal["decoder", "encoder", "speech"] = "decoder"


_PLAIN = Family()
_TIED = Family(tied=True)
_FLAG = Family(windows="flag")
_TWO_NORMS = Family(norms=2)

_FAMILIES: dict[str, Family] = {
    **dict.fromkeys(
        (
            *(
                "llama",
                "llama4",
                "mistral",
                "mistral3",
                "mistral4",
                "mistrallarge4",
                "ministral",
                "ministral3",
                "mixtral",
                "yi",
                "aquila",
                "xverse",
            ),
            *("internlm", "internlm2", "internlm3", "baichuan", "olmo", "olmoe", "phi3", "phimoe", "phi4mm"),
            *(
                "granite",
                "granitemoe",
                "granitemoeshared",
                "granitemoehybrid",
                "stablelm",
                "exaone",
                "gptoss",
                "dbrx",
                "jamba",
                "bitnet",
            ),
            *(
                "deepseek",
                "deepseekv2",
                "deepseekv3",
                "deepseekv32",
                "deepseekv4",
                "deepseekvlv2",
                "kimik2",
                "kimik25",
                "kimilinear",
            ),
            *(
                "minimax",
                "minimaxtext01",
                "minimaxm1",
                "minimaxm2",
                "glm",
                "chatglm",
                "glm4moe",
                "glm4moelite",
                "glmmoedsa",
                "glm4vmoe",
                "glm5next",
            ),
            *(
                "seedoss",
                "step3",
                "step3text",
                "step3p5",
                "longcatflash",
                "mimov2",
                "mimov2flash",
                "dots1",
                "bailingmoe",
                "bailingmoev2",
            ),
            *("hunyuanv1dense", "hunyuanv1moe", "nemotronnas", "deci", "decilm", "bamba", "qwen"),
            *("ernie45moevl", "exaonemoe", "solaropen", "internvl", "llava"),
        ),
        _PLAIN,
    ),
    **dict.fromkeys(
        (
            "qwen2",
            "qwen2moe",
            "qwen2vl",
            "qwen25vl",
            "qwen3",
            "qwen3moe",
            "qwen3vl",
            "qwen3vlmoe",
            "mimo",
            "qwen3omnimoe",
            "qwen25omni",
        ),
        _FLAG,
    ),
    **dict.fromkeys(("qwen3next", "qwen35", "qwen35moe"), Family(windows="flag", gate="channel")),
    **dict.fromkeys(("gemma", "ernie45", "ernie45moe", "smollm3", "hunyuan", "minicpm", "minicpm3", "lfm2", "lfm2moe"), _TIED),
    **dict.fromkeys(("gemma3", "gemma3n", "gemma4", "gemma4unified"), Family(tied=True, norms=2)),
    **dict.fromkeys(("vaultgemma", "modernbertdecoder"), _TIED),
    **dict.fromkeys(("musespark", "museglimmer"), Family(norms=2, gate="channel")),
    "gemma2": Family(tied=True, norms=2, windows="second"),
    **dict.fromkeys(("glm4", "glm4v", "grok1", "grok2"), _TWO_NORMS),
    **dict.fromkeys(("olmo2", "olmo3", "exaone4"), _PLAIN),  # one norm a block, after it
    **dict.fromkeys(("cohere", "cohere2"), Family(tied=True, parallel=True)),
    "afmoe": Family(norms=2, gate="channel"),
    **dict.fromkeys(("nemotron", "nemotronh", "arcee", "apertus", "persimmon"), Family(gated=False)),
    **dict.fromkeys(("mamba", "mamba2", "falconmamba"), Family(tied=True)),
    **dict.fromkeys(("gpt2", "openaigpt", "gptbigcode", "gptneo", "opt"), Family(gated=False, tied=True, positions=True)),
    **dict.fromkeys(("starcoder2", "bloom", "mpt", "xglm"), Family(gated=False, tied=True)),
    **dict.fromkeys(("gptj", "codegen", "phi"), Family(gated=False, parallel=True)),
    "gptneox": Family(gated=False, parallel=True),
    "falcon": Family(gated=False, tied=True, parallel=True),
    "falconh1": Family(),
    **dict.fromkeys(("bert", "roberta", "xlmroberta"), Family(gated=False, tied=True, positions=True, reads="encoder")),
    "whisper": Family(gated=False, tied=True, positions=True, reads="speech"),
}
_OTHER_NAMES = {
    "refinedweb": "falcon",
    "refinedwebmodel": "falcon",
    "nemotronhpuzzle": "nemotronh",
    "baichuanm1": "baichuan",
    "hunyuandense": "hunyuanv1dense",
    "hunyuanmoe": "hunyuanv1moe",
    "llama4text": "llama4",
    "kimivl": "deepseekv3",
    "kimik3": "kimilinear",
    "ernie4": "ernie45",
    "mllama": "llama",
    "grok": "grok1",
}

# Kinds of layers that are not known, by families and by keys that give them away.
_REFUSED_FAMILIES = {
    "rwkv": "RWKV time mixing",
    "recurrentgemma": "RG-LRU recurrence",
    "zamba": "a shared attention block between Mamba layers",
    "retnet": "retention",
    "t5": "an encoder-decoder with relative position biases",
    "mt5": "an encoder-decoder with relative position biases",
    "bart": "an encoder-decoder of text",
    "xlnet": "two-stream attention",
    "xlstm": "xLSTM cells",
    "diffllama": "differential attention",
    "plamo2": "Mamba layers with norms and heads of its own",
    "reformer": "LSH attention",
    "hyena": "Hyena convolutions",
    "stripedhyena": "Hyena convolutions",
    "titans": "neural memory",
    "ttt": "test-time training layers",
    "brumby": "power retention",
    "jetmoe": "experts of attention heads",
    "doge": "attention under a learned mask",
    "blt": "bytes in patches of their own",
}
_REFUSED_KEYS = {
    "lru_width": "RG-LRU recurrence",
    "num_mem_blocks": "a shared attention block between Mamba layers",
    "rescale_every": "RWKV time mixing",
    "attention_hidden_size": "RWKV time mixing",
    "dense_attention_every_n_layers": "block-sparse attention",
    "decoder_attention_heads": "an encoder-decoder of text",
    "cca_time0": "compressed convolutional attention",
    "n_recurrent_loops": "layers that are gone through several times",
    "H_cycles": "layers that are gone through several times",
    "cross_layer_interval": "gated cross-attention layers between the others",
}


def family_of(config: Config, outer: dict[str, object]) -> Family:
    """The family of a config by `model_type`, else by `architectures`; unknown ones are read by their shape, which is noted.

    Raises SpecError for families whose kinds of layers are not known.
    """
    types = [str(source.get("model_type") or "") for source in (config.data, outer)]
    told = next(filter(None, types), "none given")
    found = _listed([plain(name) for name in types])
    if found is None:
        _refuse(config, told, [plain(name) for name in types])
        classes = config.data.get("architectures") or outer.get("architectures") or []
        names = [str(name) for name in classes] if isinstance(classes, list) else []
        found = _listed([plain(re.sub(r"(For[A-Z]\w+|LMHeadModel|Model)$", "", name)) for name in names])
        if found and told != "none given":
            config.assume(f"the family '{told}' is not listed: read as its class {names[0]} says")
    if found:
        config.family = found
        return _FAMILIES[found]
    config.family = told
    return _by_shape(config, told)


def _listed(names: list[str]) -> str | None:
    """The first of the names, or of those less `text`, that is listed."""
    every = [name for given in names for name in (given, given.removesuffix("text"), given.removesuffix("textmodel"))]
    known = [_OTHER_NAMES.get(name, name) for name in every]
    return next((name for name in known if name in _FAMILIES), None)


def _refuse(config: Config, told: str, names: list[str]) -> None:
    for name, kind in _REFUSED_FAMILIES.items():
        if any(given.startswith(name) for given in names):
            raise config.error(f"'{told}' has layers of a kind that is not known: {kind}")
    for key, kind in _REFUSED_KEYS.items():
        if config.get(key) is not None:
            raise config.error(f"'{told}' has layers of a kind that is not known: {kind} ('{key}')")


def _by_shape(config: Config, told: str) -> Family:
    """A family nobody has listed: gated as its activation usually is, all else as most families have it."""
    name = str(config.get("hidden_act", "hidden_activation", "activation_function", "mlp_hidden_act") or "silu").lower()
    gated = any(part in name for part in ("silu", "swish", "glu", "situ"))
    config.assume(
        f"the family '{told}' is not listed: read by its shape, with {'gated' if gated else 'plain'} feed-forward blocks "
        f"({name}), sequential residuals, one norm a block and no learned positions"
    )
    return Family(gated=gated)


# Figures that a config nested in another leaves out where they are the class's own (transformers, version 5).
NESTED_DEFAULTS: dict[str, dict[str, int]] = {
    "llama": {"d_model": 4096, "d_ff": 11008, "layers": 32, "heads": 32, "vocab": 32000},
    "mistral": {"d_model": 4096, "d_ff": 14336, "layers": 32, "heads": 32, "kv_heads": 8, "vocab": 32000},
    "qwen2": {"d_model": 4096, "d_ff": 22016, "layers": 32, "heads": 32, "kv_heads": 32, "vocab": 151936},
    "phi3": {"d_model": 3072, "d_ff": 8192, "layers": 32, "heads": 32, "vocab": 32064},
    "gemma": {"d_model": 3072, "d_ff": 24576, "layers": 28, "heads": 16, "kv_heads": 16, "d_head": 256, "vocab": 256000},
    "gemma2": {"d_model": 2304, "d_ff": 9216, "layers": 26, "heads": 8, "kv_heads": 4, "d_head": 256, "vocab": 256000},
    "gemma3": {"d_model": 2304, "d_ff": 9216, "layers": 26, "heads": 8, "kv_heads": 4, "d_head": 256, "vocab": 262208},
}
