"""How long a round takes under caps, and when replicas must give way. One rule for the service zoom and its compiled copy."""

from __future__ import annotations

from typing import Any, NamedTuple

from dcsim.kernels.jit import entry

LONGEST_PS = 2.0**61  # beyond any run


class Caps(NamedTuple):
    """The meters that have a cap, each over a group of racks, and what now draws power there. No groups: no caps.

    Who begins at one instant must not depend on who is looked at first, so what a replica drew before that is kept too.
    """

    room_w: Any  # [group] what chips and hosts may draw there above their idle draw
    share: Any  # [replica, group] part of the replica's chips that stand there
    fair: Any  # [replica, group] part of all replicas' chips there that are this replica's
    wait_w: Any  # [replica] draw of its waiting chips above idle
    host_in: Any  # [host, group] whether the host server stands there
    core_w: Any  # [1] draw of a busy host core
    draw_w: Any  # [replica] what its chips draw now above idle
    drew_w: Any  # [replica] the same before it last changed
    changed_ps: Any  # [replica] when that was


@entry
def length_ps(caps: Caps, replica: int, work_pj: int, natural_ps: int, now_ps: int, busy: Any, backlog_ps: Any) -> int:
    """How long a round of `work_pj` above waiting takes that begins now and would take `natural_ps` without caps.

    `busy` [host] are the cores at work now and `backlog_ps` [host] the core time still to be spent on what has come.
    The hosts draw their cores' power for no longer than that, which bounds the round where they leave the chips little.
    """
    length, core_w = float(natural_ps), caps.core_w[0]
    for group in range(len(caps.room_w)):
        share = caps.share[replica, group]
        if share == 0.0:
            continue
        hosts_w, hosts_pj = 0.0, 0.0
        for host in range(len(busy)):
            if caps.host_in[host, group]:
                hosts_w += core_w * busy[host]
                hosts_pj += core_w * backlog_ps[host]
        beside_w, waiting_w = share * caps.wait_w[replica], 0.0
        for other in range(len(caps.draw_w)):
            waiting_w += caps.share[other, group] * caps.wait_w[other]
            if other != replica:
                draws_w = caps.drew_w[other] if caps.changed_ps[other] == now_ps else caps.draw_w[other]
                beside_w += caps.share[other, group] * draws_w
        room_w, fair, work = caps.room_w[group], caps.fair[replica, group], work_pj * share
        left_w = max(room_w - hosts_w - beside_w, fair * (room_w - hosts_w - waiting_w))
        slowed = (work + hosts_pj) / max(room_w - beside_w, fair * (room_w - waiting_w))
        if left_w > 0.0:
            slowed = min(slowed, work / left_w)
        length = max(length, min(slowed, LONGEST_PS))
    return int(length) + 1 if length > natural_ps else natural_ps


@entry
def set_draw(caps: Caps, replica: int, watts: float, now_ps: int) -> None:
    """From now on the replica's chips draw so much above idle."""
    if caps.changed_ps[replica] != now_ps:
        caps.drew_w[replica], caps.changed_ps[replica] = caps.draw_w[replica], now_ps
    caps.draw_w[replica] = watts


@entry
def crowded(caps: Caps, group: int, busy: Any) -> bool:
    """Whether more is drawn behind a meter than its cap allows: somebody has begun since the others' rounds did."""
    drawn = 0.0
    for host in range(len(busy)):
        if caps.host_in[host, group]:
            drawn += caps.core_w[0] * busy[host]
    for replica in range(len(caps.draw_w)):
        drawn += caps.share[replica, group] * caps.draw_w[replica]
    return bool(drawn > caps.room_w[group] * (1 + 1e-9))
