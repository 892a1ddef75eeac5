"""Channels: the same ranks in several orders, so that a pattern crosses between nodes by every adapter.

Chip i of a node has the adapter of rail i. Order c enters a node at its chip c and leaves it by the chip before, in every second
node the other way round: then it stays on one rail wherever it crosses, and over all orders every adapter is used once each way.
Where each rank has a link to every other, orders are rings that together use all links alike (`meshes`).
After NCCL's rings (src/graph/rings.cc, search.cc at v2.30.7), whose odd nodes swap channels to the same end.
"""

from __future__ import annotations

from dcsim.network.patterns.meshes import mesh_rings
from dcsim.network.patterns.ranks import Levels, nodes_of

CHANNEL_RANK_BYTES = 4096  # one channel more for each of these a rank: 512 threads of 8 bytes (NCCL src/enqueue.cc, LL)


def channels(ranks: int, size_bytes: int, levels: Levels, mesh: bool = False) -> int:
    """How many channels a collective takes: as many as each node has chips, fewer for little data; one behind a single switch."""
    nodes = nodes_of(range(ranks), levels)
    if len(nodes) < 2 and not mesh:
        return 1
    most = len(mesh_rings(ranks)) if mesh else min(map(len, nodes))
    return max(1, min(most, size_bytes // (CHANNEL_RANK_BYTES * ranks)))


def order(channel: int, ranks: int, levels: Levels, mesh: bool = False) -> list[int]:
    """The ranks in the order in which a channel's ring passes them."""
    if mesh:
        return list(mesh_rings(ranks)[channel])
    passed: list[int] = []
    for place, node in enumerate(nodes_of(range(ranks), levels)):
        begin = channel % len(node)
        turned = node[begin:] + node[:begin]
        passed += turned[::-1] if place % 2 else turned
    return passed


def chains(channel: int, ranks: int, levels: Levels, mesh: bool = False) -> list[list[int]]:
    """The ranks of each node from the one on the channel's rail on."""
    if mesh:
        return [order(channel, ranks, levels, mesh)]
    turned = []
    for node in nodes_of(range(ranks), levels):
        begin = channel % len(node)
        turned.append(node[begin:] + node[:begin])
    return turned
