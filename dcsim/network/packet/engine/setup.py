"""Turn a fabric, figures and tasks into the engine's arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from dcsim.errors import FabricError
from dcsim.fabric.graph import Fabric
from dcsim.network.packet.engine import routing, state
from dcsim.network.packet.engine.rate_kernel import KINDS as RATE_CONTROLS
from dcsim.network.packet.engine.rules import Fault, PacketRules
from dcsim.network.packet.engine.state import EngineState
from dcsim.network.packet.engine.wheel_kernel import Wheel, make_wheel
from dcsim.network.tasks import MESSAGE, Tasks

FLOW_CONTROL = ("none", "credits", "pause", "drop")
LOSSLESS = ("credits", "pause")
SLOTS_MOST = 1 << 24
PS = 1e12
PACKETS_MAX = 1 << 28
EVENTS_A_BUCKET, LEAST_WIDTH_PS = 1024, 256.0


def ps(seconds: float) -> int:
    """Seconds as whole picoseconds."""
    return round(seconds * PS)


def link_bandwidths(fabric: Fabric, figures: PacketRules) -> np.ndarray:
    """[link] raw bytes per second: its own, or those of its class. Raises FabricError for a class without figures."""
    missing = [name for name in fabric.link_classes if name not in figures.links]
    if missing:
        raise FabricError(f"no figures for links of class {', '.join(missing)}")
    by_class = np.array([figures.links[name].bandwidth_bytes_per_s for name in fabric.link_classes], np.float64)
    return _own_or(fabric.own_bandwidth_bytes_per_s, by_class[fabric.link_class])


def _own_or(own: Any, others: np.ndarray) -> np.ndarray:
    return others if own is None else np.where(np.isnan(own), others, own)


def per_link(fabric: Fabric, figures: PacketRules) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(femtoseconds a byte, cable ps, cross traffic) of each link. Raises FabricError for a class without figures."""
    speed = np.maximum(1, np.rint(1e15 / link_bandwidths(fabric, figures))).astype(np.int64)
    classes = [figures.links[name] for name in fabric.link_classes]
    length_s = fabric.link_length_m * figures.cable_s_per_m
    fixed_s = np.array([np.nan if c.cable_s is None else c.cable_s for c in classes], np.float64)[fabric.link_class]
    cable_s = _own_or(fabric.own_latency_s, np.where(np.isnan(fixed_s), length_s, fixed_s))
    load = np.array([c.load_fraction for c in classes], np.float64)[fabric.link_class]
    return speed, np.rint(cable_s * PS).astype(np.int64), load


def make_links(fabric: Fabric, figures: PacketRules, cross_load: Any = None) -> Any:
    """All links idle, as LINK records but for their order; `cross_load` [link] adds to the cross traffic of their classes."""
    speed, wire, load = per_link(fabric, figures)
    load = load if cross_load is None else load + cross_load
    if np.any(load >= 1.0):
        raise FabricError("cross traffic must offer less than a link carries (load_fraction below 1)")
    adapter = _latency_ps(fabric, figures, "adapter_s")
    ends_at_chip = (fabric.link_target < fabric.chip_count) & (fabric.vertex_count > fabric.chip_count)
    links = state.aligned(fabric.link_count, state.LINK)
    links["target"], links["reverse"] = fabric.link_target, fabric.reverse
    links["wire_ps"], links["from_chip"] = wire, fabric.link_source < fabric.chip_count
    links["node_ps"] = np.where(ends_at_chip, adapter, _latency_ps(fabric, figures, "switch_s"))
    links["source_ps"] = np.where(fabric.link_source < fabric.chip_count, adapter, -1)
    links["fs_per_byte"], links["up"], links["background"] = speed, True, load
    for name, size_bytes in (
        ("buffer_ps", figures.buffer_bytes if figures.flow_control == "drop" else None),
        ("mark_low_ps", figures.mark_low_bytes),
        ("mark_high_ps", figures.mark_high_bytes),
    ):
        links[name] = state.FOREVER if size_bytes is None else np.rint(size_bytes * speed / 1000)
    for name in ("flow_first", "flow_last", "input_first", "input_last", "stranded_first", "stranded_last"):
        links[name] = -1
    links["cross_turn"] = 1
    return links


def _latency_ps(fabric: Fabric, figures: PacketRules, name: str) -> Any:
    """[link] `adapter_s` or `switch_s` of its class, or the network's."""
    own = [getattr(figures.links[link_class], name) for link_class in fabric.link_classes]
    return np.array([ps(getattr(figures, name) if x is None else x) for x in own], np.int64)[fabric.link_class]


def make_queues(links: Any, figures: PacketRules, lanes: routing.Lanes, packets: int) -> Any:
    """Empty lanes, with the sizes of their buffers.

    Never more slots than `packets` of two iterations: nobody would fill them. A pause takes effect one cable later and
    what is then on the cable still arrives, so a sender's slots are the packets of two cable flights more than XOFF; it
    sends again when it hears of XON.
    """
    queues = state.aligned(len(links) * lanes.count, state.QUEUE)
    queues["held_first"], queues["held_last"] = -1, -1
    queues["gate"] = -(1 << 60)
    packet = figures.mtu_bytes + figures.header_bytes
    most = max(1, min(2 * packets, SLOTS_MOST))
    slots = resume = capacity = np.zeros(len(links), np.int64)
    if figures.flow_control == "credits":
        slots = np.full(len(links), figures.buffer_bytes // (packet * lanes.whole))
        resume, capacity = np.ones(len(links), np.int64), slots
    elif figures.flow_control == "pause":
        flight = 2000 * links["wire_ps"] / links["fs_per_byte"]
        room, gap = figures.buffer_bytes / lanes.whole, figures.pause_gap_bytes
        headroom = flight if figures.headroom_bytes is None else np.full(len(links), figures.headroom_bytes / lanes.whole)
        slots = (room + flight).astype(np.int64) // packet
        resume = slots - int(max(0.0, room - gap) // packet)
        capacity = (room + headroom).astype(np.int64) // packet
    for name, values in (("slots", slots), ("resume", np.minimum(resume, slots)), ("capacity", capacity)):
        queues[name] = np.repeat(np.clip(values, 1 if figures.flow_control in LOSSLESS else 0, most), lanes.count)
    return queues


def make_ring(count: int, slots: int) -> Any:
    """When the latest buffer slots of each channel come back; as many as fit a power of two from `slots` up."""
    return np.zeros((count, 1 << max(0, slots - 1).bit_length()), np.int64)


def make_vertices(fabric: Fabric, routes: routing.Routes) -> Any:
    """The vertices as VERTEX records, one more to end the list of links."""
    vertices = np.zeros(fabric.vertex_count + 1, state.VERTEX)
    vertices["first_link"] = fabric.first_link
    vertices["way"][:-1] = routes.way_of
    return vertices


def port_choice(fabric: Fabric, rule: int) -> int:
    """Whether each packet of a message chooses among its chip's cables, and among which."""
    if rule == state.MINIMAL:
        return state.OWN_PORT
    from_chip = fabric.link_source < fabric.chip_count
    ends = fabric.link_source[from_chip].astype(np.int64) * fabric.vertex_count + fabric.link_target[from_chip]
    if fabric.vertex_count == fabric.chip_count:
        return state.ANY_PORT
    return state.BONDED_PORTS if len(np.unique(ends)) < len(ends) else state.OWN_PORT


def home_links(fabric: Fabric) -> Any:
    """The link into each chip that has one only and forwards nothing; -1 for the others."""
    first = fabric.first_link[: fabric.chip_count]
    alone = (np.diff(fabric.first_link)[: fabric.chip_count] == 1) & (not fabric.chips_forward)
    home = np.full(fabric.chip_count, -1, np.int32)
    home[alone] = fabric.reverse[first[alone]]
    return home


def make_rules(figures: PacketRules, lanes: routing.Lanes) -> Any:
    """The network-wide figures as one RULES record."""
    rules = np.zeros(1, state.RULES)
    starts = figures.adapter_messages_per_s
    values: dict[str, Any] = {
        "mtu": figures.mtu_bytes,
        "header": figures.header_bytes,
        "store_forward": not figures.cut_through,
        "go_back": figures.go_back,
        "ack_bytes": figures.ack_bytes,
        "ack_packets": figures.ack_packets,
        "input_fifo": figures.input_fifo,
        "routing": state.ROUTING[figures.routing],
        "bias": figures.ugal_bias_packets,
        "message_gap": round(PS / starts) if starts else 0,
        "timeout": ps(figures.retransmit_timeout_s),
        "channels": lanes.count,
        "second_lane": lanes.second,
        "cross_bytes": figures.cross_packet_bytes,
        "burst_ps": ps(figures.cross_burst_s),
        "mark_fraction": figures.mark_fraction,
        "reorder": 1,
        "errors": figures.error_rate > 0,
        "link_retry": figures.link_retry,
        "log_whole": math.log1p(-figures.error_rate),
    }
    if figures.window is not None:
        values |= {
            "transport": state.WINDOWED,
            "window_first": figures.window.first_packets,
            "window_cut": figures.window.cut_fraction,
            "probe": figures.window.probe_round_trips,
            "reorder": figures.window.reorder_packets,
        }
    if figures.pull is not None:
        values |= {
            "transport": state.PULLED,
            "pull_first": figures.pull.first_packets,
            "trim_bytes": figures.pull.header_bytes if figures.flow_control == "drop" else 0,
        }
    control = figures.rate_control
    if control is not None:
        values |= {"rate_control": RATE_CONTROLS[control.kind], "notice_gap": ps(control.notice_gap_s)}
        rules["rate"][0, : len(control.figures)] = control.figures
    for name, value in values.items():
        rules[name] = value
    return rules


@dataclass(frozen=True, slots=True)
class TaskTables:
    """The tasks as TASK and SPAN records, their lists, and how many packets and queue pairs they need."""

    tasks: Any
    spans: Any
    before: Any
    after: Any
    roots: Any
    packets: int
    pairs: int


def make_work(tasks: Tasks, release_s: Any, mtu_bytes: int) -> TaskTables:
    """Tasks with their successors and packet numbers; messages of one source and target share a queue pair."""
    count, cycle_ps = len(tasks), PS / tasks.clock_hz
    is_message = tasks.kind == MESSAGE
    table = state.aligned(count + 1, state.TASK)
    body = table[:-1]
    body["kind"], body["whole"] = tasks.kind, ~is_message & (tasks.lead_rows == tasks.rows)
    body["source"], body["target"], body["size"] = tasks.chip, tasks.target, tasks.size_bytes
    spans = np.zeros(count, state.SPAN)
    spans["first"] = np.rint(tasks.first_cycles * cycle_ps)
    spans["last"] = np.rint(tasks.last_cycles * cycle_ps)
    body["rows"], body["lead"] = tasks.rows, tasks.lead_rows
    spans["release"] = 0 if release_s is None else np.rint(np.asarray(release_s) * PS)
    packets = np.where(is_message, np.maximum(1, -(-tasks.size_bytes // mtu_bytes)), 0)
    if packets.sum(dtype=np.float64) > PACKETS_MAX:
        raise FabricError(
            f"{packets.sum(dtype=np.float64):,.0f} packets of {mtu_bytes:,} B are more than the {PACKETS_MAX:,} simulated at "
            "once; send less, or in larger packets (network.mtu)"
        )
    table["first_packet"][1:] = np.cumsum(packets)
    body["packets"] = packets
    table["before_start"] = tasks.before_start
    order = np.argsort(tasks.before, kind="stable")
    owner = np.repeat(np.arange(count, dtype=np.int32), np.diff(tasks.before_start))
    table["after_start"] = np.searchsorted(tasks.before[order], np.arange(count + 1))
    body["followers"] = np.diff(table["after_start"])
    _, pair = np.unique(tasks.chip.astype(np.int64) * (1 << 31) + tasks.target, return_inverse=True)
    body["pair"] = pair
    roots = np.flatnonzero(np.diff(tasks.before_start) == 0)
    roots = roots[np.argsort(spans["release"][roots], kind="stable")].astype(np.int32)
    return TaskTables(table, spans, tasks.before, owner[order], roots, int(packets.sum()), int(pair.max(initial=-1)) + 1)


def make_pairs(count: int) -> Any:
    """Queue pairs at line rate."""
    pairs = np.zeros(count, state.PAIR)
    for name in ("now_rate", "target_rate", "alpha"):
        pairs[name] = 1.0
    for name in ("last_notice", "cut_at"):
        pairs[name] = -(1 << 60)
    return pairs


def make_windows(count: int, rules: Any) -> Any:
    """Windows of queue pairs that have sent nothing."""
    windows = state.aligned(count, state.WINDOW)
    windows["size"], windows["threshold"] = rules["window_first"], math.inf
    windows["blocked_first"] = -1
    return windows


def make_faults(fabric: Fabric, faults: tuple[Fault, ...], speed: Any) -> tuple[Any, list[frozenset[int]]]:
    """(FAULT records in time order, the links down in each epoch); times that have the same links down share an epoch."""
    events = sorted(
        (ps(f.at_s), int(link), f.speed_fraction)
        for f in faults
        for link in ([f.link, fabric.reverse[f.link]] if f.cable else [f.link])
    )
    table = np.zeros(len(events), state.FAULT)
    epochs: dict[frozenset[int], int] = {frozenset(): 0}
    down: frozenset[int] = frozenset()
    for i, (at_ps, link, fraction) in enumerate(events):
        down = down - {link} if fraction > 0 else down | {link}
        epoch = epochs.setdefault(down, len(epochs))
        table[i] = (at_ps, link, epoch, round(speed[link] / fraction) if fraction > 0 else 0, state.FOREVER, False)
    for i in range(len(events)):
        later = np.flatnonzero(table["link"][i + 1 :] == table["link"][i])
        if len(later):
            after = table[i + 1 + later[0]]
            table["following"][i], table["following_down"][i] = after["at_ps"], after["fs_per_byte"] == 0
    return table, list(epochs)


def mark_first_faults(links: Any, faults: Any) -> None:
    """Each link knows when its first fault strikes."""
    links["next_fault"], links["next_down"] = state.FOREVER, False
    for fault in faults[::-1]:
        links["next_fault"][fault["link"]], links["next_down"][fault["link"]] = fault["at_ps"], fault["fs_per_byte"] == 0


def fit_wheel(work: TaskTables, rules: Any, links: Any, faults: int) -> Wheel:
    """A wheel with room for every event that can be pending, its buckets at most EVENTS_A_BUCKET events wide.

    Wide buckets let the loop see far ahead; beyond a sixteenth of a packet's time their events need more sorting.
    """
    tasks, count, channels = len(work.tasks), len(links), int(rules["channels"][0])
    rule = rules[0]
    lossy = faults or rule["errors"] or rule["overflow"] or rule["transport"] or np.any(links["buffer_ps"] < state.FOREVER)
    capacity = work.packets * (5 if lossy else 1) + count * (1 + channels) + 2 * tasks + 2 * work.pairs + faults + 64
    packet = int(rules["mtu"][0] + rules["header"][0])
    serial_ps = packet * float(np.min(links["fs_per_byte"], initial=1 << 40)) / 1000
    width = int(max(LEAST_WIDTH_PS, min(EVENTS_A_BUCKET * serial_ps / max(1, min(count, work.packets)), serial_ps / 16)))
    items = work.packets + 1 + channels + max(tasks, faults, work.pairs)
    return make_wheel(capacity, count + state.PLACES, items, width)


def sample_rows(links: int) -> int:
    """How many looks at all queues are kept: a thousand, or as many as fit 128 MB."""
    return max(16, min(1024, (1 << 24) // max(1, links)))


def build_state(
    fabric: Fabric,
    figures: PacketRules,
    tasks: Tasks,
    release_s: Any,
    faults: tuple[Fault, ...],
    cross_load: Any = None,
    *,
    sampled: bool = False,
) -> EngineState:
    """An idle network at time 0. Raises FabricError for figures that are missing or unknown."""
    if figures.routing not in state.ROUTING or figures.flow_control not in FLOW_CONTROL:
        raise FabricError(f"unknown routing '{figures.routing}' or flow control '{figures.flow_control}'")
    rule = state.ROUTING[figures.routing]
    links = make_links(fabric, figures, cross_load)
    fault_table, downs = make_faults(fabric, faults, links["fs_per_byte"])
    mark_first_faults(links, fault_table)
    routes = routing.build_routes(fabric, downs, rule)
    lanes = routing.lay_lanes(fabric, routes, rule)
    links["order"] = lanes.order
    if figures.flow_control not in LOSSLESS:
        lanes = routing.Lanes(lanes.order, 1, 1, 0)
    rules = make_rules(figures, lanes)
    rules["relay"], rules["ports"] = fabric.chips_relay, port_choice(fabric, rule)
    work = make_work(tasks, release_s, figures.mtu_bytes)
    queues = make_queues(links, figures, lanes, work.packets)
    rules["slots"] = queues["slots"].max(initial=0)
    rules["overflow"] = np.any(queues["capacity"] < queues["slots"])
    windowed, pulled = figures.window is not None, figures.pull is not None
    return state.in_one_block(
        EngineState(
            wheel=fit_wheel(work, rules, links, len(fault_table)),
            rules=rules,
            tally=np.zeros(1, state.TALLY),
            links=links,
            queues=queues,
            ring=make_ring(len(queues), int(rules["slots"][0])),
            vertices=make_vertices(fabric, routes),
            column=routes.column,
            home=home_links(fabric),
            set_of=routes.set_of,
            distance=routes.distance,
            sets=routes.sets,
            ways=routes.ways,
            packets=state.aligned(work.packets, state.PACKET),
            ready=np.zeros(work.packets, np.int64),
            input_next=np.zeros(work.packets if figures.input_fifo else 0, np.int32),
            tasks=work.tasks,
            spans=work.spans,
            before=work.before,
            after=work.after,
            roots=work.roots,
            stack=np.zeros(len(work.before) + len(work.tasks) + 8, np.int32),
            pairs=make_pairs(work.pairs),
            windows=make_windows(work.pairs if windowed else 0, rules),
            sent_at=np.zeros(work.packets if windowed else 0, np.int64),
            answers=np.zeros(work.packets if windowed else 0, np.int64),
            credits=np.zeros(len(work.tasks) if pulled else 0, state.CREDIT),
            pull_free=np.zeros(fabric.chip_count if pulled else 0, np.int64),
            landed=np.zeros(len(queues) if rules["overflow"][0] else 0, np.int64),
            faults=fault_table,
            lane_asked=np.zeros(work.packets if len(fault_table) else 0, np.int8),
            samples=np.zeros((sample_rows(len(links)) if sampled else 0, len(links)), np.int64),
        )
    )
