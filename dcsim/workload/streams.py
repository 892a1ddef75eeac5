"""One random stream per named use, so that adding a use moves no other."""

from __future__ import annotations

import zlib

import numpy as np


def stream(seed: int, name: str) -> np.random.Generator:
    """The generator for `name` under `seed`: the same in every process, independent of every other name.

    CRC-32 of the name (not Python's hash, which differs between processes) enters numpy's SeedSequence
    beside the seed. `seed` is a whole number of at least 0.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, zlib.crc32(name.encode())])))
