"""Switching energy of one output token, from the bottom up: a floor under what a whole machine draws.

Clocks, leakage, waiting chips, hosts and cooling come on top; at low concurrency they are nearly all of it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TokenEnergy:
    """Joules of one output token, by cause."""

    weights_j: float
    kv_j: float
    compute_j: float
    links_j: float

    @property
    def total_j(self) -> float:
        """The sum."""
        return self.weights_j + self.kv_j + self.compute_j + self.links_j


def token_energy(
    *,
    weight_bytes: float,
    kv_bytes: float,
    flop: float,
    memory_byte_j: float,
    fma_j: float,
    batch: int = 1,
    link_bytes: float = 0.0,
    link_byte_j: float = 0.0,
) -> TokenEnergy:
    """Energy of one token of a batch of `batch` sequences that reads each weight once an iteration.

    weights: `weight_bytes` shared by the batch; KV: the sequence's own `kv_bytes`; arithmetic: `flop` / 2 fused
    multiply-adds; links: `link_bytes` counts a byte once for every link it crosses.
    """
    return TokenEnergy(
        weights_j=weight_bytes * memory_byte_j / batch,
        kv_j=kv_bytes * memory_byte_j,
        compute_j=flop / 2 * fma_j,
        links_j=link_bytes * link_byte_j,
    )
