"""dcsim: a discrete-event simulator of the datacenters and networks that serve large language models.

import dcsim
run = dcsim.load("topologies/8rack.yaml").run(seed=1)
run.summary["ttft_s_p99"], run.requests
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcsim.results.records import Run as Run
    from dcsim.study.scenario import Scenario as Scenario
    from dcsim.study.scenario import load as load

__version__ = "0.1.0"

# Names of the public face and the module each lives in; nothing heavy is imported until it is used.
_FACE = {
    "load": "dcsim.study.scenario",
    "Scenario": "dcsim.study.scenario",
    "open_run": "dcsim.results.records",
    "Run": "dcsim.results.records",
    "DcsimError": "dcsim.errors",
}

__all__ = ["DcsimError", "Run", "Scenario", "__version__", "load", "open_run"]


def __getattr__(name: str) -> Any:
    if name not in _FACE:
        raise AttributeError(f"module 'dcsim' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_FACE[name]), name)
