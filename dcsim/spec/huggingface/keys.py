"""The figures of a config under the many names they go by, for the whole LLM or for one of its layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dcsim.errors import Problem, SpecError, shown
from dcsim.spec.layers import LAYERS_MAX

# Ours -> theirs, the first present counts. Dots lead into a section.
ALIASES: dict[str, tuple[str, ...]] = {
    "layers": ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "num_transformer_layers"),
    "d_model": ("hidden_size", "n_embd", "n_embed", "d_model", "dim", "model_dim"),
    "heads": ("num_attention_heads", "n_head", "num_heads", "n_heads", "num_query_heads", "attention_heads"),
    "kv_heads": (
        "num_key_value_heads",
        "num_kv_heads",
        "n_head_kv",
        "multi_query_group_num",
        "num_attention_groups",
        "attn_config.kv_n_heads",
    ),
    "d_head": ("head_dim", "attention_head_dim", "kv_channels", "d_kv", "head_size"),
    "d_ff": (
        "intermediate_size",
        "n_inner",
        "ffn_dim",
        "ffn_hidden_size",
        "d_ff",
        "dense_intermediate_size",
        "ffn_config.ffn_hidden_size",
    ),
    "vocab": ("vocab_size", "padded_vocab_size"),
    "experts": ("n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts", "ffn_config.moe_num_experts"),
    "experts_active": (
        "num_experts_per_tok",
        "num_experts_per_token",
        "experts_per_token",
        "moe_top_k",
        "moe_topk",
        "moe_k",
        "top_k_experts",
        "num_selected_experts",
        "ffn_config.moe_top_k",
    ),
    "d_expert": ("moe_intermediate_size", "expert_ffn_hidden_size", "moe_ffn_hidden_size", "ffn_config.ffn_hidden_size"),
    "context_max": (
        "max_position_embeddings",
        "n_positions",
        "n_ctx",
        "seq_length",
        "max_sequence_length",
        "max_seq_len",
        "max_position_embedding",
        "model_max_length",
        "max_context_length",
    ),
    "activation": (
        "hidden_act",
        "hidden_activation",
        "activation_function",
        "mlp_hidden_act",
        "activation",
        "ffn_act_fn.name",
        "afn",
    ),
}


# Lists of blocks where a layer is one block: attention, state, experts or a dense block.
BLOCKS = ("hybrid_override_pattern", "layers_block_type")


@dataclass(slots=True)
class Config:
    """A config's keys, the figures of text if these are nested; `assumed` collects what was taken for granted in reading it."""

    data: dict[str, Any]
    where: str
    family: str = ""
    assumed: list[str] = field(default_factory=list)

    def get(self, *names: str, layer: int | None = None) -> Any:
        """The first of `names` that holds something, of one layer where a list gives each its own; None if none does."""
        for name in names:
            value = self._own(layer, name)
            if value is not None:
                break
            value = self.data
            for key in name.split("."):
                value = value.get(key) if isinstance(value, dict) else None
            if value is not None:
                break
        else:
            return None
        if layer is not None and isinstance(value, list) and not isinstance(value, str):
            if layer >= len(value):
                raise self.error(f"'{name}' has {len(value)} entries and layers go to {layer + 1}")
            return value[layer]
        return value

    def _own(self, layer: int | None, name: str) -> Any:
        """What `per_layer_config` says of one layer."""
        own = self.data.get("per_layer_config")
        if layer is None or not isinstance(own, dict):
            return None
        section = next((own[key] for key in own if str(key).isdigit() and int(key) == layer), None)
        return section.get(name) if isinstance(section, dict) else None

    def number(self, ours: str, default: int | None = None, layer: int | None = None) -> int:
        """A figure by our name. Raises SpecError where it is missing without a default, or is no whole number."""
        names = ALIASES.get(ours, (ours,))
        value = self.get(*names, layer=layer)
        number = self.whole(default if value is None else value, names)
        if ours == "layers" and number > LAYERS_MAX:
            raise self.error(f"{number:,} layers are more than any LLM has; at most {LAYERS_MAX:,} are read")
        return number

    def whole(self, value: Any, names: tuple[str, ...]) -> int:
        """`value` as a whole number of at least 1."""
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            some = "one of " if len(names) > 1 else ""
            raise self.error(f"needs a whole number for {some}{', '.join(names)}, got {shown(value)}")
        return value

    def count(self, *names: str, layer: int | None = None) -> int:
        """A figure that may be missing or 0."""
        value = self.get(*names, layer=layer)
        return self.whole(value, names) if value else 0

    def factor(self, *names: str, default: float = 1) -> float:
        """A ratio, which need not be whole."""
        value = self.get(*names)
        value = default if value is None else value
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < 1e6:
            raise self.error(f"needs a number for {', '.join(names)}, got {shown(value)}")
        return value

    def sections(self, name: str) -> list[dict[str, Any]] | None:
        """A list of sections, one a layer; None where there is none."""
        value = self.get(name)
        if isinstance(value, list) and not all(isinstance(section, dict) for section in value):
            raise self.error(f"needs a section for each layer in '{name}', got {shown(value)}")
        return value if isinstance(value, list) else None

    def error(self, what: str, mend: str = "") -> SpecError:
        """An error of this file."""
        return SpecError(Problem(self.where, what, mend))

    def assume(self, what: str) -> None:
        """Note something taken for granted, once."""
        if what not in self.assumed:
            self.assumed.append(what)


def plain(name: str) -> str:
    """A family's name without the marks in which its spellings differ."""
    return "".join(letter for letter in name.lower() if letter.isalnum())
