"""The shorter queue of two drawn links: most of what looking at all of them gains (Mitzenmacher 2001)."""

import numpy as np
import pytest

from dcsim.fabric.switched import fat_tree
from dcsim.network.packet.engine import traffic
from dcsim.network.packet.engine.engine import Engine
from dcsim.network.packet.engine.rules import LinkFigures, PacketRules
from dcsim.spec.load import load

LINKS = {name: LinkFigures(12.5e9, 1e-7) for name in ("adapter", "fabric")}


def mean_us(routing):
    flows = traffic.uniform(128, 1 << 17, seed=3)
    done = Engine(fat_tree(128, 8), PacketRules(LINKS, routing=routing), flows).iteration()
    assert done.links.drops.sum() == 0
    return np.mean(done.last_ps) / 1e6


def test_two_choices_gain_most_of_what_all_gain():
    one, two, all_of_them = (mean_us(rule) for rule in ("spray", "two_choices", "adaptive"))
    assert all_of_them < two < one
    assert one - two > 0.5 * (one - all_of_them)


@pytest.mark.parametrize("topology", ["64chip", "h100x16"])
def test_it_can_be_named(topology):
    spec = load(topology, network="infiniband-ndr", settings=["network.routing=two_choices"]).spec
    assert spec.network.routing == "two_choices"
