"""Iterations on packet networks, for tests of what they consist of."""

from dcsim.network.network import make_network


def run_packets(spec, bare, mapping, shape, count=0, seed=1):
    """Successive iterations of `shape` on the network of `spec` between the chips of a fabric with their own cables."""
    return make_network(spec, bare, mapping, seed).iterations(shape, count)
