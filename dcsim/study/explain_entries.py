"""Figures of what a packet network names beside its spec: its library's costs and its hosts' jitter.

They stand in files of their own, so that a figure is moved by writing such a file again.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dcsim.spec.document import Figure, Path_
from dcsim.spec.software import entries_named
from dcsim.units import TIME, parse_quantity

Moved = tuple[str, Figure, Callable[[float], Any]]  # key, figure, and the network with the figure times a factor


def entry_figures(network: Any) -> Iterator[Moved]:
    """Every figure of the network's `software` and `jitter` entries; call the third within the iteration."""
    with tempfile.TemporaryDirectory(prefix="dcsim-explain-") as folder:
        for key, entry in entries_named(network).items():
            for path, figure in sorted(entry.figures.items()):
                yield f"network.{key}.{'.'.join(path)}", figure, _mover(network, key, entry.data, path, Path(folder))


def _mover(network: Any, key: str, data: Any, path: Path_, folder: Path) -> Callable[[float], Any]:
    def at(factor: float) -> Any:
        own = copy.deepcopy(json.loads(json.dumps(data, default=str)))
        section = own
        for step in path[:-1]:
            section = section[int(step) if isinstance(section, list) else step]
        last: Any = int(path[-1]) if isinstance(section, list) else path[-1]
        section[last] = f"{parse_quantity(section[last], TIME) * factor!r} s"
        file = folder / f"{key}-{'.'.join(path)}-{factor}.yaml"
        file.write_text(json.dumps(own), encoding="utf-8")
        return network.model_copy(update={key: str(file)})

    return at
