"""A spec written out with every key, as a file would say it."""

import json

from dcsim import units
from dcsim.spec.section import LABELS, Named, Section

# A field's ending in the code, and the unit in which the file then says its value.
ENDINGS = {
    "_bytes_per_s": "B/s",
    "_flop_per_s": "FLOP/s",
    "_per_s": "1/s",
    "_bytes": "B",
    "_usd": "USD",
    "_hz": "Hz",
    "_mm2": "mm2",
    "_s": "s",
    "_w": "W",
    "_j": "J",
    "_m": "m",
}
assert all(any(unit in known for known in units.UNITS.values()) for unit in ENDINGS.values())


def plain(section):
    """A section as a mapping of file keys to what stands under them, its labels left out."""
    found = {}
    for name, field in type(section).model_fields.items():
        value = section.__dict__[name]
        if value is not None and not (isinstance(section, Named) and name in LABELS):
            found[field.alias or name] = _value(name, field.alias or name, value)
    return found


def _value(name, key, value):
    if isinstance(value, Section):
        return plain(value)
    if isinstance(value, tuple):
        return [_value(name, key, one) for one in value]
    if isinstance(value, dict):
        return {one: _value(name, key, part) for one, part in value.items()}
    if key == "drift":
        return f"{value * 1e6:.12g} ppm"
    if name != key and not isinstance(value, (bool, str)):
        return f"{float(value)!r} {ENDINGS[name.removeprefix(key)]}"
    return value


def text(spec):
    """The whole of it as YAML."""
    return json.dumps({"name": spec.name, **plain(spec)}, indent=1)


def leaves(tree, path=()):
    """(dotted key, value) of every leaf of plain data, lists whole."""
    if isinstance(tree, dict):
        return [leaf for key, value in tree.items() for leaf in leaves(value, (*path, key))]
    return [(".".join(path), tree)]
