"""What packet tests share: fabrics, the rate control of the catalog, and what an engine's books must come to."""

import numpy as np

from dcsim.fabric import switched
from dcsim.fabric.graph import from_cables
from dcsim.network.packet.rules_of import rate_control_of
from dcsim.spec.load import load_entry
from dcsim.spec.transport import TransportSpec

DCQCN = rate_control_of(load_entry("rdma", "topologies/transports", TransportSpec)[0])


def star(chips):
    """Chips around one switch."""
    return switched.leaf_spine(chips, chips)


def fat_tree(radix):
    """Three full tiers of switches of one radix (Al-Fares, Loukissas, Vahdat 2008): radix^3 / 4 chips."""
    return switched.fat_tree(radix**3 // 4, radix)


def line(switches):
    """Two chips at the ends of a row of switches."""
    cables = [(0, 2, "adapter", 0.0), (1, 1 + switches, "adapter", 0.0)]
    cables += [(2 + i, 3 + i, "adapter", 0.0) for i in range(switches - 1)]
    return from_cables("line", 2, cables, vertex_count=2 + switches)


def books_balance(s):
    """All has arrived: no buffer slot is still taken, nothing waits for a link, and a window counts what no answer came for."""
    assert (s.queues["taken"] == s.queues["released"]).all()
    assert (s.queues["held_first"] == -1).all()
    assert (s.links["waiting_ps"] == 0).all()
    assert (s.links["stranded_first"] == -1).all()
    if len(s.windows):
        pair = s.tasks["pair"][s.packets["message"]]
        on_their_way = np.bincount(pair, s.answers, len(s.windows)) + s.windows["unanswered"]
        assert s.windows["out"].tolist() == on_their_way.tolist()
