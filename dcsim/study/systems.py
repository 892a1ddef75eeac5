"""The same LLMs on several systems: what a million output tokens cost and draw, against the speed that one user sees.

A system is a topology with its network. A closed loop is served on it by simulation, prompts included: so many users ask, read
the whole answer and ask again, more of them in each run, until memory holds no more or more users bring no more tokens. Chips
whose file fixes the degrees (they serve under an engine) are laid out in several ways, each a row; where degrees are `auto` they
follow from the file's rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dcsim.economics.bill import Parts, total_usd
from dcsim.economics.cost import BASES, owned_cost
from dcsim.errors import CapacityError, DcsimError, FabricError, Problem, SlackError, SpecError
from dcsim.results.records import FINISHED
from dcsim.spec.chip import LpuChip
from dcsim.spec.load import Resolved, load
from dcsim.spec.topology import Topology
from dcsim.spec.unused import Keys, keys_of, unused_of
from dcsim.spec.workload import ClosedWorkload
from dcsim.study.machine import Machine, build
from dcsim.study.serve import programs_of, serve_on

LLMS = ("llama-3.1-70b", "gpt-oss-120b", "deepseek-r1", "kimi-k2")
USERS = (1, 4, 16, 64, 256)  # of one replica
ROUNDS = 3  # requests of each user
TOKENS = 1024  # of a prompt and of an answer: the usual load of published serving benchmarks
SHORTEST = 0.8  # of these: lengths are even between it and 1, as InferenceMAX draws them
ENGINE = "vllm"  # of chips that schedule for themselves, where nobody names one
WIDTHS_TRIED = 3  # tensor-parallel degrees, evenly from the narrowest that holds the LLM to the widest
SPREADS_TRIED = 2  # of these with a copy of attention on each chip
WIDEST = 64
DEGREES = tuple(f"mapping.{name}" for name in ("tp", "pp", "replicas", "attention_dp", "ep"))
GAIN = 1.05  # in tokens per second; with less from four times the users, no more are tried
ASSUMES = (
    f"every user asks {ROUNDS} times, waits for the whole answer and asks again at once; the first prompts come together",
    f"prompts and answers have {SHORTEST:g} to 1 times the tokens named, evenly",
    "all installed chips are paid for and draw power, idle ones too; money is the TCO of what is bought at the topology's prices",
    "an LLM is stored as its own file says, or as the topology does where that says nothing",
)

Row = dict[str, Any]
ErrorOf = Callable[[Topology], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class UserLoad:
    """What every user asks for, at most, and how many users of one replica there are in turn."""

    prompt_tokens: int = TOKENS
    output_tokens: int = TOKENS
    users: tuple[int, ...] = USERS

    @property
    def tokens(self) -> int:
        """Of the longest sequence."""
        return self.prompt_tokens + self.output_tokens

    def served_by(self, spec: Topology, users: int, replicas: int) -> Topology:
        """The spec with so many users a replica, all of whom it takes in at once."""
        together = users * replicas
        lengths = {
            name: {"min": max(1, round(SHORTEST * most)), "max": most}
            for name, most in (("prompt_tokens", self.prompt_tokens), ("output_tokens", self.output_tokens))
        }
        workload = ClosedWorkload.model_validate(
            {
                "name": "closed",
                "kind": "closed",
                "users": together,
                "think": "0 s",
                "requests": ROUNDS * together,
                "requests_per_user": 10 * ROUNDS,  # users whose answers are short ask more often
                "lengths": {"kind": "uniform", **lengths},
            }
        )
        serving = spec.serving.model_copy(update={"sequences_max": users})
        return spec.model_copy(update={"workload": workload, "serving": serving, "engine": "simpy"})


def systems(
    topologies: Sequence[str],
    llms: Sequence[str] = LLMS,
    *,
    interconnects: Sequence[str] = (),
    settings: Sequence[str] = (),
    asked: UserLoad | None = None,
    error_of: ErrorOf | None = None,
    seed: int = 1,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Serve each LLM on each topology; `rows` are the loads, `systems` what was asked and, with `reason`, what cannot serve it.

    `interconnects` are for topologies whose own network is scheduled; others keep theirs. `rows` with `best` are those that no
    other of the same LLM and system beats in speed per user and in USD. `error_of` gives what is known of the error of TPOT on a
    spec's chips: `tpot_ln_error_mean`, `error_jobs`, `error_of`. Raises SpecError for names that are not known.
    """
    asked, told = asked or UserLoad(), list[Keys]()
    found, rows = list[Row](), list[Row]()
    for llm in llms:
        for topology in topologies:
            for network in _networks(topology, interconnects, settings):
                if progress:
                    progress(f"{llm} on {topology} {network or ''}".strip())
                head, own = _system(topology, llm, network, settings, asked, error_of, seed, told)
                found.append(head)
                rows += _marked(own)
    return {
        "llms": list(dict.fromkeys(head["llm"] for head in found)),
        "prompt_tokens": asked.prompt_tokens,
        "output_tokens": asked.output_tokens,
        "users_per_replica": list(asked.users),
        "systems": found,
        "rows": rows,
        "assumes": list(ASSUMES),
        "unused_keys": unused_of(told),
    }


def _networks(topology: str, interconnects: Sequence[str], settings: Sequence[str]) -> tuple[str | None, ...]:
    """The networks a topology is looked at with: those asked for, if its own needs no library, as schedules do; else its own."""
    if not interconnects:
        return (None,)
    own = load(topology, settings=_of_network(settings)).spec.network
    return tuple(interconnects) if own.terms["software"] is None else (None,)


def _of_network(settings: Sequence[str]) -> list[str]:
    return [setting for setting in settings if setting.startswith("network=")]


def _system(
    topology: str,
    llm: str,
    network: str | None,
    settings: Sequence[str],
    asked: UserLoad,
    error_of: ErrorOf | None,
    seed: int,
    told: list[Keys],
) -> tuple[Row, list[Row]]:
    """What a system is, and a row for each of its loads; none, with the reason, where the LLM cannot be served on it."""
    resolved = _loaded(topology, llm, network, settings)
    spec = resolved.spec
    head: Row = {
        "llm": spec.llm.name,
        "topology": spec.name,
        "chip": spec.chip.name,
        **spec.network.terms,
        "engine": spec.serving.engine.name if spec.serving.engine else None,
        "weights": _stored_as(spec),
        "reason": None,
        **(error_of(spec) if error_of else {}),
    }
    rows, reason = list[Row](), "no mapping of it can be laid"
    for layout in layouts(spec, settings):
        laid = _loaded(topology, llm, network, [*settings, *layout]) if layout else resolved
        try:
            machine = build(laid.spec, seed)
            for row in _loads(machine, asked, seed):
                rows.append({key: head[key] for key in ("llm", "topology", "interconnect", "software")} | row)
        except (CapacityError, FabricError, SlackError, _RefusedError) as error:
            reason = str(error)
        told.append(keys_of(laid))
    return head | ({} if rows else {"reason": reason}), rows


def _stored_as(spec: Topology) -> str:
    """The format of most of the weights: the mapping's, or where that leaves it to the LLM's own file, the file's."""
    if spec.mapping.weights != "stored":
        return spec.mapping.weights
    return spec.llm.precision.weights if spec.llm.precision else "bf16"


def _loaded(topology: str, llm: str, network: str | None, settings: Sequence[str]) -> Resolved:
    """The spec, under the usual engine where its chips schedule for themselves and none is named."""
    resolved = load(topology, llm=llm, network=network, settings=list(settings))
    if resolved.spec.serving.engine is None and not isinstance(resolved.spec.chip, LpuChip):
        resolved = load(topology, llm=llm, network=network, settings=[f"serving.engine={ENGINE}", *settings])
    return resolved


class _RefusedError(DcsimError):
    """A machine that was built turned requests away."""


def layouts(spec: Topology, settings: Sequence[str] = ()) -> list[list[str]]:
    """Ways to lay the LLM over a topology, as settings: the file's own, or where it fixes degrees and no setting does, some of
    the groups of 1, 2, 4 and so on chips that hold the LLM, with as many replicas as there are chips for; of an LLM with experts
    also groups with a copy of attention on each chip and experts spread over them.
    """
    given = any(setting.partition("=")[0].strip() in DEGREES for setting in settings)
    if given or "auto" in (spec.mapping.tp, spec.mapping.pp) or isinstance(spec.chip, LpuChip):
        return [[]]
    fitting = _spaced([way for width in _widths(spec) if _fits(spec, way := _way(width, spread=False))], WIDTHS_TRIED)
    if _has_experts(spec):
        spread = [_way(width, spread=True) for width in _widths(spec) if width > 1]
        fitting += _spaced([way for way in spread if _fits(spec, way)], SPREADS_TRIED)
    return fitting or [[]]


def _spaced(ways: list[list[str]], most: int) -> list[list[str]]:
    """So many of them, evenly from the first to the last."""
    if len(ways) <= most:
        return ways
    return [ways[i * (len(ways) - 1) // (most - 1)] for i in range(most)]


def _has_experts(spec: Topology) -> bool:
    return spec.llm.experts > 1 or any(section.kind == "routed" for section in spec.llm.feed_forward.values())


def _widths(spec: Topology) -> Iterator[int]:
    from dcsim.fabric.build import build_fabric

    chips = int(build_fabric(spec.fabric).chip_active.sum())
    return (1 << power for power in range(WIDEST.bit_length()) if 1 << power <= min(chips, WIDEST))


def _way(width: int, spread: bool) -> list[str]:
    copies = width if spread else 1
    degrees = {"tp": width, "pp": 1, "replicas": "auto"} | ({"attention_dp": copies, "ep": copies} if spread else {})
    return [f"mapping.{name}={value}" for name, value in degrees.items()]


def _fits(spec: Topology, way: Sequence[str]) -> bool:
    from dcsim.fabric.build import build_fabric
    from dcsim.llm.mapping import lay
    from dcsim.study.machine import active_nodes

    degrees = dict(setting.removeprefix("mapping.").split("=") for setting in way)
    tp = int(degrees["tp"])
    update = {"attention_dp": int(degrees.get("attention_dp", 1)), "ep": int(degrees.get("ep", 1)), "replicas": "auto"}
    try:
        lay(spec.llm, spec.chip, spec.mapping.model_copy(update=update), tp, 1, active_nodes(build_fabric(spec.fabric)))
    except (CapacityError, SpecError):
        return False
    return True


def _loads(machine: Machine, asked: UserLoad, seed: int) -> Iterator[Row]:
    """A row for each number of users. Raises CapacityError where not one user's longest request fits."""
    room = machine.mapping.memory.room
    most = room.sequences_max(asked.tokens)
    if most < 1:
        what = f"a sequence of {asked.tokens:,} tokens does not fit beside the weights: it takes {room.cost(asked.tokens):,} "
        raise CapacityError(f"{what}of {room.capacity:,} {room.unit}", room.cost(asked.tokens), room.capacity)
    programs, before = programs_of(machine, machine.times), 0.0
    for users in sorted({min(number, most) for number in asked.users}):
        spec = asked.served_by(machine.spec, users, machine.mapping.replicas)
        tables, summary, meta = serve_on(machine, programs, spec, seed)
        if summary["requests_finished"] < len(tables["requests"]["status"]):
            statuses, reasons = tables["requests"]["status"], tables["requests"]["reason"]
            raise _RefusedError(next(str(why) for status, why in zip(statuses, reasons, strict=True) if status != FINISHED))
        yield _row(machine, users, summary, meta)
        if summary["output_tokens_per_s"] < GAIN * before:
            return
        before = summary["output_tokens_per_s"]


def _row(machine: Machine, users: int, summary: Mapping[str, Any], meta: Mapping[str, Any]) -> Row:
    spec, parts = machine.spec, Parts(**meta["parts"])
    costs = {basis: owned_cost(summary, parts, spec, basis) for basis in BASES}
    return {
        "tp": machine.mapping.tp,
        "pp": machine.mapping.pp,
        "attention_dp": spec.mapping.attention_dp,
        "ep": spec.mapping.ep,
        "replicas": machine.mapping.replicas,
        "chips": parts.chips,
        "users": users * machine.mapping.replicas,
        "tokens_per_s_per_user": summary["tokens_per_s_per_user_p50"],
        "tokens_per_s": summary["output_tokens_per_s"],
        "tpot_s": summary["tpot_s_p50"],
        "ttft_s": summary["ttft_s_p50"],
        "usd_per_mtoken": costs["buy"].usd_per_mtoken,
        "usd_per_mtoken_build": costs["build"].usd_per_mtoken,
        "j_per_mtoken": summary["energy_j_per_token"] * 1e6,
        "power_w": summary["power_w_mean"],
        "capital_usd": total_usd(list(costs["buy"].lines)),
    }


def _marked(rows: Sequence[Row]) -> list[Row]:
    """The rows of one system, fastest for a user first, each marked `best` if none is both as fast and cheaper."""
    marked, cheapest = list[Row](), float("inf")
    for row in sorted(rows, key=lambda row: (-row["tokens_per_s_per_user"], row["usd_per_mtoken"])):
        marked.append(row | {"best": row["usd_per_mtoken"] < cheapest})
        cheapest = min(cheapest, row["usd_per_mtoken"])
    return marked


def load_of(prompt_tokens: int, output_tokens: int, users: str) -> UserLoad:
    """A load as people write it: `users` are whole numbers with commas between. SpecError where one is none."""
    numbers = [text.strip() for text in users.split(",") if text.strip()]
    if not numbers or not all(text.isdigit() and 0 < int(text) <= 100_000 for text in numbers):
        raise SpecError(Problem("--users", f"'{users}' is not a list of whole numbers above 0", "for example --users 1,4,16,64"))
    return UserLoad(prompt_tokens, output_tokens, tuple(sorted({int(text) for text in numbers})))
