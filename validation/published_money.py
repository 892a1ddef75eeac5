"""The arithmetic under published claims on speed and cost of serving LLMs: small, reusable, each checked by hand."""

from __future__ import annotations

from dcsim.economics.cost import SECONDS_PER_HOUR


def processed_tokens_per_s(flop_per_s: float, parameters: float) -> float:
    """Tokens passed through an LLM at an achieved arithmetic rate: two FLOP a parameter and token."""
    return flop_per_s / (2 * parameters)


def generated_share(prompt_tokens: float, output_tokens: float) -> float:
    """Share of the processed tokens that is generated."""
    return output_tokens / (prompt_tokens + output_tokens)


def batch_tokens_per_s_per_chip(batch: int, tokens: float, seconds: float, chips: int) -> float:
    """Tokens each chip deals with a second, when `batch` sequences of `tokens` tokens take `seconds`."""
    return batch * tokens / seconds / chips


def usd_per_ktoken(usd_per_h: float, tokens_per_s: float) -> float:
    """USD per thousand tokens of something rented by the hour."""
    return usd_per_h / (tokens_per_s * SECONDS_PER_HOUR) * 1000


def restated_gain(gain: float, usd_per_ktoken_claimed: float, usd_per_ktoken_restated: float) -> float:
    """A claimed cost advantage once the other side's cost is restated and one's own is left as it was."""
    return gain * usd_per_ktoken_restated / usd_per_ktoken_claimed


def gain_per_usd(value_a: float, usd_a: float, value_b: float, usd_b: float) -> float:
    """How many times as much of something (FLOP/s, bandwidth, tokens/s) a dollar buys in a as in b."""
    return value_a / usd_a / (value_b / usd_b)


def cluster_usd(boards: int, board_usd: float, host_factor: float = 1.0) -> float:
    """Price of a cluster from its boards; `host_factor` (2: "figure double") stands for the servers around them."""
    return boards * board_usd * host_factor


def repay_tokens(invested_usd: float, usd_per_mtoken_now: float, usd_per_mtoken_then: float) -> float:
    """Tokens to serve until a one-off investment (a chip's design, its masks) has been saved; infinite if none is."""
    saved = usd_per_mtoken_now - usd_per_mtoken_then
    return invested_usd / saved * 1e6 if saved > 0 else float("inf")
