"""What each link of a fabric takes to carry bulk data, for either kind of network, as whole pieces on the wire.

A piece is a vector of the scheduled network or a full packet. Times are per link, so a copy between two chips is one
short sum along its way (see `cluster.copies`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Wires:
    """`piece_fs` [link] femtoseconds a piece holds a link, `hop_ps` [link] from entering it to entering the next.

    `ends_ps` is what a message takes besides, at its two ends (on the scheduled network less the forwarding that its last
    hop does not do and the slot that its last vector need not wait for).
    """

    piece_bytes: int  # payload
    piece_fs: NDArray[np.int64]
    hop_ps: NDArray[np.int64]
    ends_ps: int
