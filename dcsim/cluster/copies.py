"""KV on the fabric: copies from one replica's chips to another's, over links that each are three integers.

Every chip sends what it stores to its counterpart, which stores the same part of the LLM, all at once; where there are fewer at
the source, they take turns. Each of these
messages has one shortest way; where there are several, the pairs of chips take them in turn. A link carries one message
after another, so copies that meet on a link wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

from dcsim.fabric.graph import Fabric
from dcsim.fabric.routes import minimal_paths
from dcsim.network.wires import Wires
from dcsim.results.records import Table
from dcsim.units import PS_PER_S

Ways = tuple[NDArray[np.int64], NDArray[np.int64]]  # offsets by message, links


@dataclass(slots=True)
class Copies:
    """The links of one run. `chips` [replica][part] are a replica's, `kept_bytes(tokens)` [part] what they keep of a sequence."""

    fabric: Fabric
    wires: Wires
    chips: Sequence[Sequence[int]]
    kept_bytes: Callable[[int], NDArray[np.int64]]
    _ways: dict[tuple[int, int], Ways] = field(default_factory=dict)
    _free: NDArray[np.int64] = field(init=False)  # [link] when its last message has left it, ps
    _held: NDArray[np.int64] = field(init=False)  # [link] time messages held it until then, ps
    _carried: NDArray[np.int64] = field(init=False)  # [link] their bytes

    def __post_init__(self) -> None:
        self._free, self._held, self._carried = (np.zeros(self.fabric.link_count, np.int64) for _ in range(3))

    def send(self, source: int, target: int, tokens: int, now: int) -> int:
        """Copy the KV of `tokens` from one replica to another from `now` on; returns when all of it is there, ps."""
        from dcsim.cluster.copies_kernel import send

        first, links = self._between(source, target)
        wires = self.wires
        return int(
            send(
                first,
                links,
                self.kept_bytes(tokens),
                wires.piece_bytes,
                wires.piece_fs,
                wires.hop_ps,
                wires.ends_ps,
                now,
                self._free,
                self._held,
                self._carried,
            )
        )

    def table(self) -> Table:
        """The links that carried copies, in the form of `records.TABLES["kv_links"]`."""
        used = np.flatnonzero(self._carried)
        fabric = self.fabric
        return {
            "link": used,
            "source": fabric.link_source[used].astype(np.int64),
            "target": fabric.link_target[used].astype(np.int64),
            "link_class": np.array(fabric.link_classes, "U")[fabric.link_class[used]],
            "carried_bytes": self._carried[used],
            "held_s": self._held[used] / PS_PER_S,
            "free_s": self._free[used] / PS_PER_S,
        }

    def _between(self, source: int, target: int) -> Ways:
        if (source, target) not in self._ways:
            ways = []
            for part, (a, b) in enumerate(zip(cycle(self.chips[source]), self.chips[target], strict=False)):
                shortest = minimal_paths(self.fabric, a, b)
                ways.append(shortest[part % len(shortest)])
            first = np.cumsum([0, *map(len, ways)])
            self._ways[source, target] = first, np.array([link for way in ways for link in way], np.int64)
        return self._ways[source, target]
