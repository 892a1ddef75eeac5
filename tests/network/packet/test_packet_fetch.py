"""What the loop asks the processor for ahead of time is what it touches then: watched where its kernels run as plain Python.

Nothing but speed depends on it, so that no other test would notice.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from dcsim.network.packet.engine.loop_kernel import AHEAD

HERE = Path(__file__).parent


def watch(flow_control, channels=False, answered=False):
    """Run some traffic with every fetch noted.

    Returns {array and byte: (times touched, times asked for before, times asked, the most events between)}.
    """
    from dcsim.fabric.dragonfly import dragonfly
    from dcsim.fabric.switched import leaf_spine
    from dcsim.network.packet.engine import link_kernel, loop_kernel, traffic
    from dcsim.network.packet.engine.engine import Engine
    from dcsim.network.packet.engine.rules import LinkFigures, PacketRules

    links = {name: LinkFigures(12.5e9, 1e-7) for name in ("adapter", "fabric", "local", "global")}
    rules = PacketRules(links, mtu_bytes=1024, switch_s=1e-7, flow_control=flow_control, buffer_bytes=1 << 16)
    rules = replace(rules, ack_bytes=64 if answered else 0)
    fabric = dragonfly(3, 4, 2, 8) if channels else leaf_spine(96, 12, 6)
    engine = Engine(fabric, rules, traffic.uniform(96, 3000))
    s = engine._state
    assert (s.rules[0].channels > 1) is channels
    names = {id(getattr(s, name)): name for name in ("links", "packets", "queues", "tasks", "ready")}
    asked, touched, met, ahead, when, events = Counter(), Counter(), Counter(), Counter(), {}, [0]

    def fetch(array, index, skip):
        assert 0 <= index < len(array), "an element there is"
        assert 0 <= skip < array.itemsize, "a line of it"
        of_ring = array.ctypes.data - s.ring.ctypes.data
        if array.base is not None and 0 <= of_ring < s.ring.nbytes:
            what, index = ("ring", skip), of_ring // s.ring.itemsize + index
        else:
            what = names.get(id(array), "others"), skip
        asked[what] += 1
        when[what, int(index)] = events[0]

    def touch(name, index, skip=0):
        what = name, skip
        touched[what] += 1
        since = when.pop((what, int(index)), None)
        if since is not None:
            met[what] += 1
            ahead[what] = max(ahead[what], events[0] - since)

    def pop(wheel):
        now, place, item = true_pop(wheel)
        events[0] += 1
        if place < len(s.links):
            touch("links", place)
            touch("packets", item) if item < len(s.packets) else touch("links", place, 2 * loop_kernel.LINE)
        return now, place, item

    def serve(state, now, port):
        packet = true_serve(state, now, port)
        if packet >= 0:
            for line in (0, loop_kernel.LINE):
                touch("tasks", s.packets[packet].message, line)
            touch("ready", packet)
        return packet

    def offer(state, now, link, channel, packet):
        touch("links", link, loop_kernel.LINE)
        if len(s.ring[0]) > 1:
            touch("queues", link * s.rules[0].channels + channel)
        return true_offer(state, now, link, channel, packet)

    def give_back(state, link, channel, when, now):
        queue, mask = link * s.rules[0].channels + channel, len(s.ring[0]) - 1
        touch("ring", queue * (mask + 1) + (s.queues[queue].released & mask))
        return true_give_back(state, link, channel, when, now)

    def acknowledge(state, link, now):
        for line in (0, loop_kernel.LINE):
            touch("links", s.links[link].reverse, line)
        return true_acknowledge(state, link, now)

    true_acknowledge, link_kernel._acknowledge = link_kernel._acknowledge, acknowledge
    true_give_back = link_kernel.give_back
    link_kernel.give_back = loop_kernel.give_back = give_back
    true_pop, true_serve, true_offer = loop_kernel.pop, loop_kernel.serve, loop_kernel.offer
    loop_kernel.fetch, loop_kernel.pop, loop_kernel.serve, loop_kernel.offer = fetch, pop, serve, offer
    engine.iteration()
    every = sorted({*touched, *asked})
    return {
        f"{name} {skip}": (touched[name, skip], met[name, skip], asked[name, skip], ahead[name, skip]) for name, skip in every
    }


@pytest.fixture(
    scope="module",
    params=[("none",), ("credits",), ("credits", True), ("credits", False, True)],
    ids=["none", "credits", "channels", "answered"],
)
def seen(request):
    """What was seen, in a process where kernels are plain."""
    path = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": path}
    code = f"import json, test_packet_fetch; print(json.dumps(test_packet_fetch.watch(*{request.param!r})))"
    done = subprocess.run([sys.executable, "-c", code], cwd=HERE, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return request.param, json.loads(done.stdout)


# (the least share asked for before it is touched, the most askings for each touch, how many events lie between at most).
EXPECTED = {
    "links 0": (0.95, 1.7, None),  # the link of an event, and that which its packet takes
    "links 64": (0.7, 0.9, AHEAD),
    "links 128": (0.95, 1.0, 3 * AHEAD),
    "packets 0": (0.9, 1.2, 3 * AHEAD),
    "tasks 0": (0.65, 1.6, 2 * AHEAD),  # of an adapter's next message, not of those after it
    "tasks 64": (0.65, 0.7, 2 * AHEAD),
    "ready 0": (0.65, 0.7, AHEAD),
}
RING = {"ring 0": (0.65, 0.75, AHEAD)}
BUFFERS = {
    ("none",): {},
    ("credits",): {"queues 0": (0.55, 1.4, None)} | RING,
    ("credits", False, True): {  # and the links back, but those of the first hop
        "queues 0": (0.55, 1.4, None),
        "links 0": (0.7, 1.2, None),
        "links 64": (0.65, 0.8, AHEAD),
    }
    | RING,
    ("credits", True): {"queues 0": (0.5, 1.5, None), "links 0": (0.95, 1.75, None)} | RING,  # with a channel for each hop
}


def test_what_events_touch_is_asked_for_once_and_as_early_as_what_leads_there_is_known(seen):
    """In steps, each of which reads what the one before has brought; only what comes within a bucket is not."""
    case, found = seen
    for what, (share, askings, events) in (EXPECTED | BUFFERS[case]).items():
        touched, met, asked, ahead = found[what]
        assert met >= share * touched, what
        assert asked <= askings * touched, what
        assert events is None or ahead == events + 1, what


def test_of_each_packet_its_way_is_asked_for_and_of_a_buffer_where_it_gives_back(seen):
    """A row of the routing table, and one of the ring of releases where there are credits."""
    case, found = seen
    _, packets, _, _ = found["packets 0"]
    assert found["others 0"][2] == packets
    if case != ("none",):
        assert found["ring 0"][2] == packets
