"""Units in a file's value, numbers in the code: `300 ns` becomes `3e-07` seconds.

One table holds every dimension and unit. b (bits) and B (bytes), GB (10^9) and GiB (2^30) are told apart.
"""

from __future__ import annotations

import math
import re

from dcsim.errors import shown

TIME, DATA, RATE, FREQUENCY = "time", "data", "data rate", "frequency"
POWER, ENERGY, MONEY, LENGTH = "power", "energy", "money", "length"
COMPUTE, EVENTS, DRIFT, AREA = "compute rate", "event rate", "drift", "area"

_BYTES = {
    "B": 1.0,
    "kB": 1e3,
    "MB": 1e6,
    "GB": 1e9,
    "TB": 1e12,
    "PB": 1e15,
    "KiB": 2.0**10,
    "MiB": 2.0**20,
    "GiB": 2.0**30,
    "TiB": 2.0**40,
}
_BITS = {"b": 1 / 8, "kb": 1e3 / 8, "Mb": 1e6 / 8, "Gb": 1e9 / 8, "Tb": 1e12 / 8}
_DECIMAL = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}

# dimension -> {unit: how many base units}; the first unit is the base.
UNITS: dict[str, dict[str, float]] = {
    TIME: {
        "s": 1.0,
        "fs": 1e-15,
        "ps": 1e-12,
        "ns": 1e-9,
        "us": 1e-6,
        "µs": 1e-6,
        "ms": 1e-3,
        "min": 60.0,
        "h": 3600.0,
        "d": 86400.0,
        "day": 86400.0,
        "y": 31557600.0,
    },
    DATA: {**_BYTES, **_BITS},
    RATE: {f"{unit}/s": factor for unit, factor in {**_BYTES, **_BITS}.items()},
    FREQUENCY: {f"{prefix}Hz": factor for prefix, factor in _DECIMAL.items()},
    POWER: {"W": 1.0, "mW": 1e-3, "kW": 1e3, "MW": 1e6},
    ENERGY: {"J": 1.0, "pJ": 1e-12, "nJ": 1e-9, "uJ": 1e-6, "mJ": 1e-3, "kJ": 1e3, "Wh": 3600.0, "kWh": 3.6e6},
    MONEY: {"USD": 1.0, "kUSD": 1e3, "MUSD": 1e6},
    LENGTH: {"m": 1.0, "mm": 1e-3, "cm": 1e-2, "km": 1e3},
    COMPUTE: {f"{prefix}{name}/s": factor for prefix, factor in _DECIMAL.items() for name in ("FLOP", "OP")},
    EVENTS: {
        "1/s": 1.0,
        "1/min": 1 / 60,
        "1/h": 1 / 3600,
        "1/d": 1 / 86400,
        "requests/s": 1.0,
        "requests/min": 1 / 60,
        "messages/s": 1.0,
        "tokens/s": 1.0,
        "/s": 1.0,
        "/min": 1 / 60,
        "/h": 1 / 3600,
        "/d": 1 / 86400,
    },
    DRIFT: {"ppm": 1e-6, "ppb": 1e-9},
    AREA: {"mm2": 1.0, "cm2": 100.0},
}

EXAMPLES = {
    TIME: "300 ns",
    DATA: "220 MiB",
    RATE: "12.5 GB/s",
    FREQUENCY: "900 MHz",
    POWER: "185 W",
    ENERGY: "1.25 pJ",
    MONEY: "500 USD",
    LENGTH: "2 m",
    COMPUTE: "312 TFLOP/s",
    EVENTS: "5 requests/s",
    DRIFT: "50 ppm",
    AREA: "725 mm2",
}

# A unit may begin with a digit (`1/s`) only after a space.
_QUANTITY = re.compile(r"^\s*([+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?:\s*([^\s\d.].*?)|\s+(\S.*?))?\s*$")


PS_PER_S = 1_000_000_000_000  # times inside are whole picoseconds


def to_ps(seconds: float) -> int:
    """Seconds to the nearest picosecond."""
    return round(seconds * PS_PER_S)


def parse_quantity(value: object, dimension: str) -> float:
    """Return `value` ("300 ns") in the base unit of `dimension`. A bare 0 is allowed.

    Raises ValueError with the mend when the unit is missing, unknown or of another dimension.
    """
    units, example = UNITS[dimension], EXAMPLES[dimension]
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"expected a {dimension}, for example '{example}', got {shown(value)}")
    if isinstance(value, (int, float)):
        if value == 0:
            return 0.0
        raise ValueError(f"needs a unit, for example '{example}' ({dimension})")
    match = _QUANTITY.match(value)
    if match is None:
        raise ValueError(f"cannot read {shown(value)} as a {dimension}, for example '{example}'")
    number, unit = float(match[1].replace("_", "")), (match[2] or match[3] or "").strip()
    if math.isinf(number):
        raise ValueError(f"{match[1]} is too large a number")
    if not unit:
        if number == 0:
            return 0.0
        raise ValueError(f"needs a unit, for example '{example}' ({dimension})")
    if unit in units:
        return number * units[unit]
    others = [name for name, table in UNITS.items() if unit in table]
    if others:
        raise ValueError(f"'{unit}' is a unit of {others[0]}; a {dimension} is needed, for example '{example}'")
    raise ValueError(f"unknown unit '{unit}'; a {dimension} can be in {', '.join(units)}")


def _scaled(value: float, steps: list[tuple[float, str]], digits: int) -> str:
    factor, unit = next((step for step in steps if abs(value) >= step[0] * 0.9995), steps[-1])
    number = f"{value / factor:.{digits}g}"
    return f"{float(number):.0f} {unit}" if "e+" in number else f"{number} {unit}"


def format_time(value_s: float, digits: int = 4) -> str:
    """Seconds as people say them: 0.00331 -> '3.31 ms'."""
    if value_s == 0:
        return "0 s"
    return _scaled(value_s, [(1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"), (1e-12, "ps")], digits)


def format_bytes(value_bytes: float, digits: int = 4) -> str:
    """Bytes with a decimal prefix: 230686720 -> '230.7 MB'."""
    return _scaled(value_bytes, [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")], digits)


def format_power(value_w: float, digits: int = 4) -> str:
    """Watts with a decimal prefix."""
    return _scaled(value_w, [(1e6, "MW"), (1e3, "kW"), (1.0, "W")], digits)
