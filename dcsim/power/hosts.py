"""What host servers draw: each an idle draw, and for every busy core its part of the server's swing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dcsim.spec.host import HostSpec
from dcsim.spec.topology import Topology
from dcsim.units import to_ps


def core_w(host: HostSpec) -> float:
    """Draw of one busy core above the server's idle draw."""
    return (host.busy_w - host.idle_w) / host.cores


def token_pj(host: HostSpec) -> int:
    """Energy of detokenising and sending one output token, above the idle draw.

    Streaming is spread too thin to queue for cores. It is drawn by the hosts beside the chips that make the token, as these
    make it, so it counts with the replica's work.
    """
    return round(to_ps(host.detokenise_token_s) * core_w(host))


def host_racks(spec: Topology, racks: int) -> NDArray[np.int64]:
    """[host server] the rack it stands in: the servers that take requests in stand in the racks in turn."""
    return np.arange(spec.serving.host_servers) % racks
