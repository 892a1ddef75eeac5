"""In which format each part of an LLM is stored and multiplied: as the mapping says, or as the LLM's own file does."""

from __future__ import annotations

from operator import add

from dcsim.errors import SpecError
from dcsim.llm.storage import Weight
from dcsim.spec.chip import Chip, LpuChip
from dcsim.spec.llm import LlmSpec
from dcsim.spec.mapping import BYTES, MappingSpec, Precision, stored_bytes

# What is read where neither the LLM nor the mapping says it: the format that LLMs are released in.
RELEASED: Precision = "bf16"


def format_of(llm: LlmSpec, spec: MappingSpec, part: str) -> Precision:
    """The format `part` is stored in. Raises SpecError if it is to be the LLM's own and the LLM does not say."""
    if spec.weights != "stored":
        return spec.weights
    if llm.precision is None:
        raise SpecError(f"mapping.weights is `stored`, but {llm.name or 'the LLM'} does not say how its weights are stored")
    return own_format(llm, part)


def own_format(llm: LlmSpec, part: str) -> Precision:
    """The format `part` has in the LLM's own file; `RELEASED` where it does not say."""
    stored = llm.precision
    return RELEASED if stored is None else getattr(stored, part, None) or stored.weights


def shard_bytes(llm: LlmSpec, spec: MappingSpec, weights: list[Weight]) -> list[int]:
    """Bytes of `weights` on each shard. All of them are cut into as many."""
    elements: dict[str, tuple[int, ...]] = {}
    for weight in weights:
        before = elements.get(weight.part)
        elements[weight.part] = tuple(map(add, before, weight.elements)) if before else weight.elements
    parts = [[stored_bytes(count, format_of(llm, spec, part)) for count in counts] for part, counts in elements.items()]
    return [sum(counts) for counts in zip(*parts, strict=True)]


def weight_bytes(llm: LlmSpec, spec: MappingSpec, weights: list[Weight]) -> int:
    """Bytes of uncut `weights`."""
    return sum(shard_bytes(llm, spec, weights))


def active_bytes(llm: LlmSpec, spec: MappingSpec, chip: Chip, part: str) -> int | float:
    """Bytes of one element that enters the products of `part`; never narrower than what is stored there, up to 16 bit."""
    stored = BYTES[format_of(llm, spec, part)]
    if spec.activations != "stored":
        return max(BYTES[spec.activations], min(stored, 2))
    own = llm.precision.activations if llm.precision else None
    narrow = own is not None and stored <= 1 and multiplies(chip, own)
    return max(BYTES[own], stored) if narrow and own else 2


def multiplies(chip: Chip, precision: Precision) -> bool:
    """Whether the chip's matrix unit takes both sides of a product in `precision` (8 bits or fewer)."""
    if isinstance(chip, LpuChip):
        return precision == "int8"
    return BYTES[precision] == 1 or (BYTES[precision] < 1 and chip.fp4_flop_per_s is not None)


def told(llm: LlmSpec, spec: MappingSpec) -> str:
    """The formats of the weights in a few words: `fp8`, or `fp8; bf16: embedding, head`."""
    if spec.weights != "stored":
        return spec.weights
    parts: dict[str, list[str]] = {}
    for part in ("attention", "state", "dense", "experts", "shared", "router", "norm", "embedding", "head", "encoder"):
        parts.setdefault(own_format(llm, part), []).append(part)
    most = format_of(llm, spec, "weights")
    others = [f"{name}: {', '.join(members)}" for name, members in parts.items() if name != most]
    return "; ".join([most, *others])
