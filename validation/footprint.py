"""What whole systems take: power for each chip, height and money for a speed or a token."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from dcsim.economics.bill import Basis, parts_of
from dcsim.errors import CapacityError
from dcsim.llm.program import Shape
from dcsim.network.network import make_network
from dcsim.power.site import site_of
from dcsim.spec.load import Resolved
from dcsim.study.frontier import Load, fleet, loads
from dcsim.study.machine import Machine, build
from dcsim.study.plan import money
from validation.fleets import best_of
from validation.frozen import load
from validation.measures import Answer, answer_of


def height_ratio(
    topology: str,
    other: str,
    *,
    tokens_per_s_per_user: float,
    context: int,
    set: Sequence[str] = (),
    other_set: Sequence[str] = (),
    extra: Sequence[str] = (),
) -> Answer:
    """Rack units that a token/s takes at a speed per user, over the same of another system: nodes by their height."""
    resolved, machine, mine = best_of(topology, tokens_per_s_per_user, context, [*set, *extra])
    _, other_machine, theirs = best_of(other, tokens_per_s_per_user, context, tuple(other_set))
    units = [_rack_units(one) / load.tokens_per_s for one, load in ((machine, mine), (other_machine, theirs))]
    result = {
        "ratio": units[0] / units[1],
        "tokens_per_s_per_rack": machine.spec.power.rack_units / units[0],
        "other_tokens_per_s_per_rack": other_machine.spec.power.rack_units / units[1],
    }
    return answer_of(result, "ratio", "", tuple(result)[1:], resolved, machine)


def _rack_units(machine: Machine) -> float:
    """Height of a replica's share of the cluster's nodes."""
    return int(machine.site.nodes.sum()) * machine.spec.node.rack_units / machine.mapping.replicas


def watts_per_chip(
    topology: str,
    *,
    other: str | None = None,
    context: int = 2048,
    set: Sequence[str] = (),
    other_set: Sequence[str] = (),
    extra: Sequence[str] = (),
) -> Answer:
    """Power at the wall for each installed chip with every stage busy; over the same of another system, if given."""
    resolved = load(topology, settings=[*set, *extra])
    machine = build(resolved.spec)
    mine, chips_w = _watts(machine, context)
    result = {"watts": mine, "chip_alone_w": chips_w}
    if other:
        theirs = _other_watts(other, context, tuple(other_set))
        result = {"watts": mine / theirs, "watts_per_chip": mine, "other_watts_per_chip": theirs}
    return answer_of(result, "watts", "", tuple(result)[1:], resolved, machine)


@cache
def _other_watts(topology: str, context: int, settings: tuple[str, ...]) -> float:
    """The other system's watts, which stay while one system's figures move."""
    return _watts(build(load(topology, settings=settings).spec), context)[0]


def _watts(machine: Machine, context: int) -> tuple[float, float]:
    """Watts a chip under full load: at the wall with all around it, and those of a working chip itself."""
    from dcsim.study.power import power

    full = power(machine, Shape(1, context))["loads"][-1]
    used = machine.mapping.chips_used * machine.mapping.replicas
    working_w = sum(watts for part, watts in full["parts_w"].items() if part.startswith("chips ") and part != "chips idle")
    return full["it_power_w"] / machine.fabric.chip_count, working_w / used


def usd_ratio(
    topology: str,
    other: str,
    *,
    per: str,
    basis: Basis,
    other_basis: Basis,
    context: int,
    tokens_per_s_per_user: float = 0.0,
    set: Sequence[str] = (),
    other_set: Sequence[str] = (),
    extra: Sequence[str] = (),
) -> Answer:
    """What a system costs over what another does, each on its own price basis.

    `per` "speed": capital for each token/s of one user alone. `per` "token": TCO of a token at a speed per user.
    """
    resolved, machine, mine = best_of(topology, tokens_per_s_per_user, context, [*set, *extra])
    other_resolved, other_machine, theirs = best_of(other, tokens_per_s_per_user, context, tuple(other_set))
    costs = [
        _usd(of, one, load, per, on, context)
        for of, one, load, on in ((resolved, machine, mine, basis), (other_resolved, other_machine, theirs, other_basis))
    ]
    result = {"ratio": costs[0] / costs[1], f"usd_per_{per}": costs[0], f"other_usd_per_{per}": costs[1]}
    return answer_of(result, "ratio", "", tuple(result)[1:], resolved, machine)


def _usd(resolved: Resolved, machine: Machine, best: Load, per: str, basis: Basis, context: int) -> float:
    paid = money(parts_of(machine.site), resolved.spec, fleet(machine, best, best.tokens_per_s), basis)
    if per == "token":
        return paid["usd_per_mtoken"] * 1e-6
    return paid["capital_usd"] / max(load.tokens_per_s_per_user for load in loads(machine, context))


def peak_w(topology: str, *, nodes: int = 0, set: Sequence[str] = (), extra: Sequence[str] = ()) -> Answer:
    """Most that a cluster, or so many of its nodes, can draw at the wall at once."""
    from dcsim.fabric.build import build_fabric

    resolved = load(topology, settings=[*set, *extra])
    spec = resolved.spec
    site = site_of(make_network(spec, build_fabric(spec.fabric)))
    share = nodes / int(site.nodes.sum()) if nodes else 1.0
    result = {"watts": site.peak().it_power_w * share}
    return answer_of(result, "watts", "", (), resolved)


def decoding_w_per_chip(
    topology: str, *, llm: str, batch: int, context: int, step_s: float, set: Sequence[str] = (), extra: Sequence[str] = ()
) -> Answer:
    """Draw of a chip, without its host, that decodes `batch` sequences once every `step_s`: its work, and waiting.

    The pace is given, not simulated: engines leave chips waiting between iterations, for as long as was measured.
    """
    resolved = load(topology, settings=[*set, *extra], llm=llm)
    machine = build(resolved.spec)
    time, wait_w = machine.time(Shape(batch, context)), resolved.spec.chip.power.wait_w
    iteration_s = time.latency_ps * 1e-12
    if iteration_s > step_s:
        raise CapacityError(f"an iteration takes {iteration_s:.3g} s, more than the {step_s:.3g} s measured", iteration_s, step_s)
    result = {"watts": wait_w + time.work_j / machine.mapping.chips_used / step_s, "iteration_s": iteration_s}
    return answer_of(result, "watts", "", ("iteration_s",), resolved, machine)


def memory_of_all_bytes(topology: str) -> Answer:
    """Memory of all installed chips."""
    from dcsim.fabric.build import build_fabric

    spec = load(topology).spec
    return Answer(float(build_fabric(spec.fabric).chip_count * spec.chip.memory_bytes))


def injection_bytes_per_s(topology: str) -> Answer:
    """Raw bandwidth with which all active chips together can leave their nodes, one way."""
    from dcsim.fabric.build import build_fabric

    spec = load(topology).spec
    active = int(build_fabric(spec.fabric).chip_active.sum())
    return Answer(active * spec.chip.global_ports * spec.network.bandwidth_bytes_per_s)
