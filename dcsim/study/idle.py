"""The chips that no replica uses: they are paid for and draw power like all others."""

from __future__ import annotations

from typing import Any

from dcsim.power.chain import levels
from dcsim.study.machine import Machine


def idle_chips(machine: Machine, clusters: int = 1, replicas: int | None = None) -> dict[str, Any]:
    """How many chips of so many clusters are in none of `replicas` (default: all that fit), their draw and their price.

    Spare chips stand in the fabric's spare nodes. The draw is that of idle chips as the site's meter reads it, the price that of
    their cards, bought.
    """
    spec, mapping, fabric = machine.spec, machine.mapping, machine.fabric
    replicas = clusters * mapping.replicas if replicas is None else replicas
    installed = clusters * fabric.chip_count
    reading = clusters * sum(map(len, machine.readers.replica_chips)) if machine.readers else 0
    idle = installed - replicas * mapping.tp * mapping.pp - reading
    site = levels(spec, 1)[-1]
    return {
        "chips_installed": installed,
        "idle_chips": idle,
        "idle_spare_chips": clusters * int((~fabric.chip_active).sum()),
        "idle_power_w": idle * spec.chip.power.idle_w / site.efficiency,
        "idle_buy_usd": idle * spec.chip.price.buy_usd,
    }
