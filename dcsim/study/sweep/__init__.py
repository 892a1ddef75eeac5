"""Many scenarios: which points (`design`), what to do at each (`case`), who does it (`executors`), what is kept (`journal`)."""

from __future__ import annotations

from dcsim.study.sweep.case import SHOWN, Case
from dcsim.study.sweep.design import Design, parse_range
from dcsim.study.sweep.sweep import pick, sweep

__all__ = ["SHOWN", "Case", "Design", "parse_range", "pick", "sweep"]
