"""dcsim: a discrete-event simulator of the datacenters and networks that serve large language models.

import dcsim
run = dcsim.load("topologies/8rack.yaml").run(seed=1)
run.summary["ttft_s_p99"], run.requests
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcsim.api.answers import CapacityAnswer as CapacityAnswer
    from dcsim.api.answers import ComparisonAnswer as ComparisonAnswer
    from dcsim.api.answers import CostAnswer as CostAnswer
    from dcsim.api.answers import IterationAnswer as IterationAnswer
    from dcsim.api.answers import MappingAnswer as MappingAnswer
    from dcsim.api.planning import PlanAnswer as PlanAnswer
    from dcsim.api.planning import PlannedSystem as PlannedSystem
    from dcsim.api.planning import plan as plan
    from dcsim.api.run import ServedRun as Run
    from dcsim.api.run import open_run as open_run
    from dcsim.api.scenario import Scenario as Scenario
    from dcsim.api.scenario import compare as compare
    from dcsim.api.scenario import load as load
    from dcsim.api.store import RunStore as RunStore
    from dcsim.api.store import store as store
    from dcsim.api.sweeping import SweepAnswer as SweepAnswer
    from dcsim.api.sweeping import sweep as sweep
    from dcsim.errors import DcsimError as DcsimError

__version__ = "0.1.0"

# Names of the public face, the module each lives in and its name there; nothing heavy is imported until it is used.
_FACE = {
    "load": ("dcsim.api.scenario", "load"),
    "Scenario": ("dcsim.api.scenario", "Scenario"),
    "compare": ("dcsim.api.scenario", "compare"),
    "open_run": ("dcsim.api.run", "open_run"),
    "Run": ("dcsim.api.run", "ServedRun"),
    "IterationAnswer": ("dcsim.api.answers", "IterationAnswer"),
    "CapacityAnswer": ("dcsim.api.answers", "CapacityAnswer"),
    "MappingAnswer": ("dcsim.api.answers", "MappingAnswer"),
    "CostAnswer": ("dcsim.api.answers", "CostAnswer"),
    "ComparisonAnswer": ("dcsim.api.answers", "ComparisonAnswer"),
    "RunStore": ("dcsim.api.store", "RunStore"),
    "store": ("dcsim.api.store", "store"),
    "plan": ("dcsim.api.planning", "plan"),
    "PlanAnswer": ("dcsim.api.planning", "PlanAnswer"),
    "PlannedSystem": ("dcsim.api.planning", "PlannedSystem"),
    "sweep": ("dcsim.api.sweeping", "sweep"),
    "SweepAnswer": ("dcsim.api.sweeping", "SweepAnswer"),
    "DcsimError": ("dcsim.errors", "DcsimError"),
}

__all__ = [
    "CapacityAnswer",
    "ComparisonAnswer",
    "CostAnswer",
    "DcsimError",
    "IterationAnswer",
    "MappingAnswer",
    "PlanAnswer",
    "PlannedSystem",
    "Run",
    "RunStore",
    "Scenario",
    "SweepAnswer",
    "__version__",
    "compare",
    "load",
    "open_run",
    "plan",
    "store",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name not in _FACE:
        raise AttributeError(f"module 'dcsim' has no attribute '{name}'")
    from importlib import import_module

    module, inside = _FACE[name]
    return getattr(import_module(module), inside)


def __dir__() -> list[str]:
    return sorted(__all__)
