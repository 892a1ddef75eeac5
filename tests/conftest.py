"""Fixtures that several rooms' tests share."""

import os
from functools import cache

import numpy as np
import pytest
from small_cluster import InFlight, Line, Steps


@pytest.fixture(autouse=True)
def _back_where_it_began():
    """Whatever folder a test goes to, the next one begins where this one did."""
    folder = os.getcwd()
    yield
    os.chdir(folder)


@pytest.fixture(scope="session")
def serve_small():
    """Serve requests on a 72-chip rack of given iteration times, by an LLM of a million positions; returns the ServiceResult.

    `place` holds further fields of the Placement, `options` go to `serve`; `engine` sets the spec's.
    """
    from dcsim.cluster.service import serve

    def run(requests, time=None, kv_tokens=100_000, replicas=1, settings=(), place=None, engine="auto", **options):
        return serve(*_small(time, kv_tokens, replicas, [*settings, f"engine={engine}"], place), requests, **options)

    return run


@pytest.fixture(scope="session")
def small_processes():
    """The processes of such a run, not yet begun: a `Cluster` whose `run` serves the requests."""
    from dcsim.cluster.simpy.cluster import Cluster
    from dcsim.results.records import TableWriter

    def make(requests, time=None, kv_tokens=100_000, replicas=1, settings=(), place=None, seed=1):
        parts = _small(time, kv_tokens, replicas, settings, place)
        options = {"skip": True, "seed": seed, "record_rounds": False, "progress": None}
        return Cluster(*parts, iter([requests]), ("default",), (0,), TableWriter("requests"), **options)

    return make


@cache
def _rack():
    from dcsim.fabric.graph import from_cables

    ring = [(i, (i + 1) % 72, "local", 1.0) for i in range(72)]
    return from_cables("ring", 72, ring, node_of=np.arange(72) // 8, rack_of=np.zeros(72), chip_active=np.arange(72) < 64)


def _small(time, kv_tokens, replicas, settings, place):
    """Spec, fabric, placement and programs, which under a serving engine are timed by steps."""
    from dcsim.cluster.engine_programs import EnginePrograms
    from dcsim.cluster.placement import Placement
    from dcsim.cluster.programs import Programs
    from dcsim.llm.kv import SequenceRoom, room_of_tokens
    from dcsim.network.network import make_network
    from dcsim.power.site import site_of
    from dcsim.spec.load import load

    spec = load("8rack", settings=["llm.context_max=1000000", *settings]).spec
    chips = tuple(tuple(range(r * (64 // replicas), (r + 1) * (64 // replicas))) for r in range(replicas))
    site = site_of(make_network(spec, _rack()))
    room = kv_tokens if isinstance(kv_tokens, SequenceRoom) else room_of_tokens(kv_tokens)
    if spec.serving.engine:
        programs = EnginePrograms(spec.serving.engine, spec.serving, time or Steps(), spec.chip.power, spec.llm)
    else:
        programs = Programs(spec.serving, time or Line(), in_flight=time.in_flight if isinstance(time, InFlight) else None)
    return spec, _rack(), Placement(site, chips, room, **(place or {})), programs
