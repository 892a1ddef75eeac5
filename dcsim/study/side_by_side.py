"""The same chips and LLM on several networks, cell by cell: one iteration, a load served, and the largest load, on each.

A cell is one network's answer to one question. Pieces are independent of each other, so they can be kept, and those that are
missing computed alone. Their numbers are those of `dcsim compare` and `dcsim run`; `command` says which line gives them.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from dcsim import library
from dcsim.errors import DcsimError, WorkloadError
from dcsim.llm.program import Shape
from dcsim.study import compare as comparison
from dcsim.study.scale import size_settings

ITERATION, SERVED, CAPACITY = "iteration", "served", "capacity"
NETWORKS = ("scheduled", "infiniband-hdr", "infiniband-ndr", "roce-400g", "ethernet-100g", "nvlink4")
OWN = NETWORKS[0]  # the network of the topologies that are compared; with "same" all have its best mapping
MAPPINGS = ("own", "same")  # each network's own best, as the command line has it, or one for all
LIBRARIES = ("ideal", "verbs", "posted", "nccl")  # those that `compare` shows for chips without kernels
OBJECTIVES = ("capacity", "latency", "throughput", "cost")  # of mappings
DURATION, DURATION_S = "2 min", 120.0  # of the workload that is served: some hundred requests
PARTS = 50  # a distribution is kept as its quantiles at so many equal steps
# What decides a cell's numbers; a change there makes kept cells stale.
DECISIVE = ("spec", "fabric", "workload", "llm", "network", "power", "cluster", "economics", "policies", "study")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of every network. `rate` is in requests/s, of the workload that the topology names.

    With `mapping` "own" each network has the mapping that is best on it, with "same" all have that of the topology's own network;
    `objective` is what mappings are searched for.
    """

    chips: int = 512
    llm: str = "llama-2-70b"
    batch: int = 1
    context: int = 2048
    rate: float = 5.0
    fairness: str = "equal_bandwidth"
    objective: str = "capacity"
    mapping: str = "own"
    topology: str = "8rack"
    seed: int = 1

    @property
    def size(self) -> list[str]:
        """The cluster of this size, as `--set` takes it."""
        return size_settings(self.topology, self.chips, [])

    @property
    def settings(self) -> list[str]:
        """The same, and what its mapping is searched for."""
        return [*self.size, f"mapping.objective={self.objective}"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One network's part of a question: its iterations (with every library), or with one library what users get at the question's
    load, or the largest load of the topology's workload that holds the SLO."""

    kind: str  # ITERATION, SERVED or CAPACITY
    question: Question
    network: str
    library: str = ""

    @property
    def key(self) -> str:
        """Names what the cell depends on; equal for questions that differ only in what does not touch it."""
        asked = asdict(self.question)
        left_out = {ITERATION: ("rate",), SERVED: ("batch", "context"), CAPACITY: ("batch", "context", "rate")}[self.kind]
        text = json.dumps([self.kind, self.network, self.library, {k: v for k, v in asked.items() if k not in left_out}])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def as_json(self) -> dict[str, Any]:
        """Plain data that `cell_of` reads back."""
        return asdict(self)


def cell_of(data: dict[str, Any]) -> Cell:
    """The cell of plain data."""
    return Cell(data["kind"], Question(**data["question"]), data["network"], data["library"])


def cells(question: Question, networks: tuple[str, ...], library_name: str) -> list[Cell]:
    """Every cell that an answer for these networks and this library is made of."""
    found = []
    for network in networks:
        own = library_name if has_library(network) else ""
        found += [Cell(ITERATION, question, network), Cell(SERVED, question, network, own)]
    return found


def capacity_cells(question: Question, networks: tuple[str, ...], library_name: str) -> list[Cell]:
    """The cells that say how much each network holds; they take longest, and no answer needs them."""
    return [Cell(CAPACITY, question, network, library_name if has_library(network) else "") for network in networks]


@cache
def has_library(network: str) -> bool:
    """Whether messages on this network go through a library's calls."""
    from dcsim.spec.load import load

    return load("8rack", network=network).spec.network.terms["software"] is not None


def answer(cell: Cell, progress: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Compute a cell. Where the cluster cannot be built or served it is `{"reason": ...}`, which is an answer too."""
    if progress:
        progress(f"{cell.network} {cell.library}".strip())
    try:
        return ANSWERS[cell.kind](cell)
    except DcsimError as error:
        return {"reason": str(error)}


def _iteration(cell: Cell) -> dict[str, Any]:
    asked = cell.question
    result = comparison.compare(
        asked.topology,
        _compared(cell),
        Shape(asked.batch, asked.context),
        llm=asked.llm,
        settings=asked.settings,
        packet_settings=[f"network.fairness={asked.fairness}"],
        seed=asked.seed,
        same_mapping=asked.mapping == "same",
        lowest_latency=False,
        packets_max=comparison.PACKETS_MAX,
    )
    rows = [row for row in result["candidates"] if row["interconnect"] == cell.network]
    shared = ("chips_used", "chips_installed", "idle_chips", "idle_power_w", "tp", "pp")
    return {"rows": rows, **{key: result[key] for key in shared}}


def _compared(cell: Cell) -> list[str]:
    """The networks of the comparison that gives the cell: that which decides the mapping comes first."""
    return [OWN] if cell.network == OWN else [OWN, cell.network]


def _served(cell: Cell) -> dict[str, Any]:
    from dcsim.economics.bill import Parts
    from dcsim.economics.cost import BASES, owned_cost
    from dcsim.study.machine import build
    from dcsim.study.scenario import load
    from dcsim.study.users import holding

    asked, settings = cell.question, serving_settings(cell)
    case = load(
        asked.topology,
        llm=asked.llm,
        interconnect=cell.network,
        set=settings,
        duration=DURATION,
        rate_scale=rate_scale(asked),
    )
    run = case.run(asked.seed)
    spec, requests = case.spec, run.requests
    parts, figures = Parts(**run.meta["parts"]), case.resolved.figures
    done = np.asarray(requests["status"]) == "finished"
    ttft, tpot = (np.asarray(requests[name], float)[done] for name in ("ttft_s", "tpot_s"))
    costs = {basis: owned_cost(run.summary, parts, spec, basis, figures) for basis in BASES}
    steady = holding(build(spec, asked.seed))
    tokens = float(np.asarray(requests["output_tokens"])[done].mean()) if done.any() else None
    in_slo = steady["tokens_per_s_per_chip_in_slo"] * run.meta["chips_used"]
    return {
        "summary": run.summary,
        "ttft_s_p999": _percentile(ttft, 99.9),
        "tpot_s_p999": _percentile(tpot, 99.9),
        "ttft_s_quantiles": _quantiles(ttft, None),
        "gap_s_quantiles": _quantiles(np.asarray(run.gaps["gap_s"], float), np.asarray(run.gaps["count"])),
        "parts": run.meta["parts"],
        **{key: run.meta[key] for key in ("tp", "pp", "replicas", "chips_used", "idle_chips", "slo_ttft_s", "slo_tpot_s")},
        "capital_usd": {basis: cost.capital_usd for basis, cost in costs.items()},
        "usd_per_mtoken": {basis: cost.usd_per_mtoken for basis, cost in costs.items()},
        "bill": {basis: [asdict(line) | {"usd": line.usd} for line in cost.lines] for basis, cost in costs.items()},
        "tokens_per_s_in_slo": in_slo,
        "requests_per_s_in_slo": in_slo / tokens if tokens else None,
        "settings": settings,
    }


def _capacity(cell: Cell) -> dict[str, Any]:
    from dcsim.study.capacity import capacity
    from dcsim.study.scenario import load

    asked, settings = cell.question, serving_settings(cell)
    found = capacity(load(asked.topology, llm=asked.llm, interconnect=cell.network, set=settings).resolved, asked.seed)
    shown = ("capacity_requests_per_s", "limited_by", "slo_ttft_s", "slo_tpot_s")
    return {**{key: found[key] for key in shown}, "settings": settings}


ANSWERS = {ITERATION: _iteration, SERVED: _served, CAPACITY: _capacity}


def serving_settings(cell: Cell) -> list[str]:
    """The settings under which a cell's load is served, as `--set` takes them.

    Its mapping is that of the cell's iteration, which other requests decide, so it is given by hand: all have the first network's
    with `mapping` "same", and a network has one for all of its libraries, unless the lowest latency is asked for.
    """
    asked = cell.question
    fair = [f"network.fairness={asked.fairness}"] if cell.library else []
    software = [f"network.software={cell.library}", *fair] if cell.library else []
    if cell.network == OWN or asked.mapping == "same":
        degrees = mapping_of(asked.topology, asked.llm, tuple(asked.settings), asked.seed)
    else:
        its = software if asked.objective == "latency" else fair
        degrees = mapping_of(asked.topology, asked.llm, (*asked.settings, *its), asked.seed, cell.network)
    return [*asked.size, *degrees, *software]


@cache
def mapping_of(topology: str, llm: str, settings: tuple[str, ...], seed: int, network: str | None = None) -> tuple[str, ...]:
    """Settings that give the best mapping on a network with its own library (default: the topology's own network)."""
    from dcsim.spec.load import load
    from dcsim.study.machine import build

    return build(load(topology, llm=llm, network=network, settings=list(settings)).spec, seed).given


def rate_scale(question: Question) -> float:
    """How many times as fast the workload's requests have to come so that `rate` of them arrive a second while it is served.

    The rate of real requests swings, so it is counted over just those that are served.
    """
    arrivals_s = _arrivals_s(question.topology, question.seed)
    wanted = round(question.rate * DURATION_S)
    if not 1 <= wanted < len(arrivals_s):
        most = (len(arrivals_s) - 1) / DURATION_S
        raise WorkloadError(f"{question.rate:g} requests/s: {DURATION} of the workload give {1 / DURATION_S:.3g} to {most:.3g}")
    return float(f"{arrivals_s[wanted] / DURATION_S:.6g}")


@cache
def _arrivals_s(topology: str, seed: int) -> Any:
    """When each request of the workload arrives that a topology names."""
    from dcsim.spec.load import load
    from dcsim.workload.generate import make_requests

    return make_requests(load(topology).spec.workload, seed).arrival_s


def command(cell: Cell, settings: Sequence[str] | None = None) -> str:
    """The command line that gives a cell's numbers; `settings` are those of its answer (default: they are found)."""
    asked = cell.question
    if cell.kind == ITERATION:
        words = ["dcsim", "compare", asked.topology, "--interconnect", ",".join(_compared(cell)), "--llm", asked.llm]
        words += ["--batch", str(asked.batch), "--context", str(asked.context), "--fairness", asked.fairness]
        words += [f"--{asked.mapping}-mapping"]
        settings = asked.settings
    else:
        verb = "run" if cell.kind == SERVED else "capacity"
        words = ["dcsim", verb, asked.topology, "--interconnect", cell.network, "--llm", asked.llm]
        words += ["--rate-scale", f"{rate_scale(asked):.6g}", "--duration", DURATION] if cell.kind == SERVED else []
        settings = serving_settings(cell) if settings is None else settings
    words += [word for setting in settings for word in ("--set", setting)]
    return shlex.join(words)


def grid() -> Iterator[Cell]:
    """The cells that are kept ready: sizes, LLMs, batches and loads that people ask for first."""
    for chips in SIZES:
        for llm in LLMS:
            base = Question(chips=chips, llm=llm)
            for network in NETWORKS:
                yield from (Cell(ITERATION, replace(base, batch=batch), network) for batch in BATCHES)
                libraries = SERVED_READY if has_library(network) else ("",)
                yield from (Cell(SERVED, replace(base, rate=rate), network, own) for own in libraries for rate in RATES)


SIZES = (64, 128, 264, 512, 576, 1024, 1500)
LLMS = ("llama-3-8b", "llama-2-70b")
BATCHES = (1, 8)
RATES = (5.0,)
SERVED_READY = ("posted",)  # libraries whose served loads are kept ready: what such chips have


@cache
def code_version() -> str:
    """Names the code and the data that decide a cell's numbers, whatever their dates: twelve hex digits."""
    digest = hashlib.sha256()
    rooms = [library.package() / room for room in DECISIVE]
    data = [library.root() / folder for folder in ("topologies", "workloads")]
    for folder in (*rooms, *data):
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".py", ".yaml"):
                digest.update(path.relative_to(folder.parent).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _percentile(values: Any, percent: float) -> float | None:
    return float(np.percentile(values, percent)) if len(values) else None


def _quantiles(values: Any, counts: Any) -> list[float]:
    """The values at PARTS equal steps of rank, the middle of each step; none without values."""
    if not len(values):
        return []
    order = np.argsort(values, kind="stable")
    weights = np.ones(len(values)) if counts is None else np.asarray(counts, float)[order]
    total = np.cumsum(weights)
    ranks = (np.arange(PARTS) + 0.5) / PARTS * total[-1]
    return [float(f"{value:.5g}") for value in np.asarray(values, float)[order][np.searchsorted(total, ranks)]]


def figures_of(cell: Cell) -> list[dict[str, str]]:
    """The figures from the world that a cell rests on: chips, nodes, hosts, the network with its prices, and power."""
    from dcsim.spec.load import load

    asked = cell.question
    figures = load(asked.topology, llm=asked.llm, network=cell.network, settings=asked.settings).figures
    shown = ("chip", "node", "host", "network", "power")
    return [
        {"key": ".".join(map(str, path)), "value": str(figure.value), "kind": figure.kind, "source": figure.source}
        for path, figure in sorted(figures.items())
        if path[0] in shown
    ]
