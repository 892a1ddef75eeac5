"""The same cluster at the same load, asked of every command that names its watts, its money or its parts.

The load is fixed by settings: the mapping given, one replica, batch 1, as many micro-batches as keep every stage busy. A run
serves as many requests at once, each long enough that reading the one token of its prompt does not count.
`python -m validation.one_answer docs` writes the tables into DESIGN.md.
"""

from __future__ import annotations

import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcsim.economics.cost import run_cost
from dcsim.llm.program import Shape
from dcsim.results.records import open_run
from dcsim.spec.load import load
from dcsim.study.capacity import capacity
from dcsim.study.compare import compare
from dcsim.study.machine import build
from dcsim.study.plan import plan
from dcsim.study.power import power
from dcsim.study.scenario import load as load_scenario
from dcsim.study.topology import topology
from dcsim.writing import write_text

CONTEXT = 512  # of every sequence: what all programs are compiled for
COLUMNS = ("site_w", "it_w", "network_w", "capital_usd", "network_usd", "racks", "adapters", "cables")
HEADS = ("site, W", "racks, W", "network, W", "all, USD", "network, USD", "racks", "adapters", "cables")

Row = dict[str, float]  # what a command names of COLUMNS


@dataclass(frozen=True, slots=True)
class System:
    """A topology on a network at a load; `name` stands in the table."""

    name: str
    topology: str
    interconnect: str
    mapping: tuple[str, ...]

    @property
    def settings(self) -> list[str]:
        """The mapping, and programs of one shape."""
        one_shape = ["serving.batch_buckets=[1]", f"serving.context_buckets=[{CONTEXT}]", "serving.chunk_tokens=1"]
        repeated = [] if self.interconnect == "scheduled" else ["network.replications=1"]
        return [*self.mapping, "mapping.replicas=1", *one_shape, *repeated]


SYSTEMS = (
    System("8rack, scheduled", "8rack", "scheduled", ("mapping.tp=8", "mapping.pp=64")),
    System("8rack, InfiniBand NDR", "8rack", "infiniband-ndr", ("mapping.tp=8", "mapping.pp=64")),
    System("h100x16", "h100x16", "infiniband-ndr", ("mapping.tp=8", "mapping.pp=2")),
    System("tpu-v4-64", "tpu-v4-64", "tpu-ici", ("mapping.tp=64", "mapping.pp=1")),
)


def served(sequences: int) -> list[str]:
    """Settings of a workload of so many requests that come at once."""
    return [
        f"workload.requests={sequences}",
        "workload.duration=0 s",  # the run ends with the last of them
        "workload.arrivals.rate.mean=1e9 requests/s",
        "workload.lengths.prompt_tokens.median=1",
        "workload.lengths.prompt_tokens.sigma=0",
        f"workload.lengths.output_tokens.median={CONTEXT - 1}",
        "workload.lengths.output_tokens.sigma=0",
        f"workload.lengths.output_tokens.max={CONTEXT}",
        f"serving.sequences_max={sequences}",
        "slo.ttft=1 h",  # whatever the rate: the search ends soon
        "slo.tpot=1 h",
    ]


def answers(system: System) -> dict[str, Row]:
    """What each command says, by its name."""
    loaded = load(system.topology, network=system.interconnect, settings=system.settings)
    drawn = power(build(loaded.spec), Shape(1, CONTEXT))
    count = drawn["micro_batches_full"]
    found = {"power": {**_watts(drawn["loads"][-1]), "network_w": drawn["loads"][-1]["parts_w"]["switches and adapters"]}}
    found |= _served(system, count)
    # Fast enough for that many micro-batches and no more; a rate that one replica gives.
    speed = 1 / drawn["loads"][-1]["round_s"]
    planned = plan(loaded, tokens_per_s=0.9 * count * speed, tokens_per_s_per_user=speed * (1 - 1e-9), context=CONTEXT)
    assert planned["micro_batches"] == count, planned["micro_batches"]
    found["plan"] = {
        **_watts(planned),
        **_parts(planned["parts"]),
        "network_w": planned["network_w"],
        "capital_usd": planned["money"]["buy"]["capital_usd"],
    }
    for name, said in (("topology", topology(loaded.spec)), ("compare", _compared(system))):
        found[name] = {**_parts(said["parts"]), "network_w": said["network_w"], "network_usd": said["network_usd"]}
    return found


def _served(system: System, count: int) -> dict[str, Row]:
    """What a run, its cost and a search for the capacity say of the same requests."""
    set_ = [*system.settings, *served(count)]
    case = load_scenario(system.topology, workload="speech", interconnect=system.interconnect, set=set_)
    with tempfile.TemporaryDirectory(prefix="dcsim-") as folder:
        run = case.run(1, Path(folder, "run"), save=True)
        summary, parts = run.summary, run.meta["parts"]
        cost = run_cost(open_run(Path(folder, "run")))
    tried = capacity(case.resolved)["tries"]
    bought = cost["bases"]["buy"]
    network_usd = sum(line["usd"] for line in bought["lines"] if line["item"] in ("adapter", "switch port", "cable"))
    alike = next(one for one in tried if one["rate_scale"] == 1)
    return {
        "run": {"site_w": summary["power_w_mean"], "it_w": summary["it_power_w_mean"], **_parts(parts)},
        "capacity": {"site_w": alike["power_w_mean"]},
        "cost": {
            "site_w": cost["power_w_mean"],
            "it_w": cost["it_power_w_mean"],
            "capital_usd": bought["capital_usd"],
            "network_usd": network_usd,
            **_parts(cost["parts"]),
        },
    }


def _compared(system: System) -> dict[str, Any]:
    result = compare(
        system.topology,
        [system.interconnect],
        Shape(1, CONTEXT),
        settings=[text for text in system.settings if not text.startswith("network.")],
        packet_settings=["network.replications=1"],
    )
    row: dict[str, Any] = result["candidates"][0]
    return row


def _watts(said: dict[str, Any]) -> Row:
    return {"site_w": said["power_w"], "it_w": said["it_power_w"]}


def _parts(parts: dict[str, int]) -> Row:
    return {"racks": parts["racks"], "adapters": parts["adapters"], "cables": parts["cables"]}


def table(system: System, said: dict[str, Row]) -> str:
    """One system in Markdown, a row a command."""
    lines = [f"| {system.name} | {' | '.join(HEADS)} |", "|---|" + "---:|" * len(HEADS)]
    for command, row in said.items():
        cells = (_cell(row.get(column)) for column in COLUMNS)
        lines.append(f"| `{command}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(value: float | None) -> str:
    """Five digits: finer than a tenth of a percent is not the question."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value < 1e4 else f"{float(f'{value:.5g}'):,.0f}"


BLOCK = re.compile(r"(<!-- one answer: made by `make docs` -->\n)(.*?)(<!-- end -->)", re.S)


def main(folder: str) -> None:
    """Write the tables into their block of DESIGN.md."""
    page = Path(folder, "DESIGN.md")
    tables = "\n".join(table(system, answers(system)) for system in SYSTEMS)
    text, found = BLOCK.subn(lambda match: f"{match[1]}\n{tables}\n{match[3]}", page.read_text(encoding="utf-8"))
    assert found == 1, "DESIGN.md has no block for the tables"
    write_text(page, text)


if __name__ == "__main__":
    main(sys.argv[1])
