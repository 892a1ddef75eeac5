"""Topologies under a mapping that is not searched for, for tests of all else."""

from dcsim.spec.load import load as load_spec
from dcsim.study.compare import compare as compare_networks

RULE = "mapping.rule=inside_nodes"


def load(topology, *, settings=(), **asked):
    """As `dcsim.spec.load.load`; degrees that are `auto` follow from a rule unless the settings name another."""
    return load_spec(topology, settings=[RULE, *settings], **asked)


def compare(topology, interconnects, shape, *, settings=(), **asked):
    """As `dcsim.study.compare.compare`; all have the first one's mapping, which follows from a rule."""
    return compare_networks(topology, interconnects, shape, settings=[RULE, *settings], same_mapping=True, **asked)
