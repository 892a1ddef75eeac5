"""How every command gives its answer: as tables or as one JSON object, and which keys had no effect on it."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dcsim.cli.options import say

DEFAULT_SEED = 1
# Options that stand for a key, where nobody set the key itself.
OPTIONS = {
    "workload.duration": "--duration",
    "workload.rate_scale": "--rate-scale",
    "network.replications": "--replications",
    "network.load_fraction": "--load",
    "network.load_pattern": "--load-pattern",
    "network.jitter": "--jitter",
    "network.fairness": "--fairness",
    "network.prices": "--prices",
    "engine": "--engine",
    "mapping.objective": "--objective",
}


def give(
    content: Mapping[str, Any],
    show: Callable[[Any], None],
    *,
    as_json: bool,
    seed: int | None,
    unused: Mapping[str, str] | None = None,
    settings: Sequence[str] | None = None,
) -> None:
    """Print an answer on stdout, by `show` or as JSON, and on stderr what had no effect.

    Every JSON object has `version`, `schema_version`, `seed` and `unused_keys` beside the answer's own keys; `unused` is
    as from `spec.unused`, `settings` what was typed after `--set`.
    `seed` is None where a command draws nothing at random and none was typed (see `seedless`).
    """
    from dcsim import __version__
    from dcsim.results.metrics import SCHEMA_VERSION

    found = _by_option(unused or {}, settings or ())
    if as_json:
        head = {"version": __version__, "schema_version": SCHEMA_VERSION, "seed": DEFAULT_SEED if seed is None else seed}
        print(json.dumps({**head, **content, "unused_keys": [*found]}, indent=2, allow_nan=False), flush=True)
    else:
        show(content)
    for line in unused_lines(found):
        say(line)


def typed() -> str:
    """The command as it was typed, for answers that are kept and shown later."""
    return shlex.join(["dcsim", *sys.argv[1:]])


def seedless(seed: int | None) -> dict[str, str]:
    """The seed as a key without effect, if one was given to a command that draws nothing at random."""
    return {} if seed is None else {"--seed": f"--seed {seed}"}


def _by_option(unused: Mapping[str, str], settings: Sequence[str]) -> dict[str, str]:
    """Keys that an option stands for, by the option that was typed."""
    typed = {f"--set {setting}" for setting in settings}
    return {
        (OPTIONS[key] if key in OPTIONS and where.startswith("--set") and where not in typed else key): where
        for key, where in unused.items()
    }


def unused_lines(unused: Mapping[str, str]) -> list[str]:
    """What to say of keys without effect: those of the command line one by one, those of a file together."""
    lines = [f"no effect: {key if key.startswith('--') else where}" for key, where in unused.items() if where.startswith("--")]
    files: dict[str, list[str]] = {}
    for key, where in unused.items():
        if not where.startswith("--"):
            files.setdefault(where.rsplit(":", 2)[0], []).append(key)
    return [*lines, *(f"no effect on this answer: {', '.join(keys)} ({file})" for file, keys in files.items())]
