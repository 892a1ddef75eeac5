"""Fixtures that several rooms' tests share."""

import numpy as np
import pytest
from small_cluster import Line


@pytest.fixture(scope="session")
def serve_small():
    """Serve requests on a 72-chip rack of given iteration times, by an LLM of a million positions; returns the ServiceResult.

    `place` holds further fields of the Placement, `options` go to `serve`.
    """
    from dcsim.cluster.programs import Programs
    from dcsim.cluster.service import Placement, serve
    from dcsim.fabric.graph import from_cables
    from dcsim.spec.load import load

    ring = [(i, (i + 1) % 72, "local", 1.0) for i in range(72)]
    fabric = from_cables("ring", 72, ring, node_of=np.arange(72) // 8, rack_of=np.zeros(72), chip_active=np.arange(72) < 64)

    def run(requests, time=None, kv_tokens=100_000, replicas=1, settings=(), place=None, engine="auto", **options):
        spec = load("8rack", settings=["llm.context_max=1000000", *settings, f"engine={engine}"]).spec
        chips = tuple(tuple(range(r * (64 // replicas), (r + 1) * (64 // replicas))) for r in range(replicas))
        programs = Programs(spec.serving, time or Line())
        return serve(spec, fabric, Placement(chips, kv_tokens, **(place or {})), programs, requests, **options)

    return run
