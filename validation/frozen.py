"""Topologies as rows take them: degrees that are `auto` follow from the rule that was frozen before anything was compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dcsim.spec.load import Resolved
from dcsim.spec.load import load as load_spec
from dcsim.study import scenario

RULE = "mapping.rule=inside_nodes"


def load(topology: str, *, settings: Sequence[str] = (), **asked: Any) -> Resolved:
    """As `dcsim.spec.load.load`; settings may name another rule."""
    return load_spec(topology, settings=[RULE, *settings], **asked)


def load_case(topology: str, *, set: Sequence[str] = (), **asked: Any) -> scenario.Loaded:
    """As `dcsim.study.scenario.load`; settings may name another rule."""
    return scenario.load(topology, set=[RULE, *set], **asked)
