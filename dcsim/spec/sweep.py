"""A sweep as a file: the topology, what is fixed, which values its keys take, and what is done at each point."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from dcsim.spec.section import Count, Positive, Section

Value = str | bool | int | float | list[Any]
DesignName = Literal["grid", "zip", "list", "random", "latin"]


class SweepSpec(Section):
    """A sweep. `values` holds lists of values by dotted key, or ranges such as `1 s..10 s`; `points` lists whole points."""

    topology: str = Field(min_length=1, description="A topology file, or the name of one in the library.")
    llm: str | None = Field(default=None, description="LLM at every point; default: the topology's.")
    workload: str | None = Field(default=None, description="Workload at every point; default: the topology's.")
    interconnect: str | None = Field(default=None, description="Network at every point; default: the topology's.")
    rate: str | None = Field(default=None, description="Requests in a second at every point, such as `30/s`.")
    set: dict[str, Value] = Field(default={}, description="Values of dotted keys at every point.")
    zoom: Literal["iteration", "run"] = Field(default="run", description="Time one iteration, or serve the workload.")
    batch: Positive = Field(default=1, description="Sequences of an iteration.")
    context: Positive | None = Field(default=None, description="Tokens of context of an iteration's sequences.")
    design: DesignName = Field(default="grid", description="Which points: every combination, side by side, a list, or drawn.")
    values: dict[str, Value] = Field(default={}, description="Values of each dotted key, or its range.")
    points: tuple[dict[str, Value], ...] = Field(default=(), description="The points of the design `list`.")
    samples: Count = Field(default=0, description="Points that are drawn.")
    replications: Positive = Field(default=1, description="Seeds at each point, the same at all.")
    seed: Annotated[int, Field(ge=0, strict=True)] = Field(default=1, description="The first seed.")
    metrics: tuple[str, ...] = Field(default=(), description="Metrics to show.")

    @model_validator(mode="after")
    def _points_or_values(self) -> SweepSpec:
        if bool(self.points) == bool(self.values):
            raise ValueError("give either `values` or `points`")
        return self
