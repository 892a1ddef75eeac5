"""What a capacity for each expert costs beside time: visits that find no room, and tokens that miss a part of their answer."""

from __future__ import annotations

from dcsim.llm.architecture import sublayers
from dcsim.llm.kinds.feed_forward import Routed
from dcsim.llm.kinds.routing import dropped_fraction, met_of
from dcsim.llm.sublayers import Layer
from dcsim.spec.topology import Topology


def overflow(spec: Topology, rows: int) -> dict[str, float | None]:
    """Of `rows` tokens under `mapping.experts: capacity`: the share of visits without room, and of tokens with all they ask for.

    A dropped visit leaves its expert's part of the sum out. Where that may not be, a token that is not complete is run again in
    the next iteration beside the others, so that it takes 1 / complete iterations on average. Both are None for other choices
    of experts, and for LLMs without experts. Layers are taken as independent of each other.
    """
    kinds = [
        kind for block in sublayers(spec.llm) if isinstance(block, Layer) for kind in block.inner if isinstance(kind, Routed)
    ]
    if spec.mapping.experts != "capacity" or not kinds:
        return {"experts_dropped_fraction": None, "experts_complete_fraction": None}
    visits = dropped = 0.0
    complete = 1.0
    of_kind = {kind: dropped_fraction(kind.spec, spec.mapping, rows) for kind in dict.fromkeys(kinds)}
    for kind in kinds:
        met = met_of(kind.spec)
        visits, dropped = visits + met, dropped + met * of_kind[kind]
        complete *= (1 - of_kind[kind]) ** met
    return {"experts_dropped_fraction": dropped / visits, "experts_complete_fraction": complete}
