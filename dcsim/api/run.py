"""A finished run in Python: its tables, metrics, pictures, and what limits it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcsim.api import html
from dcsim.api.answers import CostAnswer
from dcsim.results import records
from dcsim.results.metrics import LIMIT_MEANING
from dcsim.study.in_python import speaking_python, speaks_python

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

    from dcsim.llm.program import Shape
    from dcsim.study.machine import Machine


class ServedRun(records.Run):
    """A run of a scenario, in memory or in its folder. `dcsim.open_run` opens a saved one.

    `summary` is one flat object of metrics (docs/METRICS.md). Tables are pandas DataFrames, docs/FILES.md says of what columns;
    `chips` and `links` are of one iteration of a lone sequence, built again from the run's spec when first asked for.
    """

    @property
    def requests(self) -> pd.DataFrame:
        """One row a request, in order of arrival."""
        return self._frame("requests")

    @property
    def power(self) -> pd.DataFrame:
        """One row a rack and sampling interval."""
        return self._frame("power")

    @property
    def gaps(self) -> pd.DataFrame:
        """How often each gap between tokens occurred."""
        return self._frame("gaps")

    @property
    def limits(self) -> pd.DataFrame:
        """What the requests' time was spent on or waiting for."""
        return self._frame("limits")

    @property
    def limits_over_time(self) -> pd.DataFrame:
        """The same by interval of time, as the power table's; RunStoreError of a run that the compiled copy served."""
        return self._over_time("limits_over_time")

    @property
    def programs(self) -> pd.DataFrame:
        """How often each replica carried out an iteration of each compiled shape, by interval of time; else as above."""
        return self._over_time("programs")

    @property
    def links_over_time(self) -> pd.DataFrame:
        """How busy the links of each class are by interval of time, of `programs` and what links do in one iteration of each.

        RunStoreError as above, and of a run under a serving engine, whose iterations hold any mixture of tokens.
        """
        from dcsim.errors import RunStoreError
        from dcsim.study.layout import link_use_over_time

        programs = self.programs
        if programs.empty:
            raise RunStoreError(f"{self.folder}: no compiled program ran, so that what links did over time is not known")
        machine, _ = self._machine
        return _as_frame(link_use_over_time(machine, {str(name): programs[name].to_numpy() for name in programs}))

    @property
    def chips(self) -> pd.DataFrame:
        """One row a chip: where it stands, its replica and stage, and how busy it is in one iteration."""
        from dcsim.study.layout import chip_rows

        return _as_frame(chip_rows(*self._machine))

    @property
    def links(self) -> pd.DataFrame:
        """One row a directed link: its ends, class and payload, and how busy it is in one iteration."""
        from dcsim.study.layout import link_rows

        return _as_frame(link_rows(*self._machine))

    def bottlenecks(self) -> pd.DataFrame:
        """What the requests' time was spent on, the most first: `resource`, `request_s`, `fraction`, `meaning`."""
        rows = self.limits.sort_values("request_s", ascending=False, kind="stable", ignore_index=True)
        rows["fraction"] = rows["request_s"] / max(float(rows["request_s"].sum()), 1e-30)
        rows["meaning"] = [LIMIT_MEANING.get(str(name), "") for name in rows["resource"]]
        return rows

    @property
    def plot(self) -> Plots:
        """Pictures of the run, each a plotly figure that is returned and not shown."""
        return Plots(self)

    @speaks_python
    def cost(self, prices: str | None = None, rent: str | None = None) -> CostAnswer:
        """What the run's tokens cost, bought, built, and rented where a `rent` is named; as `dcsim cost`."""
        from dcsim.economics.cost import run_cost

        return CostAnswer(run_cost(self, prices, rent))

    def _frame(self, name: str) -> pd.DataFrame:
        import pandas as pd

        table = self.table(name)
        assert isinstance(table, pd.DataFrame)
        return table

    def _over_time(self, name: str) -> pd.DataFrame:
        from dcsim.errors import RunStoreError

        if not self.has_table(name):
            what = "the compiled copy, or an older dcsim, served it and kept sums; serve it again with --engine simpy"
            raise RunStoreError(f"{self.folder}: keeps no {name}: {what}")
        return self._frame(name)

    @cached_property
    def _machine(self) -> tuple[Machine, Shape]:
        """The cluster built again, and the iteration of a lone sequence as the run timed it first."""
        from dcsim.spec.topology import Topology
        from dcsim.study.machine import build, by_hand, with_chunk
        from dcsim.study.serve import programs_of

        with speaking_python(), self._readable():
            spec, ran = Topology.from_saved(self.spec), self.meta
            if ran.get("search"):  # as it ran, whatever a search would find today
                spec = with_chunk(by_hand(spec, ran["tp"], ran["pp"], ran["replicas"]), ran["chunk_tokens"])
            machine = build(spec, int(self.summary["seed"]))
        return machine, programs_of(machine, machine.times).lone

    @contextmanager
    def _readable(self) -> Iterator[None]:
        from dcsim.errors import RunStoreError
        from dcsim.reading import reading

        with reading(self.folder, RunStoreError):
            yield

    def _repr_html_(self) -> str:
        summary, meta = self.summary, self.meta
        return html.card(
            self.description,
            [
                ("requests", f"{summary['requests_finished']:,} of {summary['requests_in']:,} finished"),
                ("time to first token", f"p50 {html.seconds(summary['ttft_s_p50'])}, p99 {html.seconds(summary['ttft_s_p99'])}"),
                (
                    "time per output token",
                    f"p50 {html.seconds(summary['tpot_s_p50'])}, p99 {html.seconds(summary['tpot_s_p99'])}",
                ),
                ("throughput", html.number(summary["output_tokens_per_s"], "output tokens/s")),
                ("site power", f"{html.watts(summary['power_w_mean'])} mean"),
                ("limited by", f"{summary['limited_by']}"),
                ("mapping", f"tp {meta['tp']}, pp {meta['pp']}, {meta['replicas']} replicas, seed {summary['seed']}"),
            ],
        )


class Plots:
    """Pictures of one run."""

    def __init__(self, run: ServedRun) -> None:
        self._run = run

    def ttft(self) -> Figure:
        """How slow the slowest are: time to first token, time per token, gaps, end to end."""
        from dcsim.results import pictures

        run = self._run
        return pictures.latency(run.requests, run.gaps, run.meta.get("slo_ttft_s"), run.meta.get("slo_tpot_s"))

    def links(self) -> Figure:
        """How busy each class of links is in one iteration."""
        from dcsim.results import pictures_of_places

        return pictures_of_places.links(self._run.links)

    def power(self) -> Figure:
        """Power over time, by rack and at the site's meter."""
        from dcsim.results import pictures

        return pictures.power(self._run.power, float(self._run.spec["power"]["pue"]))

    def load(self) -> Figure:
        """Requests in the system, arrivals and tokens over time."""
        from dcsim.results import pictures

        return pictures.load(self._run.requests, float(self._run.summary["elapsed_s"]))

    def limits(self) -> Figure:
        """Where the requests' time went."""
        from dcsim.results import pictures

        return pictures.limits(self._run.limits, LIMIT_MEANING)

    def limits_over_time(self) -> Figure:
        """What binds when: shares of the requests' time."""
        from dcsim.results import pictures_over_time

        run = self._run
        elapsed_s, fractions = float(run.summary["elapsed_s"]), run.meta.get("token_fractions")
        return pictures_over_time.limits_over_time(run.limits_over_time, elapsed_s, fractions)

    def links_over_time(self) -> Figure:
        """How busy each class of links is over the run."""
        from dcsim.results import pictures_over_time

        return pictures_over_time.links_over_time(self._run.links_over_time, float(self._run.summary["elapsed_s"]))

    def waterfall(self) -> Figure:
        """Where the time of a lone sequence's next token goes."""
        from dcsim.network.timing import waterfall
        from dcsim.results import pictures

        machine, shape = self._run._machine
        time = machine.network.time(shape, parts=True)
        latency_s = time.latency_ps * 1e-12
        row = {
            "interconnect": self._run.meta["interconnect"],
            "software": self._run.meta.get("software"),
            "waterfall_s": waterfall(time.breakdown_s),
            "iteration_s_mean": latency_s,
            "iteration_s_p99": latency_s,
        }
        return pictures.waterfall([row])

    def topology(self) -> Figure:
        """The racks with their chips, and how busy each is."""
        from dcsim.results import pictures_of_places

        return pictures_of_places.topology(self._run.chips)


def of(run: records.Run) -> ServedRun:
    """The run with all that Python is given."""
    made = ServedRun(run.folder, run.summary, run.spec, run.meta, run._tables)
    made.reused = run.reused
    return made


@speaks_python
def open_run(folder: str | Path) -> ServedRun:
    """Open a saved run; RunStoreError if the folder does not hold one."""
    return of(records.open_run(folder))


def _as_frame(columns: Mapping[str, Any]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(dict(columns))
