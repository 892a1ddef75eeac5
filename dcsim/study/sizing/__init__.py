"""What to build for a rate of requests and its SLOs, by simulation: targets (`slo`), sizes, `layouts`, bounds, and the search."""

from __future__ import annotations

from dcsim.study.sizing.rows import Wanted
from dcsim.study.sizing.search import size
from dcsim.study.sizing.slo import Target, targets_of

__all__ = ["Target", "Wanted", "size", "targets_of"]
