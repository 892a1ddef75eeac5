"""A network that takes no time but for its cables: what is beyond it is the network's doing."""

from __future__ import annotations

from dcsim.network.packet.network import packet_section
from dcsim.spec.network import Background
from dcsim.spec.topology import Topology

NO_LIMIT_BYTES_PER_S = 1e15


def ideal_of(spec: Topology) -> Topology:
    """The spec of a packet network, without library and jitter, made ideal: adapters, switches and bytes take no time."""
    network = packet_section(spec).model_copy(
        update={
            "name": "ideal",
            "fairness": "pcie",
            "pcie_bytes_per_s": NO_LIMIT_BYTES_PER_S,
            "bandwidth_bytes_per_s": NO_LIMIT_BYTES_PER_S,
            "adapter_s": 0.0,
            "switch_s": 0.0,
            "header_bytes": 0.0,
            "adapter_messages_per_s": NO_LIMIT_BYTES_PER_S,
            "load_fraction": 0.0,
            "background": Background(),
            "faults": (),
            "replications": 1,
        }
    )
    island = spec.node.island
    if island is None:
        return spec.model_copy(update={"network": network})
    free = island.model_copy(update={"bandwidth_bytes_per_s": NO_LIMIT_BYTES_PER_S, "adapter_s": 0.0, "switch_s": 0.0})
    return spec.model_copy(update={"network": network, "node": spec.node.model_copy(update={"island": free})})
