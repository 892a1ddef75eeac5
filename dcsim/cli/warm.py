"""Compiles the service kernels and keeps them on disk. `python -m dcsim.cli.warm`.

The first run after an install starts this beside itself, so that two cores share the compiling.
"""

from __future__ import annotations

import numpy as np

from dcsim.cluster.programs import Programs
from dcsim.cluster.service import Placement, serve
from dcsim.fabric.build import build_fabric
from dcsim.network.timing import IterationTime
from dcsim.spec.load import load
from dcsim.workload.requests import plain


def main() -> None:
    """Serve one request with a made-up iteration time."""
    spec = load("node").spec
    request = plain(np.zeros(1), np.ones(1, np.int32), np.full(1, 2, np.int32))
    programs = Programs(spec.serving, lambda shape: IterationTime(10**9, 10**8, 1.0))
    serve(spec, build_fabric(spec.fabric), Placement((tuple(range(8)),), 1000), programs, iter([request]))


if __name__ == "__main__":
    main()
