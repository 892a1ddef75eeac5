"""An LLM from a Hugging Face `config.json`: its layers one by one, what a family's code does beside its config, how it is stored.

Families that nobody has listed are read by their shape, and what is taken for granted is said in `assumed`. Kinds of layers that
are not known are refused by name, never guessed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dcsim.errors import SpecError
from dcsim.reading import read_json, reading
from dcsim.spec.huggingface.attention import attention_section, attention_types
from dcsim.spec.huggingface.families import NESTED_DEFAULTS, Family, family_of
from dcsim.spec.huggingface.feed_forward import activation_of, feed_forward_section
from dcsim.spec.huggingface.keys import ALIASES, BLOCKS, Config
from dcsim.spec.huggingface.stored import precision_of
from dcsim.spec.huggingface.towers import towers_of

Section = dict[str, Any]

# Where a config with towers keeps the figures of text, outermost first.
_NESTED = ("thinker_config", "text_config", "llm_config", "language_config", "language_model_config", "text_model_config")

# Tables stand under this name or that.
_TIED = ("tie_word_embeddings", "tie_embedding", "tie_embeddings", "use_shared_embeddings", "share_input_output_layers")


def llm_from_config(config: Section, where: str = "config.json", quantisation: Section | None = None) -> Section:
    """The keys of an LLM section from a Hugging Face config; `quantisation` is what stands beside it in `hf_quant_config.json`.

    Raises SpecError for a kind of layer that is not known, and for a figure that is missing.
    """
    text, outer = _text(config)
    reader = Config(text, where)
    family = family_of(reader, outer)
    if text is not config:
        _fill(reader)
    if family.reads == "speech":
        return _whisper(reader)
    if family.reads == "encoder":
        return _encoder(reader, family)
    blocks = reader.get(*BLOCKS)
    layers = reader.number("layers", len(blocks) if isinstance(blocks, (list, str)) else None)
    own = _layers(reader, family, layers)
    section = _section(reader, outer, family, own)
    precision = precision_of(reader, outer, quantisation, own)
    if precision:
        absent = [] if any(layer[1] and layer[1]["kind"] == "routed" for layer in own) else ["router"]
        absent += [] if "encoders" in section else ["encoder"]
        section["precision"] = {part: stored for part, stored in precision.items() if part not in absent}
    if reader.assumed:
        section["assumed"] = reader.assumed
    return section


def quantisation_beside(path: Path) -> Section | None:
    """What modelopt's `hf_quant_config.json` beside a config says of its weights."""
    beside = path.parent / "hf_quant_config.json"
    if not beside.is_file():
        return None
    with reading(beside, SpecError):
        content = read_json(beside)
    section = content.get("quantization") if isinstance(content, dict) else None
    return section if isinstance(section, dict) else None


def _text(config: Section) -> tuple[Section, Section]:
    """The figures of text, with what stands around them, and the section that towers stand in."""
    outer = config
    for key in _NESTED:
        nested = config.get(key)
        if isinstance(nested, dict):
            if key == "thinker_config":
                return _text({**config, **nested, "thinker_config": None})
            around = {name: value for name, value in config.items() if name != "model_type" or "model_type" not in nested}
            return {**around, **nested}, outer
    return config, outer


def _fill(config: Config) -> None:
    """Figures that a nested section leaves to its class."""
    for ours, value in NESTED_DEFAULTS.get(config.family, {}).items():
        if config.get(*ALIASES[ours]) is None:
            config.data[ALIASES[ours][0]] = value
            config.assume(f"{ALIASES[ours][0]} is {value}, as the family has it: the file does not say")


def _name(config: Config) -> str:
    """What the file calls itself, else its own name, else the family's."""
    given = str(config.get("_name_or_path") or "").rstrip("/").rpartition("/")[2]
    stem = Path(config.where).name.removesuffix(".json").removesuffix("config").rstrip("_-.")
    return stem.rpartition("--")[2] or given or str(config.get("model_type") or config.family)


def _section(config: Config, outer: Section, family: Family, own: list[Layer]) -> Section:
    d_model, context = config.number("d_model"), config.number("context_max", 2048)
    if config.get(*ALIASES["context_max"]) is None:
        config.assume("the longest context is 2048 tokens: the file does not say")
    common: Section = {
        "name": _name(config),
        "source": config.where,
        "layers": len(own),
        "d_model": d_model,
        "vocab": config.number("vocab"),
        "context_max": context,
    }
    prediction = _prediction(own, config, family)
    section = {**common, **((None if prediction else _alike(own)) or _pattern(own, prediction))}
    section |= _said_if(
        parallel_attention=_parallel(config, family),
        tied_embeddings=_tied(config, outer, family),
        norms=family.norms if family.norms > 1 else None,
        positions=context if family.positions else 0,
        residual_streams=config.count("hc_mult"),
        d_embedding=_narrow(config, d_model),
        d_layer_input=config.count("hidden_size_per_layer_input"),
    )
    if section.get("d_layer_input") and config.get("vocab_size_per_layer_input"):
        section["vocab_layer_input"] = config.number("vocab_size_per_layer_input")
    if config.get("altup_num_inputs"):
        config.assume("AltUp and Laurel, about one in a hundred parameters, are left out")
    towers = towers_of(config, outer, d_model)
    return {**section, **({"encoders": towers} if towers else {})}


def _said_if(**values: Any) -> Section:
    return {key: value for key, value in values.items() if value}


Layer = tuple[Any, Section | None]  # sections of attention (one, several or none) and of feed-forward


def _layers(config: Config, family: Family, layers: int) -> list[Layer]:
    """Each layer's sections."""
    types = attention_types(config, family, layers)
    found = [
        (attention_section(config, family, kind, i, layers), feed_forward_section(config, family, i, layers))
        for i, kind in enumerate(types)
    ]
    return _shortcuts(found, config, family) if config.family == "longcatflash" else found


def _shortcuts(layers: list[Layer], config: Config, family: Family) -> list[Layer]:
    """LongCat's layers are two of attention and a dense block, with experts beside the first of these blocks."""
    dense = {"kind": "dense", "d_ff": config.number("d_ff"), "activation": activation_of(config, family)}
    return [half for attention, feed_forward in layers for half in ((attention, feed_forward), (attention, dense))]


def _alike(layers: list[Layer]) -> Section | None:
    """The figures of a layer at the top, if all are alike and of the plainest kinds."""
    attention, feed_forward = layers[0]
    if any(layer != layers[0] for layer in layers) or not isinstance(attention, dict) or feed_forward is None:
        return None
    plain = {"kind", "heads", "kv_heads", "d_head"}, {"kind", "d_ff", "activation", "experts", "experts_active"}
    if attention["kind"] != "full" or not set(attention) <= plain[0]:
        return None
    if feed_forward["kind"] not in ("dense", "routed") or not set(feed_forward) <= plain[1]:
        return None
    return {key: value for section in (attention, feed_forward) for key, value in section.items() if key != "kind"}


def _pattern(layers: list[Layer], prediction: tuple[int, Layer] | None) -> Section:
    """Kinds by name and which layers have which: the shortest list that repeats, runs of equal layers together."""
    attentions, feed_forwards = _Names(), _Names()
    named = [(attentions.of(attention), feed_forwards.of(feed_forward)) for attention, feed_forward in layers]
    further = {}
    if prediction:
        count, (attention, feed_forward) = prediction
        further["prediction"] = {"layers": count, **_place(attentions.of(attention), feed_forwards.of(feed_forward))}
    period = next(n for n in range(1, len(named) + 1) if all(named[i] == named[i % n] for i in range(len(named))))
    runs: list[Section] = []
    for attention_name, feed_forward_name in named[:period]:
        place = _place(attention_name, feed_forward_name)
        if runs and {key: value for key, value in runs[-1].items() if key != "layers"} == place:
            runs[-1]["layers"] += 1
        else:
            runs.append({"layers": 1, **place})
    return {"attention": attentions.sections, "feed_forward": feed_forwards.sections, "pattern": runs, **further}


def _place(attention: Any, feed_forward: Any) -> Section:
    return _said_if(attention=attention, feed_forward=feed_forward)


class _Names:
    """Names of the different sections: their kinds, numbered where a kind comes with several figures."""

    def __init__(self) -> None:
        self.sections: dict[str, Section] = {}

    def of(self, section: Any) -> Any:
        """The name of a section; a list of names for sections side by side, None for none."""
        if section is None:
            return None
        if isinstance(section, list):
            return [self.of(one) for one in section]
        for name, known in self.sections.items():
            if known == section:
                return name
        count = sum(known["kind"] == section["kind"] for known in self.sections.values())
        name = section["kind"] + (f"_{count + 1}" if count else "")
        self.sections[name] = section
        return name


def _prediction(layers: list[Layer], config: Config, family: Family) -> tuple[int, Layer] | None:
    """How many layers predict further tokens, and what they are: the last layer that has attention, unless the file says."""
    count = config.count("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_layers", "mtp_num_layers")
    if config.get("use_mtp"):
        count = count or config.count("num_mtp_modules") * (config.count("mtp_transformer_layers") or 1)
    if not count:
        return None
    whole = [layer for layer in layers if _attends(layer[0]) and layer[1]]
    if whole:
        attention, feed_forward = whole[-1]
    else:  # a layer is one block: attention of one, feed-forward of another
        attention = next((layer[0] for layer in reversed(layers) if _attends(layer[0])), None)
        feed_forward = next((layer[1] for layer in reversed(layers) if layer[1]), None)
    if isinstance(attention, dict) and attention["kind"] == "compressed":
        attention = attention_section(config, family, "compressed", len(layers), len(layers))
    return count, (attention, feed_forward)


def _attends(attention: Any) -> bool:
    return isinstance(attention, dict) and attention["kind"] in ("full", "windowed", "chunked", "latent", "compressed")


def _parallel(config: Config, family: Family) -> bool:
    told = config.get("parallel_attn", "use_parallel_residual", "parallel_attention", "use_parallel_block")
    return family.parallel if told is None else bool(told)


def _tied(config: Config, outer: Section, family: Family) -> bool:
    """What the file says, around the figures of text first: there the checkpoint's own head is."""
    for source in (outer, config.data):
        for key in _TIED:
            if isinstance(source.get(key), bool):
                return bool(source[key])
    if family == Family(gated=family.gated) and config.assumed and "not listed" in config.assumed[0]:
        config.assume("embedding and head are apart: the file does not say")
    return family.tied


def _narrow(config: Config, d_model: int) -> int:
    width = config.count("word_embed_proj_dim", "embedding_size")
    return width if width and width != d_model else 0


def _encoder(config: Config, family: Family) -> Section:
    """An LLM that only encodes (BERT)."""
    layers, d_model, heads = config.number("layers"), config.number("d_model"), config.number("heads")
    context = config.number("context_max", 2048)
    encoder = {
        "joins": "alone",
        "layers": layers,
        "d_model": d_model,
        "heads": heads,
        "kv_heads": heads,
        "d_head": d_model // heads,
        "d_ff": config.number("d_ff", 4 * d_model),
        "activation": activation_of(config, family),
    }
    return {
        "name": _name(config),
        "source": config.where,
        "layers": 0,
        "d_model": d_model,
        "vocab": config.number("vocab"),
        "context_max": context,
        "positions": context,
        "tied_embeddings": bool(config.get(*_TIED) if config.get(*_TIED) is not None else family.tied),
        "encoders": {"text": encoder},
    }


def _whisper(config: Config) -> Section:
    """Encoder and decoder have their own counts; heads and widths must agree."""
    for a, b in (("encoder_attention_heads", "decoder_attention_heads"), ("encoder_ffn_dim", "decoder_ffn_dim")):
        if config.get(a) != config.get(b):
            raise config.error(f"{a} and {b} differ, which is not supported")
    d_model, heads = config.number("d_model"), config.number("decoder_attention_heads")
    positions = config.number("max_target_positions")
    layer: Section = {"heads": heads, "kv_heads": heads, "d_head": d_model // heads, "d_ff": config.number("decoder_ffn_dim")}
    layer["activation"] = activation_of(config, Family(gated=False))
    encoder = {"joins": "cross_attention", "layers": config.number("encoder_layers"), "d_model": d_model, **layer}
    return {
        "name": _name(config),
        "source": config.where,
        "layers": config.number("decoder_layers"),
        "d_model": d_model,
        **layer,
        "vocab": config.number("vocab"),
        "tied_embeddings": config.get(*_TIED) is not False,
        "positions": positions,
        "context_max": positions,
        "encoders": {"speech": {**encoder, "tokens": config.number("max_source_positions")}},
    }
