"""What questions are answered with: figures by name, tables, and a card for a notebook's cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dcsim.api import html

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure


@dataclass(frozen=True)
class Found:
    """An answer; `content` holds all of it, as the command of the same name prints with --json."""

    content: dict[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.content[key]

    def _number(self, key: str) -> float:
        return float(self.content[key])

    def _table(self, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame([dict(row) for row in rows])


@dataclass(frozen=True)
class IterationAnswer(Found):
    """One iteration of one replica."""

    @property
    def iteration_s(self) -> float:
        """How long it takes."""
        return self._number("iteration_s")

    @property
    def tokens_per_s_per_user(self) -> float:
        """Speed of one user alone."""
        return self._number("tokens_per_s_per_user")

    @property
    def tokens_per_s(self) -> float:
        """Throughput with every stage busy."""
        return self._number("tokens_per_s")

    @property
    def energy_j(self) -> float:
        """What all chips of the replica draw in it, alone."""
        return self._number("energy_j")

    @property
    def breakdown(self) -> pd.DataFrame:
        """Where its time goes: `part`, `time_s`, `fraction`."""
        parts, whole = self.content["breakdown_s"], self.iteration_s
        return self._table([{"part": part, "time_s": value, "fraction": value / whole} for part, value in parts.items()])

    def waterfall(self) -> Figure:
        """Where its time goes, as a picture."""
        from dcsim.network.timing import waterfall
        from dcsim.results import pictures

        row = {"waterfall_s": waterfall(self.content["breakdown_s"]), "iteration_s_mean": self.iteration_s}
        return pictures.waterfall([{**self.content, **row, "iteration_s_p99": self.iteration_s}])

    def _repr_html_(self) -> str:
        return html.card(
            f"one iteration of {self.content['llm']}, batch {self.content['batch']} at context {self.content['context']}",
            [
                ("takes", html.seconds(self.iteration_s)),
                ("speed per user", html.number(self.tokens_per_s_per_user, "tokens/s")),
                ("throughput, pipeline full", html.number(self.tokens_per_s, "tokens/s")),
            ],
        )


@dataclass(frozen=True)
class CapacityAnswer(Found):
    """The largest rate that holds the SLO."""

    @property
    def capacity_requests_per_s(self) -> float:
        """That rate."""
        return self._number("capacity_requests_per_s")

    @property
    def rate_scale(self) -> float:
        """How many times the workload's own rate it is."""
        return self._number("rate_scale")

    @property
    def limited_by(self) -> str:
        """What gives way beyond it."""
        return str(self.content["limited_by"])

    @property
    def tries(self) -> pd.DataFrame:
        """Every rate tried, the slowest first."""
        return self._table(self.content["tries"])

    def _repr_html_(self) -> str:
        targets = f"{html.seconds(self._number('slo_ttft_s'))} and {html.seconds(self._number('slo_tpot_s'))}"
        facts = [
            ("holds its SLO up to", html.number(self.capacity_requests_per_s, "requests/s")),
            ("p99 TTFT and TPOT", targets),
            ("then limited by", self.limited_by),
        ]
        return html.card_and_table(f"capacity of {self.content['topology']}", facts, self.tries)


@dataclass(frozen=True)
class MappingAnswer(Found):
    """How the LLM is laid over the chips."""

    chip_rows: Mapping[str, Any]

    @property
    def tp(self) -> int:
        """Chips of a stage."""
        return int(self.content["tp"])

    @property
    def pp(self) -> int:
        """Stages of a replica."""
        return int(self.content["pp"])

    @property
    def replicas(self) -> int:
        """Copies of the LLM."""
        return int(self.content["replicas"])

    @property
    def chips_used(self) -> int:
        """Chips of all replicas."""
        return int(self.content["chips_used"])

    @property
    def kv_tokens(self) -> int | None:
        """Tokens that a replica keeps beside the weights; None where memory does not limit them."""
        found = self.content["kv_tokens"]
        return None if found is None else int(found)

    @property
    def chips(self) -> pd.DataFrame:
        """One row a chip: where it stands, its replica, stage and shard, and how busy it is in one iteration."""
        import pandas as pd

        return pd.DataFrame(dict(self.chip_rows))

    def _repr_html_(self) -> str:
        facts = [
            ("mapping", f"tp {self.tp}, pp {self.pp}, {self.replicas} replicas on {self.chips_used:,} chips"),
            ("KV room of a replica", "without limit" if self.kv_tokens is None else f"{self.kv_tokens:,} tokens"),
        ]
        return html.card(f"{self.content['llm']} on {self.content['topology']}", facts)


@dataclass(frozen=True)
class CostAnswer(Found):
    """What a run's tokens cost, by basis: `buy`, `build`, and `rent` where one was named."""

    @property
    def usd_per_mtoken(self) -> dict[str, float | None]:
        """USD per million output tokens, by basis."""
        return {basis: found["usd_per_mtoken"] for basis, found in self.content["bases"].items()}

    @property
    def capital_usd(self) -> dict[str, float | None]:
        """What the cluster costs to buy or build."""
        return {basis: found["capital_usd"] for basis, found in self.content["bases"].items()}

    @property
    def lines(self) -> pd.DataFrame:
        """The bills, line by line, with the kind and source of each price."""
        return self._table(
            [{"basis": basis, **line} for basis, found in self.content["bases"].items() for line in found["lines"]]
        )

    def _repr_html_(self) -> str:
        facts = [
            (basis, f"{html.number(usd, 'USD per million tokens')}, capital {html.number(self.capital_usd[basis], 'USD')}")
            for basis, usd in self.usd_per_mtoken.items()
        ]
        return html.card(f"cost at prices {self.content['prices']}", facts)


@dataclass(frozen=True)
class ComparisonAnswer(Found):
    """The same program on several interconnects."""

    @property
    def candidates(self) -> pd.DataFrame:
        """One row an interconnect and library, compared with the first."""
        rows = [{**row, **{f"{part}_s": s for part, s in row["waterfall_s"].items()}} for row in self.content["candidates"]]
        return self._table([{key: value for key, value in row.items() if not isinstance(value, (dict, list))} for row in rows])

    def waterfall(self) -> Figure:
        """Where each one's time goes, as a picture."""
        from dcsim.results import pictures

        return pictures.waterfall(self.content["candidates"])

    def _repr_html_(self) -> str:
        facts = [("mapping", f"tp {self.content['tp']}, pp {self.content['pp']} on {self.content['chips_used']:,} chips")]
        shown = ("interconnect", "software", "iteration_s_mean", "iteration_s_p99", "tokens_per_s_per_user")
        table = self.candidates
        return html.card_and_table(
            f"{self.content['llm']} on {self.content['topology']}", facts, table[[c for c in shown if c in table]]
        )
