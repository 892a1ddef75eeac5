"""Values that come from a formula: bytes of context, arithmetic of a token, money, silicon, SRAM between two uses."""

from __future__ import annotations

from collections.abc import Sequence

from dcsim.economics.silicon import card_cost, yield_with_spares
from dcsim.economics.tco import break_even_life_y
from dcsim.llm import architecture as arch
from dcsim.llm.precision import weight_bytes
from dcsim.spec.mapping import BYTES
from dcsim.spec.price import RentPrices, SiliconPrices, TcoPrices, read_prices
from dcsim.study.machine import build
from validation import published_money as claims
from validation.frozen import load
from validation.measures import Answer, answer_of, peak_flop_per_s


def context_bytes_per_token(topology: str) -> Answer:
    """Bytes of keys and values one token of context takes."""
    spec = load(topology).spec
    return Answer(float(arch.kv_bytes_per_token(spec.llm, BYTES[spec.mapping.kv])))


def memory_bytes(topology: str, *, context: int) -> Answer:
    """Bytes of the weights and one context of `context` tokens; beside it, what the topology's chips hold."""
    machine = build(load(topology).spec)
    spec, mapping = machine.spec, machine.mapping
    weights = weight_bytes(spec.llm, spec.mapping, arch.weights_of(arch.sublayers(spec.llm)))
    kv = arch.kv_bytes(spec.llm, context, spec.mapping.kv)
    return Answer(
        float(weights + kv),
        {
            "weights_bytes": weights,
            "context_bytes": kv,
            "chips_used": mapping.chips_used,
            "contexts_beside_the_weights": mapping.memory.room.sequences_max(context),
        },
    )


def fewest_chips(topology: str, *, set: Sequence[str] = (), extra: Sequence[str] = ()) -> Answer:
    """The fewest chips that hold one replica and one token of context."""
    from dcsim.llm.mapping import fewest_chips as fewest

    resolved = load(topology, settings=[*set, *extra])
    spec = resolved.spec
    return answer_of({"chips": fewest(spec.llm, spec.chip, spec.mapping)[0]}, "chips", "", (), resolved)


def token_flop(topology: str, *, context: int) -> Answer:
    """Arithmetic of one token of the topology's LLM."""
    llm = load(topology).spec.llm
    return Answer(float(arch.flop_per_token(llm, context)))


def cluster_power_w(topology: str) -> Answer:
    """Power of the active chips at their hungriest."""
    machine = build(load(topology).spec)
    return Answer(float(machine.fabric.chip_active.sum() * machine.spec.chip.power.matrix_w))


def chip_peak_flop_per_s(topology: str, *, eight_bit: bool = False) -> Answer:
    """Peak arithmetic of one chip: 16 bit, or 8 bit at four times the products a cycle (twice as wide, twice as many)."""
    return Answer(peak_flop_per_s(load(topology).spec.chip) * (4 if eight_bit else 1))


def cycles_between_uses(clock_hz: float, tokens_per_s: float) -> Answer:
    """Cycles of a chip between two uses of one weight, when each token uses it once."""
    return Answer(clock_hz / tokens_per_s)


def processed_per_chip(flop_per_s: float, parameters: float) -> Answer:
    """Tokens a chip passes through an LLM a second."""
    return Answer(claims.processed_tokens_per_s(flop_per_s, parameters))


def generated_per_chip(flop_per_s: float, parameters: float, prompt: int, output: int) -> Answer:
    """Of those, the ones it generates."""
    rate = claims.processed_tokens_per_s(flop_per_s, parameters)
    return Answer(rate * claims.generated_share(prompt, output))


def batch_tokens_per_chip(batch: int, tokens: int, seconds: float, chips: int) -> Answer:
    """Tokens each chip deals with a second in a batch job."""
    return Answer(claims.batch_tokens_per_s_per_chip(batch, tokens, seconds, chips))


def rented_usd_per_ktoken(usd_per_h: float, tokens_per_s: float) -> Answer:
    """USD per thousand tokens at a rent and a rate."""
    return Answer(claims.usd_per_ktoken(usd_per_h, tokens_per_s))


def restated_gain(gain: float, usd_per_ktoken_claimed: float, usd_per_h: float, tokens_per_s: float) -> Answer:
    """A claimed advantage when the other side's cost is put right."""
    return Answer(claims.restated_gain(gain, usd_per_ktoken_claimed, claims.usd_per_ktoken(usd_per_h, tokens_per_s)))


def bandwidth_per_usd(topology: str, other: str, *, extra: Sequence[str] = ()) -> Answer:
    """Memory bandwidth a dollar buys in one chip, over the same in another."""
    resolved = load(topology, settings=list(extra))
    a, b = resolved.spec.chip, load(other).spec.chip
    gain = claims.gain_per_usd(a.memory_bandwidth_bytes_per_s, a.price.buy_usd, b.memory_bandwidth_bytes_per_s, b.price.buy_usd)
    return answer_of({"gain": gain}, "gain", "", (), resolved)


def board_usd(topology: str, silicon: str) -> Answer:
    """Cost of making one card from its wafer up."""
    prices, _ = read_prices(silicon, SiliconPrices)
    cost = card_cost(load(topology).spec.chip.die_mm2, prices)
    return Answer(
        cost.card_usd, {"good_die_usd": cost.good_die_usd, "raw_die_usd": cost.raw_die_usd, "yield_fraction": cost.yield_fraction}
    )


def wafer_yield(topology: str, silicon: str, *, cores: int, spare_fraction: float) -> Answer:
    """Yield of a wafer-sized die with `spare_fraction` of its cores in reserve; beside it, without any."""
    prices, _ = read_prices(silicon, SiliconPrices)
    die_mm2 = load(topology).spec.chip.die_mm2
    spares = round(cores * spare_fraction)
    return Answer(yield_with_spares(die_mm2, spares, prices), {"without_spares": yield_with_spares(die_mm2, 0, prices)})


def die_yield(topology: str, silicon: str, *, extra: Sequence[str] = ()) -> Answer:
    """Share of a chip's dies without a defect; beside it, the defects that a die has on average."""
    prices, _ = read_prices(silicon, SiliconPrices)
    resolved = load(topology, settings=list(extra))
    die_mm2 = resolved.spec.chip.die_mm2
    result = {"good": yield_with_spares(die_mm2, 0, prices), "defects": die_mm2 / prices.area_per_defect_mm2}
    return answer_of(result, "good", "", ("defects",), resolved)


def defects_ratio(topology: str, other: str, silicon: str) -> Answer:
    """Defects that a die has on average, over those of another chip's die; beside it, the share without any of each."""
    mine, theirs = die_yield(topology, silicon), die_yield(other, silicon)
    shares = {"yield_fraction": mine.value, "other_yield_fraction": theirs.value}
    return Answer(mine.also["defects"] / theirs.also["defects"], shares)


def break_even_y(peak_w: float, server_usd: float, prices: str, rent: str) -> Answer:
    """Years after which owning one server costs no more than renting one chip."""
    tco_prices, _ = read_prices(prices, TcoPrices)
    rents, _ = read_prices(rent, RentPrices)
    return Answer(break_even_life_y(peak_w, server_usd, tco_prices, rents.chip_hour_usd))


def boards_usd(boards: int, board_usd: float, host_factor: float) -> Answer:
    """A cluster's price as its boards times a factor for what stands around them."""
    return Answer(claims.cluster_usd(boards, board_usd, host_factor))


def bill_usd(topology: str, prices: str, basis: str) -> Answer:
    """A cluster's price line by line."""
    from dcsim.economics.bill import bill, parts_of, total_usd
    from dcsim.economics.cost import priced
    from dcsim.fabric.build import build_fabric
    from dcsim.network.network import make_network
    from dcsim.power.site import site_of

    resolved = load(topology)
    spec, figures = priced(resolved.spec, prices)
    parts = parts_of(site_of(make_network(spec, build_fabric(spec.fabric))))
    lines = bill(parts, spec, "build" if basis == "build" else "buy", {**resolved.figures, **figures})
    return Answer(total_usd(lines), {line.item: line.usd for line in lines})
