"""Writes docs/EXPERTS.md and its picture: `python -m validation.experts docs [kept]`. Minutes of one core, or what is kept."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dcsim.errors import CapacityError, SpecError
from dcsim.llm.architecture import sublayers
from dcsim.llm.kinds.feed_forward import Routed
from dcsim.llm.plan import Plan
from dcsim.llm.program import Shape
from dcsim.llm.sublayers import Layer
from dcsim.network.lockstep import visited_bytes
from dcsim.spec.load import load
from dcsim.study.collective import collective
from dcsim.study.experts import overflow
from dcsim.study.iteration import iteration
from dcsim.study.machine import build
from dcsim.study.scale import size_settings
from dcsim.writing import write_text
from validation import store
from validation.claims import Claim, read_claims
from validation.measures import as_built
from validation.pictures import lines_svg

TOPOLOGY, LARGE = "8rack", "145rack"
SIZES = (64, 264, 512, 1024, 1500)  # chips; and of LARGE all
# LLMs and the chips that share a layer: what their experts come out even over, so that each choice has the same mapping.
LLMS = {"mixtral-8x7b": 8, "gpt-oss-120b": 32, "deepseek-r1": 64}
BATCHES = (1, 4, 16)
CONTEXT = 2048
FACTOR = 2.0  # of the capacity in the tables; the text has others
SCHEDULED: dict[str, tuple[str, ...]] = {
    "all": ("mapping.experts=all",),
    f"capacity {FACTOR:g}": ("mapping.experts=capacity", f"mapping.capacity_factor={FACTOR:g}"),
    "slots": ("mapping.experts=routed",),
    "own chips": ("mapping.experts=own_chips",),
}
PACKETS = ("mapping.experts=visited",)
LIBRARIES = ("ideal", "verbs", "nccl")
FACTORS = (1.0, 1.25, 2.0, 4.0, 8.0)
TOKENS = (16, 128, 1024)  # that a group of chips exchanges in one layer
# Rows of docs/VALIDATION.md that are LPU systems with experts; the choice for all of them is the rule's, `all`.
CLAIMS = ("R2", "R7", "R11", "R12")
CLAIMED: dict[str, tuple[str, ...]] = {name: settings for name, settings in SCHEDULED.items() if not name.startswith("capacity")}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One user's speed, or why there is none."""

    tokens_per_s_per_user: float | None
    reason: str = ""


def kept(name: str, compute: Callable[[], Any], only_kept: bool = False) -> Any:
    """What is kept under a name for this version of all code and data, or what `compute` gives, which is then kept.

    With `only_kept` nothing is computed, and None is what is not kept.
    """
    path = store.FOLDER / "experts" / f"{name}-{store.version()[:12]}.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        if only_kept:
            return None
        found = compute()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(found))
    return found


def timed(topology: str, llm: str, settings: Sequence[str], batch: int, network: str | None = None) -> Attempt:
    """One iteration of `batch` sequences."""
    try:
        machine = build(load(topology, llm=llm, network=network, settings=list(settings)).spec)
        return Attempt(iteration(machine, Shape(batch, CONTEXT))["tokens_per_s_per_user"])
    except (CapacityError, SpecError) as error:
        return Attempt(None, str(error))


def cluster(chips: int) -> tuple[str, list[str]]:
    """A topology of so many chips (0: the large one as it is), and the settings that make it so."""
    return (TOPOLOGY, size_settings(TOPOLOGY, chips, [])) if chips else (LARGE, ["mapping.replicas=1"])


def speeds(llm: str, chips: int, batch: int, only_kept: bool = False) -> dict[str, Attempt]:
    """Every choice at one size and batch: those of a schedule, then packets with each library. None of them if not to compute."""

    def compute() -> dict[str, Any]:
        return {name: asdict(one) for name, one in _speeds(llm, chips, batch).items()}

    found = kept(f"{llm}-{chips}-{batch}", compute, only_kept) or {}
    return {name: Attempt(**one) for name, one in found.items()}


def _speeds(llm: str, chips: int, batch: int) -> dict[str, Attempt]:
    topology, own = cluster(chips)
    own = [*own, f"mapping.tp={LLMS[llm]}"]
    found = {name: timed(topology, llm, [*own, *settings], batch) for name, settings in SCHEDULED.items()}
    for library in LIBRARIES:
        settings = [*own, *PACKETS, f"network.software={library}", "network.replications=1"]
        found[f"packets, {library}"] = timed(topology, llm, settings, batch, "infiniband-ndr")
    return found


def exchanged(llm: str, tokens: int) -> dict[str, dict[str, float]]:
    """As `_exchanged`, kept."""
    found: dict[str, dict[str, float]] = kept(f"exchanged-{llm}-{tokens}", lambda: _exchanged(llm, tokens))
    return found


def _exchanged(llm: str, tokens: int) -> dict[str, dict[str, float]]:
    """Microseconds that a layer's tokens take to their experts and back, the experts of the layer on own chips.

    `to all`: every chip gets every token and their sums come back; `capacity`: each pair of chips has room for FACTOR times the
    mean; `routed`: what tokens visit, on average. By network.
    """
    tp = LLMS[llm]
    found: dict[str, dict[str, float]] = {}
    for name, network, library in (
        ("scheduled", None, ""),
        *((f"packets, {one}", "infiniband-ndr", f"network.software={one}") for one in LIBRARIES),
    ):
        settings = [f"mapping.ep={tp}", *([library, "network.replications=1"] if library else [])]
        spec = load(TOPOLOGY, llm=llm, network=network, settings=settings).spec
        block = next(b for b in sublayers(spec.llm) if isinstance(b, Layer) and any(isinstance(k, Routed) for k in b.inner))
        plan = Plan(spec.llm, spec.chip, spec.mapping, tp, Shape(tokens, CONTEXT))
        out, back = visited_bytes(plan, block)

        def us(op: str, size: float, spec: Any = spec) -> float:
            return float(collective(spec, op, max(1, round(size)), tp)["time_s"]) * 1e6

        found[name] = {"to all": us("all_gather", tokens * plan.row_bytes) + us("reduce_scatter", tokens * plan.row_bytes)}
        if network is None:
            found[name]["capacity"] = us("all_to_all", FACTOR * out) + us("all_to_all", FACTOR * back)
        else:
            found[name]["routed"] = us("all_to_all", out) + us("all_to_all", back)
    return found


def claims() -> list[tuple[str, str, float, dict[str, float]]]:
    """(id, claim, published, tokens/s by choice) of LPU systems with experts, laid out as they were built."""
    asked = [one for one in read_claims() if one.id in CLAIMS]
    return [(one.id, one.claim, one.published[0], kept(f"claim-{one.id}", partial(_by_choice, one))) for one in asked]


def _by_choice(claim: Claim) -> dict[str, float]:
    values = {}
    for name, settings in CLAIMED.items():
        try:
            values[name] = as_built(**{**claim.arguments, "set": list(settings)}).value
        except (CapacityError, SpecError):
            continue
    return values


CHOICES = (
    ("`all`", "every expert, on every token", "all experts' weights pass through the multipliers, whoever is visited"),
    (
        "`capacity`",
        "every expert, on `capacity_factor` times the mean of its tokens",
        "as many weights on fewer tokens; visits beyond are dropped, or their tokens run again",
    ),
    (
        "`routed` (slots)",
        "as many slots as tokens may visit at most; the router's answer addresses the weights",
        "tokens x experts a token visits, up to all, each with room for every token",
    ),
    (
        "`own_chips`",
        "each expert whole on chips of its own",
        "a chip is held for as many of its experts as tokens may visit",
    ),
    ("`visited`", "nothing: chips work through what is visited", "packets between them, and what those cost"),
)
HEAD = """\
# Experts on a scheduled fabric

Generated by `python -m validation.experts docs`. Which experts a token visits follows from data, and a schedule is fixed before
there is any. So a program that is compiled beforehand has to choose (`mapping.experts`):

"""
BELOW = """
All have the same chips, LLM and mapping here: the tokens are on all chips that share a layer, so that no choice moves tokens but
for the sum of a layer's parts. Further below is what moving them takes instead. A schedule holds what tokens *may* visit, packets
what they visit on average: with `visited` the slowest iteration is longer than the mean, which is not shown.

- What costs on these chips is bringing an expert's weights to the multipliers, not the tokens on them: a capacity saves next to
  nothing over `all`, and drops visits besides.
- An expert cut into many narrow parts fills the multipliers badly (they take 320 columns at once): with many experts and chips a
  layer, experts on own chips do the same work in less time, and overtake slots as batches grow.
- At batch 1 slots are within a fifth of packets without a library, since nothing but what is visited runs; at larger batches
  slots come to be all experts, and packets gain what is not visited.

"""


def page(
    sizes: dict[tuple[str, int], dict[str, Attempt]], batches: dict[tuple[str, int], dict[str, Attempt]], *, whole: bool = True
) -> str:
    """docs/EXPERTS.md; without its last two sections, which take longest, unless it is to be `whole`."""
    lines = [HEAD + "| choice | what is scheduled | what it costs |\n|---|---|---|"]
    lines += [f"| {' | '.join(choice)} |" for choice in CHOICES]
    lines += [BELOW, "![tokens/s of one user against sequences in a batch, by choice](images/experts.svg)", ""]
    lines += ["## One user, by number of chips", "", *_speed_table(sizes, "chips"), ""]
    lines += ["## By sequences in a batch", "", *_speed_table(batches, "batch"), ""]
    lines += [*_capacity_lines(), ""]
    if whole:
        return "\n".join([*lines, *_exchange_lines(), "", *_claim_lines()]) + "\n"
    lines += [
        "Not computed yet, and left out: LLMs, sizes and batches without a row above; what tokens that go to their experts take;",
        "LPU systems that were served (R2, R7, R11, R12 in [VALIDATION.md](VALIDATION.md) run every expert, as",
        "`mapping.rule: layer_per_stage` takes it for all of them; what `routed` would say stands there as a range).",
    ]
    return "\n".join(lines) + "\n"


def _speed_table(rows: dict[tuple[str, int], dict[str, Attempt]], what: str) -> list[str]:
    names = list(next(iter(rows.values())))
    lines = [f"Tokens/s of one user at context {CONTEXT:,}.", "", f"| LLM | {what} | {' | '.join(names)} |"]
    lines += ["|---" * (len(names) + 2) + "|"]
    reasons: dict[str, None] = {}
    for (llm, number), found in rows.items():
        cells = []
        for one in found.values():
            cells.append("-" if one.tokens_per_s_per_user is None else f"{one.tokens_per_s_per_user:,.0f}")
            if one.tokens_per_s_per_user is None:
                reasons[f"{llm} on {number or 10_440:,} chips: {one.reason}" if what == "chips" else f"{llm}: {one.reason}"] = (
                    None
                )
        lines.append(f"| {llm} | {number or 10_440:,} | {' | '.join(cells)} |")
    return [*lines, *(["", *(f"- {reason}" for reason in reasons)] if reasons else [])]


def _capacity_lines() -> list[str]:
    lines = [
        "## How much a capacity drops",
        "",
        "With evenly chosen experts, and with the k-th chosen as 1/k (zipf): visits dropped, and iterations a token takes if it",
        "is run again until all its visits in all layers had room. A prompt's chunk of 128 tokens is a batch of 128.",
        "",
        "| LLM | batch | load | " + " | ".join(f"factor {factor:g}" for factor in FACTORS) + " |",
        "|---" * (len(FACTORS) + 3) + "|",
    ]
    for llm in LLMS:
        for batch in (16, 128, 1024):
            for load_ in ("balanced", "zipf"):
                cells = []
                for factor in FACTORS:
                    chosen = ["mapping.experts=capacity", f"mapping.capacity_factor={factor:g}", f"mapping.expert_load={load_}"]
                    lost = overflow(load(LARGE, llm=llm, settings=chosen).spec, batch)
                    cells.append(_lost(lost["experts_dropped_fraction"] or 0.0, lost["experts_complete_fraction"] or 0.0))
                lines.append(f"| {llm} | {batch:,} | {load_} | {' | '.join(cells)} |")
    return lines


def _lost(dropped: float, complete: float) -> str:
    again = f"{1 / complete:,.3g} x" if complete > 1e-3 else "never"
    share = f"{100 * dropped:.2g}" if dropped > 1e-8 else "0"
    return f"{share} %, {again}"


def _exchange_lines() -> list[str]:
    lines = [
        "## Tokens that go to their experts",
        "",
        "Where each chip has tokens of its own (copies of attention), a layer's tokens go to the chips of their experts and",
        "back. A schedule either sends every token to every chip and sums what comes back (`to all`), or keeps room between each",
        f"pair of chips for {FACTOR:g} times the mean (`capacity`); packets send what is visited (`routed`). Microseconds a",
        "layer, both ways:",
        "",
    ]
    titles = ["scheduled, to all", f"scheduled, capacity {FACTOR:g}"]
    titles += [f"packets, {library}, {way}" for library in LIBRARIES for way in ("to all", "routed")]
    lines += [f"| LLM | chips | tokens | {' | '.join(titles)} |", "|---" * (len(titles) + 3) + "|"]
    for llm, tp in LLMS.items():
        for tokens in TOKENS:
            times = exchanged(llm, tokens)
            cells = [us for by_way in times.values() for us in by_way.values()]
            lines.append(f"| {llm} | {tp} | {tokens:,} | {' | '.join(f'{us:,.1f}' for us in cells)} |")
    return lines


def _claim_lines() -> list[str]:
    names = list(CLAIMED)
    lines = [
        "## LPU systems with experts that were served",
        "",
        "One choice for all of them, made before they were compared: every expert of every layer runs (`all`), as `mapping.rule:",
        "layer_per_stage` takes it. Beside it what the other choices would have said: tokens/s, and the ratio to what was",
        "published. Four rows cannot tell which of them the vendor's compiler makes.",
        "",
        f"| row | published | {' | '.join([f'**{names[0]}**', *names[1:]])} |",
        "|---" * (len(names) + 2) + "|",
    ]
    for name, claim, published, values in claims():
        cells = [f"{values[one]:,.0f} ({values[one] / published:.2f})" if one in values else "-" for one in names]
        lines.append(f"| {name}: {claim} | {published:,.0f} | {' | '.join(cells)} |")
    return lines


def drawing(batches: dict[tuple[str, int], dict[str, Attempt]]) -> str:
    """A panel an LLM: tokens/s of one user against the batch, a line a choice."""
    width, height = 720, 420
    panels = []
    for row, llm in enumerate(LLMS):
        series: dict[str, list[tuple[float, float]]] = {}
        for (name, batch), found in batches.items():
            for choice, one in found.items() if name == llm else ():
                points = series.setdefault(choice, [])
                points += [(float(batch), one.tokens_per_s_per_user)] if one.tokens_per_s_per_user else []
        panel = lines_svg(series, f"{llm}: sequences in a batch", "tokens/s of one user")
        panels.append(panel.replace("<svg ", f'<svg y="{row * height}" width="{width}" height="{height}" ', 1))
    size = f"0 0 {width} {len(LLMS) * height}"
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}">\n{"".join(panels)}</svg>\n'


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def main(folder: str, only_kept: bool = False) -> None:
    """Time all of it, and write page and picture; with `only_kept` of what is kept alone."""
    sizes: dict[tuple[str, int], dict[str, Attempt]] = {}
    batches: dict[tuple[str, int], dict[str, Attempt]] = {}
    for llm in LLMS:
        for chips in (*SIZES, 0):
            _say(f"{llm} on {chips or 'all'} chips")
            sizes[llm, chips] = speeds(llm, chips, 1, only_kept)
        held = (chips for chips in (512, 0) if any(one.tokens_per_s_per_user for one in sizes[llm, chips].values()))
        for batch in BATCHES if (chips := next(held, -1)) >= 0 else ():
            _say(f"{llm}, batch {batch}")
            batches[llm, batch] = speeds(llm, chips, batch, only_kept)
    sizes, batches = ({key: found for key, found in rows.items() if found} for rows in (sizes, batches))
    write_text(Path(folder, "images", "experts.svg"), drawing(batches))
    write_text(Path(folder, "EXPERTS.md"), page(sizes, batches, whole=not only_kept))


if __name__ == "__main__":
    main(sys.argv[1], only_kept="kept" in sys.argv[2:])
